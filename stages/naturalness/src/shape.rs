//! Generalised Gaussian distributions, even and lopsided, fitted by their moments.
//!
//! The shape is looked up on a grid from 0.2 to 10 in steps of 0.001, as the releases of both measures do.

use std::sync::LazyLock;

use crate::moments::Moments;

/// Shapes on the grid.
const SHAPES: usize = 9801;

/// For each shape, the square of the mean magnitude by the mean square. It rises with the shape.
static RATIOS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let ratio = |shape: f64| libm::exp(2.0 * log_gamma(2.0, shape) - log_gamma(1.0, shape) - log_gamma(3.0, shape));
    (0..SHAPES).map(|index| ratio(shape_at(index))).collect()
});

fn shape_at(index: usize) -> f64 {
    0.2 + index as f64 * 0.001
}

fn log_gamma(times: f64, shape: f64) -> f64 {
    libm::lgamma(times / shape)
}

/// A lopsided generalised Gaussian distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lopsided {
    /// The shape (alpha): 2 is a Gaussian.
    pub(crate) shape: f64,
    /// Root mean square of the left side.
    pub(crate) left: f64,
    /// Root mean square of the right side.
    pub(crate) right: f64,
}

impl Lopsided {
    /// The distribution with these moments. Without numbers on one side its shape is the grid's first, and the side's deviation
    /// is not a number.
    pub(crate) fn of(moments: &Moments) -> Self {
        let Moments { left, right, magnitude, square } = *moments;
        let skew = left / right;
        let (skew2, skew3) = (skew * skew, skew * skew * skew);
        let ratio = magnitude * magnitude / square * (skew3 + 1.0) * (skew + 1.0) / ((skew2 + 1.0) * (skew2 + 1.0));
        Self { shape: shape_at(nearest(ratio, |index| RATIOS[index])), left, right }
    }

    /// The scales (beta) of its left and its right side.
    pub(crate) fn scales(&self) -> (f64, f64) {
        let by_deviation = libm::exp(0.5 * (log_gamma(1.0, self.shape) - log_gamma(3.0, self.shape)));
        (self.left * by_deviation, self.right * by_deviation)
    }

    /// Its mean.
    pub(crate) fn mean(&self) -> f64 {
        let (left, right) = self.scales();
        (right - left) * libm::exp(log_gamma(2.0, self.shape) - log_gamma(1.0, self.shape))
    }
}

/// The shape of the even distribution with these moments.
pub(crate) fn even_shape(moments: &Moments) -> f64 {
    let ratio = moments.square / (moments.magnitude * moments.magnitude);
    shape_at(nearest(-ratio, |index| -1.0 / RATIOS[index]))
}

/// Which of the rising values is nearest to `value`; the first where it is not a number.
fn nearest(value: f64, values: impl Fn(usize) -> f64) -> usize {
    let (mut low, mut high) = (0, SHAPES - 1);
    if value.is_nan() {
        return low;
    }
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if values(middle) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    if value - values(low) <= values(high) - value { low } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments of a Gaussian with these deviations on its sides, in equal numbers.
    fn gaussian(left: f64, right: f64) -> Moments {
        let magnitude = f64::midpoint(left, right) * (2.0 / std::f64::consts::PI).sqrt();
        Moments { left, right, magnitude, square: f64::midpoint(left * left, right * right) }
    }

    #[test]
    fn a_gaussian_has_the_shape_2() {
        assert!((even_shape(&gaussian(1.5, 1.5)) - 2.0).abs() < 1e-9);
        assert!((Lopsided::of(&gaussian(1.5, 1.5)).shape - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_heavier_tail_has_a_smaller_shape() {
        let laplace = Moments { left: 2.0_f64.sqrt(), right: 2.0_f64.sqrt(), magnitude: 1.0, square: 2.0 };
        assert!((even_shape(&laplace) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_mean_lies_on_the_wider_side() {
        let wide = Lopsided::of(&Moments { left: 1.0, right: 2.0, magnitude: 1.2, square: 2.5 });
        assert!(wide.mean() > 0.0);
        let even = Lopsided::of(&gaussian(1.0, 1.0));
        assert_eq!(even.mean(), 0.0);
    }

    #[test]
    fn shapes_beyond_the_grid_are_its_ends_and_no_number_its_first() {
        let at = |ratio| nearest(ratio, |index| RATIOS[index]);
        assert_eq!((at(-1.0), at(2.0), at(f64::NAN)), (0, SHAPES - 1, 0));
    }

    #[test]
    fn the_nearest_is_what_a_search_of_all_finds() {
        for step in 0..200 {
            let ratio = f64::from(step) * 0.004;
            let all = (0..SHAPES).min_by(|a, b| (RATIOS[*a] - ratio).abs().total_cmp(&(RATIOS[*b] - ratio).abs()));
            assert_eq!(Some(nearest(ratio, |index| RATIOS[index])), all, "{ratio}");
        }
    }
}
