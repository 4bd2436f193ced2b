//! Votes in rounds: a pair is asked about until the votes left cannot change its label any more.
//!
//! Nothing here knows where votes come from. What stops a pair are its own votes alone, in the order of k, so that its votes
//! are the first of those that it would get without stopping.

use std::ops::Range;

use clap::ValueEnum;
use evoq_schemas::Outcome;
use serde::Serialize;

/// Whether votes are cast that cannot change a pair's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyStop {
    /// All are cast.
    Off,
    /// A pair is left as soon as its majority stands and the quorum is reached, whatever the votes left are: the labels (Eq. 1)
    /// are the same, and with 32 votes a pair about a third of them need not be cast.
    Lossless,
}

/// Fewest votes of a round after the first. Asking for one at a time would save a third of a vote a pair, and read the
/// prompts half as often again at the end.
const TOP_UP: u16 = 2;

/// How many votes a pair gets next, that has `a` and `b` for its sides among the `cast` of its `samples` votes: as many as it
/// takes at least until its label can stand, for `quorum` and for every smaller one; none where it does.
///
/// A majority stands once its lead is larger than the number of votes left. A tie stands with the last vote only, and so does a
/// pair that cannot reach the quorum any more: it has no label then, but one for a smaller quorum.
pub fn next_votes(samples: u16, cast: u16, [a, b]: [u16; 2], quorum: u16) -> u16 {
    let (left, lead) = (samples - cast, a.abs_diff(b));
    let missing = quorum.saturating_sub(a + b);
    if lead > left && missing == 0 {
        return 0;
    }
    // All of them for the leader: the lead grows by what the rest shrinks.
    let earliest = if lead > left { 0 } else { (left - lead) / 2 + 1 };
    earliest.max(missing).max(TOP_UP).min(left)
}

/// Up to `samples` votes on each of `pairs` pairs, each pair's in the order of k.
///
/// `ask` is given what a round asks for (pairs and their next k) and gives the votes in that order; `outcome` reads one.
///
/// # Errors
/// Those of `ask`.
pub fn in_rounds<V, E>(
    pairs: usize,
    samples: u16,
    early_stop: EarlyStop,
    quorum: u16,
    outcome: impl Fn(&V) -> Outcome,
    mut ask: impl FnMut(&[(usize, Range<u16>)]) -> Result<Vec<Vec<V>>, E>,
) -> Result<Vec<Vec<V>>, E> {
    let mut votes: Vec<Vec<V>> = (0..pairs).map(|_| Vec::with_capacity(usize::from(samples))).collect();
    loop {
        let next = votes.iter().enumerate().filter_map(|(pair, votes)| {
            let cast = votes.len() as u16;
            let count = |side| votes.iter().filter(|vote| outcome(vote) == side).count() as u16;
            let more = match early_stop {
                EarlyStop::Off => samples - cast,
                EarlyStop::Lossless => next_votes(samples, cast, [Outcome::A, Outcome::B].map(count), quorum),
            };
            (more > 0).then(|| (pair, cast..cast + more))
        });
        let round: Vec<(usize, Range<u16>)> = next.collect();
        if round.is_empty() {
            return Ok(votes);
        }
        for ((pair, _), cast) in round.iter().zip(ask(&round)?) {
            votes[*pair].extend(cast);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const K: u16 = 32;

    /// Eq. 1 as text: which side has more votes, if one does and the quorum is reached.
    fn label(votes: &[Outcome], quorum: usize) -> Option<std::cmp::Ordering> {
        let count = |side| votes.iter().filter(|vote| **vote == side).count();
        (count(Outcome::A) + count(Outcome::B) >= quorum).then(|| count(Outcome::A).cmp(&count(Outcome::B)))
    }

    /// All K votes on each of `pairs` pairs, for `a` with a probability drawn from Beta(.5, .5), invalid with `invalid`.
    fn simulated(pairs: usize, invalid: f64) -> Vec<Vec<Outcome>> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut pair = || {
            // The arcsine law: the square of the sine of an angle drawn evenly.
            let p = (random.random::<f64>() * std::f64::consts::FRAC_PI_2).sin().powi(2);
            let mut vote = || match (random.random_bool(invalid), random.random_bool(p)) {
                (true, _) => Outcome::Invalid,
                (false, true) => Outcome::A,
                (false, false) => Outcome::B,
            };
            (0..K).map(|_| vote()).collect()
        };
        (0..pairs).map(|_| pair()).collect()
    }

    fn cast(all: &[Vec<Outcome>], early_stop: EarlyStop, quorum: u16) -> (Vec<Vec<Outcome>>, usize) {
        let mut rounds = 0;
        let cast = in_rounds(
            all.len(),
            K,
            early_stop,
            quorum,
            |vote| *vote,
            |round| {
                rounds += 1;
                let votes =
                    |(pair, ks): &(usize, Range<u16>)| all[*pair][usize::from(ks.start)..usize::from(ks.end)].to_vec();
                Ok::<_, Infallible>(round.iter().map(votes).collect())
            },
        );
        (cast.unwrap(), rounds)
    }

    #[test]
    fn labels_under_lossless_early_stop_are_the_full_runs_on_100_000_pairs_with_22_votes_a_pair() {
        let all = simulated(100_000, 0.0);
        let (stopped, rounds) = cast(&all, EarlyStop::Lossless, 1);
        assert_eq!(cast(&all, EarlyStop::Off, 1), (all.clone(), 1));
        for (stopped, all) in stopped.iter().zip(&all) {
            assert_eq!(label(stopped, 1), label(all, 1));
            assert_eq!(stopped[..], all[..stopped.len()]);
        }
        let mean = stopped.iter().map(Vec::len).sum::<usize>() as f64 / all.len() as f64;
        assert!((21.0..=22.0).contains(&mean), "{mean} votes a pair");
        assert!(rounds <= 8, "{rounds} rounds");
    }

    #[test]
    fn invalid_votes_change_no_label_either_for_any_quorum_up_to_the_one_that_was_named() {
        for (invalid, named) in [0.1, 0.5, 0.9, 1.0].into_iter().flat_map(|it| (1..=5).map(move |quorum| (it, quorum)))
        {
            let all = simulated(2000, invalid);
            for (stopped, all) in cast(&all, EarlyStop::Lossless, named).0.iter().zip(&all) {
                for quorum in 1..=usize::from(named) {
                    assert_eq!(label(stopped, quorum), label(all, quorum), "quorum {quorum} of {named}");
                }
            }
        }
    }

    #[test]
    fn a_pair_is_stopped_when_its_label_stands_and_not_before() {
        // A lead of 17 stands with 15 votes left; one of 16 with 16 left can still become a tie.
        assert_eq!((next_votes(32, 17, [17, 0], 1), next_votes(32, 16, [16, 0], 1)), (0, 2));
        assert_eq!((next_votes(32, 0, [0, 0], 1), next_votes(32, 31, [15, 15], 1)), (17, 1));
        assert_eq!(
            (next_votes(32, 32, [16, 16], 1), next_votes(1, 0, [0, 0], 1), next_votes(32, 32, [0, 0], 1)),
            (0, 1, 0)
        );
        // A majority that stands, and three votes short of the quorum.
        assert_eq!((next_votes(32, 29, [5, 0], 8), next_votes(32, 20, [17, 0], 20)), (3, 3));
        for (samples, quorum) in (1..=24u16).flat_map(|samples| (1..=5u16).map(move |quorum| (samples, quorum))) {
            for cast in 0..=samples {
                for (a, b) in (0..=cast).flat_map(|a| (0..=cast - a).map(move |b| (a, b))) {
                    let left = samples - cast;
                    let ends =
                        (0..=left).flat_map(|more_a| (0..=left - more_a).map(move |more_b| (a + more_a, b + more_b)));
                    // The labels for the quorum and for every smaller one.
                    let labels: std::collections::HashSet<_> =
                        ends.map(|(a, b)| ((a + b).min(quorum), a.cmp(&b))).collect();
                    let stops = next_votes(samples, cast, [a, b], quorum) == 0;
                    assert_eq!(stops, labels.len() == 1, "{samples} {cast} {a} {b} {quorum}");
                }
            }
        }
    }
}
