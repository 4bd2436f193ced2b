//! The flags of `evoq-grpo`, and those of Eq. 2 to 4 that it shares with `evoq-grpo rewards`.

use clap::ValueEnum;
use evoq_policy::optimizer::Hyper;
use evoq_policy::train::Trainable;
use evoq_policy::{Place, Reasoning};
use evoq_stage::range::{at_least_0, count, positive, share};
use evoq_stage::{Keeping, bad_input};
use serde::Serialize;

use crate::loss::Objective;

/// Bytes of a micro-batch's pixels and features, at most, where `--micro-batch` does not say how many pictures it has.
pub(crate) const MICRO_BATCH: usize = 1 << 28;

/// What a rating is rewarded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// Agreeing with the labels of its picture's pairs, Eq. 2 and 3 (EvoQuality): reads --labels
    Preference,
    /// Being close to its picture's own pseudo-score (EvoEstimate): reads --targets
    Absolute,
}

/// What a label of 0.5 is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// A pair like any other, with p* = 0.5
    Keep,
    /// Left out
    Drop,
}

/// The constants of rewards and advantages.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Constants {
    /// γ: added to the variance in Eq. 2 (V)
    #[arg(long, default_value_t = 1e-6, value_parser = positive::<f64>)]
    pub gamma: f64,
    /// Variances of Eq. 2 and deviations of Eq. 4 are divided by n minus this (V, T)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub ddof: u8,
    /// Added inside each root of Eq. 3 (P: 0; V: 1e-6)
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0::<f64>)]
    pub root_epsilon: f64,
    /// Added to the deviation in Eq. 4 (V, T)
    #[arg(long, default_value_t = 1e-4, value_parser = positive::<f64>)]
    pub advantage_epsilon: f64,
    /// What becomes of pairs whose label is a tie (P: they stay)
    #[arg(long, value_enum, default_value = "keep")]
    pub ties: Ties,
    /// Fewest valid votes of a pair that is learnt from; pairs with fewer are left out and counted (O)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub quorum: u32,
    /// Absolute rewards: a rating closer to its picture's pseudo-score than this earns 1, else 0 (Q-Insight)
    #[arg(long, default_value_t = 0.35, value_parser = positive::<f64>)]
    pub threshold: f64,
    /// Weight of a reply's form, which earns 1 where it is a thought in its tags and one box, else 0 (P: 0; V: 1)
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0::<f64>)]
    pub format_weight: f64,
}

/// The flags of `evoq-grpo`. Defaults: P the paper, V VisualQuality-R1's code, T TRL, H Hugging Face's trainer, O our own.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// K: completions of each picture (P)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(2..))]
    pub samples: u16,
    /// Labelled pairs an update (P: 4 a device on 8 devices)
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count)]
    pub pairs_per_update: usize,
    /// Pictures an update where rewards are absolute (P: 4 a device on 8 devices)
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count)]
    pub pictures_per_update: usize,
    /// Times that all pairs, or pictures, are shown, each time in another order (O)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub epochs: usize,
    /// Steps on each batch of completions; from the second on, ratios leave 1 and are clipped (V, T: 1)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub iterations: usize,
    /// Whether the prompt ends in the reasoning suffix (P)
    #[arg(long, value_enum, default_value = "on")]
    pub reasoning: Reasoning,
    /// Temperature of the completions (O)
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub temperature: f64,
    /// Longest completion in tokens (O)
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = count)]
    pub max_tokens: usize,
    /// Seed of the order of pairs, of the completions and of the votes that are checked
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the policy answers and learns: the CPU in f32, or CUDA in bf16 (O)
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Place,

    /// What a rating is rewarded for
    #[arg(long, value_enum, default_value = "preference", help_heading = "Rewards and advantages, Eq. 2 to 4")]
    pub reward: RewardKind,
    /// The constants of rewards and advantages.
    #[command(flatten, next_help_heading = "Rewards and advantages, Eq. 2 to 4")]
    #[serde(flatten)]
    pub constants: Constants,
    /// The objective and the optimizer.
    #[command(flatten, next_help_heading = "Objective, Eq. 5 and 6, and optimizer")]
    #[serde(flatten)]
    pub descent: Descent,
    /// What learns.
    #[command(flatten, next_help_heading = "What learns, and how much at a time")]
    #[serde(flatten)]
    pub learning: Learning,
    /// When training stops by itself.
    #[command(flatten, next_help_heading = "Checks")]
    #[serde(flatten)]
    pub checks: Checks,
    /// What training leaves while it runs.
    #[command(flatten)]
    #[serde(skip)]
    pub keeping: Keeping,
}

/// The objective and the optimizer.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Descent {
    /// The form of Eq. 5 and 6 (V, T: token)
    #[arg(long, value_enum, default_value = "token")]
    pub objective: Objective,
    /// β: weight of the divergence from the reference policy (P)
    #[arg(long, default_value_t = 0.05, value_parser = at_least_0::<f64>)]
    pub beta: f64,
    /// ε: how far the ratio may leave 1 (T)
    #[arg(long, default_value_t = 0.2, value_parser = positive::<f64>)]
    pub epsilon: f64,
    /// Peak learning rate, falling in a straight line to 0 (P; for 7B: a policy of a million weights needs about 1e-4)
    #[arg(long, default_value_t = 3e-7, value_parser = at_least_0::<f64>)]
    pub learning_rate: f64,
    /// AdamW: decay of the first moment (H)
    #[arg(long, default_value_t = 0.9, value_parser = decay)]
    pub adam_beta1: f64,
    /// AdamW: decay of the second moment (H)
    #[arg(long, default_value_t = 0.999, value_parser = decay)]
    pub adam_beta2: f64,
    /// AdamW: added to the root of the second moment (H)
    #[arg(long, default_value_t = 1e-8, value_parser = positive::<f64>)]
    pub adam_epsilon: f64,
    /// AdamW: decoupled weight decay (H)
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0::<f64>)]
    pub weight_decay: f64,
    /// Largest norm of the gradient (H)
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub clip: f64,
}

/// A part of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// All weights
    All,
    /// The language model
    Text,
    /// The vision tower with its merger
    Vision,
    /// The vision tower's merger
    Merger,
    /// Low-rank matrices beside the language model's linear layers; merged into them when the policy is saved
    Lora,
}

/// What learns, and how much is held in memory at a time.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Learning {
    /// The part of the policy that is trained (P: all)
    #[arg(long, value_name = "PART", value_enum, default_value = "all")]
    pub trainable: Part,
    /// With --trainable lora: the rank of its matrices (T)
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count)]
    pub lora_rank: usize,
    /// With --trainable lora: the weight of their product, times the rank (T)
    #[arg(long, default_value_t = 32.0, value_parser = positive::<f64>)]
    pub lora_alpha: f64,
    /// Pictures, with their completions, that are worked on at a time; gradients add up over an update [default: as many as
    /// have 256 MiB of pixels and features, 8 of 1024x768 for 7B] (O)
    #[arg(long, value_name = "N", value_parser = count)]
    pub micro_batch: Option<usize>,
}

impl Learning {
    /// What of a policy learns.
    pub(crate) fn trainable(&self) -> Trainable {
        match self.trainable {
            Part::All => Trainable::All,
            Part::Text => Trainable::Text,
            Part::Vision => Trainable::Vision,
            Part::Merger => Trainable::Merger,
            Part::Lora => Trainable::Lora { rank: self.lora_rank, alpha: self.lora_alpha },
        }
    }

    /// How many pictures of this size in bytes are worked on at a time.
    pub(crate) fn at_a_time(&self, picture_bytes: usize) -> usize {
        self.micro_batch.unwrap_or(MICRO_BATCH / picture_bytes.max(1)).max(1)
    }

    /// Whether what is seen in a picture changes.
    pub(crate) fn moves_vision(&self) -> bool {
        !matches!(self.trainable, Part::Text | Part::Lora)
    }
}

/// When training stops by itself.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checks {
    /// Updates from one check of votes to the next; the last update is followed by one. Eq. 5 holds on to ratings only: a few
    /// comparisons say whether voting holds (O)
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    pub check_every: usize,
    /// Pairs that a check asks about, 8 votes each, half of them in either order; 0 for no checks (O)
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub check_pairs: usize,
    /// Stop when fewer than this share of an update's ratings, or of a check's votes, is valid. Half of what `evoq vote` asks
    /// for: 128 votes of a policy that it still takes are not fewer by chance (O)
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, value_parser = share::<f64>)]
    // Whether training ends is no part of what it ends in: a run that was stopped goes on under another share.
    #[serde(skip)]
    pub min_valid_rate: f64,
    /// Stop when a check's votes have more entropy than this, in bits a pair: 1, which never stops, is that of a coin, and of a
    /// policy that prefers the same position whatever it is shown (O)
    #[arg(long, value_name = "BITS", default_value_t = 1.0, value_parser = share::<f64>)]
    #[serde(skip)]
    pub max_vote_entropy: f64,
}

impl Args {
    /// What clap cannot see: how flags go together.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.constants.format_weight > 0.0 && self.reasoning == Reasoning::Off {
            return Err(bad_input(
                "--format-weight with --reasoning off: the prompt asks for no form then; leave out one of them",
            ));
        }
        Ok(())
    }
}

impl Descent {
    /// The optimizer's constants.
    pub(crate) fn hyper(&self) -> Hyper {
        Hyper {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            eps: self.adam_epsilon,
            weight_decay: self.weight_decay,
            clip: Some(self.clip),
        }
    }
}

fn decay(text: &str) -> Result<f64, String> {
    let decay: Option<f64> = text.parse().ok();
    decay.filter(|it| (0.0..1.0).contains(it)).ok_or_else(|| "expected a number from 0 to below 1".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::{Args as _, Command, FromArgMatches};

    /// What the flags stand for, or what is wrong with them.
    pub(crate) fn parsed(flags: &[&str]) -> Result<Args, clap::Error> {
        let command = Args::augment_args(Command::new("evoq-grpo"));
        Args::from_arg_matches(&command.try_get_matches_from([&["evoq-grpo"], flags].concat())?)
    }

    pub(crate) fn defaults() -> Constants {
        parsed(&[]).unwrap().constants
    }

    #[test]
    fn every_flag_that_changes_the_result_is_a_parameter() {
        let values = serde_json::to_value(parsed(&[]).unwrap()).unwrap();
        let command = Args::augment_args(Command::new("evoq-grpo"));
        let missing: Vec<_> =
            command.get_arguments().filter_map(|it| it.get_long().filter(|name| values.get(name).is_none())).collect();
        let expected = [
            "min-valid-rate",
            "max-vote-entropy",
            "checkpoint-every",
            "keep-checkpoints",
            "resume",
            "live-every",
            "tensorboard",
        ];
        assert_eq!(missing, expected);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for flags in [
            ["--ddof", "2"],
            ["--samples", "1"],
            ["--epochs", "0"],
            ["--iterations", "0"],
            ["--quorum", "0"],
            ["--min-valid-rate", "1.5"],
            ["--adam-beta2", "1"],
            ["--threshold", "0"],
            ["--format-weight", "-1"],
            ["--objective", "word"],
            ["--advantage-epsilon", "NaN"],
        ] {
            assert_eq!(parsed(&flags).unwrap_err().exit_code(), 2, "{flags:?}");
        }
    }
}
