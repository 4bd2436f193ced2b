//! The cosine transform of blocks in libjpeg's integers (Loeffler, Ligtenberg and Moschytz), there and back with the steps
//! of quantisation in between.

#![expect(clippy::inline_always, reason = "what is not inlined into a kernel keeps to narrow registers")]

use crate::cpu::kernels;

/// Blocks that are transformed together, side by side in a register.
pub(crate) const LANES: usize = 8;

/// The numbers of a place in each of the blocks.
type Lane = [i32; LANES];

/// Steps of quantisation, row by row.
pub(crate) struct Steps {
    steps: [i32; 64],
    /// The reciprocals of the divisors: the transform's numbers are 8 times too large.
    reciprocals: [f32; 64],
}

impl Steps {
    pub(crate) fn new(steps: [i32; 64]) -> Self {
        Self { steps, reciprocals: steps.map(|step| 1.0 / (8 * step) as f32) }
    }
}

kernels! {
    /// Transforms a row of blocks of 8x8 samples, divides them by the steps, rounds, multiplies and transforms them back.
    /// `samples` are eight rows of `stride`; `width` of them, a multiple of 8 x [`LANES`], are changed.
    pub(crate) fn quantize_blocks(samples: &mut [u8], stride: usize, width: usize, steps: &Steps) {
        for left in (0..width).step_by(8 * LANES) {
            let mut blocks = [[0; LANES]; 64];
            for (lanes, row) in blocks.as_chunks_mut::<8>().0.iter_mut().zip(samples.chunks_exact(stride)) {
                for (block, line) in row[left..left + 8 * LANES].as_chunks::<8>().0.iter().enumerate() {
                    for (lane, &level) in lanes.iter_mut().zip(line) {
                        lane[block] = i32::from(level) - 128;
                    }
                }
            }
            transform(&mut blocks);
            quantize(&mut blocks, steps);
            invert(&mut blocks);
            for (lanes, row) in blocks.as_chunks::<8>().0.iter().zip(samples.chunks_exact_mut(stride)) {
                for (block, line) in row[left..left + 8 * LANES].as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    for (lane, level) in lanes.iter().zip(line) {
                        *level = (lane[block] + 128).clamp(0, 255) as u8;
                    }
                }
            }
        }
    }
}

/// Rounds each number to the nearest multiple of its step, halves away from zero.
#[inline(always)]
fn quantize(blocks: &mut [Lane; 64], steps: &Steps) {
    for ((lane, &step), &reciprocal) in blocks.iter_mut().zip(&steps.steps).zip(&steps.reciprocals) {
        for number in lane {
            // The quarter lifts halves over the edge, by more than the error of the reciprocal; at 2^23 the sum is rounded
            // to a whole number, which is then its lowest bits.
            let quotient = (number.abs() as f32 + 0.25) * reciprocal + (1_u32 << 23) as f32;
            let magnitude = (quotient.to_bits() & 0x007F_FFFF) as i32 * step;
            let sign = *number >> 31;
            *number = (magnitude ^ sign) - sign;
        }
    }
}

// Multipliers in 13 fractional bits, named by what they stand for.
const F0_298: i32 = 2446;
const F0_390: i32 = 3196;
const F0_541: i32 = 4433;
const F0_765: i32 = 6270;
const F0_899: i32 = 7373;
const F1_175: i32 = 9633;
const F1_501: i32 = 12_299;
const F1_847: i32 = 15_137;
const F1_961: i32 = 16_069;
const F2_053: i32 = 16_819;
const F2_562: i32 = 20_995;
const F3_072: i32 = 25_172;

/// Shifts right, rounding half up.
#[inline(always)]
fn descale(number: i32, bits: u32) -> i32 {
    (number + (1 << (bits - 1))) >> bits
}

/// Applies `line` to the eight numbers at `start`, `start + step`, ... of each block.
#[inline(always)]
fn along(blocks: &mut [Lane; 64], start: usize, step: usize, line: impl Fn([i32; 8]) -> [i32; 8]) {
    #[expect(clippy::needless_range_loop, reason = "each of the eight numbers lies in a row of its own")]
    for block in 0..LANES {
        let numbers = line(std::array::from_fn(|i| blocks[start + i * step][block]));
        for (i, number) in numbers.into_iter().enumerate() {
            blocks[start + i * step][block] = number;
        }
    }
}

/// The cosine transform of blocks, 8 times too large.
#[inline(always)]
fn transform(blocks: &mut [Lane; 64]) {
    for row in 0..8 {
        along(blocks, 8 * row, 1, |line| forward(line, |even| even << 2, 11));
    }
    for column in 0..8 {
        along(blocks, column, 8, |line| forward(line, |even| descale(even, 2), 15));
    }
}

/// One line of the transform; `plain` scales the two numbers that need no multiplication, the others lose `bits`.
#[inline(always)]
fn forward(line: [i32; 8], plain: impl Fn(i32) -> i32, bits: u32) -> [i32; 8] {
    let [s0, s1, s2, s3] = [0, 1, 2, 3].map(|i| line[i] + line[7 - i]);
    let [d0, d1, d2, d3] = [0, 1, 2, 3].map(|i| line[i] - line[7 - i]);
    let (e0, e3, e1, e2) = (s0 + s3, s0 - s3, s1 + s2, s1 - s2);
    let z = (e2 + e3) * F0_541;
    let (even2, even6) = (z + e3 * F0_765, z - e2 * F1_847);
    let [odd7, odd5, odd3, odd1] = odd([d3, d2, d1, d0]);
    let scaled = |number| descale(number, bits);
    [
        plain(e0 + e1),
        scaled(odd1),
        scaled(even2),
        scaled(odd3),
        plain(e0 - e1),
        scaled(odd5),
        scaled(even6),
        scaled(odd7),
    ]
}

/// The odd half, which is its own inverse up to the order of inputs and outputs.
#[inline(always)]
fn odd([a, b, c, d]: [i32; 4]) -> [i32; 4] {
    let z5 = (a + b + c + d) * F1_175;
    let z1 = -(a + d) * F0_899;
    let z2 = -(b + c) * F2_562;
    let z3 = -(a + c) * F1_961 + z5;
    let z4 = -(b + d) * F0_390 + z5;
    [a * F0_298 + z1 + z3, b * F2_053 + z2 + z4, c * F3_072 + z2 + z3, d * F1_501 + z1 + z4]
}

/// The inverse transform of blocks.
#[inline(always)]
fn invert(blocks: &mut [Lane; 64]) {
    for column in 0..8 {
        along(blocks, column, 8, |line| backward(line, 11));
    }
    for row in 0..8 {
        along(blocks, 8 * row, 1, |line| backward(line, 18));
    }
}

#[inline(always)]
fn backward(line: [i32; 8], bits: u32) -> [i32; 8] {
    let z = (line[2] + line[6]) * F0_541;
    let (e2, e3) = (z - line[6] * F1_847, z + line[2] * F0_765);
    let (e0, e1) = ((line[0] + line[4]) << 13, (line[0] - line[4]) << 13);
    let even = [e0 + e3, e1 + e2, e1 - e2, e0 - e3];
    let [o3, o2, o1, o0] = odd([line[7], line[5], line[3], line[1]]);
    let odd = [o0, o1, o2, o3];
    std::array::from_fn(|i| {
        let number = if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] };
        descale(number, bits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_when_nothing_is_divided() {
        let mut blocks: [Lane; 64] =
            std::array::from_fn(|i| std::array::from_fn(|b| (i * (37 + b) + i * i * 11) as i32 % 256 - 128));
        let before = blocks;
        transform(&mut blocks);
        for number in blocks.as_flattened_mut() {
            *number = descale(*number, 3);
        }
        invert(&mut blocks);
        for (after, before) in blocks.as_flattened().iter().zip(before.as_flattened()) {
            assert!(after.abs_diff(*before) <= 1, "{after} for {before}");
        }
    }

    #[test]
    fn a_flat_block_has_its_mean_only() {
        let mut blocks = [[50; LANES]; 64];
        transform(&mut blocks);
        assert_eq!(blocks[0], [50 * 8 * 8; LANES]);
        assert!(blocks[1..].as_flattened().iter().all(|&number| number == 0));
    }

    #[test]
    fn numbers_are_rounded_to_multiples_of_their_step_halves_away_from_zero() {
        for step in 1..=255 {
            let steps = Steps::new([step; 64]);
            for start in (-70_000..70_000).step_by(64 * LANES) {
                let number = |i: usize, block: usize| start + (i * LANES + block) as i32;
                let mut blocks: [Lane; 64] = std::array::from_fn(|i| std::array::from_fn(|block| number(i, block)));
                quantize(&mut blocks, &steps);
                for (i, &rounded) in blocks.as_flattened().iter().enumerate() {
                    let number = start + i as i32;
                    let expected = (number.abs() + 4 * step) / (8 * step) * number.signum() * step;
                    assert_eq!(rounded, expected, "{number} by {step}");
                }
            }
        }
    }
}
