//! Finite differences, for the tests of backward passes.

use candle_core::Tensor;

use super::{Floats, tensor};

/// Asserts that `exact` is the gradient of `value` at `x`, by central differences.
pub(crate) fn close_to_differences(x: &Tensor, exact: &Tensor, value: impl Fn(&Tensor) -> f32) {
    const STEP: f32 = 1e-2;
    let (values, exact) = (Floats::of(x).unwrap().to_vec(), Floats::of(exact).unwrap());
    assert_eq!(values.len(), exact.len());
    let at = |i: usize, step: f32| {
        let mut values = values.clone();
        values[i] += step;
        f64::from(value(&tensor(values, x.shape()).unwrap()))
    };
    for i in 0..values.len() {
        // Two steps, extrapolated: the error is of fourth order.
        let wide = (at(i, 2.0 * STEP) - at(i, -2.0 * STEP)) / f64::from(4.0 * STEP);
        let narrow = (at(i, STEP) - at(i, -STEP)) / f64::from(2.0 * STEP);
        let numeric = (4.0 * narrow - wide) / 3.0;
        let error = (numeric - f64::from(exact[i])).abs();
        assert!(error < 2e-3 * (1.0 + numeric.abs()), "element {i}: {} but differences say {numeric}", exact[i]);
    }
}

/// Values that look random, of unit size.
pub(crate) fn waves(shape: &[usize], phase: f32) -> Tensor {
    let count: usize = shape.iter().product();
    tensor((0..count).map(|i| (phase + i as f32 * 1.37).sin() * 1.2).collect(), shape).unwrap()
}

/// `Σ x · w`, a scalar to differentiate.
pub(crate) fn weighted(x: &Tensor, w: &Tensor) -> f32 {
    Floats::of(x).unwrap().iter().zip(&*Floats::of(w).unwrap()).map(|(x, w)| x * w).sum()
}
