//! What baseline JPEG coding does to pixels, in libjpeg's integers: 4:2:0, the standard tables, the slow integer
//! transform, and triangle upsampling of chroma.
//!
//! Entropy coding loses nothing and is left out, so no byte stream is written. The samples are those of libjpeg-turbo on
//! any machine; a coder with vector instructions of its own would give others on others.

use image::RgbImage;

/// The standard's luma table (ITU-T T.81, K.1), row by row.
const LUMA_TABLE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// The standard's chroma table (ITU-T T.81, K.2), row by row.
const CHROMA_TABLE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// The picture after coding at `quality`, 1 to 49, and decoding.
pub(crate) fn coded(picture: &RgbImage, quality: u16) -> RgbImage {
    let luma_steps = steps(&LUMA_TABLE, quality);
    let chroma_steps = steps(&CHROMA_TABLE, quality);
    let [luma, cb, cr] = planes(picture);
    let luma = luma.quantized(&luma_steps);
    let [cb, cr] = [cb, cr].map(|plane| plane.halved().quantized(&chroma_steps).doubled(luma.width, luma.height));
    let mut result = RgbImage::new(picture.width(), picture.height());
    let samples = luma.samples.iter().zip(&cb.samples).zip(&cr.samples);
    for (pixel, ((&luma, &cb), &cr)) in result.chunks_exact_mut(3).zip(samples) {
        pixel.copy_from_slice(&rgb(luma, cb, cr));
    }
    result
}

/// A table's steps at a quality under 50, at most 255 as baseline coding demands.
fn steps(table: &[u16; 64], quality: u16) -> [i32; 64] {
    let percent = 5000 / i32::from(quality);
    table.map(|step| ((i32::from(step) * percent + 50) / 100).clamp(1, 255))
}

/// One component, row by row.
struct Plane {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

/// The planes Y, Cb and Cr.
fn planes(picture: &RgbImage) -> [Plane; 3] {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    // Weights in 16 fractional bits; chroma's half is one unit short, which rounds ties down.
    let component = |[red, green, blue]: [i32; 3], offset: i32| {
        let convert = |pixel: &[u8]| {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
            ((red * r + green * g + blue * b + offset) >> 16) as u8
        };
        Plane { width, height, samples: picture.as_raw().chunks_exact(3).map(convert).collect() }
    };
    let chroma_offset = (128 << 16) + (1 << 15) - 1;
    [
        component([19_595, 38_470, 7471], 1 << 15),
        component([-11_059, -21_709, 32_768], chroma_offset),
        component([32_768, -27_439, -5329], chroma_offset),
    ]
}

/// A pixel's RGB levels.
fn rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, cb, cr) = (i32::from(luma), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = luma + ((91_881 * cr + HALF) >> 16);
    let green = luma + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = luma + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|level| level.clamp(0, 255) as u8)
}

impl Plane {
    /// Means over 2x2 samples, rounded down and up in turn; an odd edge is repeated. The width comes out filled up to whole
    /// blocks from the repeated edge: libjpeg fills chroma to the right before it is halved, but downwards after.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(16) * 8, self.height.div_ceil(2));
        let mut samples = Vec::with_capacity(width * height);
        for y in 0..height {
            let above = &self.samples[2 * y * self.width..][..self.width];
            let below = &self.samples[(2 * y + 1).min(self.height - 1) * self.width..][..self.width];
            samples.extend((0..width).map(|x| {
                let (left, right) = ((2 * x).min(self.width - 1), (2 * x + 1).min(self.width - 1));
                let sum = [above[left], above[right], below[left], below[right]].map(u16::from).iter().sum::<u16>();
                ((sum + 1 + (x % 2) as u16) >> 2) as u8
            }));
        }
        Self { width, height, samples }
    }

    /// Each block of 8x8 transformed, divided by the steps, rounded, multiplied and transformed back.
    fn quantized(&self, steps: &[i32; 64]) -> Self {
        let mut result = Self { width: self.width, height: self.height, samples: vec![0; self.samples.len()] };
        for top in (0..self.height).step_by(8) {
            for left in (0..self.width).step_by(8) {
                let mut block = [0; 64];
                for (y, line) in block.chunks_exact_mut(8).enumerate() {
                    let row = &self.samples[(top + y).min(self.height - 1) * self.width..][..self.width];
                    for (x, number) in line.iter_mut().enumerate() {
                        *number = i32::from(row[(left + x).min(self.width - 1)]) - 128;
                    }
                }
                transform(&mut block);
                for (number, step) in block.iter_mut().zip(steps) {
                    // The transform's numbers are 8 times too large.
                    let divisor = 8 * step;
                    *number = (number.abs() + divisor / 2) / divisor * number.signum() * step;
                }
                invert(&mut block);
                let columns = (self.width - left).min(8);
                for (y, line) in block.chunks_exact(8).enumerate().take(self.height - top) {
                    let row = &mut result.samples[(top + y) * self.width + left..][..columns];
                    for (sample, number) in row.iter_mut().zip(line) {
                        *sample = (number + 128).clamp(0, 255) as u8;
                    }
                }
            }
        }
        result
    }

    /// Doubles both sides, to `width` and `height`, each sample three parts the nearer and one part the farther of two
    /// along each axis.
    fn doubled(&self, width: usize, height: usize) -> Self {
        let used = width.div_ceil(2);
        let mut samples = vec![0; width * height];
        let mut sums = vec![0_u16; used];
        for (y, row) in samples.chunks_exact_mut(width).enumerate() {
            let near = y / 2;
            let far = if y % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) };
            let [near, far] = [near, far].map(|y| &self.samples[y * self.width..][..used]);
            for (sum, (&near, &far)) in sums.iter_mut().zip(near.iter().zip(far)) {
                *sum = 3 * u16::from(near) + u16::from(far);
            }
            for (x, sample) in row.iter_mut().enumerate() {
                let near = x / 2;
                // At the edges both are the same. Ties are rounded up on the left and down on the right.
                let (far, half) = if x % 2 == 0 { (near.saturating_sub(1), 8) } else { ((near + 1).min(used - 1), 7) };
                *sample = ((3 * sums[near] + sums[far] + half) >> 4) as u8;
            }
        }
        Self { width, height, samples }
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
fn descale(number: i32, bits: u32) -> i32 {
    (number + (1 << (bits - 1))) >> bits
}

/// Applies `line` to the eight numbers at `start`, `start + step`, ...
fn along(block: &mut [i32; 64], start: usize, step: usize, line: impl Fn([i32; 8]) -> [i32; 8]) {
    let numbers = line(std::array::from_fn(|i| block[start + i * step]));
    for (i, number) in numbers.into_iter().enumerate() {
        block[start + i * step] = number;
    }
}

/// The cosine transform of a block (Loeffler, Ligtenberg and Moschytz), 8 times too large.
fn transform(block: &mut [i32; 64]) {
    for row in 0..8 {
        along(block, 8 * row, 1, |line| forward(line, |even| even << 2, 11));
    }
    for column in 0..8 {
        along(block, column, 8, |line| forward(line, |even| descale(even, 2), 15));
    }
}

/// One line of the transform; `plain` scales the two numbers that need no multiplication, the others lose `bits`.
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
fn odd([a, b, c, d]: [i32; 4]) -> [i32; 4] {
    let z5 = (a + b + c + d) * F1_175;
    let z1 = -(a + d) * F0_899;
    let z2 = -(b + c) * F2_562;
    let z3 = -(a + c) * F1_961 + z5;
    let z4 = -(b + d) * F0_390 + z5;
    [a * F0_298 + z1 + z3, b * F2_053 + z2 + z4, c * F3_072 + z2 + z3, d * F1_501 + z1 + z4]
}

/// The inverse transform of a block.
fn invert(block: &mut [i32; 64]) {
    for column in 0..8 {
        along(block, column, 8, |line| backward(line, 11));
    }
    for row in 0..8 {
        along(block, 8 * row, 1, |line| backward(line, 18));
    }
}

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
    use image::Rgb;

    use super::*;

    #[test]
    fn a_block_comes_back_when_nothing_is_divided() {
        let mut block: [i32; 64] = std::array::from_fn(|i| (i as i32 * 37 + (i * i) as i32 * 11) % 256 - 128);
        let before = block;
        transform(&mut block);
        for number in &mut block {
            *number = descale(*number, 3);
        }
        invert(&mut block);
        for (after, before) in block.iter().zip(&before) {
            assert!(after.abs_diff(*before) <= 1, "{after} for {before}");
        }
    }

    #[test]
    fn a_flat_block_has_its_mean_only() {
        let mut block = [50; 64];
        transform(&mut block);
        assert_eq!(block[0], 50 * 8 * 8);
        assert!(block[1..].iter().all(|&number| number == 0));
    }

    #[test]
    fn steps_are_scaled_and_at_most_a_byte() {
        assert_eq!(steps(&LUMA_TABLE, 25)[..3], [32, 22, 20]);
        assert_eq!(steps(&CHROMA_TABLE, 5)[..5], [170, 180, 240, 255, 255]);
    }

    #[test]
    fn chroma_is_halved_with_alternating_rounding_and_doubled_by_triangles() {
        let plane = Plane { width: 4, height: 3, samples: vec![0, 1, 0, 1, 1, 0, 1, 0, 8, 8, 8, 8] };
        let halved = plane.halved();
        assert_eq!((halved.width, halved.height), (8, 2));
        // 2 / 4 rounds down in the first column and up in the second.
        assert_eq!((halved.samples[0], halved.samples[1], halved.samples[8]), (0, 1, 8));
        let narrow = Plane { width: 2, height: 1, samples: vec![0, 16] };
        assert_eq!(narrow.doubled(4, 1).samples, [0, 4, 12, 16]);
    }

    #[test]
    fn odd_sizes_keep_flat_colours() {
        let flat = RgbImage::from_pixel(35, 33, Rgb([128; 3]));
        assert_eq!(coded(&flat, 25), flat);
    }
}
