//! Attention on tensors and its gradient: of a sequence, of a picture's windows, and of lanes that share a prompt. `kv` key
//! heads, each with `rep` query heads, `d` wide; `R` rows, `S` keys, `N` lanes of `T` rows, `P` rows of their prompt.
//!
//! Scores are made for a run of queries or lanes at a time, so that memory is bounded. The gradients make them again.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

/// Attention scores that are made at a time, at most: 1 GiB in `f32`.
pub(crate) const SCORES: usize = 1 << 28;

/// Rows of a causal run, at most: keys that none of them sees are not met.
const CAUSAL_RUN: usize = 1024;

/// Keys and values `[…, S, d]`.
#[derive(Debug, Clone)]
pub(super) struct KeysValues {
    pub keys: Tensor,
    pub values: Tensor,
}

/// Rotated queries `[kv, rep, R, d]`, rotated keys and values `[kv, R, d]`; or the gradients of all three.
pub(super) struct Projected {
    pub queries: Tensor,
    pub keys: Tensor,
    pub values: Tensor,
}

impl Projected {
    /// Rows `start` to `start + count`.
    fn rows(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self {
            queries: self.queries.narrow(2, start, count)?,
            keys: self.keys.narrow(1, start, count)?,
            values: self.values.narrow(1, start, count)?,
        })
    }

    /// Parts that stand one after the other.
    fn cat(parts: &[Self]) -> Result<Self> {
        let cat = |part: fn(&Self) -> &Tensor, at| Tensor::cat(&parts.iter().map(part).collect::<Vec<_>>(), at);
        Ok(Self { queries: cat(|it| &it.queries, 2)?, keys: cat(|it| &it.keys, 1)?, values: cat(|it| &it.values, 1)? })
    }
}

/// Which rows attend to which.
pub(super) trait Attention {
    /// `[kv, rep, R, d]` of what the rows project to.
    fn forward(&self, projected: &Projected) -> Result<Tensor>;

    /// The gradients of what the rows project to, given that of [`Self::forward`]'s result.
    fn backward(&self, projected: &Projected, dy: &Tensor) -> Result<Projected>;
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// All.
    Full,
    /// Those up to its own place; there are as many queries as keys.
    Causal,
}

/// The runs in which queries are worked on: first row, rows, and the keys that any of them sees.
fn runs(queries: &Tensor, keys: usize, sight: Sight) -> Result<Vec<(usize, usize, usize)>> {
    let (batch, rep, rows, _) = queries.dims4()?;
    let run = (SCORES / (batch * rep * keys)).clamp(1, if sight == Sight::Causal { CAUSAL_RUN } else { rows });
    let run_at = |start: usize| {
        let count = run.min(rows - start);
        (start, count, if sight == Sight::Causal { start + count } else { keys })
    };
    Ok((0..rows).step_by(run).map(run_at).collect())
}

/// Attention of queries `[B, rep, R, d]` over keys and values `[B, S, d]`, to `[B, rep, R, d]`: the queries of a group
/// are rows of one product.
pub(super) fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor, sight: Sight) -> Result<Tensor> {
    let (batch, rep, _, dim) = queries.dims4()?;
    let mut out = Vec::new();
    for (start, count, seen) in runs(queries, keys.dim(1)?, sight)? {
        let queries = queries.narrow(2, start, count)?.reshape((batch, rep * count, dim))?;
        let (keys, values) = (keys.narrow(1, 0, seen)?, values.narrow(1, 0, seen)?);
        let weights = weights(&queries, &keys, (rep, start, count), sight)?.to_dtype(values.dtype())?;
        out.push(weights.matmul(&values.contiguous()?)?.reshape((batch, rep, count, dim))?);
    }
    if out.len() == 1 { Ok(out.remove(0)) } else { Tensor::cat(&out, 2) }
}

/// The gradients of [`attend`]'s queries, keys and values, given that of its result.
fn attend_backward(of: &Projected, sight: Sight, dy: &Tensor) -> Result<Projected> {
    let (batch, rep, _, dim) = of.queries.dims4()?;
    let (all, dtype) = (of.keys.dim(1)?, of.keys.dtype());
    let (mut dqueries, mut dkeys, mut dvalues) = (Vec::new(), None, None);
    for (start, count, seen) in runs(&of.queries, all, sight)? {
        let run = |x: &Tensor| x.narrow(2, start, count)?.reshape((batch, rep * count, dim));
        let (queries, dy) = (run(&of.queries)?, run(dy)?);
        let (keys, values) = (of.keys.narrow(1, 0, seen)?.contiguous()?, of.values.narrow(1, 0, seen)?.contiguous()?);
        let weights = weights(&queries, &keys, (rep, start, count), sight)?;
        let padded = |x: Tensor| x.to_dtype(DType::F32)?.pad_with_zeros(1, 0, all - seen);
        add(&mut dvalues, padded(transposed(&weights.to_dtype(dtype)?)?.matmul(&dy)?)?)?;
        let dscores = dscores(&weights, &dy.matmul(&transposed(&values)?)?, dim)?.to_dtype(dtype)?;
        dqueries.push(dscores.matmul(&keys)?.reshape((batch, rep, count, dim))?);
        add(&mut dkeys, padded(transposed(&dscores)?.matmul(&queries)?)?)?;
    }
    let sum = |sum: Option<Tensor>| sum.map_or_else(|| of.keys.zeros_like(), |sum| sum.to_dtype(dtype));
    Ok(Projected { queries: Tensor::cat(&dqueries, 2)?, keys: sum(dkeys)?, values: sum(dvalues)? })
}

/// Attention weights `[B, rep·count, seen]` in `f32` of a run of queries; `(rep, start, count)` says which.
fn weights(queries: &Tensor, keys: &Tensor, run: (usize, usize, usize), sight: Sight) -> Result<Tensor> {
    let (rep, start, count) = run;
    let (batch, rows, dim) = queries.dims3()?;
    let seen = keys.dim(1)?;
    let scores = scaled_scores(queries, keys, dim)?;
    let scores = match sight {
        Sight::Full => scores,
        Sight::Causal => scores
            .reshape((batch * rep, count, seen))?
            .broadcast_add(&causal_mask(start, count, seen, queries.device())?)?
            .reshape((batch, rows, seen))?,
    };
    softmax_last_dim(&scores)
}

/// `q·kᵀ / √d` in `f32`.
fn scaled_scores(queries: &Tensor, keys: &Tensor, dim: usize) -> Result<Tensor> {
    queries.matmul(&transposed(keys)?)?.to_dtype(DType::F32)? / (dim as f64).sqrt()
}

/// The gradient of `q·kᵀ`, given the weights in `f32` and the gradient of those.
fn dscores(weights: &Tensor, dweights: &Tensor, dim: usize) -> Result<Tensor> {
    let dweights = dweights.to_dtype(DType::F32)?;
    let mean = (weights * &dweights)?.sum_keepdim(D::Minus1)?;
    (weights * dweights.broadcast_sub(&mean)?)? / (dim as f64).sqrt()
}

fn transposed(x: &Tensor) -> Result<Tensor> {
    x.transpose(D::Minus2, D::Minus1)
}

/// Adds to a sum that may not have begun.
fn add(sum: &mut Option<Tensor>, more: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => (sum + more)?,
        None => more,
    });
    Ok(())
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

/// Rows inside consecutive segments see each other; each entry is so many segments of one length.
pub(super) struct Segments<'a>(pub &'a [(usize, usize)]);

impl Segments<'_> {
    /// The rows of the segments of one length from `start` on, with the heads of each segment as heads of their own.
    fn of(projected: &Projected, start: usize, (count, length): (usize, usize)) -> Result<Projected> {
        let (heads, _, _, dim) = projected.queries.dims4()?;
        let part = projected.rows(start, count * length)?;
        let shape = (heads * count, length, dim);
        Ok(Projected {
            queries: part.queries.reshape((heads * count, 1, length, dim))?,
            keys: part.keys.reshape(shape)?,
            values: part.values.reshape(shape)?,
        })
    }
}

impl Attention for Segments<'_> {
    fn forward(&self, projected: &Projected) -> Result<Tensor> {
        let (heads, _, rows, dim) = projected.queries.dims4()?;
        let (mut out, mut start) = (Vec::with_capacity(self.0.len()), 0);
        for &(count, length) in self.0 {
            let Projected { queries, keys, values } = Self::of(projected, start, (count, length))?;
            let attended = attend(&queries, &keys, &values, Sight::Full)?;
            out.push(attended.reshape((heads, 1, count * length, dim))?);
            start += count * length;
        }
        Tensor::cat(&out, 2)?.reshape((heads, 1, rows, dim))
    }

    fn backward(&self, projected: &Projected, dy: &Tensor) -> Result<Projected> {
        let (heads, _, _, dim) = projected.queries.dims4()?;
        let (mut out, mut start) = (Vec::with_capacity(self.0.len()), 0);
        for &(count, length) in self.0 {
            let dy = dy.narrow(2, start, count * length)?.reshape((heads * count, 1, length, dim))?;
            let gradients = attend_backward(&Self::of(projected, start, (count, length))?, Sight::Full, &dy)?;
            let shape = (heads, count * length, dim);
            out.push(Projected {
                queries: gradients.queries.reshape((heads, 1, count * length, dim))?,
                keys: gradients.keys.reshape(shape)?,
                values: gradients.values.reshape(shape)?,
            });
            start += count * length;
        }
        Projected::cat(&out)
    }
}

/// A prompt's rows, then those of its lanes: the prompt sees itself, a lane the prompt and itself, all causally.
#[derive(Debug, Clone, Copy)]
pub(super) struct PromptAndLanes {
    pub prompt: usize,
    pub lanes: usize,
    /// Rows of each lane; 0 where there are none.
    pub length: usize,
    /// Scores of lanes that are made at a time, at most; [`SCORES`].
    pub scores: usize,
}

impl PromptAndLanes {
    /// Runs of lanes: the first lane of each, and how many.
    fn runs(&self, heads: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Self { prompt, lanes, length, scores } = *self;
        let run = (scores / (heads * length * (prompt + length)).max(1)).max(1);
        let lanes = if length == 0 { 0 } else { lanes };
        (0..lanes).step_by(run).map(move |first| (first, run.min(lanes - first)))
    }

    /// What a run of lanes projects to, and its own keys and values lane by lane, `[N, kv, T, d]`.
    fn of(&self, projected: &Projected, (first, lanes): (usize, usize)) -> Result<(Tensor, KeysValues)> {
        let part = projected.rows(self.prompt + first * self.length, lanes * self.length)?;
        let by_lane = |x: &Tensor| {
            let (kv, _, dim) = x.dims3()?;
            x.reshape((kv, lanes, self.length, dim))?.transpose(0, 1)?.contiguous()
        };
        Ok((part.queries, KeysValues { keys: by_lane(&part.keys)?, values: by_lane(&part.values)? }))
    }

    fn prompt(&self, projected: &Projected) -> Result<(Projected, KeysValues)> {
        let prompt = projected.rows(0, self.prompt)?;
        let keys_values = KeysValues { keys: prompt.keys.contiguous()?, values: prompt.values.contiguous()? };
        Ok((prompt, keys_values))
    }

    fn mask(&self, lanes: usize, device: &Device) -> Result<Tensor> {
        causal_mask(0, self.length, self.length, device)?.repeat((lanes, 1))
    }
}

impl Attention for PromptAndLanes {
    fn forward(&self, projected: &Projected) -> Result<Tensor> {
        let (kv, rep, _, _) = projected.queries.dims4()?;
        let (prompt, of_prompt) = self.prompt(projected)?;
        let mut out = vec![attend(&prompt.queries, &of_prompt.keys, &of_prompt.values, Sight::Causal)?];
        for run in self.runs(kv * rep) {
            let (queries, own) = self.of(projected, run)?;
            out.push(attend_lanes(&queries, &of_prompt, &own, &self.mask(run.1, queries.device())?)?);
        }
        Tensor::cat(&out, 2)
    }

    fn backward(&self, projected: &Projected, dy: &Tensor) -> Result<Projected> {
        let (kv, rep, _, dim) = projected.queries.dims4()?;
        let (prompt, of_prompt) = self.prompt(projected)?;
        let of_itself = attend_backward(&prompt, Sight::Causal, &dy.narrow(2, 0, self.prompt)?)?;
        let (mut dkeys, mut dvalues) = (of_itself.keys.to_dtype(DType::F32)?, of_itself.values.to_dtype(DType::F32)?);
        let mut lanes = Vec::new();
        for run in self.runs(kv * rep) {
            let (queries, own) = self.of(projected, run)?;
            let dy = dy.narrow(2, self.prompt + run.0 * self.length, run.1 * self.length)?;
            let mask = self.mask(run.1, queries.device())?;
            let (dqueries, dprompt, down) = attend_lanes_backward(&queries, &of_prompt, &own, &mask, &dy)?;
            dkeys = (dkeys + dprompt.keys.to_dtype(DType::F32)?)?;
            dvalues = (dvalues + dprompt.values.to_dtype(DType::F32)?)?;
            let rows = |x: Tensor| x.transpose(0, 1)?.reshape((kv, run.1 * self.length, dim));
            lanes.push(Projected { queries: dqueries, keys: rows(down.keys)?, values: rows(down.values)? });
        }
        let dtype = projected.keys.dtype();
        let mut parts = vec![Projected {
            queries: of_itself.queries,
            keys: dkeys.to_dtype(dtype)?,
            values: dvalues.to_dtype(dtype)?,
        }];
        parts.extend(lanes);
        Projected::cat(&parts)
    }
}

/// `[kv, rep, N·T, c]` with the lanes in front: `[N, kv, rep·T, c]`.
fn by_lane(x: &Tensor, lanes: usize) -> Result<Tensor> {
    let (kv, rep, rows, width) = x.dims4()?;
    let x = x.reshape((kv, rep, lanes, rows / lanes, width))?.permute((2, 0, 1, 3, 4))?;
    x.reshape((lanes, kv, rep * (rows / lanes), width))
}

/// The inverse of [`by_lane`].
fn by_row(x: &Tensor, rep: usize) -> Result<Tensor> {
    let (lanes, kv, rows, width) = x.dims4()?;
    let x = x.reshape((lanes, kv, rep, rows / rep, width))?.permute((1, 2, 0, 3, 4))?;
    x.reshape((kv, rep, lanes * (rows / rep), width))
}

/// Weights `[kv, rep, N·T, P + W]` in `f32` of lanes over their prompt's keys and their own.
fn lane_weights(queries: &Tensor, prompt: &KeysValues, own: &KeysValues, mask: &Tensor) -> Result<Tensor> {
    let (kv, rep, rows, dim) = queries.dims4()?;
    let (lanes, tokens) = (own.keys.dim(0)?, prompt.keys.dim(1)?);
    let together = queries.reshape((kv, rep * rows, dim))?;
    let of_prompt = scaled_scores(&together, &prompt.keys, dim)?.reshape((kv, rep, rows, tokens))?;
    let of_own = by_row(&scaled_scores(&by_lane(queries, lanes)?, &own.keys, dim)?, rep)?.broadcast_add(mask)?;
    softmax_last_dim(&Tensor::cat(&[of_prompt, of_own], 3)?)
}

/// Attention of the lanes of one prompt: queries `[kv, rep, N·T, d]` over the prompt's keys `[kv, P, d]`, as one product
/// for all lanes, and over each lane's own `[N, kv, W, d]`, of which `mask` `[N·T, W]` says what a row sees.
pub(super) fn attend_lanes(queries: &Tensor, prompt: &KeysValues, own: &KeysValues, mask: &Tensor) -> Result<Tensor> {
    let (kv, rep, rows, dim) = queries.dims4()?;
    let (lanes, _, width, _) = own.keys.dims4()?;
    let tokens = prompt.keys.dim(1)?;
    let weights = lane_weights(queries, prompt, own, mask)?.to_dtype(prompt.values.dtype())?;
    let of_prompt = weights.narrow(3, 0, tokens)?.reshape((kv, rep * rows, tokens))?.matmul(&prompt.values)?;
    let of_own = by_lane(&weights.narrow(3, tokens, width)?, lanes)?.matmul(&own.values)?;
    of_prompt.reshape((kv, rep, rows, dim))? + by_row(&of_own, rep)?
}

/// The gradients of [`attend_lanes`]'s queries, of the prompt's keys and values, and of the lanes' own.
fn attend_lanes_backward(
    queries: &Tensor,
    prompt: &KeysValues,
    own: &KeysValues,
    mask: &Tensor,
    dy: &Tensor,
) -> Result<(Tensor, KeysValues, KeysValues)> {
    let (kv, rep, rows, dim) = queries.dims4()?;
    let (lanes, _, width, _) = own.keys.dims4()?;
    let (tokens, dtype) = (prompt.keys.dim(1)?, prompt.keys.dtype());
    let weights = lane_weights(queries, prompt, own, mask)?;
    let of_prompt = |x: &Tensor| x.narrow(3, 0, tokens)?.reshape((kv, rep * rows, tokens));
    let of_own = |x: &Tensor| by_lane(&x.narrow(3, tokens, width)?, lanes);
    let (dy_rows, dy_lanes) = (dy.reshape((kv, rep * rows, dim))?, by_lane(dy, lanes)?);

    let rounded = weights.to_dtype(dtype)?;
    let dvalues = transposed(&of_prompt(&rounded)?)?.matmul(&dy_rows)?;
    let down_values = transposed(&of_own(&rounded)?)?.matmul(&dy_lanes)?;
    drop(rounded);
    let dweights = dy_rows.matmul(&transposed(&prompt.values)?)?.reshape((kv, rep, rows, tokens))?;
    let down_weights = by_row(&dy_lanes.matmul(&transposed(&own.values)?)?, rep)?;
    let dscores = dscores(&weights, &Tensor::cat(&[dweights, down_weights], 3)?, dim)?.to_dtype(dtype)?;
    drop(weights);

    let (dscores_rows, dscores_lanes) = (of_prompt(&dscores)?, of_own(&dscores)?);
    let dqueries = dscores_rows.matmul(&prompt.keys)?.reshape((kv, rep, rows, dim))?;
    let dqueries = (dqueries + by_row(&dscores_lanes.matmul(&own.keys)?, rep)?)?;
    let dkeys = transposed(&dscores_rows)?.matmul(&queries.reshape((kv, rep * rows, dim))?)?;
    let down_keys = transposed(&dscores_lanes)?.matmul(&by_lane(queries, lanes)?)?;
    let down = KeysValues { keys: down_keys, values: down_values };
    Ok((dqueries, KeysValues { keys: dkeys, values: dvalues }, down))
}
