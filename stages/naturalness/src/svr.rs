//! Support vector regression with a Gaussian kernel, and the ranges that features are brought to before it.

use crate::{FEATURES, Features};

/// A trained machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    /// The kernel's width: `exp(-gamma |x - y|²)`.
    pub(crate) gamma: f64,
    /// What is taken off the sum.
    pub(crate) rho: f64,
    /// The support vectors with their coefficients.
    pub(crate) vectors: Vec<(f64, Features)>,
}

/// A machine with the ranges of its features.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Regression {
    pub(crate) machine: Machine,
    /// What becomes -1 and what becomes 1, of each feature.
    pub(crate) ranges: [(f64, f64); FEATURES],
}

impl Regression {
    /// The value at `features`.
    pub(crate) fn value(&self, features: &Features) -> f64 {
        let scaled: Features = std::array::from_fn(|at| {
            let (low, high) = self.ranges[at];
            -1.0 + 2.0 * (features[at] - low) / (high - low)
        });
        let kernel = |vector: &Features| {
            let apart: f64 = scaled.iter().zip(vector).map(|(a, b)| (a - b) * (a - b)).sum();
            libm::exp(-self.machine.gamma * apart)
        };
        let sum: f64 = self.machine.vectors.iter().map(|(coefficient, vector)| coefficient * kernel(vector)).sum();
        sum - self.machine.rho
    }
}

/// Checks the ranges of all features.
pub(crate) fn checked_ranges(ranges: &[(f64, f64)]) -> Result<[(f64, f64); FEATURES], String> {
    let ranges: [(f64, f64); FEATURES] =
        ranges.try_into().map_err(|_| format!("has ranges of {} features; expected {FEATURES}", ranges.len()))?;
    match ranges.iter().position(|(low, high)| !low.is_finite() || !high.is_finite() || low >= high) {
        Some(at) => {
            let (low, high) = ranges[at];
            Err(format!("has the range {low} to {high} for feature {}; expected a smaller and a larger number", at + 1))
        }
        None => Ok(ranges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_weighted_sum_of_kernels_less_rho() {
        let machine = Machine { gamma: 0.5, rho: -3.0, vectors: vec![(2.0, [0.0; FEATURES]), (-1.0, [0.5; FEATURES])] };
        let regression = Regression { machine, ranges: [(0.0, 4.0); FEATURES] };
        let at_first = regression.value(&[2.0; FEATURES]);
        assert!((at_first - (2.0 - (-0.5 * 0.25 * 36.0_f64).exp() + 3.0)).abs() < 1e-12);
    }

    #[test]
    fn ranges_without_width_are_refused_by_feature() {
        let mut ranges = [(0.0, 1.0); FEATURES];
        assert_eq!(checked_ranges(&ranges), Ok(ranges));
        ranges[4] = (1.0, 1.0);
        assert!(checked_ranges(&ranges).unwrap_err().contains("for feature 5"));
        assert!(checked_ranges(&ranges[1..]).unwrap_err().contains("of 35 features"));
    }
}
