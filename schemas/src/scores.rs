//! `scores`: replies to the rating prompt, in evaluation, and the scores of measures that ask no policy.

use crate::ImageId;
use crate::cell::enumeration;
use crate::table::{table, within};

enumeration! {
    /// How a reply was decoded.
    Decoding {
        /// The most probable token at each step; also what is computed or imported, one value a picture.
        Greedy = "greedy",
        /// Drawn from the policy's distribution.
        Sampled = "sampled",
    }
}

enumeration! {
    /// What gave the score.
    ScoreMethod {
        /// The policy's reply, on 1..5.
        Policy = "policy",
        /// NIQE: distance from natural pictures; lower is better.
        Niqe = "niqe",
        /// BRISQUE: about 0 to 100; lower is better.
        Brisque = "brisque",
        /// Another tool; larger is better.
        Imported = "imported",
        /// Another tool; lower is better.
        ImportedLowerBetter = "imported-lower-better",
    }
}

impl ScoreMethod {
    /// Whether a smaller score is the better one. Scores are kept as they were given; what compares them turns them.
    pub fn is_lower_better(self) -> bool {
        match self {
            Self::Policy | Self::Imported => false,
            Self::Niqe | Self::Brisque | Self::ImportedLowerBetter => true,
        }
    }
}

table! {
    /// One reply to the rating prompt in evaluation, or a measure's score.
    Score = "scores", version 1 {
        /// The picture.
        image_id: ImageId,
        /// Digest of the policy that replied, of a measure's parameters, or of the imported file.
        policy: String,
        /// Which of the picture's replies this is, from 0, within its decoding.
        sample: u16,
        /// How the reply was decoded.
        decoding: Decoding,
        /// The score, a policy's in 1..5; `method` says whether lower is better. Null for an invalid reply.
        score: Option<f64>,
        /// Why the reply is invalid; null for a valid one.
        invalid_reason: Option<String>,
        /// The reply's text; empty where nothing replied.
        reply: String,
        /// Tokens in the reply, the end of turn included.
        tokens: u32,
        /// What gave the score.
        method: ScoreMethod,
    }
}

impl Score {
    fn checked(&self) -> Result<(), String> {
        let (low, high) = if self.method == ScoreMethod::Policy { (1.0, 5.0) } else { (f64::MIN, f64::MAX) };
        self.score.map_or(Ok(()), |score| within("score", score, low, high))?;
        if self.score.is_some() == self.invalid_reason.is_none() {
            Ok(())
        } else {
            Err("column `score` and `invalid_reason`: exactly one of them is set".to_owned())
        }
    }
}
