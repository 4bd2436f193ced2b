//! What K votes would come to, from the exact probabilities of one: the distribution of Eq. 1.

use clap::ValueEnum;
use serde::Serialize;

/// How the two pictures of a pair are ordered in the votes, as `evoq vote --order` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Drawn anew for each vote.
    PerVote,
    /// Half of the votes each way; the odd one shows `image_a` first.
    Balanced,
    /// Drawn once for each pair, for all its votes.
    PerPair,
    /// `image_a` first, always.
    Fixed,
}

/// Probabilities of a vote for `image_a` and of one for `image_b`; what they leave of 1 is that of an invalid one.
pub type Vote = [f64; 2];

/// The probabilities that the majority of K votes prefers `image_a`, that it is a tie, and that it prefers `image_b`. What they
/// leave of 1 is the probability of fewer valid votes than the quorum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chances {
    /// p* = 1.
    pub a: f64,
    /// p* = 0.5.
    pub tie: f64,
    /// p* = 0.
    pub b: f64,
}

/// The chances of `samples` votes of a pair, which are as `ab` says where `image_a` is shown first and as `ba` where `image_b` is.
pub fn chances([ab, ba]: [Vote; 2], samples: u16, order: Order, quorum: u32) -> Chances {
    let of = |vote: &dyn Fn(u16) -> Vote| of_votes((0..samples).map(vote), samples, quorum);
    match order {
        Order::PerVote => of(&|_| mean(ab, ba)),
        Order::Balanced => of(&|k| if k % 2 == 0 { ab } else { ba }),
        Order::PerPair => {
            let (one, other) = (of(&|_| ab), of(&|_| ba));
            let [a, tie, b] =
                [(one.a, other.a), (one.tie, other.tie), (one.b, other.b)].map(|(x, y)| f64::midpoint(x, y));
            Chances { a, tie, b }
        }
        Order::Fixed => of(&|_| ab),
    }
}

/// The probabilities of a vote in an order that is drawn.
pub fn mean(ab: Vote, ba: Vote) -> Vote {
    [f64::midpoint(ab[0], ba[0]), f64::midpoint(ab[1], ba[1])]
}

/// The chances of `samples` votes that are drawn independently.
fn of_votes(votes: impl Iterator<Item = Vote>, samples: u16, quorum: u32) -> Chances {
    // By the number of valid votes, those beyond the quorum as one, and by the lead of `image_a`, which can be negative.
    let (levels, width, even) =
        (quorum.max(1).min(u32::from(samples) + 1) as usize + 1, 2 * usize::from(samples) + 1, usize::from(samples));
    let mut states = vec![0.0; levels * width];
    states[even] = 1.0;
    for (cast, [a, b]) in votes.enumerate() {
        let invalid = (1.0 - a - b).max(0.0);
        let mut next = vec![0.0; states.len()];
        for level in 0..levels.min(cast + 1) {
            let (row, raised) = (level * width, (level + 1).min(levels - 1) * width);
            for lead in even - cast..=even + cast {
                let chance = states[row + lead];
                next[row + lead] += chance * invalid;
                next[raised + lead + 1] += chance * a;
                next[raised + lead - 1] += chance * b;
            }
        }
        states = next;
    }
    let labelled = &states[(levels - 1) * width..];
    // Sums of many probabilities, each rounded by itself.
    let sum = |part: &[f64]| part.iter().sum::<f64>().min(1.0);
    Chances { a: sum(&labelled[even + 1..]), tie: labelled[even].min(1.0), b: sum(&labelled[..even]) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `tests/chances.py` makes it, from scipy's binomial distribution.
    const REFERENCE: &str = include_str!("../tests/chances.json");

    fn close(found: Chances, expected: [f64; 3]) -> bool {
        [found.a, found.tie, found.b].iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12)
    }

    #[test]
    fn chances_are_those_of_the_binomial_distribution() {
        #[derive(serde::Deserialize)]
        struct Case {
            ab: Vote,
            ba: Vote,
            samples: u16,
            quorum: u32,
            order: String,
            chances: [f64; 3],
        }
        let cases: Vec<Case> = serde_json::from_str(REFERENCE).unwrap();
        assert!(cases.len() >= 100);
        for case in cases {
            let order = Order::from_str(&case.order, false).unwrap();
            let found = chances([case.ab, case.ba], case.samples, order, case.quorum);
            assert!(close(found, case.chances), "{found:?} where the reference has {:?}", case.chances);
        }
    }

    #[test]
    fn a_quorum_of_more_votes_than_are_cast_leaves_no_label() {
        assert_eq!(chances([[0.5, 0.5]; 2], 3, Order::Fixed, 4), Chances { a: 0.0, tie: 0.0, b: 0.0 });
        assert_eq!(chances([[0.5, 0.5]; 2], 1, Order::Fixed, 1), Chances { a: 0.5, tie: 0.0, b: 0.5 });
        assert_eq!(chances([[0.0, 0.0]; 2], 8, Order::Balanced, 1), Chances { a: 0.0, tie: 0.0, b: 0.0 });
    }

    proptest! {
        #[test]
        fn the_other_picture_has_the_chances_of_the_first_with_sides_and_orders_swapped(
            ab in (0.0..0.5, 0.0..0.5), ba in (0.0..0.5, 0.0..0.5), half in 1..12_u16, quorum in 1..6_u32, order in 0..3_usize,
        ) {
            let order = [Order::PerVote, Order::Balanced, Order::PerPair][order];
            let [ab, ba] = [ab, ba].map(|(a, b): (f64, f64)| [a, b]);
            let swapped = |[a, b]: Vote| [b, a];
            let one = chances([ab, ba], 2 * half, order, quorum);
            let other = chances([swapped(ba), swapped(ab)], 2 * half, order, quorum);
            prop_assert!(close(other, [one.b, one.tie, one.a]));
        }
    }
}
