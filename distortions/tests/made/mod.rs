//! Pictures that the tests make, and how far two pictures are apart.

use evoq_distortions::resize;
use image::{Rgb, RgbImage};

/// The picture that `independent.py` makes.
pub fn picture() -> RgbImage {
    let (width, height) = (59, 46);
    RgbImage::from_fn(width, height, |x, y| {
        if x < 12 && y < 12 {
            return Rgb([40, 130, 200]);
        }
        if y >= height - 8 && x < 8 {
            return Rgb([0; 3]);
        }
        if y >= height - 8 && x >= width - 8 {
            return Rgb([255; 3]);
        }
        let (x, y) = (i64::from(x), i64::from(y));
        let texture = (x * x * 7 + y * y * 11 + x * y * 13) % 61;
        Rgb([x * 3 + texture, y * 4 + texture * 2, 255 - x * 2 - y - texture].map(|level| level.clamp(0, 255) as u8))
    })
}

/// Bytes of a linear congruential generator, row by row, as `independent.py` makes them.
pub fn noise(width: u32, height: u32) -> RgbImage {
    let mut bytes = bytes();
    RgbImage::from_fn(width, height, |_, _| Rgb([0; 3].map(|_: u8| bytes.next().unwrap())))
}

/// The bytes of [`noise`].
pub fn bytes() -> impl Iterator<Item = u8> {
    let next = |number: &u32| Some(number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(next(&1), next).map(|number| (number >> 24) as u8)
}

/// A picture with detail at every scale, as photographs have: noise of 4, 8, ... 128 pixels a side, enlarged and added.
pub fn fractal() -> RgbImage {
    let mut bytes = bytes();
    let mut noise = |side| RgbImage::from_fn(side, side, |_, _| Rgb([0; 3].map(|_: u8| bytes.next().unwrap())));
    let octaves = [4, 8, 16, 32, 64, 128].map(|side| resize::bicubic(&noise(side), 192, 160));
    let mut sum = RgbImage::new(192, 160);
    for (i, sample) in sum.iter_mut().enumerate() {
        let weighted = (1..).zip(&octaves).map(|(octave, picture)| u32::from(picture.as_raw()[i]) >> octave);
        *sample = weighted.sum::<u32>() as u8;
    }
    sum
}

/// The peak signal-to-noise ratio in dB.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a.iter().zip(b.iter()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares).log10()
}
