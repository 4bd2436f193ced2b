//! What to learn from, as batches: which pictures an update shows, and what each is rewarded for.

use std::collections::HashMap;

use evoq_schemas::draws::key;
use evoq_schemas::{ImageId, Label, LabelMethod, Target};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::args::{Constants, Ties};
use crate::earn::{Goals, Link};

/// What one update learns from.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The pictures, each once; those of pairs in the order in which the pairs name them.
    pub pictures: Vec<ImageId>,
    /// What they are rewarded for.
    pub goals: Goals,
}

/// Why pairs are not learnt from, and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pairs that have no label.
    pub unlabelled: usize,
    /// Labelled pairs with fewer valid votes than the quorum.
    pub below_quorum: usize,
    /// Ties, where those are dropped.
    pub ties: usize,
}

/// p* of a pair that is learnt from; `None` where it is left out, which is counted.
///
/// A label of exact probabilities is one for a number of votes without end: no quorum is too large for it.
pub fn preference(label: &Label, constants: &Constants, left_out: &mut LeftOut) -> Option<f64> {
    let Some(preference) = label.preference else {
        left_out.unlabelled += 1;
        return None;
    };
    let votes = label.votes_a.saturating_add(label.votes_b);
    if label.method == LabelMethod::Majority && votes < constants.quorum {
        left_out.below_quorum += 1;
        return None;
    }
    if preference == 0.5 && constants.ties == Ties::Drop {
        left_out.ties += 1;
        return None;
    }
    Some(preference)
}

/// The batches of labelled pairs: `per_update` pairs each, in an order drawn under `seed`, anew in each epoch.
pub fn of_pairs(pairs: &[(&Label, f64)], per_update: usize, epochs: usize, seed: u64) -> Vec<Batch> {
    shuffled(pairs, epochs, seed).iter().flat_map(|epoch| epoch.chunks(per_update)).map(pair_batch).collect()
}

/// The batches of pictures with a pseudo-score: `per_update` pictures each, in an order drawn under `seed`, anew in each epoch.
pub fn of_pictures(targets: &[Target], per_update: usize, epochs: usize, seed: u64) -> Vec<Batch> {
    let known: Vec<(&Target, f64)> = targets.iter().filter_map(|it| Some((it, it.pseudo_mos?))).collect();
    let batch = |pictures: &[(&Target, f64)]| Batch {
        pictures: pictures.iter().map(|(target, _)| target.image_id.clone()).collect(),
        goals: Goals::Targets(pictures.iter().map(|(_, score)| *score).collect()),
    };
    shuffled(&known, epochs, seed).iter().flat_map(|epoch| epoch.chunks(per_update)).map(batch).collect()
}

/// `items` in a new order for each epoch.
fn shuffled<T: Clone>(items: &[T], epochs: usize, seed: u64) -> Vec<Vec<T>> {
    let mut generator = ChaCha8Rng::from_seed(key(seed, "grpo order", &[]));
    let mut items = items.to_vec();
    let epoch = |_| {
        items.shuffle(&mut generator);
        items.clone()
    };
    (0..epochs).map(epoch).collect()
}

fn pair_batch(pairs: &[(&Label, f64)]) -> Batch {
    let (mut pictures, mut links): (Vec<ImageId>, Vec<Vec<Link>>) = (Vec::new(), Vec::new());
    let mut known = HashMap::new();
    for (label, preference) in pairs {
        let mut index = |id: &ImageId| {
            *known.entry(id.clone()).or_insert_with(|| {
                pictures.push(id.clone());
                links.push(Vec::new());
                pictures.len() - 1
            })
        };
        let (a, b) = (index(&label.image_a), index(&label.image_b));
        links[a].push(Link { partner: b, preference: *preference });
        links[b].push(Link { partner: a, preference: 1.0 - preference });
    }
    Batch { pictures, goals: Goals::Preferences(links) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use evoq_schemas::{Control, PairId};

    pub(crate) fn label(a: &str, b: &str, preference: Option<f64>) -> Label {
        let (a, b) = (ImageId::from(a), ImageId::from(b));
        Label {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            preference,
            votes_a: 2,
            votes_b: 1,
            votes_invalid: 0,
            votes_absent: 0,
            agreement: None,
            first_rate: None,
            probability_a: None,
            chance_a: None,
            chance_tie: None,
            chance_b: None,
            method: LabelMethod::Majority,
            control: Control::None,
        }
    }

    fn constants(quorum: u32, ties: Ties) -> Constants {
        Constants { ties, quorum, ..crate::args::tests::defaults() }
    }

    fn batches(labels: &[Label], per_update: usize, epochs: usize, seed: u64) -> Vec<Batch> {
        let all = constants(1, Ties::Keep);
        let preference = |it| preference(it, &all, &mut LeftOut::default());
        let pairs: Vec<(&Label, f64)> = labels.iter().filter_map(|it| Some((it, preference(it)?))).collect();
        of_pairs(&pairs, per_update, epochs, seed)
    }

    #[test]
    fn a_picture_in_two_pairs_stands_once_and_has_both_partners() {
        let labels = [label("a", "b", Some(1.0)), label("b", "c", Some(0.5))];
        let batches = batches(&labels, 2, 1, 1);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].pictures.len(), 3);
        let b = batches[0].pictures.iter().position(|id| id.as_str() == "b").unwrap();
        let Goals::Preferences(links) = &batches[0].goals else { panic!("pairs give preferences") };
        let mut preferences: Vec<f64> = links[b].iter().map(|link| link.preference).collect();
        preferences.sort_by(f64::total_cmp);
        assert_eq!(preferences, [0.0, 0.5]);
    }

    #[test]
    fn a_pair_without_a_label_is_in_no_batch() {
        let labels = [label("a", "b", None), label("c", "d", Some(0.0))];
        let all: Vec<_> = batches(&labels, 1, 1, 1).into_iter().flat_map(|it| it.pictures).collect();
        assert_eq!(all, [ImageId::from("c"), ImageId::from("d")]);
    }

    #[test]
    fn what_is_left_out_is_counted_by_reason() {
        let labels =
            [label("a", "b", None), label("c", "d", Some(0.5)), label("e", "f", Some(1.0)), label("g", "h", Some(0.5))];
        let kept = |quorum, ties| {
            let mut left_out = LeftOut::default();
            let constants = constants(quorum, ties);
            let kept = labels.iter().filter(|it| preference(it, &constants, &mut left_out).is_some()).count();
            (kept, left_out)
        };
        assert_eq!(kept(3, Ties::Keep), (3, LeftOut { unlabelled: 1, ..LeftOut::default() }));
        assert_eq!(kept(3, Ties::Drop), (1, LeftOut { unlabelled: 1, ties: 2, ..LeftOut::default() }));
        assert_eq!(kept(4, Ties::Keep), (0, LeftOut { unlabelled: 1, below_quorum: 3, ..LeftOut::default() }));
    }

    #[test]
    fn an_exact_label_has_quorum_without_a_vote() {
        let exact = Label { method: LabelMethod::Exact, votes_a: 0, votes_b: 0, ..label("a", "b", Some(1.0)) };
        assert_eq!(preference(&exact, &constants(32, Ties::Keep), &mut LeftOut::default()), Some(1.0));
    }

    #[test]
    fn the_order_is_the_seeds() {
        let names: Vec<String> = (0..20).map(|i| format!("{i:02}")).collect();
        let labels: Vec<_> = names.iter().map(|it| label(it, "z", Some(1.0))).collect();
        assert_eq!(batches(&labels, 4, 1, 1), batches(&labels, 4, 1, 1));
        assert_ne!(batches(&labels, 4, 1, 1), batches(&labels, 4, 1, 2));
    }

    #[test]
    fn each_epoch_shows_every_pair_in_another_order() {
        let names: Vec<String> = (0..20).map(|i| format!("{i:02}")).collect();
        let labels: Vec<_> = names.iter().map(|it| label(it, "z", Some(1.0))).collect();
        let twice = batches(&labels, 6, 2, 1);
        assert_eq!(twice[..4], batches(&labels, 6, 1, 1));
        let shown = |batches: &[Batch]| {
            let mut ids: Vec<ImageId> = batches.iter().flat_map(|it| it.pictures.clone()).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        assert_ne!(twice[..4], twice[4..]);
        assert_eq!(shown(&twice[..4]), shown(&twice[4..]));
    }

    #[test]
    fn a_picture_without_a_pseudo_score_is_in_no_batch() {
        let target = |id: &str, pseudo_mos| Target { image_id: ImageId::from(id), pseudo_mos, valid: 1, invalid: 0 };
        let targets = [target("a", Some(2.0)), target("b", None), target("c", Some(4.0))];
        let batches = of_pictures(&targets, 5, 1, 1);
        assert_eq!(batches.len(), 1);
        let Goals::Targets(scores) = &batches[0].goals else { panic!("pictures give targets") };
        let found: HashMap<&str, f64> =
            batches[0].pictures.iter().map(ImageId::as_str).zip(scores.iter().copied()).collect();
        assert_eq!(found, HashMap::from([("a", 2.0), ("c", 4.0)]));
    }
}
