//! Correlates a policy's scores with human ratings or with the severity of distortions: PLCC, SRCC, KRCC and RMSE with
//! bootstrap intervals, logistic fits beside the raw coefficient, and how far policies lie apart.
//!
//! Replies that are invalid are counted and left out, never filled in. By hand: `--table` for two columns of a csv file, `report`
//! for a page of Markdown with plots, `paper` for averages like the paper's.

pub mod bootstrap;
mod coefficients;
pub mod correlation;
mod differences;
pub mod fit;
mod groups;
mod markdown;
mod measure;
mod paper;
mod plain;
mod plot;
mod replies;
mod report;
mod subset;
mod truth;
mod weights;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ValueEnum;
use evoq_schemas::{Difference, Score, Truth};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::measure::{Measured, measure, weighted_mean};
use crate::subset::{Piece, subsets};
use crate::weights::Weights;

/// What scores are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// Human scores, on 1..5: needs --ratings.
    Mos,
    /// The severity of variants, as quality = 6 − severity; severity 0 is among them.
    Severity,
}

/// The flags of `evoq-benchmark`.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// What the scores are compared with
    #[arg(long, value_enum, default_value = "mos")]
    pub truth: Against,
    /// Coefficients of some distortion types by themselves, beside those of all pictures; may be given several times
    #[arg(long, value_name = "NAME=TYPE,TYPE,…", value_delimiter = ',')]
    pub subset: Vec<Piece>,
    /// Bootstrap resamples, from which the 95 % intervals are taken; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub resamples: u32,
    /// How the sets' coefficients are weighted in their mean: by their pictures here, or as in the paper's tables
    #[arg(long, value_enum, default_value = "pictures")]
    pub weights: Weights,
    /// The policy that the others are compared with: the first digits of its digest [default: the one whose scores come first]
    #[arg(long, value_name = "DIGEST")]
    pub baseline: Option<String>,
    /// The seed of the resamples
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "benchmark";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Correlates policies' scores with human ratings or severities: PLCC, SRCC, KRCC, RMSE, \
        raw and fitted,\nwith bootstrap intervals, and says which policies can be told apart.\n\
        A page with plots: evoq-benchmark report --help. Two columns of a csv file: evoq-benchmark --table FILE.csv --help.\n\
        Averages over sets like the paper's: evoq-benchmark paper --help";
    const INPUTS: &'static [Input] = &[
        Input { name: "scores", kind: Kind::Table("scores"), required: true, help: "The replies to judge" },
        Input { name: "images", kind: Kind::Table("images"), required: true, help: "The pictures they are about" },
        Input { name: "ratings", kind: Kind::Table("ratings"), required: false, help: "Human scores, for --truth mos" },
    ];
    const OUTPUTS: &'static [Output] = &[
        Output { name: "predictions", kind: Kind::Table("predictions") },
        Output { name: "correlations", kind: Kind::Table("correlations") },
        Output { name: "differences", kind: Kind::Table("differences") },
    ];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let subsets = subsets(&self.subset).map_err(|what| bad_input(format!("--subset: {what}")))?;
        let truth = match self.truth {
            Against::Mos => Truth::Mos,
            Against::Severity => Truth::Severity,
        };
        let mut replies = replies::frame(&[])?;
        for artifact in job.artifacts("scores") {
            for part in artifact.parts::<Score>()? {
                job.check()?;
                replies.vstack_mut(&replies::frame(&part.rows(&[])?)?)?;
            }
        }
        let rated = replies::by_picture(replies)?;
        let groups = groups::groups(job, truth, rated)?;
        let baseline = differences::baseline(&groups, self.baseline.as_deref())?;
        let mut measured: Vec<Measured> = Vec::new();
        let progress = job.progress("coefficient sets", (groups.len() * subsets.len()) as u64);
        for group in &groups {
            for subset in &subsets {
                job.check()?;
                measured.extend(measure(self, group, truth, subset)?);
                progress.add(1);
            }
        }
        drop(progress);
        measured.extend(weighted_mean(&measured));
        say(&measured);
        let differences = differences::differences(self, &groups, &subsets, truth, &baseline)?;
        differences::say(&differences);
        job.write_all(groups.iter().flat_map(|group| group.predictions(truth)))?;
        job.write_all(measured.into_iter().map(|it| it.row))?;
        job.write_all::<Difference>(differences)
    }
}

/// Says in the log what was measured.
fn say(measured: &[Measured]) {
    for row in measured.iter().map(|it| &it.row) {
        let shown = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
        tracing::info!(
            "{} against {}, {} ({} a picture), subset {}, grouping {}: SRCC {}, PLCC {} over {} pictures, {} without a valid reply",
            row.dataset,
            row.truth,
            row.decoding,
            row.samples,
            row.subset,
            row.grouping,
            shown(row.srcc),
            shown(row.plcc),
            row.n,
            row.n_invalid
        );
        if row.n == 0 {
            tracing::warn!("subset `{}` has no rated picture of `{}`", row.subset, row.dataset);
        }
    }
}

/// Runs the stage, or what is done by hand, on this process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let is_plain = |it: &OsString| it.to_str().is_some_and(|it| it == "--table" || it.starts_with("--table="));
    match arguments.get(1).and_then(|it| it.to_str()) {
        // clap names a command by its first argument: here by the program's second word.
        Some("report") => evoq_stage::by_hand(Args::NAME, || report::text(&arguments[1..])),
        Some("paper") => evoq_stage::by_hand(Args::NAME, || paper::text(&arguments[1..])),
        _ if arguments.iter().any(is_plain) => evoq_stage::by_hand(Args::NAME, || plain::text(&arguments)),
        _ => evoq_stage::main_from::<Args>(arguments),
    }
}
