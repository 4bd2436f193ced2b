//! Root-mean-square normalisation with a learnt weight, over the last dimension of rows.

use candle_core::{Result, Tensor};

use super::linear::Sums;
use super::{Floats, tensor};

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

    /// `x [R, H]` to `[R, H]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let (values, weight) = (Floats::of(x)?, Floats::of(&self.weight)?);
        let mut out = Vec::with_capacity(rows * width);
        for row in values.chunks_exact(width) {
            let r = self.inverse_rms(row);
            out.extend(row.iter().zip(&*weight).map(|(x, w)| x * r * w));
        }
        tensor(out, (rows, width))
    }

    /// The gradient of `x`, plus `through`, the gradient that reaches `x` past this norm (the residual path).
    ///
    /// With `x̂ = x·r` and `g = dy·w`: `dx = r·(g − x̂·mean(g·x̂))`, `dw = Σ dy·x̂` over rows.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, through: Option<&Tensor>, sums: &mut Sums) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let (values, weight, dy) = (Floats::of(x)?, Floats::of(&self.weight)?, Floats::of(dy)?);
        let mut out = match through {
            Some(through) => Floats::of(through)?.to_vec(),
            None => vec![0.0; rows * width],
        };
        let mut dw = vec![0.0; width];
        // Slices of a known length: the loops below then need no bounds checks.
        let (weight, sums_of_weight) = (&weight[..width], &mut dw[..width]);
        let each = values.chunks_exact(width).zip(dy.chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((x, dy), out) in each {
            let r = self.inverse_rms(x);
            let along = sum(width, |i| dy[i] * weight[i] * x[i]) * r * r / width as f32;
            for i in 0..width {
                out[i] += r * (dy[i] * weight[i] - x[i] * along);
                sums_of_weight[i] += dy[i] * x[i] * r;
            }
        }
        sums.add(&self.name, tensor(dw, width)?)?;
        tensor(out, (rows, width))
    }

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
        let dx = norm(&weight).backward(&x, &dy, Some(&through), &mut sums).unwrap();
        close_to_differences(&x, &dx, |x| weighted(&norm(&weight).forward(x).unwrap(), &dy) + weighted(x, &through));
        let dw = &sums.into_map().unwrap()["w"];
        close_to_differences(&weight, dw, |weight| weighted(&norm(weight).forward(&x).unwrap(), &dy));
    }
}
