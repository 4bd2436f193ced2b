//! `targets`: the mean of a picture's own ratings as its pseudo-score, the ablation that the paper calls `EvoEstimate`.

use crate::ImageId;
use crate::table::{table, within};

table! {
    /// The pseudo-score of a picture, in place of labels of pairs.
    Target = "targets", version 1 {
        /// The picture.
        image_id: ImageId,
        /// The mean of its valid ratings, 1..5; null without quorum.
        pseudo_mos: Option<f64>,
        /// Valid ratings.
        valid: u32,
        /// Invalid ratings.
        invalid: u32,
    }
}

impl Target {
    fn checked(&self) -> Result<(), String> {
        if self.pseudo_mos.is_some() && self.valid == 0 {
            return Err("column `pseudo_mos` is set without a valid rating; expected null".to_owned());
        }
        self.pseudo_mos.map_or(Ok(()), |it| within("pseudo_mos", it, 1.0, 5.0))
    }
}
