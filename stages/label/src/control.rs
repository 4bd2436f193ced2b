//! The shuffled control: labels that say nothing, for showing that what is learnt comes from the votes.

use evoq_schemas::Label;
use evoq_schemas::draws::key;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Permutes p* over the pairs that have one, under `seed`. The vote counts stay where they are, so that a row shows what was
/// voted beside what is taught; pairs without a label stay without.
pub fn shuffle(labels: &mut [Label], seed: u64) {
    let mut preferences: Vec<f64> = labels.iter().filter_map(|label| label.preference).collect();
    preferences.shuffle(&mut ChaCha8Rng::from_seed(key(seed, "label shuffle", &[])));
    let labelled = labels.iter_mut().filter_map(|label| label.preference.as_mut());
    for (preference, drawn) in labelled.zip(preferences) {
        *preference = drawn;
    }
}
