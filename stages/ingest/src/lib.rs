//! Ingests a folder of pictures, a rated data set as distributed, or procedural pictures: `images`, `ratings` where people rated,
//! and `rejects`.

mod agiqa3k;
mod csiq;
mod dataset;
mod folder;
mod formats;
mod kadid10k;
mod koniq10k;
mod listing;
mod livec;
#[cfg(test)]
mod mutations;
mod pipal;
mod procedural;
mod rated;
mod scores;
mod spaq;
mod splits;
mod table;
mod take;
mod tid2013;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use evoq_artifacts::read_file;
use evoq_schemas::{Image, Rating, Reject, Split, Table};
use evoq_stage::{Input, Job, Kind, Output, Source, Stage};

use dataset::Dataset;
use procedural::Painter;
use take::OnError;

/// The stage's flags.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(into = "Parameters")]
struct Args {
    /// Where pictures come from: a folder, a rated data set's folder as distributed (its files of scores beside its pictures), or
    /// `procedural:COUNT` to draw COUNT pictures.
    #[arg(long, value_name = "PATH|procedural:COUNT")]
    source: Source,
    /// What the source is [default: recognised by its files]. `folder` takes every PNG, JPEG, WebP, TIFF and BMP file below it.
    #[arg(long, value_name = "FORMAT", value_enum)]
    dataset: Option<Dataset>,
    #[command(flatten)]
    table: table::Flags,
    /// The data set's name, with which image ids begin [default: the data set's word, such as koniq10k or
    /// procedural, or the folder's own name].
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Procedural pictures: width and height in pixels, 16 to 4096.
    #[arg(long, value_name = "PIXELS", default_value_t = 112, value_parser = clap::value_parser!(u32).range(16..=4096))]
    size: u32,
    /// Put this share of the pictures into the split `test` and the others into `train`; the bytes of a picture decide, or the
    /// name of the reference whose variant it is, so more pictures move none. Not for a data set with a split of its own.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    holdout: Option<f64>,
    /// The split of each picture, in place of the data set's own: a csv file `name,split` with a header, or a JSON object
    /// with a list of names for each split. The splits are train, validation and test; a picture in no line has none.
    #[arg(long, value_name = "FILE", conflicts_with = "holdout")]
    split_file: Option<PathBuf>,
    /// Keep the pictures of this split only [default: all].
    #[arg(long, value_name = "SPLIT", value_parser = split())]
    split: Option<Split>,
    /// What to do about files that are no pictures and rows that are no scores.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnError::Fail)]
    on_error: OnError,
    /// Procedural pictures: the seed of all draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// The flags that decide the output, with their defaults filled in: what a step's fingerprint is made of. A folder's name
/// counts, because image ids begin with it; size and seed count for procedural pictures only.
#[derive(serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Parameters {
    source: Source,
    dataset: Option<Dataset>,
    #[serde(flatten)]
    table: table::Flags,
    name: Option<String>,
    size: Option<u32>,
    holdout: Option<f64>,
    split_file: Option<PathBuf>,
    split: Option<&'static str>,
    on_error: OnError,
    seed: Option<u64>,
}

impl From<Args> for Parameters {
    fn from(args: Args) -> Self {
        // A source that is not there is refused when the stage runs.
        let dataset = args.dataset.or_else(|| dataset::recognised(&args.source.0, &args.table));
        let drawn = dataset == Some(Dataset::Procedural);
        Self {
            dataset,
            table: args.table,
            name: args.name.or_else(|| dataset.and_then(|it| it.default_name(&args.source.0))),
            size: drawn.then_some(args.size),
            holdout: args.holdout,
            split_file: args.split_file,
            on_error: args.on_error,
            split: args.split.map(|it| it.as_str()),
            seed: drawn.then_some(args.seed),
            source: args.source,
        }
    }
}

impl Stage for Args {
    const NAME: &'static str = "ingest";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Ingests a folder of pictures, a rated data set as distributed, or procedural pictures.\n\
        The files' bytes are kept untouched; each is decoded once to check it";
    const DIVIDES: bool = true;
    const INPUTS: &'static [Input] = &[];
    const OUTPUTS: &'static [Output] = &[
        Output { name: "images", kind: Kind::Table(Image::NAME) },
        Output { name: "ratings", kind: Kind::Table(Rating::NAME) },
        Output { name: "rejects", kind: Kind::Table(Reject::NAME) },
    ];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let source = self.source.0.as_str();
        let dataset = dataset::of_source(source, self.dataset, &self.table)?;
        let name = dataset::name(source, dataset, self.name.as_deref())?;
        let choice = take::Choice { holdout: self.holdout, split: self.split };
        // With splits of a file the data set's own count for nothing.
        let official = if self.split_file.is_some() { take::Choice { holdout: None, split: None } } else { choice };
        let mut listing = dataset.listing(source, &name, &self.table, official)?;
        if let Some(path) = &self.split_file {
            splits::from_file(path, &mut listing)?;
        }
        if let Some(share) = self.holdout {
            splits::draw_groups(share, &mut listing);
        }
        splits::check_groups(&listing.entries)?;
        if dataset == Dataset::Procedural {
            let painter = Painter::new(self.seed, self.size);
            return take::take(job, &name, listing, choice, self.on_error, |index, _| {
                Ok(evoq_pictures::encode_png(&painter.picture(index)))
            });
        }
        let folder = Path::new(source);
        take::take(job, &name, listing, choice, self.on_error, |_, it| read_file(&folder.join(&it.path)))
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let is_fine = !text.is_empty() && text.chars().all(|it| it.is_alphanumeric() || "-_. ".contains(it));
    if is_fine { Ok(text.to_owned()) } else { Err("expected letters, digits, `-`, `_`, `.` and spaces") }
}

fn share(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share < 1.0)
        .ok_or("expected a number between 0 and 1, such as 0.2")
}

/// Reads a split, and knows which there are.
fn split() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(Split::ALL.iter().map(Split::as_str)).try_map(|text| text.parse::<Split>())
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    fn parameters(flags: &[&str]) -> serde_json::Value {
        let command = Args::augment_args(clap::Command::new("ingest"));
        let matches = command.try_get_matches_from(std::iter::once(&"ingest").chain(flags)).unwrap();
        let mut json = serde_json::to_value(Args::from_arg_matches(&matches).unwrap()).unwrap();
        json.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        json
    }

    #[test]
    fn size_and_seed_count_for_procedural_pictures_only() {
        let drawn = serde_json::json!({
            "source": "procedural:3", "dataset": "procedural", "name": "procedural", "size": 112, "on-error": "fail",
            "seed": 7
        });
        assert_eq!(parameters(&["--source", "procedural:3", "--seed", "7"]), drawn);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photos").display().to_string();
        evoq_artifacts::make_folder(Path::new(&path)).unwrap();
        let found = serde_json::json!({
            "source": path, "dataset": "folder", "name": "photos", "holdout": 0.2, "split": "test",
            "on-error": "fail"
        });
        assert_eq!(parameters(&["--source", &path, "--seed", "7", "--holdout", ".2", "--split", "test"]), found);
    }

    #[test]
    fn a_share_lies_between_0_and_1() {
        assert_eq!(share(".25"), Ok(0.25));
        for text in ["0", "1", "-0.1", "NaN", "a fifth"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_holds_nothing_that_ids_are_divided_by() {
        assert_eq!(name("Été 1_b.c-d").unwrap(), "Été 1_b.c-d");
        for text in ["", "a/b", "a#b"] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
