//! The layers of both towers on tensors: products, norms, rotation, attention. `R` rows, `d` the width of a head, `kv`
//! key heads, each with `rep` query heads.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;

use super::upload;
use crate::ops::heads::Rotary as Angles;

/// Attention scores that are made at a time, at most: 1 GiB in `f32`.
const SCORES: usize = 1 << 28;

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(super) struct Linear {
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
}

/// `x / rms(x) · w`, summed in `f32`.
#[derive(Debug)]
pub(super) struct Norm {
    pub weight: Tensor,
    pub epsilon: f32,
}

impl Norm {
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(&x.contiguous()?, &self.weight, self.epsilon)
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
}

/// How a row of projections divides: queries, then keys, then values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub kv: usize,
    pub rep: usize,
    pub dim: usize,
}

/// Rotated queries `[kv, rep, R, d]`, rotated keys and values `[kv, R, d]`.
pub(super) struct Projected {
    pub queries: Tensor,
    pub keys: Tensor,
    pub values: Tensor,
}

/// A transformer block.
#[derive(Debug)]
pub(super) struct Block {
    pub norm1: Norm,
    /// Queries, keys and values as one product.
    pub projection: Linear,
    pub output: Linear,
    pub norm2: Norm,
    /// Gate, then up, as one product.
    pub gate_up: Linear,
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
        let rows = x.dim(0)?;
        let Heads { kv, rep, dim } = self.heads;
        let projected = self.projection.forward(&self.norm1.forward(x)?)?;
        let projected = projected.reshape((rows, kv * (rep + 2), dim))?.transpose(0, 1)?.contiguous()?;
        let rotated = rotary.rotate(&projected.narrow(0, 0, kv * (rep + 1))?)?;
        let attended = attend(Projected {
            queries: rotated.narrow(0, 0, kv * rep)?.reshape((kv, rep, rows, dim))?,
            keys: rotated.narrow(0, kv * rep, kv)?,
            values: projected.narrow(0, kv * (rep + 1), kv)?,
        })?;
        let attended = attended.reshape((kv * rep, rows, dim))?.transpose(0, 1)?.reshape((rows, kv * rep * dim))?;
        let x = (x + self.output.forward(&attended)?)?;
        let inner = self.gate_up.forward(&self.norm2.forward(&x)?)?;
        let width = inner.dim(D::Minus1)? / 2;
        let gated = (silu(&inner.narrow(1, 0, width)?)? * inner.narrow(1, width, width)?)?;
        x + self.down.forward(&gated)?
    }
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// All.
    Full,
    /// Those up to its own place; there are as many queries as keys.
    Causal,
}

/// Attention of queries `[B, rep, R, d]` over keys and values `[B, S, d]`, to `[B, rep, R, d]`: the queries of a group
/// are rows of one product. Queries are worked on in runs, so that memory is bounded.
pub(super) fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor, sight: Sight) -> Result<Tensor> {
    let (batch, rep, rows, dim) = queries.dims4()?;
    let seen = keys.dim(1)?;
    let run = (SCORES / (batch * rep * seen)).clamp(1, if sight == Sight::Causal { 1024 } else { rows });
    let mut out = Vec::with_capacity(rows.div_ceil(run));
    for start in (0..rows).step_by(run) {
        let count = run.min(rows - start);
        let queries = queries.narrow(2, start, count)?.reshape((batch, rep * count, dim))?;
        let seen = if sight == Sight::Causal { start + count } else { seen };
        let (keys, values) = (keys.narrow(1, 0, seen)?, values.narrow(1, 0, seen)?);
        let scores = scaled_scores(&queries, &keys, dim)?;
        let scores = match sight {
            Sight::Full => scores,
            Sight::Causal => scores
                .reshape((batch * rep, count, seen))?
                .broadcast_add(&causal_mask(start, count, seen, queries.device())?)?
                .reshape((batch, rep * count, seen))?,
        };
        let weights = softmax_last_dim(&scores)?.to_dtype(values.dtype())?;
        out.push(weights.matmul(&values.contiguous()?)?.reshape((batch, rep, count, dim))?);
    }
    if out.len() == 1 { Ok(out.remove(0)) } else { Tensor::cat(&out, 2) }
}

/// `q·kᵀ / √d` in `f32`.
fn scaled_scores(queries: &Tensor, keys: &Tensor, dim: usize) -> Result<Tensor> {
    queries.matmul(&keys.transpose(D::Minus2, D::Minus1)?)?.to_dtype(DType::F32)? / (dim as f64).sqrt()
}

/// `[count, seen]`: 0 where query `start + row` sees the key, −∞ elsewhere.
pub(super) fn causal_mask(start: usize, count: usize, seen: usize, device: &Device) -> Result<Tensor> {
    let queries = Tensor::arange(start as u32, (start + count) as u32, device)?.reshape((count, 1))?;
    let keys = Tensor::arange(0, seen as u32, device)?.reshape((1, seen))?;
    mask(&queries.broadcast_ge(&keys)?)
}

/// 0 where `seen` is 1, −∞ where it is 0.
pub(super) fn mask(seen: &Tensor) -> Result<Tensor> {
    let (zero, never) = (Tensor::new(0_f32, seen.device())?, Tensor::new(f32::NEG_INFINITY, seen.device())?);
    seen.where_cond(&zero.broadcast_as(seen.shape())?, &never.broadcast_as(seen.shape())?)
}

/// Keys and values `[…, S, d]`.
#[derive(Debug, Clone)]
pub(super) struct KeysValues {
    pub keys: Tensor,
    pub values: Tensor,
}

/// Attention of the lanes of one prompt: queries `[kv, rep, N·T, d]` over the prompt's keys `[kv, P, d]`, as one product
/// for all lanes, and over each lane's own `[N, kv, W, d]`, of which `mask` `[N·T, W]` says what a row sees.
pub(super) fn attend_lanes(queries: &Tensor, prompt: &KeysValues, own: &KeysValues, mask: &Tensor) -> Result<Tensor> {
    let (kv, rep, rows, dim) = queries.dims4()?;
    let (lanes, _, width, _) = own.keys.dims4()?;
    let (tokens, length) = (prompt.keys.dim(1)?, rows / lanes);
    let together = queries.reshape((kv, rep * rows, dim))?;
    let of_prompt = scaled_scores(&together, &prompt.keys, dim)?.reshape((kv, rep, rows, tokens))?;
    let by_lane = queries.reshape((kv, rep, lanes, length, dim))?.permute((2, 0, 1, 3, 4))?;
    let by_lane = by_lane.reshape((lanes, kv, rep * length, dim))?;
    let of_own = scaled_scores(&by_lane, &own.keys, dim)?.reshape((lanes, kv, rep, length, width))?;
    let of_own = of_own.permute((1, 2, 0, 3, 4))?.reshape((kv, rep, rows, width))?.broadcast_add(mask)?;
    let weights = softmax_last_dim(&Tensor::cat(&[of_prompt, of_own], 3)?)?.to_dtype(prompt.values.dtype())?;
    let of_prompt = weights.narrow(3, 0, tokens)?.reshape((kv, rep * rows, tokens))?.matmul(&prompt.values)?;
    let of_own =
        weights.narrow(3, tokens, width)?.reshape((kv, rep, lanes, length, width))?.permute((2, 0, 1, 3, 4))?;
    let of_own = of_own.reshape((lanes, kv, rep * length, width))?.matmul(&own.values)?;
    let of_own = of_own.reshape((lanes, kv, rep, length, dim))?.permute((1, 2, 0, 3, 4))?;
    of_prompt.reshape((kv, rep, rows, dim))? + of_own.reshape((kv, rep, rows, dim))?
}
