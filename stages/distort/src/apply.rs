//! `evoq-distort apply`: one picture by hand, from file to file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use evoq_distortions::fit;
use evoq_pictures::distorted;
use evoq_stage::bad_input;

use crate::{Type, by_hand};

/// Distorts one picture. The draws depend on the seed, the type and the severity, not on the file's name.
#[derive(Debug, Parser)]
#[command(name = "evoq-distort apply")]
struct Apply {
    /// The distortion type.
    #[arg(long = "type", value_name = "TYPE")]
    distortion: Type,
    /// The severity, 1 to 5; 0 applies short side and crop alone.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u8).range(0..=5))]
    severity: u8,
    /// The seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The direction of `blur_motion` in degrees [default: drawn].
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    angle: Option<f64>,
    /// Bring the short side down to N pixels first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    short_side: Option<u32>,
    /// Cut the centre square, of exactly the short side.
    #[arg(long, requires = "short_side")]
    crop: bool,
    /// The picture: PNG, JPEG, WebP, TIFF or BMP.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the PNG file goes; what is there is replaced.
    #[arg(value_name = "OUT.png")]
    output: PathBuf,
}

/// Runs the command; exit codes as for stages.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    by_hand::main(arguments, run)
}

fn run(apply: &Apply) -> anyhow::Result<()> {
    let picture = by_hand::read(&apply.input, &apply.output)?;
    let fitted = fit(&picture, apply.short_side, apply.crop);
    let draws = (apply.seed, "");
    let result = distorted(&fitted, apply.distortion.0, apply.severity, draws, apply.angle)
        .map_err(|error| bad_input(format!("{}: {error}", apply.input.display())))?;
    by_hand::write(&apply.output, &result)
}
