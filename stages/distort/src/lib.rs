//! Makes variants of pictures: distortion types at severities, as recipes or as stored pixels; `render` turns the one into the
//! other. One picture by hand: `apply` and `sheet`.
//!
//! A recipe is a row without pixels; whoever reads `images` renders it from its reference. Draws are keyed by seed and picture,
//! so a picture's variants do not depend on what else is in the table.

mod apply;
mod by_hand;
mod draw;
mod label;
mod originals;
mod render;
mod severities;
mod sheet;
mod store;
mod variants;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;

use evoq_distortions::Distortion;
use evoq_pictures::Pictures;
use evoq_schemas::{Image, Table};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};

use draw::Draw;
use render::Render;
use severities::Severities;
use store::{File, store};

/// How variants are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    /// As recipes, rendered when they are read.
    Recipe,
    /// As PNG files in the table: read everywhere, and in half the time of WebP.
    Png,
    /// As lossless WebP files in the table: a fifth smaller than PNG.
    Webp,
}

/// A distortion type as a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Type(Distortion);

impl FromStr for Type {
    type Err = evoq_distortions::Error;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.parse().map(Self)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Type {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

/// The stage's flags.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Args {
    /// Variants of each original (the paper: 10): types drawn without replacement, each at a severity drawn uniformly.
    /// More than there are types: each type comes again at a severity that it did not have.
    #[arg(long, value_name = "N", default_value_t = 10)]
    variants: usize,
    /// All types at all severities in place of a draw.
    #[arg(long, conflicts_with = "variants")]
    grid: bool,
    /// How a variant's type is drawn, among the types that the picture does not have yet.
    #[arg(long, value_name = "FROM", value_enum, default_value_t = Draw::Type, conflicts_with = "grid")]
    draw: Draw,
    /// The distortion types to use, separated by commas [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = Distortion::ALL.map(Type), hide_default_value = true)]
    types: Vec<Type>,
    /// The severities to use: a number or a range within 0-5. Severity 0 is the reference after short side and crop.
    #[arg(long, value_name = "RANGE", default_value = "1-5")]
    severities: Severities,
    /// Bring the reference's short side down to N pixels before it is distorted (224 in the reference library) [default: as it is].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    short_side: Option<u32>,
    /// Cut the centre square, of exactly the short side.
    #[arg(long, requires = "short_side")]
    crop: bool,
    /// How variants are stored. All forms have the same pixels.
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Recipe)]
    #[serde(rename = "as")]
    form: Form,
    /// Take N originals only. Where the table ends before that, it is gone on with from its start, each original once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    originals: Option<u32>,
    /// Leave out the first K originals, to share a table between rounds.
    #[arg(long, value_name = "K", default_value_t = 0)]
    skip_originals: u32,
    /// The seed of all draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "distort";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Makes variants of pictures: distortion types at severities, as recipes or as pixels.\n\
        Recipes into pixels: evoq-distort render --help\n\
        One picture by hand: evoq-distort apply --help, and all its types on a sheet: evoq-distort sheet --help";
    const DIVIDES: bool = true;
    const INPUTS: &'static [Input] =
        &[Input { name: "images", kind: Kind::Table(Image::NAME), required: true, help: "The originals" }];
    const OUTPUTS: &'static [Output] = &[Output { name: "images", kind: Kind::Table(Image::NAME) }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        self.check()?;
        let pictures = Pictures::open(job.artifacts("images"))?;
        let chosen = originals::choose(pictures.rows(), self.originals, self.skip_originals)?;
        let mut rows = Vec::new();
        for original in chosen {
            for (distortion, severity) in draw::variants(self, original) {
                rows.push(variants::recipe(self, original, distortion, severity)?);
            }
        }
        if rows.is_empty() {
            return Err(bad_input(format!(
                "--types {}: no variant can be made; all pictures are grey, which these types do not change",
                self.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            )));
        }
        let file = match self.form {
            // A matter of seconds: it does not divide.
            Form::Recipe => return job.write_all(rows),
            Form::Png => File::Png,
            Form::Webp => File::Webp,
        };
        store(job, &pictures, &rows.iter().collect::<Vec<_>>(), file)
    }
}

impl Args {
    /// What clap cannot see: how flags go together.
    fn check(&self) -> anyhow::Result<()> {
        for (position, it) in self.types.iter().enumerate() {
            if self.types[..position].contains(it) {
                return Err(bad_input(format!("--types: {it} is named twice; name each type once")));
            }
        }
        let most = self.types.len() * self.severities.iter().count();
        if !self.grid && !(1..=most).contains(&self.variants) {
            return Err(bad_input(format!(
                "--variants {}: expected 1 to {most} ({} types at {} severities); give more types or severities",
                self.variants,
                self.types.len(),
                self.severities.iter().count()
            )));
        }
        Ok(())
    }
}

/// Runs the stage, or the command that this process's first argument names.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let command = arguments.get(1).and_then(|it| it.to_str()).unwrap_or_default().to_owned();
    if !["render", "apply", "sheet"].contains(&command.as_str()) {
        return evoq_stage::main_from::<Args>(arguments);
    }
    // The name that usage texts begin with.
    arguments.splice(..2, [format!("evoq-distort {command}").into()]);
    match command.as_str() {
        "render" => evoq_stage::main_from::<Render>(arguments),
        "apply" => apply::main(arguments.into_iter()),
        _ => sheet::main(arguments.into_iter()),
    }
}
