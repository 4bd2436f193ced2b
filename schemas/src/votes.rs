//! `votes`: replies to the comparison prompt.

use crate::cell::enumeration;
use crate::pairs::ordered;
use crate::table::table;
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
    /// One reply to the comparison prompt.
    Vote = "votes", version 1 {
        /// The pair.
        pair_id: PairId,
        /// Its first picture as text.
        image_a: ImageId,
        /// Its other picture.
        image_b: ImageId,
        /// k, from 0: which of the pair's votes this is.
        vote: u16,
        /// Which picture was shown first.
        presented: Presented,
        /// What the reply says.
        outcome: Outcome,
        /// Why the reply is invalid; null for a valid one.
        invalid_reason: Option<String>,
        /// The reply's text as sampled.
        reply: String,
        /// The log-probability of the reply's answer token, in nats; null for an invalid one.
        answer_logprob: Option<f32>,
        /// Tokens sampled, the end of turn included.
        tokens: u32,
        /// Why the reply ended.
        finish: Finish,
        /// 16 hex digits over the prompt's text.
        prompt: String,
        /// Digest of the policy that replied.
        policy: String,
        /// The seed of the draws.
        seed: u64,
    }
}

impl Vote {
    fn checked(&self) -> Result<(), String> {
        ordered(&self.image_a, &self.image_b)?;
        if (self.outcome == Outcome::Invalid) == self.invalid_reason.is_some() {
            Ok(())
        } else {
            Err("column `invalid_reason` is set for an invalid outcome, and for no other".to_owned())
        }
    }
}
