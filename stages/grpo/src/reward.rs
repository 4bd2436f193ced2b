//! The reward of a rating: how well it agrees with the pseudo-labels of its picture. Eq. 2 and 3.

use std::f64::consts::SQRT_2;

/// The constants of Eq. 2 and 3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// γ, added to the variance in Eq. 2.
    pub gamma: f64,
    /// Added inside each root of Eq. 3; 0 in the paper.
    pub root_epsilon: f64,
}

/// Mean and variance (ddof 1) of the valid scores of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// The mean.
    pub mean: f64,
    /// The variance, divided by n − 1.
    pub variance: f64,
}

impl Moments {
    /// The moments of `scores`; `None` for fewer than two.
    pub fn of(scores: impl Iterator<Item = f64>) -> Option<Self> {
        let scores: Vec<f64> = scores.collect();
        if scores.len() < 2 {
            return None;
        }
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let squares: f64 = scores.iter().map(|score| (score - mean) * (score - mean)).sum();
        Some(Self { mean, variance: squares / (scores.len() - 1) as f64 })
    }
}

/// `p_k(x_i, x_j)`, Eq. 2: how probably `x_i`, rated `score`, is better than `x_j`, given both pictures' ratings.
pub fn probability(score: f64, own: Moments, partner: Moments, constants: Constants) -> f64 {
    let deviation = (own.variance + partner.variance + constants.gamma).sqrt();
    normal_cdf((score - partner.mean) / deviation)
}

/// One term of Eq. 3: `sqrt(p* p) + sqrt((1 − p*)(1 − p))`, 1 where label and probability agree.
pub fn agreement(preference: f64, probability: f64, constants: Constants) -> f64 {
    let root = |product: f64| (product + constants.root_epsilon).sqrt();
    root(preference * probability) + root((1.0 - preference) * (1.0 - probability))
}

/// Φ, the distribution function of the standard normal distribution.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantage::advantages;
    use proptest::prelude::*;

    const I: [f64; 4] = [3.0, 3.5, 4.0, 2.5];
    const J: [f64; 4] = [2.0, 2.5, 3.0, 2.5];
    const PAPER: Constants = Constants { gamma: 1e-6, root_epsilon: 0.0 };
    const ROOTED: Constants = Constants { gamma: 1e-6, root_epsilon: 1e-6 };

    fn rewards(preference: f64, constants: Constants) -> Vec<f64> {
        let (own, partner) = (Moments::of(I.into_iter()).unwrap(), Moments::of(J.into_iter()).unwrap());
        I.iter().map(|score| agreement(preference, probability(*score, own, partner, constants), constants)).collect()
    }

    fn close(got: &[f64], expected: [f64; 4]) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 1e-6, "{got} is not {expected}");
        }
    }

    #[test]
    #[expect(clippy::approx_constant, reason = "a reward of sqrt(1/2), as it stands among the others")]
    fn the_rewards_are_those_worked_out_for_the_paper() {
        close(&rewards(1.0, PAPER), [0.862_354, 0.951_202, 0.987_539, 0.707_107]);
        close(&rewards(1.0, ROOTED), [0.863_355, 0.952_202, 0.988_539, 0.708_107]);
        close(&rewards(0.5, ROOTED), [0.967_791, 0.890_796, 0.809_583, 1.000_002]);
        close(&rewards(0.0, ROOTED), [0.507_307, 0.309_571, 0.158_380, 0.708_107]);
    }

    #[test]
    fn the_advantages_are_those_worked_out_for_the_paper() {
        close(&advantages(&rewards(1.0, ROOTED)), [-0.117_567, 0.593_193, 0.883_880, -1.359_507]);
        close(&advantages(&rewards(0.5, ROOTED)), [0.596_070, -0.308_287, -1.262_195, 0.974_412]);
        close(&advantages(&rewards(0.0, ROOTED)), [0.361_732, -0.465_503, -1.098_020, 1.201_791]);
    }

    #[test]
    fn one_score_has_no_moments() {
        assert_eq!(Moments::of([3.0].into_iter()), None);
    }

    proptest! {
        #[test]
        fn the_reward_is_at_most_one_and_reached_where_label_and_probability_agree(p in 0.0f64..=1.0, q in 0.0f64..=1.0) {
            prop_assert!(agreement(p, q, PAPER) <= 1.0 + 1e-12);
            prop_assert!((agreement(p, p, PAPER) - 1.0).abs() < 1e-12);
        }

        #[test]
        fn the_order_of_the_completions_does_not_matter(mut scores in proptest::collection::vec(1.0f64..=5.0, 2..40)) {
            let there = Moments::of(scores.iter().copied()).unwrap();
            scores.reverse();
            let back = Moments::of(scores.into_iter()).unwrap();
            prop_assert!((there.mean - back.mean).abs() < 1e-12 && (there.variance - back.variance).abs() < 1e-12);
        }

        #[test]
        fn a_better_rating_earns_more_where_the_label_says_better(
            mean in 1.0f64..5.0, variance in 0.01f64..2.0, score in 1.0f64..4.5, more in 0.0f64..0.5,
        ) {
            let moments = Moments { mean, variance };
            let reward = |score: f64| agreement(1.0, probability(score, moments, moments, PAPER), PAPER);
            prop_assert!(reward(score + more) >= reward(score));
        }

        #[test]
        fn turning_the_pair_turns_the_probability(score in 1.0f64..5.0, mean in 1.0f64..5.0, variance in 0.01f64..2.0) {
            let moments = Moments { mean, variance };
            let there = probability(score, moments, moments, PAPER);
            let back = probability(2.0 * mean - score, moments, moments, PAPER);
            prop_assert!((there + back - 1.0).abs() < 1e-12);
        }
    }
}
