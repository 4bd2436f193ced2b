//! `scores`: replies to the rating prompt, in evaluation.

use crate::ImageId;
use crate::cell::enumeration;
use crate::table::{table, within};

enumeration! {
    /// How a reply was decoded.
    Decoding {
        /// The most probable token at each step.
        Greedy = "greedy",
        /// Drawn from the policy's distribution.
        Sampled = "sampled",
    }
}

enumeration! {
    /// What gave the score.
    ScoreMethod {
        /// The policy's reply.
        Policy = "policy",
    }
}

table! {
    /// One reply to the rating prompt in evaluation.
    Score = "scores", version 1 {
        /// The picture.
        image_id: ImageId,
        /// Digest of the policy that replied.
        policy: String,
        /// Which of the picture's replies this is, from 0, within its decoding.
        sample: u16,
        /// How the reply was decoded.
        decoding: Decoding,
        /// The score, 1..5; null for an invalid reply.
        score: Option<f64>,
        /// Why the reply is invalid; null for a valid one.
        invalid_reason: Option<String>,
        /// The reply's text.
        reply: String,
        /// Tokens in the reply, the end of turn included.
        tokens: u32,
        /// What gave the score.
        method: ScoreMethod,
    }
}

impl Score {
    fn checked(&self) -> Result<(), String> {
        self.score.map_or(Ok(()), |score| within("score", score, 1.0, 5.0))?;
        if self.score.is_some() == self.invalid_reason.is_none() {
            Ok(())
        } else {
            Err("column `score` and `invalid_reason`: exactly one of them is set".to_owned())
        }
    }
}
