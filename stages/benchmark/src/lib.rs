//! Correlates a policy's scores with human ratings or with the severity of distortions: PLCC, SRCC, KRCC and RMSE.
//!
//! Replies that are invalid are counted and left out, never filled in. Coefficients are of raw scores.

mod coefficients;
mod correlation;
mod replies;
mod subset;
mod truth;

use std::process::ExitCode;

use clap::ValueEnum;
use evoq_schemas::{Correlation, Decoding, Grouping, Score, Truth};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::coefficients::{Judged, overall, within_distortion};
use crate::replies::Rated;
use crate::subset::{Piece, Subset, subsets};

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
}

impl Stage for Args {
    const NAME: &'static str = "benchmark";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Correlates a policy's scores with human ratings or severities: PLCC, SRCC, KRCC, RMSE";
    const INPUTS: &'static [Input] = &[
        Input { name: "scores", kind: Kind::Table("scores"), required: true, help: "The replies to judge" },
        Input { name: "images", kind: Kind::Table("images"), required: true, help: "The pictures they are about" },
        Input { name: "ratings", kind: Kind::Table("ratings"), required: false, help: "Human scores, for --truth mos" },
    ];
    const OUTPUTS: &'static [Output] = &[Output { name: "correlations", kind: Kind::Table("correlations") }];

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
        let mut rows = Vec::new();
        for group in groups(job, truth, rated)? {
            let from = rows.len();
            for subset in &subsets {
                rows.extend(group.correlations(truth, subset));
            }
            report(&rows[from..]);
        }
        job.write_all(rows)
    }
}

/// The pictures of one data set as one policy rates them in one decoding.
struct Group {
    policy: String,
    dataset: String,
    decoding: Decoding,
    /// Replies a picture.
    samples: u32,
    pictures: Vec<Judged>,
}

/// The rated pictures that have a truth, in groups, in the order in which the groups first appear.
fn groups(job: &Job, truth: Truth, rated: Vec<Rated>) -> anyhow::Result<Vec<Group>> {
    let known = truth::known(job, truth)?;
    let mut groups: Vec<Group> = Vec::new();
    let mut without_truth = 0u64;
    for it in rated {
        let Some(picture) = known.get(&it.image_id) else {
            return Err(bad_input(format!(
                "--images: no picture `{}`, which --scores rates; give every table of the rated pictures",
                it.image_id
            )));
        };
        let Some(quality) = picture.quality else {
            without_truth += 1;
            continue;
        };
        let of_it = |group: &Group| {
            group.policy == it.policy && group.dataset == picture.dataset && group.decoding == it.decoding
        };
        let at = groups.iter().position(of_it).unwrap_or_else(|| {
            groups.push(Group {
                policy: it.policy.clone(),
                dataset: picture.dataset.clone(),
                decoding: it.decoding,
                samples: it.replies,
                pictures: Vec::new(),
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        if it.samples != it.replies || it.replies != group.samples {
            return Err(bad_input(format!(
                "--scores: picture `{}` has {} {} replies ({} different ones) where another has {}; give each table once, all \
                 made with the same --samples",
                it.image_id, it.replies, it.decoding, it.samples, group.samples
            )));
        }
        group.pictures.push(Judged {
            distortion: picture.distortion.clone(),
            truth: quality,
            score: it.score,
            valid: it.valid,
            replies: it.replies,
        });
    }
    if groups.is_empty() {
        return Err(bad_input(match truth {
            Truth::Mos => {
                "--ratings: none of the pictures in --scores has a human score; give the ratings of these pictures"
            }
            Truth::Severity => {
                "--scores: none of its pictures is a variant of known severity; use --truth mos with --ratings"
            }
        }));
    }
    if without_truth > 0 {
        tracing::warn!("{without_truth} ratings of pictures that have no {truth} truth are left out");
    }
    Ok(groups)
}

impl Group {
    /// The rows of `subset`: over all its pictures, and within distortion types where it has variants.
    fn correlations(&self, truth: Truth, subset: &Subset) -> Vec<Correlation> {
        let of_subset = |it: &&Judged| subset.has(it.distortion.as_deref());
        let pictures: Vec<&Judged> = self.pictures.iter().filter(of_subset).collect();
        let variants: Vec<&Judged> = pictures.iter().copied().filter(|it| it.distortion.is_some()).collect();
        let mut rows = vec![self.correlation(truth, subset, Grouping::All, &pictures)];
        if !variants.is_empty() {
            rows.push(self.correlation(truth, subset, Grouping::WithinDistortion, &variants));
        }
        rows
    }

    fn correlation(&self, truth: Truth, subset: &Subset, grouping: Grouping, pictures: &[&Judged]) -> Correlation {
        let found = match grouping {
            Grouping::All => overall(pictures),
            Grouping::WithinDistortion => within_distortion(pictures),
        };
        let scored = pictures.iter().filter(|it| it.score.is_some()).count();
        Correlation {
            policy: self.policy.clone(),
            dataset: self.dataset.clone(),
            truth,
            grouping,
            subset: subset.name.clone(),
            decoding: self.decoding,
            samples: self.samples,
            n: scored as u32,
            n_invalid: (pictures.len() - scored) as u32,
            replies_valid: pictures.iter().map(|it| it.valid).sum(),
            replies: pictures.iter().map(|it| it.replies).sum(),
            plcc: found.plcc,
            srcc: found.srcc,
            krcc: found.krcc,
            rmse: found.rmse,
        }
    }
}

/// Says in the log what the rows of a group hold.
fn report(rows: &[Correlation]) {
    for row in rows {
        let shown = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
        tracing::info!(
            "{} by {}, {} replies of {}, {} {}: SRCC {}, PLCC {} over {} pictures, {} without a valid reply",
            row.dataset,
            row.truth,
            row.samples,
            row.decoding,
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

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
