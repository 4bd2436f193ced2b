//! Labelled pairs as batches: which pictures an update shows, and each picture's partners among them.

use std::collections::HashMap;

use evoq_schemas::draws::key;
use evoq_schemas::{ImageId, Label};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A labelled comparison, seen from one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The partner, as an index into the batch's pictures.
    pub partner: usize,
    /// p*: 1 where this picture is better, 0.5 for a tie, 0 where the partner is.
    pub preference: f64,
}

/// What one update learns from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The pictures of its pairs, each once, in the order in which the pairs name them.
    pub pictures: Vec<ImageId>,
    /// For each picture, its labelled comparisons within the batch: `P_i` of Eq. 3.
    pub links: Vec<Vec<Link>>,
}

/// The batches of one epoch: the pairs that have a label, in an order drawn under `seed`, `pairs` of them an update.
pub fn batches(labels: &[Label], pairs: usize, seed: u64) -> Vec<Batch> {
    let mut labelled: Vec<(&Label, f64)> = labels.iter().filter_map(|it| Some((it, it.preference?))).collect();
    labelled.shuffle(&mut ChaCha8Rng::from_seed(key(seed, "grpo order", &[])));
    labelled.chunks(pairs).map(batch).collect()
}

fn batch(pairs: &[(&Label, f64)]) -> Batch {
    let mut batch = Batch::default();
    let mut known = HashMap::new();
    for (label, preference) in pairs {
        let mut index = |id: &ImageId| {
            *known.entry(id.clone()).or_insert_with(|| {
                batch.pictures.push(id.clone());
                batch.links.push(Vec::new());
                batch.pictures.len() - 1
            })
        };
        let (a, b) = (index(&label.image_a), index(&label.image_b));
        batch.links[a].push(Link { partner: b, preference: *preference });
        batch.links[b].push(Link { partner: a, preference: 1.0 - preference });
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use evoq_schemas::{Control, LabelMethod, PairId};

    fn label(a: &str, b: &str, preference: Option<f64>) -> Label {
        let (a, b) = (ImageId::from(a), ImageId::from(b));
        Label {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            preference,
            votes_a: 0,
            votes_b: 0,
            votes_invalid: 0,
            votes_absent: 0,
            agreement: None,
            first_rate: None,
            probability_a: None,
            method: LabelMethod::Majority,
            control: Control::None,
        }
    }

    #[test]
    fn a_picture_in_two_pairs_stands_once_and_has_both_partners() {
        let labels = [label("a", "b", Some(1.0)), label("b", "c", Some(0.5))];
        let batches = batches(&labels, 2, 1);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].pictures.len(), 3);
        let b = batches[0].pictures.iter().position(|id| id.as_str() == "b").unwrap();
        let mut preferences: Vec<f64> = batches[0].links[b].iter().map(|link| link.preference).collect();
        preferences.sort_by(f64::total_cmp);
        assert_eq!(preferences, [0.0, 0.5]);
    }

    #[test]
    fn a_pair_without_a_label_is_in_no_batch() {
        let labels = [label("a", "b", None), label("c", "d", Some(0.0))];
        let all: Vec<_> = batches(&labels, 1, 1).into_iter().flat_map(|it| it.pictures).collect();
        assert_eq!(all, [ImageId::from("c"), ImageId::from("d")]);
    }

    #[test]
    fn the_order_is_the_seeds() {
        let names: Vec<String> = (0..20).map(|i| format!("{i:02}")).collect();
        let labels: Vec<_> = names.iter().map(|it| label(it, "z", Some(1.0))).collect();
        assert_eq!(batches(&labels, 4, 1), batches(&labels, 4, 1));
        assert_ne!(batches(&labels, 4, 1), batches(&labels, 4, 2));
    }
}
