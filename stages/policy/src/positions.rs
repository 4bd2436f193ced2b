//! Multimodal rotary positions: three numbers a token (time, row, column), and the angles made of them.

use crate::error::{Error, Result};
use crate::ops::heads::Rotary;
use crate::processor::Grid;

/// Positions of a prompt's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// Time, row and column of each token; equal for text.
    pub tokens: Vec<[u32; 3]>,
    /// The position of the first token after the prompt, in all three rows; it grows by one a token.
    pub next: u32,
}

impl Positions {
    /// Positions of a prompt whose image tokens are expanded, one run of `grid.height · grid.width / merge²` for each
    /// of `grids`. An image's tokens share one time; rows and columns count from it; what follows continues after
    /// the longer side.
    pub fn of(ids: &[u32], image_token: u32, grids: &[Grid], merge: usize) -> Result<Self> {
        let mut tokens = Vec::with_capacity(ids.len());
        let (mut next, mut pictures, mut at) = (0_u32, grids.iter(), 0);
        while let Some(&id) = ids.get(at) {
            if id != image_token {
                tokens.push([next; 3]);
                next += 1;
                at += 1;
                continue;
            }
            let grid = pictures.next().ok_or(Error::PictureCount { expected: grids.len() + 1, found: grids.len() })?;
            let (height, width) = (grid.height / merge, grid.width / merge);
            let run = ids[at..].iter().take_while(|&&id| id == image_token).take(height * width).count();
            if run != height * width {
                return Err(Error::Batch {
                    problem: format!(
                        "a picture of {height}x{width} merged tokens has {run} places in its prompt; expand each image token to its picture's token count"
                    ),
                });
            }
            for row in 0..height as u32 {
                tokens.extend((0..width as u32).map(|column| [next, next + row, next + column]));
            }
            next += height.max(width) as u32;
            at += run;
        }
        match pictures.len() {
            0 => Ok(Self { tokens, next }),
            left => Err(Error::PictureCount { expected: grids.len() - left, found: grids.len() }),
        }
    }

    /// `next − length`: what is added to a later token's sequence index to get its position (transformers' rope delta).
    pub fn delta(&self) -> i64 {
        i64::from(self.next) - self.tokens.len() as i64
    }
}

/// Angles by position: frequency `i` of `n` is `θ^(−i/n)`.
#[derive(Debug, Clone)]
pub struct Frequencies(Vec<f32>);

impl Frequencies {
    /// `count` frequencies with base `theta`.
    pub fn new(theta: f64, count: usize) -> Self {
        // As in the reference: the exponent is an f32 quotient; the power is correctly rounded.
        let exponent = |i: usize| f64::from((2 * i) as f32 / (2 * count) as f32);
        Self((0..count).map(|i| (1.0 / (libm::pow(theta, exponent(i)) as f32 as f64)) as f32).collect())
    }

    /// Cosines and sines for rows of positions, `axes[i]` naming the position that turns angle `i`; `frequency[i]` its
    /// frequency. Angles are `f32` products, as in the reference.
    fn rotary<const N: usize>(&self, rows: impl Iterator<Item = [u32; N]>, angles: &[(usize, usize)]) -> Rotary {
        let rows: Vec<[u32; N]> = rows.collect();
        let largest = rows.iter().flatten().max().map_or(0, |&largest| largest as usize);
        let table: Vec<(f32, f32)> = (0..=largest)
            .flat_map(|position| {
                self.0.iter().map(move |frequency| {
                    let angle = f64::from(position as f32 * frequency);
                    (libm::cos(angle) as f32, libm::sin(angle) as f32)
                })
            })
            .collect();
        let entries = rows.iter().flat_map(|row| {
            angles.iter().map(|&(axis, frequency)| table[row[axis] as usize * self.0.len() + frequency])
        });
        let (cos, sin) = entries.unzip();
        Rotary { cos, sin, half: angles.len() }
    }

    /// Rotation of the text model: the first `sections[0]` frequencies turn with time, the next with the row, the rest
    /// with the column (contiguous sections).
    pub fn text(&self, rows: impl Iterator<Item = [u32; 3]>, sections: [usize; 3]) -> Rotary {
        let axes = sections.iter().enumerate().flat_map(|(axis, &n)| std::iter::repeat_n(axis, n));
        let angles: Vec<(usize, usize)> = axes.zip(0..self.0.len()).collect();
        self.rotary(rows, &angles)
    }

    /// Rotation of the vision tower: all frequencies with the patch's row, then all with its column.
    pub fn patches(&self, rows: impl Iterator<Item = [u32; 2]>) -> Rotary {
        let n = self.0.len();
        let angles: Vec<(usize, usize)> = (0..2).flat_map(|axis| (0..n).map(move |i| (axis, i))).collect();
        self.rotary(rows, &angles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u32 = 9;

    /// `A vs p×6 ve B`, and then `vs p×15 ve C`: the reference's own positions.
    fn ids(pictures: usize) -> Vec<u32> {
        let mut ids = vec![1, 2];
        ids.extend([P; 6]);
        ids.extend([3, 1]);
        if pictures == 2 {
            ids.push(2);
            ids.extend([P; 15]);
            ids.extend([3, 1]);
        }
        ids
    }

    fn row(positions: &Positions, axis: usize) -> Vec<u32> {
        positions.tokens.iter().map(|token| token[axis]).collect()
    }

    #[test]
    fn one_picture_has_the_reference_positions() {
        let grid = Grid { height: 4, width: 6 };
        let positions = Positions::of(&ids(1), P, &[grid], 2).unwrap();
        assert_eq!(row(&positions, 0), [0, 1, 2, 2, 2, 2, 2, 2, 5, 6]);
        assert_eq!(row(&positions, 1), [0, 1, 2, 2, 2, 3, 3, 3, 5, 6]);
        assert_eq!(row(&positions, 2), [0, 1, 2, 3, 4, 2, 3, 4, 5, 6]);
        assert_eq!((positions.next, positions.delta()), (7, -3));
    }

    #[test]
    fn two_pictures_have_the_reference_positions() {
        let grids = [Grid { height: 4, width: 6 }, Grid { height: 6, width: 10 }];
        let positions = Positions::of(&ids(2), P, &grids, 2).unwrap();
        let expected: Vec<u32> =
            [vec![0, 1], vec![2; 6], vec![5, 6, 7], vec![8; 15], vec![13, 14]].into_iter().flatten().collect();
        assert_eq!(row(&positions, 0), expected);
        assert_eq!(row(&positions, 1)[11..], [8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 10, 10, 10, 10, 10, 13, 14]);
        assert_eq!(row(&positions, 2)[11..16], [8, 9, 10, 11, 12]);
        assert_eq!(positions.delta(), -13);
    }

    #[test]
    fn pictures_and_places_must_match() {
        let grid = Grid { height: 4, width: 6 };
        assert!(matches!(Positions::of(&ids(1), P, &[], 2), Err(Error::PictureCount { .. })));
        assert!(matches!(Positions::of(&ids(1), P, &[grid, grid], 2), Err(Error::PictureCount { .. })));
        let wide = Grid { height: 4, width: 8 };
        assert!(matches!(Positions::of(&ids(1), P, &[wide], 2), Err(Error::Batch { .. })));
    }

    #[test]
    fn sections_are_contiguous() {
        let rotary = Frequencies::new(1e4, 4).text([[0, 3, 5]].into_iter(), [1, 2, 1]);
        let angles = [0.0, 3.0 * 0.1, 3.0 * 0.01, 5.0 * 0.001_f64];
        for (cos, angle) in rotary.cos.iter().zip(angles) {
            assert!((f64::from(*cos) - angle.cos()).abs() < 1e-6);
        }
    }
}
