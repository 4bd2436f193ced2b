//! Random signs as `tests/fixtures/sketch.py` draws them, and sketches of gradients, which are made of them.
//!
//! The squared length of a difference is estimated from 64 inner products with random signs, without bias and with a
//! standard deviation of at most 18 %. A difference that truly is `BAR` long passes for less than half of it with a
//! probability below 1e-10; tests therefore ask for half the bar of a sketch where they would ask for the bar of a
//! whole gradient.

/// Inner products of a sketch: one for each bit of a draw.
pub const SIGNS: usize = 64;

/// The bits that belong to an index: splitmix64's output there.
pub fn bits(index: usize) -> u64 {
    let z = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Inner products of the values with 64 vectors of signs.
pub fn sketch(values: &[f32]) -> [f64; SIGNS] {
    let mut sums = [0.0; SIGNS];
    for (index, &value) in values.iter().enumerate() {
        let (bits, value) = (bits(index), f64::from(value));
        for (bit, sum) in sums.iter_mut().enumerate() {
            *sum += if (bits >> bit) & 1 == 1 { -value } else { value };
        }
    }
    sums
}

/// The estimated length of the difference of `ours` from the vector whose sketch is `theirs`.
pub fn distance(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(theirs.len(), SIGNS);
    let squares = sketch(ours).iter().zip(theirs).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>();
    (squares / SIGNS as f64).sqrt()
}
