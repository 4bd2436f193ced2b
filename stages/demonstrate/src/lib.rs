//! Writes supervised examples from variants whose distortion and severity are known: comparisons that name the flaws they see
//! before they answer, and ratings that are mostly random, which teach the form of a rating and little of its meaning.
//!
//! The examples of one training step stand together and share their pictures; their ids say the step and the example.

mod pool;
mod step;
mod words;

use std::process::ExitCode;

use evoq_schemas::{Demonstration, Image, Table};
use evoq_stage::range::{at_least_0, positive, share};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};

use pool::Pool;

/// The stage's flags; the defaults are the recipe of the tiny policy.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Args {
    /// Training steps to write examples for.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Originals in a step, drawn anew for each.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,
    /// Variants of each original in a step, each of another severity.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=6))]
    variants: u32,
    /// Share of the originals whose variants are all of one distortion type; the others' are of mixed types.
    #[arg(long, value_name = "SHARE", default_value_t = 0.4, value_parser = share::<f64>)]
    one_type: f64,
    /// Comparisons in a step: half of them of variants of one original, half across originals, severities always different.
    #[arg(long, value_name = "N", default_value_t = 42)]
    comparisons: u32,
    /// Ratings in a step.
    #[arg(long, value_name = "N", default_value_t = 2)]
    scores: u32,
    /// The weight of a rating in the loss, over 0; a comparison weighs 1.
    #[arg(long, value_name = "W", default_value_t = 0.15, value_parser = positive::<f32>)]
    score_weight: f32,
    /// Share of the ratings that are uniform in 1 to 5, whatever the picture. At 0 the start already scores as well as it
    /// compares, and nothing is left to evolve.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = share::<f64>)]
    uniform: f64,
    /// Standard deviation of the other ratings about 4.6 - 0.65 x severity.
    #[arg(long, value_name = "SD", default_value_t = 0.8, value_parser = at_least_0::<f64>)]
    noise: f64,
    /// The seed of all draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "demonstrate";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes supervised examples for a warm start from variants with known distortions";
    const INPUTS: &'static [Input] = &[Input {
        name: "images",
        kind: Kind::Table(Image::NAME),
        required: true,
        help: "Variants of the types to show, best made by evoq-distort --grid --severities 0-5; originals are left out",
    }];
    const OUTPUTS: &'static [Output] = &[Output { name: "demonstrations", kind: Kind::Table(Demonstration::NAME) }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        self.check()?;
        let pool = Pool::new(job.rows_without::<Image>("images", &["image"])?)?;
        pool.check(self.pictures as usize, self.variants as usize, self.one_type > 0.0)?;
        let progress = job.progress("writing steps", u64::from(self.steps));
        let mut writer = job.write::<Demonstration>();
        for step in 0..self.steps {
            job.check()?;
            for row in step::examples(self, &pool, step) {
                writer.push(row)?;
            }
            progress.add(1);
        }
        drop(progress);
        job.close(writer)
    }
}

impl Args {
    /// Comparisons of variants of one original in a step.
    fn within(&self) -> usize {
        self.comparisons.div_ceil(2) as usize
    }

    /// Comparisons across originals in a step.
    fn across(&self) -> usize {
        self.comparisons as usize - self.within()
    }

    /// Refuses more examples than a step's pictures can surely give.
    fn check(&self) -> anyhow::Result<()> {
        let (pictures, variants) = (self.pictures as usize, self.variants as usize);
        // Two originals' variants have at most `variants` pairs of equal severities among their `variants` squared.
        let (own, others) =
            (pictures * variants * (variants - 1) / 2, pictures * (pictures - 1) / 2 * variants * (variants - 1));
        if self.within() > own || self.across() > others {
            return Err(bad_input(format!(
                "--comparisons {}: {pictures} originals with {variants} variants surely give {own} within an original and \
                 {others} across; ask for fewer, or for more --pictures or --variants",
                self.comparisons
            )));
        }
        if self.scores as usize > pictures * variants {
            return Err(bad_input(format!("--scores {}: a step has {} pictures", self.scores, pictures * variants)));
        }
        if self.comparisons + self.scores == 0 {
            return Err(bad_input("--comparisons 0 and --scores 0: a step has no example; ask for at least one"));
        }
        Ok(())
    }
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
