//! `e^x` and `ln x` in `f32` by arithmetic alone: the compiler can do several at once, and every machine gets the same
//! bits.

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

/// `ln x` within 1.2e-7 of it, relative to the larger of it and 1; `x` is positive and normal.
///
/// Cephes' `logf`: `x = 2^e·m` with `m` in [√½, √2), and a polynomial of degree 9 in `m − 1`.
#[inline]
pub fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let shifted = x.to_bits().wrapping_sub(ROOT_HALF);
    let e = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + ROOT_HALF) - 1.0;
    let mut p = 7.037_683_6e-2_f32;
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * m + c;
    }
    let square = m * m;
    m + ((p * m * square + e * LOW) - 0.5 * square) + e * HIGH
}

#[cfg(test)]
mod tests {
    use super::{exp, ln};

    #[test]
    fn the_logarithm_is_within_its_bound() {
        for i in 1..2_000_000 {
            let x = f32::from_bits(i * 1000 + 0x0080_0000);
            let exact = f64::from(x).ln();
            let error = (f64::from(ln(x)) - exact).abs() / exact.abs().max(1.0);
            assert!(error < 1.2e-7, "ln({x}) is off by {error}");
        }
    }

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
