//! `evoq-distort render`: recipes become stored pixels, for readers that cannot render them. A stage of its own.

use evoq_pictures::{Pictures, RECIPE};
use evoq_schemas::{Image, Table};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};

use crate::store::{File, store};

/// The stage's flags.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Render {
    /// How variants are stored. Both forms have the recipe's pixels.
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = File::Png)]
    #[serde(rename = "as")]
    file: File,
}

impl Stage for Render {
    const NAME: &'static str = "render";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Renders recipes of variants into stored pixels, for readers that cannot render them";
    const DIVIDES: bool = true;
    const INPUTS: &'static [Input] = &[Input {
        name: "images",
        kind: Kind::Table(Image::NAME),
        required: true,
        help: "The recipes and their originals: once for each table",
    }];
    const OUTPUTS: &'static [Output] = &[Output { name: "images", kind: Kind::Table(Image::NAME) }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let pictures = Pictures::open(job.artifacts("images"))?;
        let recipes: Vec<&Image> = pictures.rows().iter().filter(|row| row.format == RECIPE).collect();
        if recipes.is_empty() {
            return Err(bad_input(format!(
                "--images: none of the {} pictures is a recipe; give a table of variants that evoq-distort made, and its \
                 originals' table",
                pictures.rows().len()
            )));
        }
        let is_stored = |row: &&Image| row.reference_id.is_some() && row.format != RECIPE;
        let left_out = pictures.rows().iter().filter(is_stored).count();
        if left_out > 0 {
            tracing::warn!("{left_out} variants have their pixels already; they stay where they are");
        }
        store(job, &pictures, &recipes, self.file)
    }
}
