//! What a picture shows: shapes over shapes, each with its own colour, shading and texture, on a canvas of floating colours.

use std::f32::consts::TAU;
use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::noise::Tile;
use super::outline::Outline;
use super::palette::{Palette, bell};

/// What a scene is made of; lengths are shares of the canvas's side.
#[derive(Debug)]
struct Scene {
    shapes: u32,
    radii: Radii,
    /// Standard deviation of a shape's texture.
    texture: Range<f32>,
    /// Most change of brightness by shading from a shape's centre to its edge.
    shading: f32,
}

/// How radii are distributed.
#[derive(Debug)]
enum Radii {
    /// Density as r^-3 in the range, as of things at all distances: the law of dead leaves.
    Leaves(Range<f32>),
    /// Uniform in the range.
    Even(Range<f32>),
}

impl Scene {
    /// 11 of 20 scenes are a crowd of leaves, 7 a few large things, 2 smooth grounds with sharp edges.
    fn draw(random: &mut ChaCha8Rng) -> Self {
        match random.random_range(0..20) {
            0..11 => {
                // 40 to 350, small numbers as likely as large ones.
                let shapes = 40.0 * libm::powf(350.0 / 40.0, random.random_range(0.0..1.0));
                // The fewer, the larger: they cover the canvas about one and a half times.
                let smallest = 0.29 / shapes.sqrt();
                let radii = Radii::Leaves(smallest..0.4);
                Self { shapes: shapes as u32, radii, texture: 0.03..0.16, shading: 0.25 }
            }
            11..18 => {
                let shapes = random.random_range(4..=25);
                Self { shapes, radii: Radii::Even(0.12..0.45), texture: 0.03..0.16, shading: 0.35 }
            }
            _ => {
                let shapes = random.random_range(2..=8);
                Self { shapes, radii: Radii::Even(0.1..0.35), texture: 0.03..0.06, shading: 0.6 }
            }
        }
    }
}

impl Radii {
    fn draw(&self, random: &mut ChaCha8Rng) -> f32 {
        match self {
            Self::Even(range) => random.random_range(range.clone()),
            Self::Leaves(Range { start, end }) => {
                let (most, least) = (1.0 / (start * start), 1.0 / (end * end));
                1.0 / random.random_range(least..most).sqrt()
            }
        }
    }
}

/// How a shape is filled.
struct Fill<'a> {
    colour: [f32; 3],
    /// Relative change of brightness per pixel, along x and y, from the centre on.
    shading: (f32, f32),
    tile: &'a Tile,
    shift: (usize, usize),
    transposed: bool,
    /// The texture's standard deviation in each channel.
    texture: [f32; 3],
    stripes: Option<Stripes>,
}

/// A wave across a shape: its phase per pixel along x and y, and its height.
struct Stripes {
    wave: (f32, f32),
    height: f32,
}

impl<'a> Fill<'a> {
    fn draw(random: &mut ChaCha8Rng, scene: &Scene, palette: &Palette, tiles: &'a [Tile], reach: f32) -> Self {
        let colour = palette.colour(random);
        let (sin, cos) = libm::sincosf(random.random_range(0.0..TAU));
        let strength = random.random_range(0.0..scene.shading) / reach;
        let tile = &tiles[random.random_range(0..tiles.len() as u32) as usize];
        let shift = (random.random_range(0..512_u32) as usize, random.random_range(0..512_u32) as usize);
        let transposed = random.random_range(0..2) == 0;
        // Texture is nearly grey: it is relief more than paint.
        let amount = random.random_range(scene.texture.clone());
        let texture = [(); 3].map(|()| amount * (1.0 + 0.15 * bell(random)));
        let stripes = (random.random_range(0..12) == 0).then(|| {
            let (sin, cos) = libm::sincosf(random.random_range(0.0..TAU));
            let rate = TAU / random.random_range(6.0..40.0);
            Stripes { wave: (cos * rate, sin * rate), height: random.random_range(0.05..0.2) }
        });
        Self { colour, shading: (cos * strength, sin * strength), tile, shift, transposed, texture, stripes }
    }

    /// The colour of the pixel (`x`, `y`), which lies at (`dx`, `dy`) from the shape's centre.
    fn at(&self, (x, y): (usize, usize), (dx, dy): (f32, f32)) -> [f32; 3] {
        let (u, v) = if self.transposed { (y, x) } else { (x, y) };
        let noise = self.tile.at(u + self.shift.0, v + self.shift.1);
        let light = 1.0 + dx * self.shading.0 + dy * self.shading.1;
        let wave = self.stripes.as_ref().map_or(0.0, |it| it.height * libm::sinf(dx * it.wave.0 + dy * it.wave.1));
        let mut colour = self.colour;
        for (level, texture) in colour.iter_mut().zip(self.texture) {
            *level = *level * light + noise * texture + wave;
        }
        colour
    }
}

/// The colours of a scene's square canvas of `side` pixels, row by row; they may lie somewhat outside 0..1.
pub(super) fn paint(random: &mut ChaCha8Rng, tiles: &[Tile], side: usize) -> Vec<[f32; 3]> {
    let length = side as f32;
    let scene = Scene::draw(random);
    let palette = Palette::draw(random);
    let ground = Fill::draw(random, &scene, &palette, tiles, length / 2.0);
    let middle = length / 2.0;
    let mut canvas: Vec<[f32; 3]> = (0..side * side)
        .map(|at| (at % side, at / side))
        .map(|(x, y)| ground.at((x, y), (x as f32 - middle, y as f32 - middle)))
        .collect();
    for _ in 0..scene.shapes {
        let centre = (random.random_range(0.0..length), random.random_range(0.0..length));
        let radius = length * scene.radii.draw(random);
        let outline = Outline::draw(random, centre, radius);
        let fill = Fill::draw(random, &scene, &palette, tiles, outline.reach);
        cover(&mut canvas, side, &outline, &fill);
    }
    canvas
}

/// Paints what `outline` covers.
fn cover(canvas: &mut [[f32; 3]], side: usize, outline: &Outline, fill: &Fill<'_>) {
    let (cx, cy) = outline.centre;
    let span = |middle: f32| {
        let low = (middle - outline.reach).max(0.0) as usize;
        low..side.min((middle + outline.reach) as usize + 2)
    };
    for y in span(cy) {
        for x in span(cx) {
            let from_centre = (x as f32 - cx, y as f32 - cy);
            if outline.covers(from_centre.0, from_centre.1) {
                canvas[y * side + x] = fill.at((x, y), from_centre);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn radii_of_leaves_fall_as_the_third_power() {
        let mut random = ChaCha8Rng::from_seed([3; 32]);
        let radii = Radii::Leaves(0.02..0.4);
        let drawn: Vec<f32> = (0..20_000).map(|_| radii.draw(&mut random)).collect();
        assert!(drawn.iter().all(|it| (0.0199..0.4001).contains(it)));
        // The share above r is (r^-2 - .4^-2) / (.02^-2 - .4^-2).
        for (r, expected) in [(0.04, 0.2481), (0.1, 0.0376)] {
            let share = drawn.iter().filter(|it| **it > r).count() as f32 / 20_000.0;
            assert!((share - expected).abs() < 0.01, "above {r}: {share}, expected {expected}");
        }
    }
}
