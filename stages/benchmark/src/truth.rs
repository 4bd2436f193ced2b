//! What is known of each picture: its data set, its distortion, and the quality that scores are compared with.

use std::collections::HashMap;

use evoq_schemas::{Image, ImageId, Rating, Truth};
use evoq_stage::{Job, bad_input};

/// What is known of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Its data set.
    pub dataset: String,
    /// Its distortion type, for a variant.
    pub distortion: Option<String>,
    /// The truth, larger is better; `None` where this truth says nothing of the picture.
    pub quality: Option<f64>,
}

/// The pictures of the job's `images`, with the truth asked for.
pub fn known(job: &Job, truth: Truth) -> anyhow::Result<HashMap<ImageId, Known>> {
    let images: Vec<Image> = job.rows_without("images", &["image"])?;
    let ratings = match truth {
        Truth::Severity => HashMap::new(),
        Truth::Mos if !job.has("ratings") => {
            return Err(bad_input(
                "--truth mos needs human scores: give --ratings, or --truth severity for variants of known severity",
            ));
        }
        Truth::Mos => ratings(job.rows("ratings")?)?,
    };
    let known = |image: Image| {
        let quality = match truth {
            Truth::Severity => image.severity.map(|severity| 6.0 - f64::from(severity)),
            Truth::Mos => ratings.get(&image.image_id).copied(),
        };
        (image.image_id, Known { dataset: image.dataset, distortion: image.distortion, quality })
    };
    Ok(images.into_iter().map(known).collect())
}

/// Quality by picture, 1..5.
fn ratings(rows: Vec<Rating>) -> anyhow::Result<HashMap<ImageId, f64>> {
    let mut ratings = HashMap::with_capacity(rows.len());
    for row in rows {
        if let Some(other) = ratings.insert(row.image_id.clone(), row.quality) {
            return Err(bad_input(format!(
                "--ratings: picture `{}` has two scores, {other} and {}; give each table once",
                row.image_id, row.quality
            )));
        }
    }
    Ok(ratings)
}
