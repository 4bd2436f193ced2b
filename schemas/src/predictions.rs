//! `predictions`: what a policy says of a picture beside the truth, the points behind every coefficient.

use crate::correlations::Truth;
use crate::id::ImageId;
use crate::scores::Decoding;
use crate::table::{finite, table};

table! {
    /// A picture's score by one policy beside its truth.
    Prediction = "predictions", version 1 {
        /// Digest of the policy.
        policy: String,
        /// The data set.
        dataset: String,
        /// How the replies were decoded.
        decoding: Decoding,
        /// The picture.
        image_id: ImageId,
        /// The distortion type of a variant; null for an original.
        distortion: Option<String>,
        /// What the truth is.
        truth: Truth,
        /// The truth, 1..5 (a severity of 0 is 6), larger is better.
        quality: f64,
        /// The mean of the valid replies, its sign changed where a lower score is better; null without one.
        score: Option<f64>,
        /// Replies that were valid.
        valid: u32,
        /// Replies in all.
        replies: u32,
    }
}

impl Prediction {
    fn checked(&self) -> Result<(), String> {
        finite("quality", self.quality)?;
        self.score.map_or(Ok(()), |score| finite("score", score))
    }
}
