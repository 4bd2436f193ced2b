//! Attention where no gradient is wanted: the scores of a block of queries at a time, none of them kept.
//!
//! The blocks depend on the shapes alone, never on the number of threads, and so do the results.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::attention::KeysValues;
use super::product::{Matrix, multiply_into};
use super::softmax::{Mask, seen, weights};
use super::{Floats, tensor};

/// Scores of a block, about: they stay in a core's own cache.
const SCORES: usize = 1 << 18;
/// Rows of queries of a block, within which [`SCORES`] is kept to.
const ROWS: std::ops::RangeInclusive<usize> = 64..=256;

/// Attends with `queries [kv, L·T·rep, d]`, each lane to its own keys and to those that all lanes share; gives
/// `[kv, L·T·rep, d]`. What [`super::attention::Attended`] computes, without its probabilities.
pub fn attend(
    queries: &Tensor,
    shared: Option<&KeysValues>,
    own: &KeysValues,
    mask: Mask,
    rep: usize,
) -> Result<Tensor> {
    let (kv, rows, dim) = queries.dims3()?;
    let (lanes, keys) = (own.keys.dim(0)? / kv, own.keys.dim(1)?);
    let prompt = shared.map_or(Ok(0), |shared| shared.keys.dim(1))?;
    let shape = Shape { rep, keys, prompt, dim, lane: rows / lanes, scale: 1.0 / (dim as f32).sqrt(), mask };
    let (q, k, v) = (Floats::of(queries)?, Floats::of(&own.keys)?, Floats::of(&own.values)?);
    let shared_keys = shared.map(|shared| Floats::of(&shared.keys)).transpose()?;
    let shared_values = shared.map(|shared| Floats::of(&shared.values)).transpose()?;
    let mut out = vec![0.0; kv * rows * dim];
    let mut tasks = Vec::new();
    let mut rest = out.as_mut_slice();
    for head in 0..kv {
        for block in shape.blocks(rows) {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(block.len() * dim);
            tasks.push((head, block, here));
            rest = after;
        }
    }
    tasks.into_par_iter().try_for_each(|(head, block, out)| {
        let of_head = |count: usize| head * count * dim..(head + 1) * count * dim;
        let shared = shared_keys.as_deref().zip(shared_values.as_deref());
        let shared = shared.map(|(k, v)| (&k[of_head(prompt)], &v[of_head(prompt)]));
        let own = (&k[of_head(lanes * keys)], &v[of_head(lanes * keys)]);
        shape.block(&q[of_head(rows)][block.start * dim..block.end * dim], block.start, shared, own, out)
    })?;
    tensor(out, (kv, rows, dim))
}

/// The sizes of one call.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rep: usize,
    /// Own keys of a lane.
    keys: usize,
    /// Shared keys.
    prompt: usize,
    dim: usize,
    /// Rows of queries of a lane, `T·rep`.
    lane: usize,
    scale: f32,
    mask: Mask,
}

impl Shape {
    /// Cuts the rows of a head: whole lanes where several fit into a block, else parts of one lane.
    fn blocks(&self, rows: usize) -> Vec<std::ops::Range<usize>> {
        let most = (SCORES / (self.prompt + self.keys).max(1)).clamp(*ROWS.start(), *ROWS.end());
        let cut = |start: usize, end: usize, step: usize| {
            (start..end).step_by(step).map(move |at| at..end.min(at + step)).collect::<Vec<_>>()
        };
        if self.lane <= most {
            return cut(0, rows, most / self.lane * self.lane);
        }
        let step = most / self.rep * self.rep;
        (0..rows).step_by(self.lane).flat_map(|start| cut(start, start + self.lane, step.max(self.rep))).collect()
    }

    /// One block: `q` are its rows of queries, the first of them row `start` of the head.
    fn block(
        &self,
        q: &[f32],
        start: usize,
        shared: Option<(&[f32], &[f32])>,
        own: (&[f32], &[f32]),
        out: &mut [f32],
    ) -> Result<()> {
        let (dim, prompt, rows) = (self.dim, self.prompt, q.len() / self.dim);
        // All lanes of a block have the same rows, unless it is a part of one lane: then its last row sees most.
        let most = seen(self.mask, ((start + rows - 1) % self.lane) / self.rep, self.keys);
        let width = prompt + most;
        let mut scores = vec![0.0; rows * width];
        if let Some((keys, _)) = shared {
            let keys = Matrix::rows(keys, prompt, dim, dim);
            multiply_into(Matrix::rows(q, rows, dim, dim), keys.t(), false, &mut scores, width)?;
        }
        let parts = || (0..rows).step_by(self.lane.min(rows)).map(|at| (at, self.lane.min(rows - at)));
        let of_lane = |at: usize| (start + at) / self.lane * self.keys * dim;
        for (at, count) in parts() {
            let keys = Matrix::rows(&own.0[of_lane(at)..], most, dim, dim);
            let q = Matrix::rows(&q[at * dim..], count, dim, dim);
            multiply_into(q, keys.t(), false, &mut scores[at * width + prompt..], width)?;
        }
        let mut inverse = Vec::with_capacity(rows);
        for (n, row) in scores.chunks_exact_mut(width).enumerate() {
            let visible = prompt + seen(self.mask, ((start + n) % self.lane) / self.rep, self.keys);
            inverse.push(1.0 / weights(&mut row[..visible], self.scale));
            row[visible..].fill(0.0);
        }
        if let Some((_, values)) = shared {
            let values = Matrix::rows(values, prompt, dim, dim);
            multiply_into(Matrix::rows(&scores, rows, prompt, width), values, false, out, dim)?;
        }
        for (at, count) in parts() {
            let values = Matrix::rows(&own.1[of_lane(at)..], most, dim, dim);
            let weights = Matrix::rows(&scores[at * width + prompt..], count, most, width);
            multiply_into(weights, values, shared.is_some(), &mut out[at * dim..], dim)?;
        }
        for (row, inverse) in out.chunks_exact_mut(dim).zip(inverse) {
            for value in row {
                *value *= inverse;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::Attended;
    use crate::ops::check::waves;

    /// The same attention with all probabilities at once.
    fn whole(queries: &Tensor, shared: Option<&KeysValues>, own: &KeysValues, mask: Mask, rep: usize) -> Vec<f32> {
        let (_, own, shared) = Attended { shared, own, mask, rep }.forward(queries).unwrap();
        let own = own.flatten_all().unwrap();
        let sum = match shared {
            Some(shared) => (own + shared.flatten_all().unwrap()).unwrap(),
            None => own,
        };
        Floats::of(&sum).unwrap().to_vec()
    }

    fn keys_values(shape: &[usize], phase: f32) -> KeysValues {
        KeysValues { keys: waves(shape, phase), values: waves(shape, phase + 0.7) }
    }

    /// Lanes, rows of each, own keys, shared keys, whether it is causal.
    fn assert_equal(lanes: usize, length: usize, keys: usize, prompt: usize, mask: Mask) {
        let (kv, rep, dim) = (2, 3, 8);
        let queries = waves(&[kv, lanes * length * rep, dim], 0.1);
        let own = keys_values(&[kv * lanes, keys, dim], 0.4);
        let shared = (prompt > 0).then(|| keys_values(&[kv, prompt, dim], 1.9));
        let blockwise = attend(&queries, shared.as_ref(), &own, mask, rep).unwrap();
        let whole = whole(&queries, shared.as_ref(), &own, mask, rep);
        assert_eq!(blockwise.dims(), queries.dims());
        for (i, (a, b)) in Floats::of(&blockwise).unwrap().iter().zip(whole).enumerate() {
            assert!((a - b).abs() < 4e-6, "element {i}: {a}, expected {b}");
        }
    }

    #[test]
    fn a_prompt_longer_than_a_block_is_attended_as_at_once() {
        assert_equal(1, 300, 300, 0, Mask::Causal { first: 0 });
        assert_equal(1, 300, 300, 0, Mask::Full);
    }

    #[test]
    fn lanes_that_share_a_prompt_are_attended_as_at_once() {
        assert_equal(50, 7, 7, 40, Mask::Causal { first: 0 });
        assert_equal(3, 120, 120, 5, Mask::Causal { first: 0 });
    }

    #[test]
    fn windows_are_attended_as_at_once() {
        assert_equal(33, 16, 16, 0, Mask::Full);
    }
}
