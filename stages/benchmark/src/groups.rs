//! The rated pictures that have a truth, by policy, data set and decoding.

use evoq_schemas::{Decoding, Prediction, Truth};
use evoq_stage::{Job, bad_input};

use crate::coefficients::Judged;
use crate::replies::Rated;
use crate::truth;

/// The pictures of one data set as one policy rates them in one decoding.
pub struct Group {
    /// Digest of the policy.
    pub policy: String,
    /// The data set.
    pub dataset: String,
    /// How the replies were decoded.
    pub decoding: Decoding,
    /// Replies a picture.
    pub samples: u32,
    /// The pictures, in the order in which their replies first appear.
    pub pictures: Vec<Judged>,
}

impl Group {
    /// The group's rows of the table `predictions`.
    pub fn predictions(&self, truth: Truth) -> impl Iterator<Item = Prediction> {
        self.pictures.iter().map(move |it| Prediction {
            policy: self.policy.clone(),
            dataset: self.dataset.clone(),
            decoding: self.decoding,
            image_id: it.image_id.clone(),
            distortion: it.distortion.clone(),
            truth,
            quality: it.truth,
            score: it.score,
            valid: it.valid,
            replies: it.replies,
        })
    }
}

/// The rated pictures that have a truth, in groups, in the order in which the groups first appear.
pub fn groups(job: &Job, truth: Truth, rated: Vec<Rated>) -> anyhow::Result<Vec<Group>> {
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
            image_id: it.image_id,
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
