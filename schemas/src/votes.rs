//! `votes`: replies to the comparison prompt.

use crate::cell::enumeration;
use crate::pairs::ordered;
use crate::table::{table, within};
use crate::{ImageId, PairId};

enumeration! {
    /// Which picture was shown first.
    Presented {
        /// `image_a` first.
        Ab = "ab",
        /// `image_b` first.
        Ba = "ba",
    }
}

enumeration! {
    /// What a reply says, after undoing the order of presentation.
    Outcome {
        /// `image_a` is better.
        A = "a",
        /// `image_b` is better.
        B = "b",
        /// The reply names no side.
        Invalid = "invalid",
    }
}

enumeration! {
    /// Why a reply ended.
    Finish {
        /// The policy ended its turn.
        Stop = "stop",
        /// The limit of tokens was reached.
        Length = "length",
    }
}

table! {
    /// One reply to the comparison prompt; with exact voting, what the prompt is answered with in one order. A pair's rows stand together, in the order of k; pairs stand in the order in which they were asked about, which keeps those of the same pictures together and is not that of `pairs`.
    Vote = "votes", version 2 {
        /// The pair.
        pair_id: PairId,
        /// Its first picture as text.
        image_a: ImageId,
        /// Its other picture.
        image_b: ImageId,
        /// k, from 0: which of the pair's votes this is.
        vote: u16,
        /// K: how many votes the pair was to get. Where rows of a pair are fewer, the others were not cast, as they could not have changed its label; null for exact probabilities.
        samples: Option<u16>,
        /// Which picture was shown first.
        presented: Presented,
        /// What the reply says; null for exact probabilities.
        outcome: Option<Outcome>,
        /// Why the reply is invalid; null for a valid one.
        invalid_reason: Option<String>,
        /// The reply's text as sampled; null for exact probabilities.
        reply: Option<String>,
        /// The log-probability of the reply's answer token, in nats; null for an invalid one, and where it is not known.
        answer_logprob: Option<f32>,
        /// Tokens sampled, the end of turn included.
        tokens: u32,
        /// Why the reply ended; null for exact probabilities.
        finish: Option<Finish>,
        /// The probability, 0..1, that a reply in this order begins with the answer for `image_a`; null for a sampled reply.
        probability_a: Option<f64>,
        /// The same for `image_b`. What both leave of 1 is the probability of an invalid reply.
        probability_b: Option<f64>,
        /// 16 hex digits over the prompt's text.
        prompt: String,
        /// Digest of the policy that replied.
        policy: String,
        /// Pictures of fewer pixels were enlarged to this many before the policy looked; null where that is not known.
        min_pixels: Option<u64>,
        /// Pictures of more pixels were shrunk to this many before the policy looked; null where that is not known.
        max_pixels: Option<u64>,
        /// The seed of the draws.
        seed: u64,
    }
}

impl Vote {
    fn checked(&self) -> Result<(), String> {
        ordered(&self.image_a, &self.image_b)?;
        if (self.outcome == Some(Outcome::Invalid)) != self.invalid_reason.is_some() {
            return Err("column `invalid_reason` is set for an invalid outcome, and for no other".to_owned());
        }
        match (self.outcome, self.samples, self.probability_a, self.probability_b) {
            (Some(_), Some(samples), None, None) if self.vote < samples => Ok(()),
            (Some(_), Some(samples), None, None) => {
                Err(format!("column `vote` is {}; expected less than `samples`, which is {samples}", self.vote))
            }
            (None, None, Some(a), Some(b)) => {
                within("probability_a", a, 0.0, 1.0)?;
                within("probability_b", b, 0.0, 1.0)?;
                // Each is rounded by itself.
                within("probability_a + probability_b", a + b, 0.0, 1.0 + 1e-6)
            }
            _ => Err(
                "columns `outcome` and `samples` are set for a sampled reply, `probability_a` and `probability_b` for \
                      an exact one; expected the two of one kind"
                    .to_owned(),
            ),
        }
    }

    /// Whether it is a valid vote for the picture that was shown first.
    pub fn is_for_the_first(&self) -> bool {
        matches!((self.presented, self.outcome), (Presented::Ab, Some(Outcome::A)) | (Presented::Ba, Some(Outcome::B)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;

    fn vote() -> Vote {
        let (a, b) = (ImageId::from("set/a"), ImageId::from("set/b"));
        Vote {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            vote: 0,
            samples: Some(2),
            presented: Presented::Ba,
            outcome: Some(Outcome::B),
            invalid_reason: None,
            reply: Some("0".to_owned()),
            answer_logprob: None,
            tokens: 1,
            finish: Some(Finish::Stop),
            probability_a: None,
            probability_b: None,
            prompt: String::new(),
            policy: String::new(),
            min_pixels: None,
            max_pixels: None,
            seed: 1,
        }
    }

    fn exact(probability_a: f64, probability_b: f64) -> Vote {
        let probabilities = (Some(probability_a), Some(probability_b));
        let (probability_a, probability_b) = probabilities;
        Vote { samples: None, outcome: None, reply: None, finish: None, probability_a, probability_b, ..vote() }
    }

    #[test]
    fn a_row_is_a_sampled_reply_or_an_exact_one() {
        assert_eq!(vote().check(), Ok(()));
        assert_eq!(exact(0.25, 0.75).check(), Ok(()));
        for (row, named) in [
            (Vote { probability_a: Some(0.5), ..vote() }, "probability_a"),
            (Vote { samples: None, ..vote() }, "samples"),
            (Vote { vote: 2, ..vote() }, "`vote` is 2"),
            (Vote { outcome: Some(Outcome::Invalid), ..vote() }, "invalid_reason"),
            (Vote { probability_b: None, ..exact(0.5, 0.5) }, "probability_b"),
            (exact(-0.1, 0.5), "probability_a"),
            (exact(0.6, 0.5), "probability_a + probability_b"),
        ] {
            let said = row.check().unwrap_err();
            assert!(said.contains(named), "{said}");
        }
    }
}
