//! `updates`: the optimizer steps of a training stage.

use crate::table::{finite, table};

table! {
    /// One optimizer step.
    Update = "updates", version 1 {
        /// The step, from 0.
        update_index: u32,
        /// The loss that was descended.
        loss: f64,
        /// Its policy part; null in supervised training.
        policy_loss: Option<f64>,
        /// Mean k3 divergence from the reference policy; null in supervised training.
        kl: Option<f64>,
        /// The probe's part of the loss; null without a probe.
        probe_loss: Option<f64>,
        /// Mean reward over all completions; invalid ones, and all of a picture that was left out, count as 0.
        reward_mean: Option<f64>,
        /// Mean over the pictures of the rewards' standard deviation (ddof 1).
        reward_std: Option<f64>,
        /// Share of invalid completions.
        invalid_rate: Option<f64>,
        /// Pictures whose completions all earned the same reward.
        zero_spread_groups: Option<u32>,
        /// Pictures that were left out: they, or all of their partners, have fewer than two valid completions.
        skipped_groups: Option<u32>,
        /// Norm of the whole gradient before clipping.
        gradient_norm: f64,
        /// Whether the gradient was clipped.
        clipped: bool,
        /// The learning rate of the step.
        learning_rate: f64,
        /// Pictures or examples in the step.
        groups: u32,
        /// Completions in the step.
        completions: u32,
        /// Completion tokens in the step.
        tokens: u64,
    }
}

impl Update {
    fn checked(&self) -> Result<(), String> {
        finite("loss", self.loss)?;
        finite("gradient_norm", self.gradient_norm)
    }
}
