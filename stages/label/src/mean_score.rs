//! `EvoEstimate`, the paper's ablation (§4.3): a picture's pseudo-MOS is the mean of the policy's own sampled ratings of it.

use std::collections::HashMap;

use evoq_schemas::{Decoding, ImageId, Score, Target};

/// The ratings of one picture so far.
#[derive(Debug, Clone, Default)]
struct Rated {
    sum: f64,
    valid: u32,
    invalid: u32,
}

/// Sampled ratings by picture, in the order in which the pictures first appear.
#[derive(Debug, Default)]
pub struct Ratings {
    places: HashMap<ImageId, usize>,
    rated: Vec<(ImageId, Rated)>,
    policy: Option<String>,
}

impl Ratings {
    /// Adds sampled ratings; greedy ones and what no policy said are left out.
    ///
    /// # Errors
    /// Ratings of two policies, whose mean is neither's: gives both digests.
    pub fn add(&mut self, scores: &[Score]) -> Result<(), [String; 2]> {
        for score in scores.iter().filter(|score| score.decoding == Decoding::Sampled) {
            let policy = self.policy.get_or_insert_with(|| score.policy.clone());
            if *policy != score.policy {
                return Err([policy.clone(), score.policy.clone()]);
            }
            let place = *self.places.entry(score.image_id.clone()).or_insert_with(|| {
                self.rated.push((score.image_id.clone(), Rated::default()));
                self.rated.len() - 1
            });
            let rated = &mut self.rated[place].1;
            match score.score {
                Some(score) => {
                    rated.sum += score;
                    rated.valid += 1;
                }
                None => rated.invalid += 1,
            }
        }
        Ok(())
    }

    /// The pseudo-MOS of each picture, where at least `quorum` of its ratings are valid.
    pub fn targets(self, quorum: u32) -> Vec<Target> {
        let target = |(image_id, rated): (ImageId, Rated)| Target {
            image_id,
            pseudo_mos: (rated.valid >= quorum.max(1)).then(|| rated.sum / f64::from(rated.valid)),
            valid: rated.valid,
            invalid: rated.invalid,
        };
        self.rated.into_iter().map(target).collect()
    }
}

#[cfg(test)]
mod tests {
    use evoq_schemas::ScoreMethod;

    use super::*;

    fn score(image: &str, policy: &str, decoding: Decoding, score: Option<f64>) -> Score {
        Score {
            image_id: image.into(),
            policy: policy.to_owned(),
            sample: 0,
            decoding,
            score,
            invalid_reason: score.is_none().then(|| "no_answer".to_owned()),
            reply: String::new(),
            tokens: 1,
            method: ScoreMethod::Policy,
        }
    }

    #[test]
    fn the_mean_is_of_the_valid_sampled_ratings() {
        let mut ratings = Ratings::default();
        let sampled = |image: &str, it| score(image, "p", Decoding::Sampled, it);
        ratings.add(&[score("b", "p", Decoding::Greedy, Some(5.0)), sampled("b", Some(2.0))]).unwrap();
        ratings.add(&[sampled("a", None), sampled("b", Some(3.0)), sampled("b", None)]).unwrap();
        let expected = [("b", Some(2.5), 2, 1), ("a", None, 0, 1)].map(|(image, pseudo_mos, valid, invalid)| Target {
            image_id: image.into(),
            pseudo_mos,
            valid,
            invalid,
        });
        assert_eq!(ratings.targets(1), expected);
    }

    #[test]
    fn a_picture_below_the_quorum_has_no_pseudo_mos() {
        let mut ratings = Ratings::default();
        ratings.add(&[score("a", "p", Decoding::Sampled, Some(2.0))]).unwrap();
        assert_eq!(ratings.targets(2)[0].pseudo_mos, None);
    }

    #[test]
    fn ratings_of_two_policies_have_no_mean() {
        let mut ratings = Ratings::default();
        let rows = ["p", "q"].map(|policy| score("a", policy, Decoding::Sampled, Some(2.0)));
        assert_eq!(ratings.add(&rows), Err(["p".to_owned(), "q".to_owned()]));
    }
}
