//! Which picture of a pair is shown first, vote by vote.

use clap::ValueEnum;
use evoq_schemas::draws::key;
use evoq_schemas::{PairId, Presented};
use serde::Serialize;

/// How the two pictures of a pair are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Drawn anew for each vote, as in the paper.
    PerVote,
    /// Half of the votes each way: even k show `image_a` first, odd k `image_b`. Less label noise from a policy that leans to
    /// one position.
    Balanced,
    /// Drawn once for each pair, for all its votes. A policy that leans to one position then decides close pairs by chance.
    PerPair,
    /// `image_a` first, always. Ids often sort by their file's name or distortion: for looking at the policy's bias, not for
    /// labels.
    Fixed,
}

impl Order {
    /// Which picture vote `k` of `pair` shows first.
    pub fn presented(self, seed: u64, pair: &PairId, k: u16) -> Presented {
        let b_first = match self {
            Self::Balanced => k % 2 == 1,
            Self::PerVote => key(seed, "vote order", &[pair.as_str(), &k.to_string()])[0] & 1 == 1,
            Self::PerPair => key(seed, "pair order", &[pair.as_str()])[0] & 1 == 1,
            Self::Fixed => false,
        };
        if b_first { Presented::Ba } else { Presented::Ab }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(order: Order, seed: u64) -> usize {
        let pair = PairId::from("00");
        (0..32).filter(|k| order.presented(seed, &pair, *k) == Presented::Ab).count()
    }

    #[test]
    fn balanced_shows_each_picture_first_in_half_of_the_votes() {
        assert_eq!(firsts(Order::Balanced, 1), 16);
    }

    #[test]
    fn per_vote_draws_the_order_from_the_seed() {
        let all: Vec<usize> = (0..200).map(|seed| firsts(Order::PerVote, seed)).collect();
        assert!(all.iter().any(|count| *count != 16));
        let mean = all.iter().sum::<usize>() as f64 / 200.0;
        assert!((15.0..17.0).contains(&mean), "{mean}");
    }

    #[test]
    fn per_pair_draws_one_order_for_all_votes_of_a_pair() {
        let all: Vec<usize> = (0..200).map(|seed| firsts(Order::PerPair, seed)).collect();
        assert!(all.iter().all(|count| [0, 32].contains(count)));
        let mean = all.iter().sum::<usize>() as f64 / 200.0;
        assert!((12.0..20.0).contains(&mean), "{mean}");
    }

    #[test]
    fn fixed_shows_image_a_first() {
        assert_eq!((firsts(Order::Fixed, 1), firsts(Order::Fixed, 2)), (32, 32));
    }
}
