//! `e^x` in `f32` by arithmetic alone: the compiler can do several at once, and every machine gets the same bits.

/// `e^x` within 2 units in the last place; 0 below −87.3, where `f32` leaves its normal range.
///
/// Cephes' `expf`: `x = n·ln 2 + r`, a polynomial of degree 6 in `r`, and `n` put into the exponent's bits.
#[inline]
pub fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    // Adding and taking away 1.5·2²³ rounds to an integer, which then also stands in the low bits of the sum.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts, the first exact in few bits, so that n·HIGH is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(LOWEST, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (clamped - n * HIGH) - n * LOW;
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p * r + c;
    }
    let value = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127) << 23;
    if x < LOWEST { 0.0 } else { value * f32::from_bits(exponent) }
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn it_is_within_two_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}) is off by {error}");
        }
    }

    #[test]
    fn what_is_below_the_range_is_zero() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }
}
