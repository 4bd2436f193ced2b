//! Root-mean-square normalisation with a learnt weight, over the last dimension of rows.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::sums::Sums;
use super::{Floats, piece, tensor, widest};

/// `y = x · rsqrt(mean(x²) + ε) · weight`, row by row.
#[derive(Debug, Clone)]
pub struct Norm {
    name: String,
    weight: Tensor,
    epsilon: f32,
}

impl Norm {
    /// `name` is the weight's release name, `weight` is `[H]`.
    pub fn new(name: String, weight: Tensor, epsilon: f64) -> Self {
        Self { name, weight, epsilon: epsilon as f32 }
    }

    /// Width of a row.
    pub(crate) fn width(&self) -> usize {
        self.weight.elem_count()
    }

    /// `x [R, H]` to `[R, H]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        tensor(self.forward_of(&Floats::of(x)?)?, x.shape())
    }

    /// [`Self::forward`] of rows in a slice.
    pub(crate) fn forward_of(&self, x: &[f32]) -> Result<Vec<f32>> {
        let weight = Floats::of(&self.weight)?;
        let width = weight.len();
        let (mut out, piece) = (vec![0.0; x.len()], piece(x.len(), width));
        out.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(|(out, x)| {
            widest(|| {
                for (out, row) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let r = self.inverse_rms(row);
                    for ((out, x), w) in out.iter_mut().zip(row).zip(&weight[..width]) {
                        *out = x * r * w;
                    }
                }
            });
        });
        Ok(out)
    }

    /// Adds the gradient of `x` to `dx`, where the gradient that reaches `x` past this norm (the residual path) may
    /// stand already.
    ///
    /// With `x̂ = x·r` and `g = dy·w`: `dx = r·(g − x̂·mean(g·x̂))`, `dw = Σ dy·x̂` over rows.
    pub(crate) fn backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32], sums: &mut Sums) -> Result<()> {
        let weight = Floats::of(&self.weight)?;
        let width = weight.len();
        let piece = piece(x.len(), width);
        let pieces = x.par_chunks(piece).zip(dy.par_chunks(piece)).zip(dx.par_chunks_mut(piece));
        let of_weight: Vec<Vec<f32>> = pieces.map(|((x, dy), dx)| self.backward_piece(x, dy, dx, &weight)).collect();
        if sums.wants(&self.name) {
            sums.add_with(&self.name, &width.into(), |sum| {
                for part in &of_weight {
                    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                }
            });
        }
        Ok(())
    }

    /// [`Self::backward`] of some rows; gives what they add to the weight's gradient.
    fn backward_piece(&self, x: &[f32], dy: &[f32], dx: &mut [f32], weight: &[f32]) -> Vec<f32> {
        let width = weight.len();
        let mut dw = vec![0.0; width];
        widest(|| {
            // Slices of a known length: the loops below then need no bounds checks.
            let (weight, sums_of_weight) = (&weight[..width], &mut dw[..width]);
            let each = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
            for ((x, dy), dx) in each {
                let r = self.inverse_rms(x);
                let along = sum(width, |i| dy[i] * weight[i] * x[i]) * r * r / width as f32;
                for i in 0..width {
                    dx[i] += r * (dy[i] * weight[i] - x[i] * along);
                    sums_of_weight[i] += dy[i] * x[i] * r;
                }
            }
        });
        dw
    }

    #[inline]
    fn inverse_rms(&self, row: &[f32]) -> f32 {
        1.0 / (sum(row.len(), |i| row[i] * row[i]) / row.len() as f32 + self.epsilon).sqrt()
    }
}

/// Sum of `term(0..n)` in eight running sums, which the compiler can keep in vector registers.
#[inline]
pub(crate) fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let whole = n / 8 * 8;
    for i in (0..whole).step_by(8) {
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += term(i + j);
        }
    }
    let tail: f32 = (whole..n).map(term).sum();
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h)) + tail
}

/// The largest value, −∞ of none; eight running ones, as in [`sum`].
#[inline]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 8];
    let (whole, tail) = values.as_chunks::<8>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(tail).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{close_to_differences, waves, weighted};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (x, dy, weight) = (waves(&[3, 10], 0.3), waves(&[3, 10], 2.0), waves(&[10], 1.1));
        let through = waves(&[3, 10], 0.9);
        let norm = |weight: &Tensor| Norm::new("w".to_owned(), weight.clone(), 1e-6);
        let mut sums = Sums::default();
        let mut dx = Floats::of(&through).unwrap().to_vec();
        let (rows, dys) = (Floats::of(&x).unwrap(), Floats::of(&dy).unwrap());
        norm(&weight).backward(&rows, &dys, &mut dx, &mut sums).unwrap();
        let dx = tensor(dx, x.shape()).unwrap();
        close_to_differences(&x, &dx, |x| weighted(&norm(&weight).forward(x).unwrap(), &dy) + weighted(x, &through));
        let dw = &sums.into_map().unwrap()["w"];
        close_to_differences(&weight, dw, |weight| weighted(&norm(weight).forward(&x).unwrap(), &dy));
    }
}
