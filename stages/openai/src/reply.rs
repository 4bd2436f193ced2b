//! What a server answered, as replies. What is not whole counts as not come, and is asked for again.

use std::ops::Range;

use evoq_schemas::Finish;
use serde::Deserialize;

/// One reply, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Tokens sampled.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The bytes and the log-probability of each token, where the server offers them, they spell the text and are numbers.
    pieces: Option<Vec<(Vec<u8>, f32)>>,
}

/// Why there is no reply, though the server answers others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// No answer came in time.
    TimedOut,
    /// The server failed at it, or broke the connection.
    ServerError,
    /// What came was no whole reply.
    BrokenReply,
    /// The server does not take the question.
    Refused,
    /// The server held its reply back.
    Filtered,
}

impl Lost {
    /// The reason as tables hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::ServerError => "server_error",
            Self::BrokenReply => "broken_reply",
            Self::Refused => "refused",
            Self::Filtered => "filtered",
        }
    }
}

/// A reply, or why there is none.
pub type Sample = Result<Reply, Lost>;

impl Reply {
    /// The log-probability of the tokens that hold these bytes of the text; `None` where the server does not tell.
    pub fn logprob(&self, bytes: Range<usize>) -> Option<f32> {
        let (mut end, mut sum, mut found) = (0, 0.0, false);
        for (piece, logprob) in self.pieces.as_ref()? {
            let start: usize = end;
            end += piece.len();
            if start < bytes.end && end > bytes.start {
                (sum, found) = (sum + logprob, true);
            }
        }
        found.then_some(sum)
    }

    /// Whether the server told log-probabilities.
    pub(crate) fn has_logprobs(&self) -> bool {
        self.pieces.is_some()
    }
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<usize>,
    message: Message,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    /// What stood in the `<think>` tag, where the server takes it out of the content: under either name.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

impl Message {
    /// The text as it was sampled, as far as the server tells.
    fn text(self) -> String {
        let content = self.content.unwrap_or_default();
        match self.reasoning_content.or(self.reasoning).filter(|it| !it.is_empty()) {
            None => content,
            // It was cut off while it thought.
            Some(thought) if content.is_empty() => format!("<think>{thought}"),
            Some(thought) => format!("<think>{thought}</think>{content}"),
        }
    }
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Piece>>,
}

#[derive(Deserialize)]
struct Piece {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
}

/// The samples in a server's answer to a request for `asked` of them; `None` for one that did not come whole.
///
/// # Errors
/// Not one came whole: what was found.
pub(crate) fn samples(answer: &[u8], asked: usize) -> Result<Vec<Option<Sample>>, String> {
    let completion: Completion = serde_json::from_slice(answer).map_err(|error| {
        format!("its answer is no chat completion ({}): {}", excerpt(error.to_string().as_bytes()), excerpt(answer))
    })?;
    let mut choices = completion.choices;
    // The order is that of the seeds.
    choices.sort_by_key(|choice| choice.index.unwrap_or(0));
    choices.truncate(asked);
    // The count is that of all choices together.
    let tokens = if choices.len() == 1 { completion.usage.and_then(|usage| usage.completion_tokens) } else { None };
    let mut why = "its answer has no choices".to_owned();
    let mut samples: Vec<Option<Sample>> = choices
        .into_iter()
        .map(|choice| sample(choice, tokens).map_err(|what| why = format!("its answer {what}")).ok())
        .collect();
    if samples.iter().all(Option::is_none) {
        return Err(why);
    }
    samples.resize(asked, None);
    Ok(samples)
}

/// The sample in a choice; `tokens` is how many it has, where its log-probabilities do not tell.
fn sample(choice: Choice, tokens: Option<u32>) -> Result<Sample, String> {
    let finish = match choice.finish_reason.as_deref() {
        Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        Some("content_filter") => return Ok(Err(Lost::Filtered)),
        other => {
            let other = other.map_or_else(|| "none".to_owned(), |it| format!("\"{}\"", excerpt(it.as_bytes())));
            return Err(format!("ended for the reason {other}; expected \"stop\" or \"length\""));
        }
    };
    let text = choice.message.text();
    let told = choice.logprobs.and_then(|it| it.content).filter(|it| !it.is_empty());
    let tokens = told.as_ref().map(|it| it.len() as u32).or(tokens).ok_or("does not say how many tokens it has")?;
    let pieces = told.map(|tokens| {
        let piece = |it: Piece| (it.bytes.unwrap_or_else(|| it.token.into_bytes()), it.logprob);
        tokens.into_iter().map(piece).collect::<Vec<_>>()
    });
    // Behind the text stands the end of turn, which is a token too.
    let spells = |it: &Vec<(Vec<u8>, f32)>| {
        let spelt: Vec<u8> = it.iter().flat_map(|(bytes, _)| bytes).copied().collect();
        spelt.starts_with(text.as_bytes()) && it.iter().all(|(_, logprob)| logprob.is_finite())
    };
    let pieces = pieces.filter(spells);
    Ok(Ok(Reply { text, tokens, finish, pieces }))
}

/// The beginning of an answer, on one line.
pub(crate) fn excerpt(answer: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(&answer[..answer.len().min(4 * LONGEST)]);
    let words = text.split(|it: char| it.is_whitespace() || it.is_control()).filter(|it| !it.is_empty());
    let words = words.collect::<Vec<_>>().join(" ");
    if words.is_empty() {
        return "(empty)".to_owned();
    }
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(answer: &serde_json::Value, asked: usize) -> Result<Vec<Option<Sample>>, String> {
        samples(answer.to_string().as_bytes(), asked)
    }

    fn choice(index: usize, text: &str) -> serde_json::Value {
        json!({ "index": index, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" })
    }

    fn reply(text: &str, tokens: u32) -> Reply {
        Reply { text: text.to_owned(), tokens, finish: Finish::Stop, pieces: None }
    }

    #[test]
    fn choices_come_in_the_order_of_their_seeds_and_the_missing_are_missed() {
        let logprobs = json!({ "content": [{ "token": "1", "logprob": -0.5 }] });
        let with = |index, text| {
            let mut it = choice(index, text);
            it["logprobs"] = logprobs.clone();
            it
        };
        let read = read(&json!({ "choices": [with(1, "b"), with(0, "a")], "usage": { "completion_tokens": 2 } }), 3);
        let texts: Vec<_> = read.unwrap().into_iter().map(|it| it.map(|it| it.unwrap().text)).collect();
        assert_eq!(texts, [Some("a".to_owned()), Some("b".to_owned()), None]);
    }

    #[test]
    fn more_choices_than_asked_for_are_no_replies() {
        let tokens = json!({ "completion_tokens": 9 });
        let read = read(&json!({ "choices": [choice(0, "a"), choice(1, "b")], "usage": tokens }), 1);
        assert_eq!(read, Ok(vec![Some(Ok(reply("a", 9)))]));
    }

    #[test]
    fn what_is_not_whole_has_not_come() {
        let tokens = json!({ "completion_tokens": 3 });
        let ended = |reason: serde_json::Value| {
            let mut it = choice(0, "0");
            it["finish_reason"] = reason;
            json!({ "choices": [it], "usage": tokens })
        };
        for (answer, why) in [
            (json!({}), "no chat completion"),
            (json!({ "error": { "message": "busy" } }), "busy"),
            (json!({ "choices": [] }), "no choices"),
            (json!({ "choices": [choice(0, "0")] }), "how many tokens"),
            (json!({ "choices": [{ "finish_reason": "stop" }], "usage": tokens }), "message"),
            (ended(json!(null)), "reason none"),
            (ended(json!("abort")), "abort"),
            (ended(json!("tool_calls")), "tool_calls"),
        ] {
            let said = read(&answer, 1).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        for text in ["", "{", "<html>\n no", "{\"choices\": [{\"message\": {\"content\": \"\\\\boxed{0}"] {
            assert!(samples(text.as_bytes(), 1).is_err());
        }
        assert_eq!(read(&ended(json!("content_filter")), 1), Ok(vec![Some(Err(Lost::Filtered))]));
    }

    #[test]
    fn an_empty_reply_is_a_reply_that_says_nothing() {
        let silent = json!({ "message": { "role": "assistant", "content": null }, "finish_reason": "stop" });
        let read = read(&json!({ "choices": [silent], "usage": { "completion_tokens": 1 } }), 1);
        assert_eq!(read, Ok(vec![Some(Ok(reply("", 1)))]));
    }

    #[test]
    fn reasoning_that_the_server_took_out_is_put_back() {
        let with = |message: serde_json::Value| {
            let choice = json!({ "message": message, "finish_reason": "stop" });
            read(&json!({ "choices": [choice], "usage": { "completion_tokens": 9 } }), 1)
        };
        let whole = reply("<think>noisy</think>\\boxed{2}", 9);
        for message in [
            json!({ "content": "\\boxed{2}", "reasoning_content": "noisy" }),
            json!({ "content": "\\boxed{2}", "reasoning": "noisy", "reasoning_content": null }),
            json!({ "content": "<think>noisy</think>\\boxed{2}", "reasoning_content": "" }),
        ] {
            assert_eq!(with(message), Ok(vec![Some(Ok(whole.clone()))]));
        }
        let cut = with(json!({ "content": null, "reasoning": "is it 0 or" }));
        assert_eq!(cut, Ok(vec![Some(Ok(reply("<think>is it 0 or", 9)))]));
    }

    #[test]
    fn the_tokens_over_the_bytes_give_their_log_probability() {
        let token = |token: &str, logprob: f32| json!({ "token": token, "logprob": logprob });
        let with = |text: &str, tokens: &[serde_json::Value]| {
            let mut it = choice(0, text);
            it["logprobs"] = json!({ "content": tokens });
            let read = read(&json!({ "choices": [it] }), 1).unwrap();
            read.into_iter().next().unwrap().unwrap().unwrap()
        };
        let spelt =
            [token("\\box", -1.0), token("ed{3", -2.0), token(".5", -4.0), token("}", -8.0), token("<end>", 0.0)];
        let boxed = with("\\boxed{3.5}", &spelt);
        assert_eq!((boxed.tokens, boxed.logprob(7..10), boxed.logprob(10..11)), (5, Some(-6.0), Some(-8.0)));
        assert_eq!(boxed.logprob(90..91), None);
        // A token of half a character is known by its bytes.
        let half = |byte: u8, logprob: f32| json!({ "token": "\u{fffd}", "logprob": logprob, "bytes": [byte] });
        assert_eq!(with("é1", &[half(0xC3, -1.0), half(0xA9, -2.0), token("1", -4.0)]).logprob(2..3), Some(-4.0));
        // Tokens that spell something else say nothing about the text.
        assert_eq!(with("0", &[token("1", -1.0)]).logprob(0..1), None);
    }
}
