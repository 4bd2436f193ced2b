//! Scores of measures that ask no policy: NIQE and BRISQUE, the hand-crafted anchors of the paper's Table 3.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use evoq_artifacts::read_file;
use evoq_naturalness::{Brisque, Niqe, ReadError, Unmeasurable};
use evoq_pictures::Pictures;
use evoq_schemas::{Decoding, ImageId, Score, ScoreMethod};
use evoq_stage::{Job, UnitEnd, bad_input};
use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use crate::fit;

/// Pictures of a unit.
const UNIT: usize = 256;

/// What gives the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A policy's replies.
    Policy,
    /// NIQE (Mittal, Soundararajan and Bovik 2013); lower is better.
    Niqe,
    /// BRISQUE (Mittal, Moorthy and Bovik 2012); lower is better.
    Brisque,
}

/// The flags of scores that no policy gives.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flags {
    /// What gives the scores: a policy's replies, or a measure that asks none
    #[arg(long, value_enum, default_value = "policy")]
    pub method: Method,
    /// The measure's parameters: NIQE's MATLAB file; BRISQUE's model and range, of LIBSVM or of OpenCV
    #[arg(long, value_name = "FILE[,FILE]", value_delimiter = ',')]
    pub params: Vec<PathBuf>,
    /// In place of --params, fit NIQE's parameters on the sharp natural pictures in this folder. Without --images they are only
    /// written: --method niqe --fit FOLDER --out FILE.mat
    #[arg(long, value_name = "FOLDER", conflicts_with = "params")]
    pub fit: Option<PathBuf>,
    /// Take the scores of another tool: a csv file with the columns `image_id` or `name`, and `score`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "params", "fit"])]
    pub import: Option<PathBuf>,
    /// A lower score is the better one in the imported file
    #[arg(long, requires = "import")]
    pub lower_better: bool,
}

impl Flags {
    /// Whether a policy gives the scores.
    pub fn asks_policy(&self) -> bool {
        self.method == Method::Policy && self.import.is_none()
    }

    /// Refuses flags, and a policy or its server, that the way of scoring has no use for.
    pub fn check(&self, has_policy: bool) -> anyhow::Result<()> {
        if has_policy && !self.asks_policy() {
            return Err(bad_input(
                "--policy, --engine: a measure or an imported file asks nobody; leave one of them out",
            ));
        }
        match self.method {
            Method::Policy if !self.params.is_empty() => {
                Err(bad_input("--params: a policy has none; say --method niqe or --method brisque"))
            }
            Method::Policy | Method::Brisque if self.fit.is_some() => {
                Err(bad_input("--fit: only NIQE's parameters can be fitted to pictures alone; say --method niqe"))
            }
            _ => Ok(()),
        }
    }
}

/// A measure with its parameters.
enum Measure {
    Niqe(Niqe),
    Brisque(Box<Brisque>),
}

impl Measure {
    /// The measure that the flags ask for, with the digest of its parameters.
    fn of(flags: &Flags) -> anyhow::Result<(Self, String)> {
        match (flags.method, &flags.params[..], &flags.fit) {
            (Method::Niqe, [], Some(folder)) => {
                let niqe = fit::fitted(folder)?.niqe;
                let digest = digest(&[&niqe.to_file()]);
                Ok((Self::Niqe(niqe), digest))
            }
            (Method::Niqe, [path], _) => {
                let file = read_file(path)?;
                Ok((Self::Niqe(Niqe::read(&file).map_err(|what| of_file(path, &what))?), digest(&[&file])))
            }
            (Method::Niqe, files, _) => Err(bad_input(format!(
                "--params: {} files for NIQE; expected one, the release's modelparameters.mat, or --fit FOLDER in its place",
                files.len()
            ))),
            (_, [model_path, range_path], _) => {
                let (model, range) = (read_file(model_path)?, read_file(range_path)?);
                let brisque = Brisque::read(&model, &range).map_err(|error| match error {
                    ReadError::Model(what) => of_file(model_path, &what),
                    ReadError::Range(what) => of_file(range_path, &what),
                })?;
                Ok((Self::Brisque(Box::new(brisque)), digest(&[&model, &range])))
            }
            (_, files, _) => Err(bad_input(format!(
                "--params: {} files for BRISQUE; expected two, the model and its range: allmodel,allrange of the release, or \
                 brisque_model_live.yml,brisque_range_live.yml of OpenCV",
                files.len()
            ))),
        }
    }

    fn score(&self, picture: &RgbImage) -> Result<f64, Unmeasurable> {
        match self {
            Self::Niqe(niqe) => niqe.score(picture),
            Self::Brisque(brisque) => brisque.score(picture),
        }
    }

    fn method(&self) -> ScoreMethod {
        match self {
            Self::Niqe(_) => ScoreMethod::Niqe,
            Self::Brisque(_) => ScoreMethod::Brisque,
        }
    }
}

fn of_file(path: &Path, what: &str) -> anyhow::Error {
    bad_input(format!("--params: {} {what}; give the file as it was published", path.display()))
}

/// The digest of files, one after the other.
fn digest(files: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(blake3::hash(file).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Scores the pictures `ids` by the measure that the flags ask for. A picture that it cannot measure has a reason in place of a
/// score.
pub fn run(flags: &Flags, job: &mut Job, pictures: &Pictures, ids: &[ImageId]) -> anyhow::Result<()> {
    let (measure, digest) = Measure::of(flags)?;
    let score = |id: &ImageId| -> anyhow::Result<Score> {
        let found = measure.score(&pictures.load(id)?);
        Ok(Score {
            image_id: id.clone(),
            policy: digest.clone(),
            sample: 0,
            decoding: Decoding::Greedy,
            score: found.ok(),
            invalid_reason: found.err().map(|why| why.to_string()),
            reply: String::new(),
            tokens: 0,
            method: measure.method(),
        })
    };
    let units = job.units("pictures", ids.len(), UNIT, |unit, rows, progress| {
        let scores: Vec<Score> =
            ids[rows].par_iter().map(|id| score(id).inspect(|_| progress.add(1))).collect::<anyhow::Result<_>>()?;
        unit.note(scores.iter().filter(|it| it.score.is_some()).count());
        scores.into_iter().try_for_each(|score| unit.push(score))?;
        Ok(UnitEnd::Done)
    })?;
    let Some(units) = units else { return Ok(()) };
    let valid: usize = units.notes::<usize>()?.into_iter().sum();
    tracing::info!("{valid} of {} pictures have a score; lower is better", ids.len());
    job.close_units::<Score>(&units)
}
