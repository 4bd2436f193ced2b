//! NIQE's parameters, fitted to a folder of sharp natural pictures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use evoq_artifacts::{list_files, read_file, write_file};
use evoq_naturalness::{Features, Niqe, sharp_blocks};
use evoq_pictures::decode;
use evoq_stage::bad_input;
use rayon::prelude::*;

use crate::handcrafted::Method;

/// The extensions of the files that are read.
const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"];

/// Parameters and what they were fitted to.
pub struct Fitted {
    /// The parameters.
    pub niqe: Niqe,
    /// Pictures in the folder.
    pub pictures: usize,
    /// Sharp blocks of 96 by 96 pixels in them.
    pub blocks: usize,
}

/// Fits NIQE's parameters to the pictures in `folder` and below it, in the order of their names.
pub fn fitted(folder: &Path) -> anyhow::Result<Fitted> {
    let is_picture = |name: &String| {
        let extension = Path::new(name).extension().and_then(|it| it.to_str()).unwrap_or_default();
        EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
    };
    let names: Vec<String> = list_files(folder)?.into_iter().filter(is_picture).collect();
    let blocks_of = |name: &String| {
        let path = folder.join(name);
        let decoded = decode(&read_file(&path)?);
        let picture = decoded.map_err(|error| bad_input(format!("--fit: {} {error}", path.display())))?.picture;
        Ok(sharp_blocks(&picture))
    };
    let blocks: Vec<Vec<Features>> = names.par_iter().map(blocks_of).collect::<anyhow::Result<_>>()?;
    let blocks: Vec<Features> = blocks.into_iter().flatten().collect();
    let niqe = Niqe::fit(&blocks).ok_or_else(|| {
        bad_input(format!(
            "--fit {}: {} pictures with {} sharp blocks of 96 by 96 pixels; expected some, with detail, at least 96 pixels wide and high",
            folder.display(),
            names.len(),
            blocks.len()
        ))
    })?;
    tracing::info!("NIQE was fitted to {} sharp blocks of {} pictures", blocks.len(), names.len());
    Ok(Fitted { niqe, pictures: names.len(), blocks: blocks.len() })
}

/// Fits NIQE's parameters to the sharp natural pictures in a folder and writes them as a MATLAB file, for --params.
#[derive(Parser)]
#[command(name = "evoq-score")]
struct ByHand {
    /// What is fitted: niqe
    #[arg(long, value_enum)]
    method: Method,
    /// The folder of pictures
    #[arg(long, value_name = "FOLDER")]
    fit: PathBuf,
    /// The file that is written
    #[arg(long, value_name = "FILE.mat")]
    out: PathBuf,
}

/// Whether the arguments ask for a fit alone: there are no pictures to score.
pub fn is_asked_for(arguments: &[OsString]) -> bool {
    let has = |flag: &str| {
        let is_it = |it: &str| it == flag || it.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
        arguments.iter().any(|it| it.to_str().is_some_and(is_it))
    };
    has("--fit") && !["--images", "--describe", "--help"].iter().any(|flag| has(flag))
}

/// Fits, writes, and says what was fitted.
pub fn by_hand(arguments: &[OsString]) -> anyhow::Result<String> {
    let ByHand { method, fit, out } = ByHand::try_parse_from(arguments)?;
    if method != Method::Niqe {
        return Err(bad_input("--fit: only NIQE's parameters can be fitted to pictures alone; say --method niqe"));
    }
    let Fitted { niqe, pictures, blocks } = fitted(&fit)?;
    write_file(&out, &niqe.to_file())?;
    Ok(format!("{}: NIQE fitted to {blocks} sharp blocks of {pictures} pictures\n", out.display()))
}
