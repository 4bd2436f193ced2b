//! The reward of a rating: how well it agrees with the pseudo-labels of its picture, Eq. 2 and 3; and how close it is to a
//! pseudo-score.

use std::f64::consts::SQRT_2;

/// Mean and variance of the valid scores of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// The mean.
    pub mean: f64,
    /// The variance, divided by n − ddof.
    pub variance: f64,
}

impl Moments {
    /// The moments of `scores`; `None` for fewer than two.
    pub fn of(scores: impl Iterator<Item = f64>, ddof: u8) -> Option<Self> {
        let scores: Vec<f64> = scores.collect();
        if scores.len() < 2 {
            return None;
        }
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let squares: f64 = scores.iter().map(|score| (score - mean) * (score - mean)).sum();
        Some(Self { mean, variance: squares / (scores.len() - usize::from(ddof)) as f64 })
    }
}

/// `p_k(x_i, x_j)`, Eq. 2: how probably `x_i`, rated `score`, is better than `x_j`, given both pictures' ratings.
pub fn probability(score: f64, own: Moments, partner: Moments, gamma: f64) -> f64 {
    let deviation = (own.variance + partner.variance + gamma).sqrt();
    normal_cdf((score - partner.mean) / deviation)
}

/// One term of Eq. 3: `sqrt(p* p) + sqrt((1 − p*)(1 − p))`, 1 where label and probability agree; `root_epsilon` is added inside
/// each root.
pub fn agreement(preference: f64, probability: f64, root_epsilon: f64) -> f64 {
    let root = |product: f64| (product + root_epsilon).sqrt();
    root(preference * probability) + root((1.0 - preference) * (1.0 - probability))
}

/// The reward of `EvoEstimate`: 1 where the score is closer to the picture's pseudo-score than `threshold`, else 0.
pub fn closeness(score: f64, target: f64, threshold: f64) -> f64 {
    if (score - target).abs() < threshold { 1.0 } else { 0.0 }
}

/// Φ, the distribution function of the standard normal distribution.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_score_has_no_moments() {
        assert_eq!(Moments::of([3.0].into_iter(), 1), None);
    }

    #[test]
    fn a_variance_is_divided_by_n_less_ddof() {
        let variance = |ddof| Moments::of([1.0, 2.0, 3.0].into_iter(), ddof).unwrap().variance;
        assert_eq!((variance(1), variance(0)), (1.0, 2.0 / 3.0));
    }

    #[test]
    fn a_score_at_the_threshold_is_not_close() {
        assert_eq!(closeness(3.0, 3.5, 0.5), 0.0);
        assert_eq!(closeness(3.25, 3.5, 0.5), 1.0);
        assert_eq!(closeness(3.75, 3.5, 0.5), 1.0);
    }

    proptest! {
        #[test]
        fn the_reward_is_at_most_one_and_reached_where_label_and_probability_agree(p in 0.0f64..=1.0, q in 0.0f64..=1.0) {
            let reward = agreement(p, q, 0.0);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&reward));
            prop_assert!((agreement(p, p, 0.0) - 1.0).abs() < 1e-12);
        }

        #[test]
        fn the_order_of_the_completions_does_not_matter(mut scores in proptest::collection::vec(1.0f64..=5.0, 2..40)) {
            let there = Moments::of(scores.iter().copied(), 1).unwrap();
            scores.reverse();
            let back = Moments::of(scores.into_iter(), 1).unwrap();
            prop_assert!((there.mean - back.mean).abs() < 1e-12 && (there.variance - back.variance).abs() < 1e-12);
        }

        #[test]
        fn a_better_rating_earns_more_where_the_label_says_better(
            mean in 1.0f64..5.0, variance in 0.01f64..2.0, score in 1.0f64..4.5, more in 0.0f64..0.5,
        ) {
            let moments = Moments { mean, variance };
            let reward = |score: f64| agreement(1.0, probability(score, moments, moments, 1e-6), 0.0);
            prop_assert!(reward(score + more) >= reward(score));
        }

        #[test]
        fn turning_the_pair_turns_the_probability(score in 1.0f64..5.0, mean in 1.0f64..5.0, variance in 0.01f64..2.0) {
            let moments = Moments { mean, variance };
            let there = probability(score, moments, moments, 1e-6);
            let back = probability(2.0 * mean - score, moments, moments, 1e-6);
            prop_assert!((there + back - 1.0).abs() < 1e-12);
        }
    }
}
