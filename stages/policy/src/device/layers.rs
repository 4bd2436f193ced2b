//! The layers of both towers on tensors, and their gradients: products, norms, rotation, the gated MLP, the block. `R` rows,
//! `H` wide, `d` the width of a head, `kv` key heads, each with `rep` query heads.
//!
//! The gradients are written out, for the fast forms of norm, rotation and softmax have none in the tensor library, and what
//! is not trained then costs no product. A block's gradient makes the block's pass again from its input.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, sigmoid, silu};
use candle_nn::rotary_emb::rope;

use super::attention::{Attention, Projected};
use super::sums::Sums;
use super::upload;
use crate::ops::heads::Rotary as Angles;

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(super) struct Linear {
    /// The release's, without `.weight` and `.bias`.
    pub name: String,
    /// `[out, in]`.
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `[R, in]` to `[R, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// The gradient of `x`; those of weight, bias and adapter go to `sums`.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        sums.add(&format!("{}.weight", self.name), || dy.t()?.matmul(x))?;
        if self.bias.is_some() {
            sums.add(&format!("{}.bias", self.name), || dy.to_dtype(DType::F32)?.sum(0))?;
        }
        sums.add_adapters(&self.name, x, dy)?;
        dy.matmul(&self.weight)
    }
}

/// Linear layers of one input, their outputs side by side. A policy that only answers has them joined into one product; one
/// that learns has each by itself, under the name that its gradient goes by.
#[derive(Debug)]
pub(super) struct SideBySide(pub Vec<Linear>);

impl SideBySide {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let outputs = self.0.iter().map(|layer| layer.forward(x)).collect::<Result<Vec<_>>>()?;
        if let [only] = outputs.as_slice() { Ok(only.clone()) } else { Tensor::cat(&outputs, 1) }
    }

    fn backward(&self, x: &Tensor, dy: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        let (mut dx, mut start) = (None, 0);
        for layer in &self.0 {
            let width = layer.weight.dim(0)?;
            let own = layer.backward(x, &dy.narrow(1, start, width)?.contiguous()?, sums)?;
            dx = Some(match dx {
                Some(dx) => (dx + own)?,
                None => own,
            });
            start += width;
        }
        dx.map_or_else(|| x.zeros_like(), Ok)
    }
}

/// `x / rms(x) · w`, summed in `f32`.
#[derive(Debug)]
pub(super) struct Norm {
    /// The release's, without `.weight`.
    pub name: String,
    pub weight: Tensor,
    pub epsilon: f32,
}

impl Norm {
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(&x.contiguous()?, &self.weight, self.epsilon)
    }

    /// The gradient of `x [R, H]`, in `f32` throughout; that of the weight goes to `sums`.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        let dtype = x.dtype();
        let (x, dy) = (x.to_dtype(DType::F32)?, dy.to_dtype(DType::F32)?);
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.epsilon))?.sqrt()?.recip()?;
        let normed = x.broadcast_mul(&scale)?;
        sums.add(&format!("{}.weight", self.name), || (&dy * &normed)?.sum(0))?;
        let dnormed = dy.broadcast_mul(&self.weight.to_dtype(DType::F32)?)?;
        let along = (&dnormed * &normed)?.mean_keepdim(D::Minus1)?;
        (dnormed - normed.broadcast_mul(&along)?)?.broadcast_mul(&scale)?.to_dtype(dtype)
    }
}

/// Cosines and sines of each row's angles, `[R, d/2]`, computed in `f32`.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    pub cos: Tensor,
    pub sin: Tensor,
}

impl Rotary {
    pub fn new(angles: Angles, device: &Device, dtype: DType) -> Result<Self> {
        let shape = (angles.cos.len() / angles.half, angles.half);
        Ok(Self { cos: upload(angles.cos, shape, device, dtype)?, sin: upload(angles.sin, shape, device, dtype)? })
    }

    /// The angles of these rows.
    pub fn rows(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self { cos: self.cos.index_select(rows, 0)?, sin: self.sin.index_select(rows, 0)? })
    }

    /// Rotates `[heads, R, d]` in the angles' number format, and gives it back in its own.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let rotated = rope(&x.to_dtype(self.cos.dtype())?.unsqueeze(0)?, &self.cos, &self.sin)?;
        rotated.squeeze(0)?.to_dtype(x.dtype())
    }

    /// Rotates back: a gradient, or what was rotated.
    fn inverse(&self) -> Result<Self> {
        Ok(Self { cos: self.cos.clone(), sin: self.sin.neg()? })
    }
}

/// How a row of projections divides: queries, then keys, then values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub kv: usize,
    pub rep: usize,
    pub dim: usize,
}

impl Heads {
    /// `[R, heads·d]` to `[heads, R, d]`.
    fn split(self, x: &Tensor) -> Result<Tensor> {
        x.reshape((x.dim(0)?, x.dim(1)? / self.dim, self.dim))?.transpose(0, 1)?.contiguous()
    }
}

/// `[kv, rep, R, d]` to `[R, heads·d]`.
fn merge_attended(attended: &Tensor) -> Result<Tensor> {
    let (kv, rep, rows, dim) = attended.dims4()?;
    merge_heads(&attended.reshape((kv * rep, rows, dim))?)
}

/// The inverse of [`Heads::split`].
fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (heads, rows, dim) = x.dims3()?;
    x.transpose(0, 1)?.reshape((rows, heads * dim))
}

/// A transformer block.
#[derive(Debug)]
pub(super) struct Block {
    pub norm1: Norm,
    /// Queries, keys and values.
    pub projection: SideBySide,
    pub output: Linear,
    pub norm2: Norm,
    /// Gate, then up.
    pub gate_up: SideBySide,
    pub down: Linear,
    pub heads: Heads,
}

impl Block {
    /// Rows `[R, H]` to rows. `attend` makes `[kv, rep, R, d]` of what the rows project to.
    pub fn forward(
        &self,
        x: &Tensor,
        rotary: &Rotary,
        attend: impl FnOnce(Projected) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let attended = attend(self.project(&self.norm1.forward(x)?, rotary)?)?;
        let x = (x + self.output.forward(&merge_attended(&attended)?)?)?;
        let (gate, up) = self.gate_and_up(&self.norm2.forward(&x)?)?;
        let gated = (silu(&gate)? * up)?;
        x + self.down.forward(&gated)?
    }

    /// The gradient of [`Self::forward`]'s input, given that input and the gradient of its result; those of the weights go
    /// to `sums`.
    pub fn backward(
        &self,
        x: &Tensor,
        rotary: &Rotary,
        attention: &impl Attention,
        dy: &Tensor,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let projected = self.project(&normed, rotary)?;
        let attended = merge_attended(&attention.forward(&projected)?)?;
        let between = (x + self.output.forward(&attended)?)?;
        let dbetween = (dy + self.mlp_backward(&between, dy, sums)?)?;
        drop(between);

        let Heads { kv, rep, dim } = self.heads;
        let rows = x.dim(0)?;
        let dattended = self.output.backward(&attended, &dbetween, sums)?;
        drop(attended);
        let dattended = self.heads.split(&dattended)?.reshape((kv, rep, rows, dim))?;
        let Projected { queries, keys, values } = attention.backward(&projected, &dattended)?;
        let rotated = Tensor::cat(&[queries.reshape((kv * rep, rows, dim))?, keys], 0)?;
        let dprojected = Tensor::cat(&[rotary.inverse()?.rotate(&rotated)?, values], 0)?;
        let dnormed = self.projection.backward(&normed, &merge_heads(&dprojected)?, sums)?;
        dbetween + self.norm1.backward(x, &dnormed, sums)?
    }

    /// The gradient that the MLP with its norm gives its input.
    fn mlp_backward(&self, x: &Tensor, dy: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        let dtype = x.dtype();
        let normed = self.norm2.forward(x)?;
        let (gate, up) = self.gate_and_up(&normed)?;
        let activated = silu(&gate)?;
        let dgated = self.down.backward(&(&activated * &up)?, dy, sums)?.to_dtype(DType::F32)?;
        let dup = (&dgated * activated.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
        drop(activated);
        // silu′ = σ·(1 + g·(1 − σ))
        let gate = gate.to_dtype(DType::F32)?;
        let share = sigmoid(&gate)?;
        let slope = (&share * ((gate * share.affine(-1.0, 1.0)?)? + 1.0)?)?;
        drop(share);
        let dgate = ((dgated * up.to_dtype(DType::F32)?)? * slope)?.to_dtype(dtype)?;
        drop(up);
        let dnormed = self.gate_up.backward(&normed, &Tensor::cat(&[dgate, dup], 1)?, sums)?;
        self.norm2.backward(x, &dnormed, sums)
    }

    fn project(&self, normed: &Tensor, rotary: &Rotary) -> Result<Projected> {
        let Heads { kv, rep, dim } = self.heads;
        let projected = self.heads.split(&self.projection.forward(normed)?)?;
        let rotated = rotary.rotate(&projected.narrow(0, 0, kv * (rep + 1))?)?;
        Ok(Projected {
            queries: rotated.narrow(0, 0, kv * rep)?.reshape((kv, rep, normed.dim(0)?, dim))?,
            keys: rotated.narrow(0, kv * rep, kv)?,
            values: projected.narrow(0, kv * (rep + 1), kv)?,
        })
    }

    fn gate_and_up(&self, normed: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = self.gate_up.forward(normed)?;
        let width = inner.dim(D::Minus1)? / 2;
        Ok((inner.narrow(1, 0, width)?, inner.narrow(1, width, width)?))
    }
}

/// The slope of the exact GELU at `x`, in `f32`: `Φ(x) + x·φ(x)`.
pub(super) fn gelu_slope(x: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let share = ((&x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5;
    let density =
        ((x.sqr()? * -0.5)?.exp()? * (0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2))?;
    share? + (x * density)?
}
