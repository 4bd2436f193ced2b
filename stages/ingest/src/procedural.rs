//! Pictures drawn from numbers: dead leaves with natural spectra, large textured things, shaded grounds with edges.
//!
//! A picture depends on seed, index and size only. It is painted at 2.5 times its size, exposed, halved, cropped and turned:
//! edges are as soft as a camera's, and texture reaches the finest detail, so that a blur can be seen.

mod noise;
mod outline;
mod palette;
mod scene;

use evoq_schemas::draws;
use image::{Rgb, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use noise::Tile;

/// Draws pictures of one seed and size. Shared between threads.
#[derive(Debug)]
pub(crate) struct Painter {
    seed: u64,
    size: u32,
    tiles: Vec<Tile>,
}

impl Painter {
    /// A painter of square pictures of `size` pixels a side, at least 1.
    pub(crate) fn new(seed: u64, size: u32) -> Self {
        Self { seed, size, tiles: noise::tiles(seed) }
    }

    /// The picture of number `index`.
    pub(crate) fn picture(&self, index: usize) -> RgbImage {
        let key = draws::key(self.seed, "procedural picture", &[&index.to_string()]);
        let mut random = ChaCha8Rng::from_seed(key);
        let size = self.size as usize;
        let half = size + size / 4;
        let mut canvas = halved(&scene::paint(&mut random, &self.tiles, 2 * half), 2 * half);
        expose(&mut canvas, random.random_range(0.3..0.54), random.random_range(0.13..0.24));
        let left = random.random_range(0..=(half - size) as u32) as usize;
        let top = random.random_range(0..=(half - size) as u32) as usize;
        let turn = Turn::draw(&mut random);
        RgbImage::from_fn(self.size, self.size, |x, y| {
            let (x, y) = turn.source(x as usize, y as usize, size);
            Rgb(canvas[(top + y) * half + left + x].map(|level| (level.clamp(0.0, 1.0) * 255.0).round() as u8))
        })
    }
}

/// The means of each two by two pixels of a square canvas of an even `side`.
fn halved(canvas: &[[f32; 3]], side: usize) -> Vec<[f32; 3]> {
    let half = side / 2;
    let mean = |at: usize| {
        let corner = at / half * 2 * side + at % half * 2;
        let [a, b, c, d] = [corner, corner + 1, corner + side, corner + side + 1].map(|it| canvas[it]);
        [0, 1, 2].map(|channel| (a[channel] + b[channel] + c[channel] + d[channel]) / 4.0)
    };
    (0..half * half).map(mean).collect()
}

/// Brings the brightness to a mean and, within limits, to a standard deviation, as a camera's exposure does.
fn expose(canvas: &mut [[f32; 3]], mean: f32, deviation: f32) {
    let brightness = |it: &[f32; 3]| f64::from(0.299 * it[0] + 0.587 * it[1] + 0.114 * it[2]);
    let count = canvas.len() as f64;
    let found = canvas.iter().map(brightness).sum::<f64>() / count;
    let variance = canvas.iter().map(|it| (brightness(it) - found) * (brightness(it) - found)).sum::<f64>() / count;
    let gain = (f64::from(deviation) / variance.sqrt().max(1e-6)).clamp(0.5, 2.0) as f32;
    for level in canvas.iter_mut().flatten() {
        *level = (*level - found as f32) * gain + mean;
    }
}

/// One of the eight ways to lay a square.
#[derive(Debug)]
struct Turn {
    transposed: bool,
    mirrored: bool,
    upturned: bool,
}

impl Turn {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let ways: u32 = random.random_range(0..8);
        Self { transposed: ways & 1 != 0, mirrored: ways & 2 != 0, upturned: ways & 4 != 0 }
    }

    /// Where the pixel (`x`, `y`) of the turned square of `size` pixels comes from.
    fn source(&self, x: usize, y: usize, size: usize) -> (usize, usize) {
        let (x, y) = if self.transposed { (y, x) } else { (x, y) };
        (if self.mirrored { size - 1 - x } else { x }, if self.upturned { size - 1 - y } else { y })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Mean and standard deviation of the green channel, in levels.
    fn exposure(picture: &RgbImage) -> (f64, f64) {
        let levels: Vec<f64> = picture.pixels().map(|it| f64::from(it.0[1])).collect();
        let mean = levels.iter().sum::<f64>() / levels.len() as f64;
        let variance = levels.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / levels.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn a_picture_depends_on_seed_index_and_size_and_on_nothing_else() {
        let painter = Painter::new(5, 64);
        let third = painter.picture(3);
        assert_eq!(third.dimensions(), (64, 64));
        assert_eq!(Painter::new(5, 64).picture(3), third);
        assert_ne!(painter.picture(4), third);
        assert_ne!(Painter::new(6, 64).picture(3), third);
        assert_eq!(Painter::new(5, 33).picture(3).dimensions(), (33, 33));
    }

    #[test]
    fn pictures_are_exposed_coloured_and_none_comes_twice() {
        let painter = Painter::new(1, 112);
        let mut seen = HashSet::new();
        for index in 0..60 {
            let picture = painter.picture(index);
            let (mean, deviation) = exposure(&picture);
            assert!((60.0..190.0).contains(&mean) && deviation > 12.0, "{index}: {mean} {deviation}");
            assert!(!evoq_pictures::is_grey(&picture), "{index}");
            assert!(seen.insert(picture.into_raw()), "{index}");
        }
    }

    #[test]
    fn fine_texture_is_everywhere() {
        let painter = Painter::new(1, 112);
        // In squares of 16 pixels: the mean step between neighbours, in levels. A smooth one has none.
        let mut smooth = 0;
        for picture in (0..60).map(|index| painter.picture(index)) {
            for square in 0..49 {
                let (left, top) = (square % 7 * 16, square / 7 * 16);
                let steps = (0..15 * 16).map(|at| {
                    let (x, y) = (left + at % 15, top + at / 15);
                    let (here, next) = (picture.get_pixel(x, y), picture.get_pixel(x + 1, y));
                    here.0.iter().zip(next.0).map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>()
                });
                smooth += u32::from(steps.sum::<u32>() < 3 * 240);
            }
        }
        assert!(smooth < 60 * 49 / 50, "{smooth} of {} squares are smooth", 60 * 49);
    }

    #[test]
    fn the_eight_turns_are_different_and_lose_no_pixel() {
        let mut seen = HashSet::new();
        for ways in 0..8 {
            let turn = Turn { transposed: ways & 1 != 0, mirrored: ways & 2 != 0, upturned: ways & 4 != 0 };
            let places: Vec<_> = (0..9).map(|at| turn.source(at % 3, at / 3, 3)).collect();
            assert_eq!(places.iter().collect::<HashSet<_>>().len(), 9);
            seen.insert(places);
        }
        assert_eq!(seen.len(), 8);
    }
}
