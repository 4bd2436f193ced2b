//! The advantage of a completion over the others of its picture. Eq. 4.

/// `a_k = (r_k − mean r) / (std r + epsilon)`, Eq. 4; all 0 where the rewards have no spread.
pub fn advantages(rewards: &[f64], ddof: u8, epsilon: f64) -> Vec<f64> {
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let deviation = spread(rewards, ddof);
    if deviation == 0.0 {
        return vec![0.0; rewards.len()];
    }
    rewards.iter().map(|reward| (reward - mean) / (deviation + epsilon)).collect()
}

/// The standard deviation of `rewards`, divided by n − ddof: exactly 0 where all are equal or there is one at most.
pub fn spread(rewards: &[f64], ddof: u8) -> f64 {
    if rewards.len() < 2 || rewards.windows(2).all(|it| it[0] == it[1]) {
        return 0.0;
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let squares: f64 = rewards.iter().map(|reward| (reward - mean) * (reward - mean)).sum();
    (squares / (rewards.len() - usize::from(ddof)) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_rewards_give_no_advantage() {
        assert_eq!(advantages(&[0.1; 3], 1, 1e-4), [0.0; 3]);
        assert_eq!(spread(&[0.1; 3], 1), 0.0);
    }

    #[test]
    fn a_spread_is_divided_by_n_less_ddof() {
        assert_eq!((spread(&[1.0, 3.0], 0), spread(&[1.0, 3.0], 1)), (1.0, 2.0_f64.sqrt()));
    }

    #[test]
    fn the_epsilon_is_added_to_the_spread() {
        assert_eq!(advantages(&[1.0, 3.0], 0, 1.0), [-0.5, 0.5]);
    }

    proptest! {
        #[test]
        fn advantages_sum_to_nothing_and_follow_a_permutation(mut rewards in proptest::collection::vec(0.0f64..1.0, 2..40)) {
            let mut there = advantages(&rewards, 1, 1e-4);
            prop_assert!(there.iter().sum::<f64>().abs() < 1e-6);
            rewards.reverse();
            there.reverse();
            for (a, b) in advantages(&rewards, 1, 1e-4).iter().zip(&there) {
                prop_assert!((a - b).abs() < 1e-6);
            }
        }
    }
}
