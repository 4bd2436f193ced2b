//! Thumbnails: pictures of a step's own inputs, found by lineage, small and inside the page.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evoq_artifacts::{Artifact, Location};
use evoq_pictures::Pictures;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, RgbImage};
use serde::Serialize;

use crate::ledger::{PlanRecord, StepRecord};

/// The longer side of a thumbnail at most, in pixels.
const SIDE: u32 = 320;
/// JPEG quality: high, as pictures stand here for how good they are.
const QUALITY: u8 = 90;

/// A picture in the page, or why there is none.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Thumbnail {
    /// Its id.
    pub id: String,
    /// The file as a URI that holds it; none where it could not be had.
    pub data: Option<String>,
    /// Width and height of the thumbnail.
    pub size: (u32, u32),
    /// Why it is not there.
    pub fault: String,
}

/// The pictures that a step looked at.
pub(super) struct Album {
    pictures: Result<Pictures, String>,
    made: BTreeMap<String, Thumbnail>,
}

impl Album {
    /// The pictures of `step`'s input `images`.
    pub(super) fn of(step: &StepRecord, plan: &PlanRecord, root: &Location) -> Self {
        Self { pictures: open(step, plan, root), made: BTreeMap::new() }
    }

    /// An album without pictures, and why.
    pub(super) fn empty(why: &str) -> Self {
        Self { pictures: Err(why.to_owned()), made: BTreeMap::new() }
    }

    /// The thumbnail of the picture `id`.
    pub(super) fn thumbnail(&mut self, id: &str) -> Thumbnail {
        if let Some(made) = self.made.get(id) {
            return made.clone();
        }
        let load = self.pictures.as_ref().map_err(Clone::clone).and_then(|pictures| {
            let picture = pictures.load(&id.into()).map_err(|error| error.to_string())?;
            encoded(&picture).map_err(|error| error.to_string())
        });
        let id = id.to_owned();
        let made = match load {
            Ok((data, size)) => Thumbnail { id: id.clone(), data: Some(data), size, fault: String::new() },
            Err(fault) => Thumbnail { id: id.clone(), data: None, size: (0, 0), fault },
        };
        self.made.insert(id, made.clone());
        made
    }
}

fn open(step: &StepRecord, plan: &PlanRecord, root: &Location) -> Result<Pictures, String> {
    let marks = step.inputs.get("images").ok_or("the step has no input `images`")?;
    let artifact = |mark: &String| {
        let source = source(plan, mark).ok_or("the pictures came from outside the workflow")?;
        Artifact::at(&root.join(&source.stage).join(mark)).map_err(|error| error.to_string())
    };
    let artifacts: Vec<Artifact> = marks.iter().map(artifact).collect::<Result<_, String>>()?;
    Pictures::open(&artifacts).map_err(|error| error.to_string())
}

/// The step with this fingerprint.
pub(super) fn source<'a>(plan: &'a PlanRecord, mark: &str) -> Option<&'a StepRecord> {
    plan.steps.iter().find(|step| step.fingerprint == mark)
}

fn encoded(picture: &RgbImage) -> Result<(String, (u32, u32)), image::ImageError> {
    let longer = picture.width().max(picture.height());
    let small = if longer > SIDE {
        let side = |it: u32| (u64::from(it) * u64::from(SIDE) / u64::from(longer)).max(1) as u32;
        resize(picture, side(picture.width()), side(picture.height()), FilterType::Lanczos3)
    } else {
        picture.clone()
    };
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, QUALITY).encode(
        &small,
        small.width(),
        small.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok((format!("data:image/jpeg;base64,{}", STANDARD.encode(file)), small.dimensions()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_picture_is_shrunk_to_its_longer_side_and_a_small_one_is_left() {
        let size = |width, height| encoded(&RgbImage::new(width, height)).unwrap().1;
        assert_eq!((size(1024, 768), size(112, 90), size(4, 5000)), ((320, 240), (112, 90), (1, 320)));
        assert!(encoded(&RgbImage::new(8, 8)).unwrap().0.starts_with("data:image/jpeg;base64,/9j/"));
    }
}
