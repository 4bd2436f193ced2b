//! `evoq-distort apply`: one picture by hand, from file to file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use evoq_distortions::fit;
use evoq_pictures::{decode, distorted, encode_png};
use evoq_stage::bad_input;

use crate::Type;

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
    let apply = match Apply::try_parse_from(arguments) {
        Ok(apply) => apply,
        Err(error) => {
            // clap writes help to stdout and faults to stderr itself; a closed pipe is no fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&apply) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evoq-distort: error: {error:#}");
            let storage = error.downcast_ref::<evoq_artifacts::Error>().is_some_and(|it| !it.is_bad_input());
            ExitCode::from(if storage { 1 } else { 2 })
        }
    }
}

fn run(apply: &Apply) -> anyhow::Result<()> {
    if apply.output.extension().is_none_or(|it| !it.eq_ignore_ascii_case("png")) {
        return Err(bad_input(format!(
            "{}: the output is a PNG file; give it a name that ends in .png",
            apply.output.display()
        )));
    }
    let input = apply.input.display();
    let bytes = evoq_artifacts::read_file(&apply.input)?;
    let picture = decode(&bytes).map_err(|error| bad_input(format!("{input} {error}")))?.picture;
    let fitted = fit(&picture, apply.short_side, apply.crop);
    let draws = (apply.seed, "");
    let result = distorted(&fitted, apply.distortion.0, apply.severity, draws, apply.angle)
        .map_err(|error| bad_input(format!("{input}: {error}")))?;
    Ok(evoq_artifacts::write_file(&apply.output, &encode_png(&result))?)
}
