//! The outlines of shapes: ellipses, convex polygons and bars.

use std::f32::consts::{PI, TAU};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A closed outline somewhere on a canvas; lengths are in its pixels.
#[derive(Debug, Clone)]
pub(super) struct Outline {
    /// The middle.
    pub(super) centre: (f32, f32),
    /// The radius of a circle about the middle that holds the outline.
    pub(super) reach: f32,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// Semi-axes along the direction (cos, sin) and across it.
    Ellipse { cos: f32, sin: f32, along: f32, across: f32 },
    /// Where x·nx + y·ny ≤ d for every (nx, ny, d).
    Convex(Vec<(f32, f32, f32)>),
}

impl Outline {
    /// An outline of about the given radius: an ellipse (9 in 20), a polygon (7) or a bar (4), turned at random.
    pub(super) fn draw(random: &mut ChaCha8Rng, centre: (f32, f32), radius: f32) -> Self {
        let turn = random.random_range(0.0..TAU);
        match random.random_range(0..20) {
            0..9 => {
                let (sin, cos) = libm::sincosf(turn);
                let across = radius * random.random_range(0.4..1.0);
                Self { centre, reach: radius, form: Form::Ellipse { cos, sin, along: radius, across } }
            }
            9..16 => {
                let corners = random.random_range(3..=7);
                let angle = |corner: i32, random: &mut ChaCha8Rng| {
                    turn + TAU * (corner as f32 + random.random_range(0.0..0.7)) / corners as f32
                };
                let mut angles: Vec<f32> = (0..corners).map(|corner| angle(corner, random)).collect();
                angles.push(angles[0] + TAU);
                // Corners lie on the circle; the side between two of them stands across the direction half-way.
                let side = |ends: &[f32]| {
                    let (sin, cos) = libm::sincosf(f32::midpoint(ends[0], ends[1]));
                    (cos, sin, radius * libm::cosf((ends[1] - ends[0]) / 2.0))
                };
                Self { centre, reach: radius, form: Form::Convex(angles.windows(2).map(side).collect()) }
            }
            _ => {
                let along = radius * random.random_range(1.2..2.5);
                let across = radius * random.random_range(0.1..0.35);
                let side = |quarter: i32| {
                    let (sin, cos) = libm::sincosf(turn + PI / 2.0 * quarter as f32);
                    (cos, sin, if quarter % 2 == 0 { along } else { across })
                };
                let reach = (along * along + across * across).sqrt();
                Self { centre, reach, form: Form::Convex((0..4).map(side).collect()) }
            }
        }
    }

    /// Whether the point at (`x`, `y`) from the centre lies inside.
    pub(super) fn covers(&self, x: f32, y: f32) -> bool {
        match &self.form {
            Form::Ellipse { cos, sin, along, across } => {
                let (u, v) = ((x * cos + y * sin) / along, (y * cos - x * sin) / across);
                u * u + v * v <= 1.0
            }
            Form::Convex(sides) => sides.iter().all(|(nx, ny, d)| x * nx + y * ny <= *d),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn outlines_lie_within_their_reach_and_have_an_inside() {
        let mut random = ChaCha8Rng::from_seed([7; 32]);
        for _ in 0..300 {
            let outline = Outline::draw(&mut random, (0.0, 0.0), 20.0);
            let points = (-60..=60).flat_map(|y| (-60..=60).map(move |x| (x as f32, y as f32)));
            let inside: Vec<_> = points.filter(|(x, y)| outline.covers(*x, *y)).collect();
            assert!(inside.len() > 60, "{outline:?} covers {} pixels", inside.len());
            assert!(inside.iter().all(|(x, y)| (x * x + y * y).sqrt() <= outline.reach * 1.001), "{outline:?}");
        }
    }
}
