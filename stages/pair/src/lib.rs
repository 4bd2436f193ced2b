//! Samples pairs of pictures to compare: uniformly among all pairs, or among the variants of one reference.

mod candidates;
mod triangle;

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use evoq_schemas::{Design, Image, Pair, Table};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};

use candidates::Candidates;

/// The stage's flags.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Args {
    /// How pairs are chosen: `random`, uniformly among all unordered pairs of the pictures given; `within-reference`,
    /// uniformly among all pairs of variants of one reference. Pairs of equal pixels are never chosen.
    #[arg(long, value_name = "DESIGN", default_value_t = Design::Random, value_parser = design())]
    #[serde(serialize_with = "as_text")]
    design: Design,
    /// How many pairs, no two alike (the paper: 20000). A smaller number gives the first of a larger number's pairs.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// The seed of all draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "pair";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Samples pairs of pictures to compare";
    const INPUTS: &'static [Input] = &[Input {
        name: "images",
        kind: Kind::Table(Image::NAME),
        required: true,
        help: "The pictures to pair; several tables read as one",
    }];
    const OUTPUTS: &'static [Output] = &[Output { name: "pairs", kind: Kind::Table(Pair::NAME) }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let rows: Vec<Image> = job.rows_without("images", &["image"])?;
        let candidates = Candidates::new(&rows, self.design).map_err(bad_input)?;
        if candidates.equal() > 0 {
            tracing::info!(
                "{} pairs of equal pixels are left out; {} pairs can be chosen",
                candidates.equal(),
                candidates.count()
            );
        }
        job.write_all(candidates.draw(self.count, self.seed).map_err(bad_input)?)
    }
}

/// Reads a design, and knows which there are.
fn design() -> impl TypedValueParser<Value = Design> {
    PossibleValuesParser::new(Design::ALL.iter().map(Design::as_str)).try_map(|text| text.parse::<Design>())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn as_text<S: serde::Serializer>(design: &Design, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(design.as_str())
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
