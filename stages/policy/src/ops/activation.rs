//! Gated `SiLU` and exact GELU, each with the biases that precede it.

use candle_core::{Result, Tensor};

use super::exp::exp;
use super::{Floats, tensor};

/// `silu(gate + bias) · (up + bias)`, each `[R, I]`; biases are `[I]`.
pub fn swiglu(gate: &Tensor, gate_bias: Option<&Tensor>, up: &Tensor, up_bias: Option<&Tensor>) -> Result<Tensor> {
    let (rows, width) = gate.dims2()?;
    let (gate_bias, up_bias) = (bias_or_zero(gate_bias, width)?, bias_or_zero(up_bias, width)?);
    // Slices of a known length: the loop below then needs no bounds checks and runs several elements at once.
    let (gate_bias, up_bias) = (&gate_bias[..width], &up_bias[..width]);
    let (gate, up) = (Floats::of(gate)?, Floats::of(up)?);
    let mut out = vec![0.0; rows * width];
    let each = gate.chunks_exact(width).zip(up.chunks_exact(width)).zip(out.chunks_exact_mut(width));
    for ((gate, up), out) in each {
        for i in 0..width {
            let g = gate[i] + gate_bias[i];
            out[i] = g / (1.0 + exp(-g)) * (up[i] + up_bias[i]);
        }
    }
    tensor(out, (rows, width))
}

/// The gradients of [`swiglu`]'s `gate` and `up`, given that of its result.
pub fn swiglu_backward(
    gate: &Tensor,
    gate_bias: Option<&Tensor>,
    up: &Tensor,
    up_bias: Option<&Tensor>,
    dy: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (rows, width) = gate.dims2()?;
    let (gate_bias, up_bias) = (bias_or_zero(gate_bias, width)?, bias_or_zero(up_bias, width)?);
    // Slices of a known length: the loop below then needs no bounds checks and runs several elements at once.
    let (gate_bias, up_bias) = (&gate_bias[..width], &up_bias[..width]);
    let (gate, up, dy) = (Floats::of(gate)?, Floats::of(up)?, Floats::of(dy)?);
    let (mut dgate, mut dup) = (vec![0.0; rows * width], vec![0.0; rows * width]);
    let out = dgate.chunks_exact_mut(width).zip(dup.chunks_exact_mut(width));
    let each = gate.chunks_exact(width).zip(up.chunks_exact(width)).zip(dy.chunks_exact(width)).zip(out);
    for (((gate, up), dy), (dgate, dup)) in each {
        for i in 0..width {
            let g = gate[i] + gate_bias[i];
            let sigmoid = 1.0 / (1.0 + exp(-g));
            dgate[i] = dy[i] * (up[i] + up_bias[i]) * sigmoid * (1.0 + g * (1.0 - sigmoid));
            dup[i] = dy[i] * g * sigmoid;
        }
    }
    Ok((tensor(dgate, (rows, width))?, tensor(dup, (rows, width))?))
}

/// Exact GELU, `x·Φ(x)`, elementwise.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let out = Floats::of(x)?.iter().map(|&x| x * normal_cdf(x)).collect();
    tensor(out, x.shape())
}

/// The gradient of [`gelu`]: `dy · (Φ(x) + x·φ(x))`.
pub fn gelu_backward(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let out = Floats::of(x)?
        .iter()
        .zip(&*Floats::of(dy)?)
        .map(|(&x, dy)| dy * (normal_cdf(x) + x * DENSITY_AT_ZERO * exp(-0.5 * x * x)))
        .collect();
    tensor(out, x.shape())
}

/// Φ, the standard normal distribution function.
fn normal_cdf(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn bias_or_zero(bias: Option<&Tensor>, width: usize) -> Result<Vec<f32>> {
    bias.map_or_else(|| Ok(vec![0.0; width]), |bias| Ok(Floats::of(bias)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{close_to_differences, waves, weighted};

    #[test]
    fn swiglus_gradient_is_that_of_finite_differences() {
        let (gate, up, dy) = (waves(&[2, 5], 0.3), waves(&[2, 5], 2.0), waves(&[2, 5], 1.1));
        let (gate_bias, up_bias) = (waves(&[5], 0.8), waves(&[5], 1.9));
        let value =
            |gate: &Tensor, up: &Tensor| weighted(&swiglu(gate, Some(&gate_bias), up, Some(&up_bias)).unwrap(), &dy);
        let (dgate, dup) = swiglu_backward(&gate, Some(&gate_bias), &up, Some(&up_bias), &dy).unwrap();
        close_to_differences(&gate, &dgate, |gate| value(gate, &up));
        close_to_differences(&up, &dup, |up| value(&gate, up));
    }

    #[test]
    fn gelus_gradient_is_that_of_finite_differences() {
        let (x, dy) = (waves(&[3, 7], 0.3), waves(&[3, 7], 2.0));
        let dx = gelu_backward(&x, &dy).unwrap();
        close_to_differences(&x, &dx, |x| weighted(&gelu(x).unwrap(), &dy));
    }
}
