//! `evoq-grpo --estimate SHAPE`: how much memory a training takes, from the shapes and the flags alone. Nothing is run.

use std::path::Path;

use clap::Parser;
use evoq_policy::{Config, Error, Processor, Sampling, Work, estimate, published};
use evoq_stage::bad_input;

use crate::Args;
use crate::args::RewardKind;
use crate::update::picture_bytes;

/// Tokens of the rating prompt beside its picture's in Qwen's vocabulary, rounded up.
const QUESTION_TOKENS: usize = 150;

/// Smallest and largest pixels of the release's preprocessor, for a shape that comes without one.
const PIXELS: [usize; 2] = [3136, 12_845_056];

/// Prints how much memory a training takes, and ends.
#[derive(Debug, Parser)]
#[command(name = "evoq-grpo", after_help = "Without --estimate: evoq-grpo --help, to train.")]
pub(crate) struct Estimate {
    /// The policy's shape: a published one, or a checkpoint folder, of which config.json is enough
    #[arg(long = "estimate", value_name = "7b|3b|FOLDER")]
    shape: String,
    /// Width of the pictures
    #[arg(long, value_name = "PIXELS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    width: u32,
    /// Height of the pictures
    #[arg(long, value_name = "PIXELS", default_value_t = 768, value_parser = clap::value_parser!(u32).range(1..))]
    height: u32,
    /// The flags of the training.
    #[command(flatten)]
    args: Args,
}

/// The text for stdout.
pub(crate) fn text(arguments: &[std::ffi::OsString]) -> anyhow::Result<String> {
    let Estimate { shape, width, height, args } = Estimate::try_parse_from(arguments)?;
    let (config, processor) = read(&shape).map_err(|error| bad_input(format!("--estimate {shape}: {error}")))?;
    let grid = processor
        .grid(width, height)
        .map_err(|error| bad_input(format!("--width {width} --height {height}: {error}")))?;
    let pictures = match args.reward {
        RewardKind::Preference => args.pairs_per_update.saturating_mul(2),
        RewardKind::Absolute => args.pictures_per_update,
    };
    let work = Work {
        place: args.device,
        trainable: args.learning.trainable(),
        grid,
        pictures: args.learning.at_a_time(picture_bytes(&config, grid)).min(pictures),
        question_tokens: QUESTION_TOKENS,
        completions: usize::from(args.samples),
        completion_tokens: args.max_tokens,
        cache_bytes: Sampling::default().cache_bytes,
    };
    Ok(format!("{}\n", estimate(&config, &work)))
}

/// A shape, and how pictures are brought to its patches.
fn read(shape: &str) -> evoq_policy::Result<(Config, Processor)> {
    let [min, max] = PIXELS;
    if let Some(config) = published(shape) {
        return Ok((config, Processor::new(min, max)));
    }
    let folder = Path::new(shape);
    let config = Config::load(folder)?;
    match Processor::load(folder) {
        Err(Error::MissingFile { .. }) => Ok((config, Processor::new(min, max))),
        processor => Ok((config, processor?)),
    }
}
