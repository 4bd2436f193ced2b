//! All pairs of `n` places in rounds, by the circle method of tournaments: whatever the number of pairs taken from the
//! start, the places are in equally many of them, up to one, and `n - 1` pairs connect them all.

use rand::Rng;
use rand::seq::SliceRandom;

/// The first `count` pairs of `n` places, no two alike, in rounds drawn at random. Fewer where there are fewer.
///
/// All places but the last, the hub, stand in a circle of `m = n - 1`. Round `s` pairs `i` with `j` where `i + j = s`
/// modulo m; a place that would be paired with itself is paired with the hub. Every pair is in one round.
///
/// - n even: a round pairs each place once.
/// - n odd: a round of even `s` leaves two places of the circle, both for the hub, and one of odd `s` leaves none, and
///   the hub out. After an even and an odd round each place has had two pairs, and at any time in between the numbers
///   differ by one at most, as the hub's pairs end the even round.
/// - One round after another of the sums `s` and `t` leads round the circle in steps of `t - s`: through all places if
///   that has no factor in common with m. The first two rounds are chosen so. Without their last pair, they are a path.
pub(crate) fn round_robin(n: usize, count: usize, random: &mut impl Rng) -> Vec<(usize, usize)> {
    let mut drawn = Vec::new();
    for sum in sums(n.saturating_sub(1), random) {
        if drawn.len() >= count {
            break;
        }
        round(n - 1, sum, random, &mut drawn);
    }
    drawn.truncate(count);
    drawn
}

/// The order of the rounds.
fn sums(circle: usize, random: &mut impl Rng) -> Vec<usize> {
    let mut sums: Vec<usize> = (0..circle).collect();
    sums.shuffle(random);
    if circle.is_multiple_of(2) {
        let (even, odd): (Vec<_>, Vec<_>) = sums.into_iter().partition(|sum| sum.is_multiple_of(2));
        sums = even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect();
    }
    // Steps of one always lead through the whole circle, so there is such a round, of either parity.
    let first = sums.first().copied().unwrap_or(0);
    let step = if circle.is_multiple_of(2) { 2 } else { 1 };
    let second = (1..circle).step_by(step).find(|place| coprime(circle, sums[*place].abs_diff(first)));
    if let Some(place) = second {
        sums.swap(1, place);
    }
    sums
}

fn coprime(mut a: usize, mut b: usize) -> bool {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// Appends the pairs of round `sum` to `drawn`: those of the circle in random order, then the hub's.
fn round(circle: usize, sum: usize, random: &mut impl Rng, drawn: &mut Vec<(usize, usize)>) {
    let start = drawn.len();
    let other = |place: usize| (sum + circle - place) % circle;
    drawn.extend((0..circle).map(|place| (place, other(place))).filter(|(place, other)| place < other));
    drawn[start..].shuffle(random);
    drawn.extend((0..circle).filter(|place| other(*place) == *place).map(|place| (place, circle)));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::report::Report;
    use crate::unordered::pairs;

    fn drawn(n: usize, count: usize, seed: u64) -> Vec<(usize, usize)> {
        round_robin(n, count, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    proptest! {
        #[test]
        fn all_pairs_come_once_each(n in 0..60_usize, seed: u64) {
            let all = drawn(n, usize::MAX, seed);
            prop_assert!(all.iter().all(|(a, b)| a < b && *b < n));
            prop_assert_eq!(all.len() as u64, pairs(n));
            prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        }

        #[test]
        fn every_beginning_is_balanced_and_connected_from_n_minus_1_pairs(n in 1..40_usize, seed: u64) {
            let all = drawn(n, usize::MAX, seed);
            for count in 0..=all.len() {
                let report = Report::of(n, &all[..count]);
                prop_assert!(report.most - report.least <= 1, "{} pairs: {:?}", count, report);
                prop_assert_eq!(report.components, (n - count.min(n - 1)).max(1), "{} pairs: {:?}", count, report);
                prop_assert_eq!(&drawn(n, count, seed), &all[..count]);
            }
        }
    }

    #[test]
    fn the_first_n_minus_1_pairs_are_a_path_also_among_thousands() {
        for n in [10_072, 10_073, 10_081] {
            let report = Report::of(n, &drawn(n, n - 1, 1));
            assert_eq!((report.components, report.least, report.most), (1, 1, 2), "{n}");
        }
    }
}
