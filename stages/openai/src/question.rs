//! What is asked: a question about pictures, how its replies are drawn, and both as the JSON that a server takes.

use evoq_schemas::{ImageId, draws};
use serde_json::{Value, json};

use crate::server::Takes;

/// A question about pictures, and the replies that are wanted.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// What is asked; it stands after the pictures.
    pub text: &'a str,
    /// The pictures, in the order shown.
    pub pictures: Vec<&'a ImageId>,
    /// The replies.
    pub draws: Draws,
}

/// How the replies to a question are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draws {
    /// One reply, the most likely token at each step.
    Greedy,
    /// Replies by chance: reply `i` has the seed `first + i`, whether the server is asked for all at once or for one at a time.
    Seeded {
        /// The first reply's seed.
        first: u64,
        /// How many; at least one.
        count: usize,
    },
}

impl Draws {
    /// How many replies are wanted.
    pub fn count(self) -> usize {
        match self {
            Self::Greedy => 1,
            Self::Seeded { count, .. } => count,
        }
    }

    /// The draws of `count` replies from the `index`-th on.
    pub(crate) fn part(self, index: usize, count: usize) -> Self {
        match self {
            Self::Greedy => Self::Greedy,
            Self::Seeded { first, .. } => Self::Seeded { first: first + index as u64, count },
        }
    }

    /// The first reply's seed.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Greedy => 0,
            Self::Seeded { first, .. } => first,
        }
    }
}

/// How tokens are drawn. All of it is said to the server, whose own defaults come from the checkpoint and may be near-greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; above 0.
    pub temperature: f64,
    /// Keep the fewest most likely tokens whose probabilities reach this sum; in (0, 1].
    pub top_p: f64,
    /// Keep this many most likely tokens; none keeps all.
    pub top_k: Option<usize>,
    /// Longest reply in tokens.
    pub max_tokens: usize,
}

/// The first seed of the `position`-th of a run's questions, each with at most `stride` replies: no two share a seed.
///
/// Seeds are below 2^31 for up to 2^30 replies: llama.cpp cuts them to 32 bits, and there the largest means "by chance".
pub fn first_seed(seed: u64, purpose: &str, position: usize, stride: usize) -> u64 {
    (draws::seed(seed, purpose, &[]) >> 34) + position as u64 * stride as u64
}

/// The request for the replies `draws` to a question about `pictures` (data URIs).
pub(crate) fn body(
    model: &str,
    text: &str,
    pictures: &[String],
    draws: Draws,
    sampling: &Sampling,
    takes: Takes,
) -> Value {
    let mut content: Vec<Value> =
        pictures.iter().map(|uri| json!({ "type": "image_url", "image_url": { "url": uri } })).collect();
    content.push(json!({ "type": "text", "text": text }));
    let mut body = json!({
        "model": model,
        "messages": [{ "role": "user", "content": content }],
        "max_tokens": sampling.max_tokens,
        // `transformers serve` takes its repetition penalty from this one, and else from the checkpoint.
        "frequency_penalty": 0,
    });
    match draws {
        Draws::Greedy => body["temperature"] = json!(0),
        Draws::Seeded { first, count } => {
            body["temperature"] = json!(sampling.temperature);
            body["top_p"] = json!(sampling.top_p);
            body["seed"] = json!(first);
            if count > 1 {
                body["n"] = json!(count);
            }
        }
    }
    if takes.logprobs {
        body["logprobs"] = json!(true);
    }
    if takes.more {
        body["top_k"] = sampling.top_k.map_or(json!(-1), |k| json!(k));
        body["min_p"] = json!(0);
        body["repetition_penalty"] = json!(1);
    }
    body
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_questions_share_a_childs_seed() {
        let (stride, mut seen) = (32, HashSet::new());
        for position in 0..5_000 {
            let first = first_seed(7, "vote", position, stride);
            for index in 0..stride {
                let Draws::Seeded { first, .. } = (Draws::Seeded { first, count: stride }).part(index, 1) else {
                    unreachable!("a part of seeded draws is seeded")
                };
                assert!(seen.insert(first) && first < 1 << 31);
            }
        }
        assert_ne!(first_seed(7, "vote", 0, 1), first_seed(8, "vote", 0, 1));
    }

    #[test]
    fn everything_that_decides_a_reply_is_said() {
        let sampling = Sampling { temperature: 0.7, top_p: 0.9, top_k: None, max_tokens: 12 };
        let all = Takes { several: true, logprobs: true, more: true };
        let said = body("m", "which?", &["data:x".into()], Draws::Seeded { first: 5, count: 3 }, &sampling, all);
        let expected = json!({
            "model": "m",
            "messages": [{ "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "data:x" } },
                { "type": "text", "text": "which?" },
            ]}],
            "max_tokens": 12, "frequency_penalty": 0, "temperature": 0.7, "top_p": 0.9, "seed": 5, "n": 3,
            "logprobs": true, "top_k": -1, "min_p": 0, "repetition_penalty": 1,
        });
        assert_eq!(said, expected);
        let little = Takes { several: false, logprobs: false, more: false };
        let said = body("m", "which?", &[], Draws::Greedy, &sampling, little);
        assert_eq!(said["temperature"], 0);
        assert!(["n", "seed", "top_p", "logprobs", "top_k", "min_p"].iter().all(|key| said.get(key).is_none()));
    }
}
