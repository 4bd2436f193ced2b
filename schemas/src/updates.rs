//! `updates`: the optimizer steps of a training stage.

use crate::table::{finite, table, within};

table! {
    /// One optimizer step.
    Update = "updates", version 2 {
        /// The step, from 0.
        update_index: u32,
        /// The loss that was descended; of the first pass where a batch is used several times.
        loss: f64,
        /// Its policy part; null in supervised training.
        policy_loss: Option<f64>,
        /// Mean k3 divergence from the reference policy; null in supervised training.
        kl: Option<f64>,
        /// The probe's part of the loss; null without a probe.
        probe_loss: Option<f64>,
        /// Mean reward over all completions; invalid ones, and all of a picture that was left out, count as 0.
        reward_mean: Option<f64>,
        /// Mean over the pictures of the rewards' standard deviation (ddof 1, whatever Eq. 4 was given).
        reward_std: Option<f64>,
        /// Share of invalid completions.
        invalid_rate: Option<f64>,
        /// Pictures whose completions all earned the same reward.
        zero_spread_groups: Option<u32>,
        /// Pictures that were left out: they, or all of their partners, have fewer than two valid completions.
        skipped_groups: Option<u32>,
        /// Share of the tokens whose ratio Eq. 5 clipped, or of the completions in its form for whole sequences; 0 where each batch is used once, as the ratio is 1 then; null in supervised training.
        clip_share: Option<f64>,
        /// Share of valid votes among those that were sampled after the step to see whether comparisons hold; null where none were.
        vote_valid_rate: Option<f64>,
        /// Mean over the pairs of that check of the entropy of their valid votes, in bits: 0 where all agree, 1 where they are split evenly, as they also are when the picture shown first always wins; null where none were sampled or valid.
        vote_entropy: Option<f64>,
        /// Norm of the whole gradient before clipping; of the first pass where a batch is used several times.
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
        finite("gradient_norm", self.gradient_norm)?;
        self.clip_share.map_or(Ok(()), |it| within("clip_share", it, 0.0, 1.0))?;
        self.vote_valid_rate.map_or(Ok(()), |it| within("vote_valid_rate", it, 0.0, 1.0))?;
        self.vote_entropy.map_or(Ok(()), |it| within("vote_entropy", it, 0.0, 1.0))
    }
}
