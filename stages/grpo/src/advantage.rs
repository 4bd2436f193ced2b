//! The advantage of a completion over the others of its picture. Eq. 4.

/// Added to the standard deviation in Eq. 4, as TRL and VisualQuality-R1 do.
const EPSILON: f64 = 1e-4;

/// `a_k = (r_k − mean r) / (std r + 1e-4)`, Eq. 4, with ddof 1; all 0 where the rewards have no spread.
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let deviation = spread(rewards);
    if deviation == 0.0 {
        return vec![0.0; rewards.len()];
    }
    rewards.iter().map(|reward| (reward - mean) / (deviation + EPSILON)).collect()
}

/// The standard deviation (ddof 1) of `rewards`: exactly 0 where all are equal or there is one at most.
pub fn spread(rewards: &[f64]) -> f64 {
    if rewards.len() < 2 || rewards.windows(2).all(|it| it[0] == it[1]) {
        return 0.0;
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let squares: f64 = rewards.iter().map(|reward| (reward - mean) * (reward - mean)).sum();
    (squares / (rewards.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_rewards_give_no_advantage() {
        assert_eq!(advantages(&[0.1; 3]), [0.0; 3]);
        assert_eq!(spread(&[0.1; 3]), 0.0);
    }

    proptest! {
        #[test]
        fn advantages_sum_to_nothing_and_follow_a_permutation(mut rewards in proptest::collection::vec(0.0f64..1.0, 2..40)) {
            let mut there = advantages(&rewards);
            prop_assert!(there.iter().sum::<f64>().abs() < 1e-6);
            rewards.reverse();
            there.reverse();
            for (a, b) in advantages(&rewards).iter().zip(&there) {
                prop_assert!((a - b).abs() < 1e-6);
            }
        }
    }
}
