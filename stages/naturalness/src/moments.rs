//! Sums over a block of numbers, or over the products of neighbours in it, from which distributions are fitted.

#![expect(clippy::inline_always, reason = "compiled once for each kind of vector unit, inside what dispatches to them")]

use pulp::Arch;

use crate::plane::Plane;

/// Sums that are kept side by side, so that they are made with vector instructions; in a fixed order, so that they are the same
/// everywhere.
const LANES: usize = 8;

/// The neighbours whose products are looked at: horizontal, vertical and along both diagonals, as steps down and to the right.
pub(crate) const STEPS: [(usize, isize); 4] = [(0, 1), (1, 0), (1, 1), (1, -1)];

/// What the neighbour of a number at the border is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// The number at the other end.
    OtherEnd,
    /// Zero.
    Zero,
}

/// A rectangle of a plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    plane: &'a Plane,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl<'a> Block<'a> {
    /// All of a plane.
    pub(crate) fn whole(plane: &'a Plane) -> Self {
        Self { plane, left: 0, top: 0, width: plane.width, height: plane.height }
    }

    /// The whole blocks of `size` by `size` in a plane, row by row.
    pub(crate) fn tiles(plane: &'a Plane, size: usize) -> impl Iterator<Item = Self> {
        let (across, down) = (plane.width / size, plane.height / size);
        let tile =
            move |at| Self { plane, left: at % across * size, top: at / across * size, width: size, height: size };
        (0..across * down).map(tile)
    }

    fn row(&self, y: usize) -> &'a [f64] {
        &self.plane.row(self.top + y)[self.left..self.left + self.width]
    }

    /// The mean of its numbers.
    pub(crate) fn mean(&self) -> f64 {
        let sum: f64 = (0..self.height).map(|y| self.row(y).iter().sum::<f64>()).sum();
        sum / (self.width * self.height) as f64
    }

    /// The moments of its numbers.
    pub(crate) fn moments(&self) -> Moments {
        let mut sums = Sums::default();
        Arch::new().dispatch(|| {
            for y in 0..self.height {
                sums.add(self.row(y));
            }
        });
        sums.moments(self.width * self.height)
    }

    /// The moments of the products of its numbers with their neighbours, one `step` up and to the left.
    pub(crate) fn products(&self, (down, right): (usize, isize), beyond: Beyond) -> Moments {
        let mut sums = Sums::default();
        let (width, height) = (self.width, self.height);
        Arch::new().dispatch(|| {
            for y in 0..height {
                let other = match y.checked_sub(down) {
                    Some(other) => other,
                    None if beyond == Beyond::OtherEnd => y + height - down,
                    None => continue,
                };
                let (row, other) = (self.row(y), self.row(other));
                let (inner, outer) = match right {
                    1 => ((&row[1..], &other[..width - 1]), Some((row[0], other[width - 1]))),
                    -1 => ((&row[..width - 1], &other[1..]), Some((row[width - 1], other[0]))),
                    _ => ((row, other), None),
                };
                sums.add_products(inner.0, inner.1);
                if let (Some((a, b)), Beyond::OtherEnd) = (outer, beyond) {
                    sums.add(&[a * b]);
                }
            }
        });
        sums.moments(width * height)
    }
}

/// The moments that a distribution is fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    /// Root mean square of the negative numbers; not a number where there is none.
    pub(crate) left: f64,
    /// Root mean square of the positive numbers; not a number where there is none.
    pub(crate) right: f64,
    /// Mean of the absolute values.
    pub(crate) magnitude: f64,
    /// Mean of the squares.
    pub(crate) square: f64,
}

#[derive(Default)]
struct Sums {
    negatives: [f64; LANES],
    positives: [f64; LANES],
    negative_squares: [f64; LANES],
    positive_squares: [f64; LANES],
    magnitudes: [f64; LANES],
}

impl Sums {
    #[inline(always)]
    fn add_one(&mut self, lane: usize, value: f64) {
        let (negative, positive) = (value.min(0.0), value.max(0.0));
        self.negatives[lane] += if value < 0.0 { 1.0 } else { 0.0 };
        self.positives[lane] += if value > 0.0 { 1.0 } else { 0.0 };
        self.negative_squares[lane] += negative * negative;
        self.positive_squares[lane] += positive * positive;
        self.magnitudes[lane] += positive - negative;
    }

    #[inline(always)]
    fn add(&mut self, values: &[f64]) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, value) in chunk.iter().enumerate() {
                self.add_one(lane, *value);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            self.add_one(lane, *value);
        }
    }

    #[inline(always)]
    fn add_products(&mut self, a: &[f64], b: &[f64]) {
        let ((chunks, rest), (other_chunks, other_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (chunk, other) in chunks.iter().zip(other_chunks) {
            for lane in 0..LANES {
                self.add_one(lane, chunk[lane] * other[lane]);
            }
        }
        for (lane, (value, other)) in rest.iter().zip(other_rest).enumerate() {
            self.add_one(lane, value * other);
        }
    }

    fn moments(&self, count: usize) -> Moments {
        let sum = |lanes: &[f64; LANES]| lanes.iter().sum::<f64>();
        let (negative, positive) = (sum(&self.negative_squares), sum(&self.positive_squares));
        Moments {
            left: (negative / sum(&self.negatives)).sqrt(),
            right: (positive / sum(&self.positives)).sqrt(),
            magnitude: sum(&self.magnitudes) / count as f64,
            square: (negative + positive) / count as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane() -> Plane {
        let values = (0..19 * 13).map(|it| f64::from(it * it * 7 % 23) - 11.0).collect();
        Plane { width: 19, height: 13, values }
    }

    /// The moments of numbers, by the definition.
    fn by_definition(values: &[f64]) -> Moments {
        let root = |keep: fn(f64) -> bool| {
            let kept: Vec<f64> = values.iter().copied().filter(|it| keep(*it)).map(|it| it * it).collect();
            (kept.iter().sum::<f64>() / kept.len() as f64).sqrt()
        };
        let mean = |of: fn(f64) -> f64| values.iter().map(|it| of(*it)).sum::<f64>() / values.len() as f64;
        Moments {
            left: root(|it| it < 0.0),
            right: root(|it| it > 0.0),
            magnitude: mean(f64::abs),
            square: mean(|it| it * it),
        }
    }

    fn assert_close(a: Moments, b: Moments, what: &str) {
        for (a, b) in [(a.left, b.left), (a.right, b.right), (a.magnitude, b.magnitude), (a.square, b.square)] {
            assert!((a - b).abs() < 1e-9 * b.abs(), "{what}: {a} is not {b}");
        }
    }

    #[test]
    fn moments_are_those_of_the_definition() {
        let plane = plane();
        assert_close(Block::whole(&plane).moments(), by_definition(&plane.values), "numbers");
    }

    #[test]
    fn products_go_round_the_block_or_end_at_its_border() {
        let plane = plane();
        let (width, height) = (plane.width as isize, plane.height as isize);
        for (down, right) in STEPS {
            for beyond in [Beyond::OtherEnd, Beyond::Zero] {
                let product = |(x, y): (isize, isize)| {
                    let (other_x, other_y) = (x - right, y - down as isize);
                    let (in_x, in_y) = (other_x.rem_euclid(width), other_y.rem_euclid(height));
                    let inside = (in_x, in_y) == (other_x, other_y);
                    let other = plane.row(in_y as usize)[in_x as usize];
                    if inside || beyond == Beyond::OtherEnd { plane.row(y as usize)[x as usize] * other } else { 0.0 }
                };
                let values: Vec<f64> = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(product).collect();
                let found = Block::whole(&plane).products((down, right), beyond);
                assert_close(found, by_definition(&values), &format!("{down} {right} {beyond:?}"));
            }
        }
    }

    #[test]
    fn tiles_are_whole_blocks_only() {
        let plane = plane();
        let places: Vec<_> = Block::tiles(&plane, 6).map(|it| (it.left, it.top)).collect();
        assert_eq!(places, [(0, 0), (6, 0), (12, 0), (0, 6), (6, 6), (12, 6)]);
    }
}
