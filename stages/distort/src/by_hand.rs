//! What the commands for one picture share: from file to file, no table, exit codes as for stages.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use evoq_pictures::{decode, encode_png};
use evoq_stage::bad_input;
use image::RgbImage;

/// Parses `arguments`, the first of which is the command's name, and runs the command.
pub(crate) fn main<C: Parser>(
    arguments: impl Iterator<Item = OsString>,
    run: impl FnOnce(&C) -> anyhow::Result<()>,
) -> ExitCode {
    let command = match C::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => {
            // clap writes help to stdout and faults to stderr itself; a closed pipe is no fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evoq-distort: error: {error:#}");
            let storage = error.downcast_ref::<evoq_artifacts::Error>().is_some_and(|it| !it.is_bad_input());
            ExitCode::from(if storage { 1 } else { 2 })
        }
    }
}

/// The pixels of the file at `path`, upright. Refuses an `output` that is no PNG file first, before any work is done.
pub(crate) fn read(path: &Path, output: &Path) -> anyhow::Result<RgbImage> {
    if output.extension().is_none_or(|it| !it.eq_ignore_ascii_case("png")) {
        return Err(bad_input(format!(
            "{}: the output is a PNG file; give it a name that ends in .png",
            output.display()
        )));
    }
    let bytes = evoq_artifacts::read_file(path)?;
    Ok(decode(&bytes).map_err(|error| bad_input(format!("{} {error}", path.display())))?.picture)
}

/// Writes `picture` to a PNG file; what is there is replaced.
pub(crate) fn write(path: &Path, picture: &RgbImage) -> anyhow::Result<()> {
    Ok(evoq_artifacts::write_file(path, &encode_png(picture))?)
}
