//! Samples pairs of pictures to compare: uniformly among all pairs, among the variants of one reference, or in balance.

mod balanced;
mod candidates;
mod error;
mod report;
mod round_robin;
mod triangles;
mod unordered;

use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use evoq_schemas::{Design, Image, Pair, Table};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};

use candidates::Candidates;
use error::Error;
use report::Report;

/// The stage's flags.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Args {
    /// How pairs are chosen. Pairs of equal pixels never are, and the figures of what was chosen are said at the end.
    #[arg(long, value_name = "DESIGN", default_value_t = Design::Random, value_parser = design())]
    #[serde(serialize_with = "as_text")]
    design: Design,
    /// How many pairs, no two alike (the paper: 20000). With `random` and `within-reference`, a smaller number gives the
    /// first of a larger number's pairs.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// With `--design balanced`: plant N triangles without a common picture, three pictures with all three pairs, so that
    /// it can be seen whether votes are transitive. They need a pair for each picture and one for each triangle.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    triangles: Option<u32>,
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
        let drawn = self.draw(&candidates).map_err(bad_input)?;
        job.write_all(drawn.iter().map(|pair| candidates.row(*pair)))?;
        let report = Report::of(rows.len(), &drawn);
        if self.design == Design::Balanced && report.components > 1 {
            tracing::warn!(
                "{} pairs are too few to connect {} pictures; {} would",
                report.pairs,
                rows.len(),
                rows.len() - 1
            );
        }
        for line in report.to_string().lines() {
            tracing::info!("{line}");
        }
        Ok(())
    }
}

impl Args {
    fn draw(&self, candidates: &Candidates<'_>) -> Result<Vec<(usize, usize)>, Error> {
        match (self.design, self.triangles) {
            (Design::Balanced, triangles) => balanced::draw(candidates, self.count, triangles.unwrap_or(0), self.seed),
            (design, Some(asked)) => Err(Error::NoTriangles { asked, design }),
            (Design::Random | Design::WithinReference, None) => candidates.draw(self.count, self.seed),
        }
    }
}

/// Reads a design, and knows which there are and what each is good for.
fn design() -> impl TypedValueParser<Value = Design> {
    let values = Design::ALL.iter().map(|design| PossibleValue::new(design.as_str()).help(about(*design)));
    PossibleValuesParser::new(values).try_map(|text| text.parse::<Design>())
}

fn about(design: Design) -> &'static str {
    match design {
        Design::Random => {
            "Uniformly among all unordered pairs of the pictures given: the paper's. Some pictures are in no pair (about 190 \
             of 10073 with 20000 pairs), and hardly any three have all three pairs"
        }
        Design::WithinReference => {
            "Uniformly among all pairs of variants of one reference, which differ in their flaws alone. Originals are in no \
             pair"
        }
        Design::Balanced => {
            "Every picture in the same number of pairs, up to one, and all of them connected as soon as there are as many \
             pairs as pictures, less one. For ranking the pictures, and for auditing votes"
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn as_text<S: serde::Serializer>(design: &Design, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(design.as_str())
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
