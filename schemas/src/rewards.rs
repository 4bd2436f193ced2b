//! `rewards`: what the completions of a training would have earned under other constants.

use crate::ImageId;
use crate::table::{finite, table};

table! {
    /// What a completion of `rollouts` earns under the constants that it was recomputed with, beside what it was trained with.
    Reward = "rewards", version 1 {
        /// The optimizer step, from 0.
        update_index: u32,
        /// The picture.
        image_id: ImageId,
        /// k, from 0: which of the picture's completions this is.
        completion: u16,
        /// The score it gives, 1..5; null for an invalid one.
        score: Option<f64>,
        /// Comparisons its reward is made of; 0 for an invalid one, where the picture would be left out, and where rewards are absolute.
        comparisons: u32,
        /// Whether the picture would take part in the update.
        counts: bool,
        /// `r_k`, recomputed.
        reward: f64,
        /// `a_k`, recomputed.
        advantage: f64,
        /// `r_k` as it was trained with.
        trained_reward: f64,
        /// `a_k` as it was trained with.
        trained_advantage: f64,
    }
}

impl Reward {
    fn checked(&self) -> Result<(), String> {
        finite("reward", self.reward)?;
        finite("advantage", self.advantage)
    }
}
