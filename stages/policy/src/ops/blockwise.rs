//! Attention by blocks of queries: the scores of one block at a time, none of them kept. The backward pass makes them
//! again.
//!
//! The blocks depend on the shapes alone, never on the number of threads, and so do the results.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::attention::KeysValues;
use super::product::{Matrix, multiply_into};
use super::softmax::{self, Mask, seen, weights};
use super::{Floats, tensor};

/// Scores of a block, about: they stay in a core's own cache.
const SCORES: usize = 1 << 18;
/// Rows of queries of a block, within which [`SCORES`] is kept to.
const ROWS: std::ops::RangeInclusive<usize> = 64..=256;
/// Multiply-adds from which attention is divided among threads.
const DIVIDED: usize = 1 << 22;

/// What queries attend to.
#[derive(Debug, Clone, Copy)]
pub struct Attended<'a> {
    /// Keys and values `[kv, P, d]` of a prompt that every lane sees in full.
    pub shared: Option<&'a KeysValues>,
    /// Each lane's own, `[kv·L, S, d]`.
    pub own: &'a KeysValues,
    /// Which of its own a query sees.
    pub mask: Mask,
    /// Query heads to a key-value head.
    pub rep: usize,
}

/// Gradients of what entered an attention, in its shapes.
#[derive(Debug)]
pub struct Gradient {
    /// Of the queries.
    pub queries: Tensor,
    /// Of the lanes' own keys and values.
    pub own: KeysValues,
    /// Of the shared ones.
    pub shared: Option<KeysValues>,
}

impl Attended<'_> {
    /// Attends with `queries [kv, L·T·rep, d]`, each lane to its own keys and to those that all lanes share; gives
    /// `[kv, L·T·rep, d]`.
    pub fn forward(&self, queries: &Tensor) -> Result<Tensor> {
        let (shape, operands) = (self.shape(queries)?, self.open()?);
        let q = Floats::of(queries)?;
        let (kv, rows, dim) = queries.dims3()?;
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
        each(tasks, shape.work(kv * rows), |(head, block, out)| {
            let [keys, values] = operands.head(head, kv);
            shape.block(&q[head * rows * dim..][block.start * dim..block.end * dim], block.start, keys, values, out)
        })?;
        tensor(out, (kv, rows, dim))
    }

    /// Gradients, given that of the result, `dy [kv, L·T·rep, d]`.
    pub fn backward(&self, queries: &Tensor, dy: &Tensor) -> Result<Gradient> {
        let (shape, operands) = (self.shape(queries)?, self.open()?);
        let (q, dy) = (Floats::of(queries)?, Floats::of(dy)?);
        let (kv, rows, dim) = queries.dims3()?;
        let mut dq = vec![0.0; q.len()];
        let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; operands.own[0].len()]);
        let [mut dk_shared, mut dv_shared] = [(); 2].map(|()| vec![0.0; operands.shared_len()]);
        // Head by head: within one, what all blocks add to the same keys is added in their order.
        let parts = [&mut dk, &mut dv, &mut dk_shared, &mut dv_shared].map(|values| by_head(values, kv).into_iter());
        let [own_keys, own_values, shared_keys, shared_values] = parts;
        let own = own_keys.zip(own_values);
        let shared = shared_keys.zip(shared_values);
        let tasks: Vec<_> = by_head(&mut dq, kv).into_iter().zip(own).zip(shared).enumerate().collect();
        each(tasks, shape.work(kv * rows), |(head, ((dq, (dk, dv)), (dk_shared, dv_shared)))| {
            let [keys, values] = operands.head(head, kv);
            let here = head * rows * dim..(head + 1) * rows * dim;
            let (q, dy) = (&q[here.clone()], &dy[here]);
            for block in shape.blocks(rows) {
                let at = block.start * dim..block.end * dim;
                let of_keys = SidesMut { shared: dk_shared, own: dk };
                let of_values = SidesMut { shared: dv_shared, own: dv };
                let rows = (&q[at.clone()], &dy[at.clone()]);
                shape.block_backward(rows, block.start, [keys, values], [of_keys, of_values], &mut dq[at])?;
            }
            Ok(())
        })?;
        let (like_own, like_shared) = (self.own.keys.shape(), self.shared.map(|shared| shared.keys.shape()));
        let shared = like_shared.map(|shape| -> Result<KeysValues> {
            Ok(KeysValues { keys: tensor(dk_shared, shape)?, values: tensor(dv_shared, shape)? })
        });
        let own = KeysValues { keys: tensor(dk, like_own)?, values: tensor(dv, like_own)? };
        Ok(Gradient { queries: tensor(dq, queries.shape())?, own, shared: shared.transpose()? })
    }

    fn shape(&self, queries: &Tensor) -> Result<Shape> {
        let (kv, rows, dim) = queries.dims3()?;
        let (lanes, keys) = (self.own.keys.dim(0)? / kv, self.own.keys.dim(1)?);
        let prompt = self.shared.map_or(Ok(0), |shared| shared.keys.dim(1))?;
        let scale = 1.0 / (dim as f32).sqrt();
        Ok(Shape { rep: self.rep, keys, prompt, dim, lane: rows / lanes, scale, mask: self.mask })
    }

    fn open(&self) -> Result<Operands<'_>> {
        Ok(Operands {
            shared: self
                .shared
                .map(|it| Ok::<_, candle_core::Error>([Floats::of(&it.keys)?, Floats::of(&it.values)?]))
                .transpose()?,
            own: [Floats::of(&self.own.keys)?, Floats::of(&self.own.values)?],
        })
    }
}

/// Keys and values, opened for reading.
struct Operands<'a> {
    shared: Option<[Floats<'a>; 2]>,
    own: [Floats<'a>; 2],
}

impl Operands<'_> {
    fn shared_len(&self) -> usize {
        self.shared.as_ref().map_or(0, |[keys, _]| keys.len())
    }

    /// Keys, then values, of one of `kv` heads.
    fn head(&self, head: usize, kv: usize) -> [Sides<'_>; 2] {
        [0, 1].map(|kind| Sides {
            shared: self.shared.as_ref().map_or(&[], |both| of_head(&both[kind], head, kv)),
            own: of_head(&self.own[kind], head, kv),
        })
    }
}

fn of_head(values: &[f32], head: usize, kv: usize) -> &[f32] {
    let size = values.len() / kv;
    &values[head * size..(head + 1) * size]
}

/// The parts of all heads, which may be empty.
fn by_head(values: &mut [f32], kv: usize) -> Vec<&mut [f32]> {
    let (size, mut rest, mut parts) = (values.len() / kv, values, Vec::with_capacity(kv));
    for _ in 0..kv {
        let (here, after) = rest.split_at_mut(size);
        parts.push(here);
        rest = after;
    }
    parts
}

/// Works on each task, side by side if there is much to do.
fn each<T: Send>(tasks: Vec<T>, work: usize, run: impl Fn(T) -> Result<()> + Send + Sync) -> Result<()> {
    if work < DIVIDED { tasks.into_iter().try_for_each(run) } else { tasks.into_par_iter().try_for_each(run) }
}

/// Vectors of keys or of values that a head's queries meet: the prompt's, and those of all lanes.
#[derive(Clone, Copy)]
struct Sides<'a> {
    shared: &'a [f32],
    own: &'a [f32],
}

/// [`Sides`] to be added to.
struct SidesMut<'a> {
    shared: &'a mut [f32],
    own: &'a mut [f32],
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

/// Rows of queries that are worked on together.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The first one in its head.
    start: usize,
    rows: usize,
    /// Own keys that one of them sees, at most: the first of their lane.
    most: usize,
}

impl Shape {
    /// Multiply-adds of that many rows' scores, about.
    fn work(&self, rows: usize) -> usize {
        rows * (self.prompt + self.keys) * self.dim
    }

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

    fn of(&self, start: usize, rows: usize) -> Block {
        // All lanes of a block have the same rows, unless it is a part of one lane: then its last row sees most.
        Block { start, rows, most: seen(self.mask, ((start + rows - 1) % self.lane) / self.rep, self.keys) }
    }

    fn width(&self, block: Block) -> usize {
        self.prompt + block.most
    }

    /// The block's lanes: first row in the block, rows, and where the lane's own keys start.
    fn lanes(self, block: Block) -> impl Iterator<Item = (usize, usize, usize)> {
        let step = self.lane.min(block.rows);
        (0..block.rows)
            .step_by(step)
            .map(move |at| (at, step.min(block.rows - at), (block.start + at) / self.lane * self.keys * self.dim))
    }

    /// One block: `q` are its rows of queries, the first of them row `start` of the head.
    fn block(&self, q: &[f32], start: usize, keys: Sides, values: Sides, out: &mut [f32]) -> Result<()> {
        let block = self.of(start, q.len() / self.dim);
        let (scores, inverse) = self.weights(block, q, keys)?;
        self.weighted(block, &scores, values, out)?;
        for (row, inverse) in out.chunks_exact_mut(self.dim).zip(inverse) {
            for value in row {
                *value *= inverse;
            }
        }
        Ok(())
    }

    /// One block's part of the gradients: `q` and `dy` are its rows. What it brings to keys and values is added, what it
    /// brings to its queries is written.
    fn block_backward(
        &self,
        (q, dy): (&[f32], &[f32]),
        start: usize,
        [keys, values]: [Sides; 2],
        [mut of_keys, mut of_values]: [SidesMut; 2],
        dq: &mut [f32],
    ) -> Result<()> {
        let block = self.of(start, q.len() / self.dim);
        let width = self.width(block);
        let (mut p, inverse) = self.weights(block, q, keys)?;
        for (row, inverse) in p.chunks_exact_mut(width).zip(inverse) {
            for value in row {
                *value *= inverse;
            }
        }
        self.gather(block, &p, dy, &mut of_values)?;
        let mut ds = self.against(block, dy, values)?;
        super::widest(|| {
            for (p, ds) in p.chunks_exact(width).zip(ds.chunks_exact_mut(width)) {
                softmax::backward(p, ds, self.scale);
            }
        });
        drop(p);
        self.gather(block, &ds, q, &mut of_keys)?;
        self.weighted(block, &ds, keys, dq)
    }

    /// The weights of all keys for each row, 0 where the mask hides them, and the inverse of each row's sum.
    fn weights(&self, block: Block, q: &[f32], keys: Sides) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut scores = self.against(block, q, keys)?;
        let mut inverse = Vec::with_capacity(block.rows);
        for (n, row) in scores.chunks_exact_mut(self.width(block)).enumerate() {
            let visible = self.prompt + seen(self.mask, ((block.start + n) % self.lane) / self.rep, self.keys);
            inverse.push(1.0 / weights(&mut row[..visible], self.scale));
            row[visible..].fill(0.0);
        }
        Ok((scores, inverse))
    }

    /// Dot products of the block's `rows` with the vectors that they meet, the shared ones' first: `[rows, width]`.
    fn against(&self, block: Block, rows: &[f32], vectors: Sides) -> Result<Vec<f32>> {
        let (dim, prompt, width) = (self.dim, self.prompt, self.width(block));
        let mut out = vec![0.0; block.rows * width];
        if prompt > 0 {
            let shared = Matrix::rows(vectors.shared, prompt, dim, dim);
            multiply_into(Matrix::rows(rows, block.rows, dim, dim), shared.t(), false, &mut out, width)?;
        }
        for (at, count, own) in self.lanes(block) {
            let own = Matrix::rows(&vectors.own[own..], block.most, dim, dim);
            let rows = Matrix::rows(&rows[at * dim..], count, dim, dim);
            multiply_into(rows, own.t(), false, &mut out[at * width + prompt..], width)?;
        }
        Ok(out)
    }

    /// Sums of the vectors that the block's rows meet, each with its weight, written to `out [rows, d]`.
    fn weighted(&self, block: Block, weights: &[f32], vectors: Sides, out: &mut [f32]) -> Result<()> {
        let (dim, prompt, width) = (self.dim, self.prompt, self.width(block));
        if prompt > 0 {
            let shared = Matrix::rows(vectors.shared, prompt, dim, dim);
            multiply_into(Matrix::rows(weights, block.rows, prompt, width), shared, false, out, dim)?;
        }
        for (at, count, own) in self.lanes(block) {
            let own = Matrix::rows(&vectors.own[own..], block.most, dim, dim);
            let weights = Matrix::rows(&weights[at * width + prompt..], count, block.most, width);
            multiply_into(weights, own, prompt > 0, &mut out[at * dim..], dim)?;
        }
        Ok(())
    }

    /// Adds the block's `rows`, each with its weight, to the vectors that it meets.
    fn gather(&self, block: Block, weights: &[f32], rows: &[f32], onto: &mut SidesMut) -> Result<()> {
        let (dim, prompt, width) = (self.dim, self.prompt, self.width(block));
        if prompt > 0 {
            let weights = Matrix::rows(weights, block.rows, prompt, width).t();
            multiply_into(weights, Matrix::rows(rows, block.rows, dim, dim), true, onto.shared, dim)?;
        }
        for (at, count, own) in self.lanes(block) {
            let weights = Matrix::rows(&weights[at * width + prompt..], count, block.most, width).t();
            let rows = Matrix::rows(&rows[at * dim..], count, dim, dim);
            multiply_into(weights, rows, true, &mut onto.own[own..], dim)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::waves;

    fn keys_values(shape: &[usize], phase: f32) -> KeysValues {
        KeysValues { keys: waves(shape, phase), values: waves(shape, phase + 0.7) }
    }

    /// Sizes of a case: two heads of keys, three of queries to each.
    const KV: usize = 2;
    const REP: usize = 3;
    const DIM: usize = 8;

    struct Case {
        lanes: usize,
        length: usize,
        queries: Tensor,
        shared: Option<KeysValues>,
        own: KeysValues,
        mask: Mask,
    }

    impl Case {
        fn new(lanes: usize, length: usize, prompt: usize, mask: Mask) -> Self {
            Self {
                lanes,
                length,
                queries: waves(&[KV, lanes * length * REP, DIM], 0.1),
                shared: (prompt > 0).then(|| keys_values(&[KV, prompt, DIM], 1.9)),
                own: keys_values(&[KV * lanes, length, DIM], 0.4),
                mask,
            }
        }

        fn attended(&self) -> Attended<'_> {
            Attended { shared: self.shared.as_ref(), own: &self.own, mask: self.mask, rep: REP }
        }

        /// Row by row in f64, with all probabilities at once: the result, and the gradients of queries, own keys, own
        /// values, shared keys, shared values, given that of the result.
        fn plainly(&self, dy: &[f32]) -> [Vec<f64>; 6] {
            let wide = |tensor: &Tensor| Floats::of(tensor).unwrap().iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (q, k, v) = (wide(&self.queries), wide(&self.own.keys), wide(&self.own.values));
            let [sk, sv] =
                [0, 1].map(|kind| self.shared.as_ref().map_or(Vec::new(), |it| wide([&it.keys, &it.values][kind])));
            let prompt = sk.len() / (KV * DIM);
            let [mut y, mut dq, mut dk, mut dv, mut dsk, mut dsv] =
                [q.len(), q.len(), k.len(), k.len(), sk.len(), sk.len()].map(|count| vec![0.0; count]);
            let rows = self.lanes * self.length * REP;
            for head in 0..KV {
                for row in 0..rows {
                    let (lane, t) = (row / (self.length * REP), row % (self.length * REP) / REP);
                    let visible = if self.mask == Mask::Full { self.length } else { t + 1 };
                    let at = (head * rows + row) * DIM;
                    let own = |key: usize| ((head * self.lanes + lane) * self.length + key) * DIM;
                    let places: Vec<(bool, usize)> = (0..prompt)
                        .map(|key| (true, (head * prompt + key) * DIM))
                        .chain((0..visible).map(|key| (false, own(key))))
                        .collect();
                    let scale = (DIM as f64).sqrt();
                    let of = |of_shared: &'_ [f64], of_own: &'_ [f64], (shared, at): (bool, usize)| {
                        let from = if shared { of_shared } else { of_own };
                        from[at..at + DIM].to_vec()
                    };
                    let query = &q[at..at + DIM];
                    let weights: Vec<f64> =
                        places.iter().map(|it| (dot(query, &of(&sk, &k, *it)) / scale).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    let dy: Vec<f64> = dy[at..at + DIM].iter().map(|x| f64::from(*x)).collect();
                    let dp: Vec<f64> = places.iter().map(|it| dot(&dy, &of(&sv, &v, *it))).collect();
                    let mean: f64 = weights.iter().zip(&dp).map(|(w, dp)| w / total * dp).sum();
                    for ((place, w), dp) in places.iter().zip(&weights).zip(&dp) {
                        let (p, ds) = (w / total, w / total * (dp - mean) / scale);
                        let (key, value) = (of(&sk, &k, *place), of(&sv, &v, *place));
                        let (dk, dv) = if place.0 { (&mut dsk, &mut dsv) } else { (&mut dk, &mut dv) };
                        for i in 0..DIM {
                            y[at + i] += p * value[i];
                            dq[at + i] += ds * key[i];
                            dk[place.1 + i] += ds * query[i];
                            dv[place.1 + i] += p * dy[i];
                        }
                    }
                }
            }
            [y, dq, dk, dv, dsk, dsv]
        }
    }

    fn assert_equal(case: &Case) {
        let dy = waves(case.queries.dims(), 2.3);
        let y = case.attended().forward(&case.queries).unwrap();
        let Gradient { queries, own, shared } = case.attended().backward(&case.queries, &dy).unwrap();
        let [expected_y, expected @ ..] = case.plainly(&Floats::of(&dy).unwrap());
        let own = [queries, own.keys, own.values];
        let found = own.into_iter().chain(shared.into_iter().flat_map(|it| [it.keys, it.values]));
        for (found, expected) in std::iter::once(y).chain(found).zip(std::iter::once(expected_y).chain(expected)) {
            let size = expected.iter().fold(1.0_f64, |size, value| size.max(value.abs()));
            assert_eq!(found.elem_count(), expected.len());
            for (i, (found, expected)) in Floats::of(&found).unwrap().iter().zip(expected).enumerate() {
                assert!((f64::from(*found) - expected).abs() < 4e-6 * size, "{i}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_prompt_longer_than_a_block_is_attended_as_at_once() {
        assert_equal(&Case::new(1, 300, 0, Mask::Causal { first: 0 }));
        assert_equal(&Case::new(1, 300, 0, Mask::Full));
    }

    #[test]
    fn lanes_that_share_a_prompt_are_attended_as_at_once() {
        assert_equal(&Case::new(50, 7, 40, Mask::Causal { first: 0 }));
        assert_equal(&Case::new(3, 120, 5, Mask::Causal { first: 0 }));
    }

    #[test]
    fn windows_are_attended_as_at_once() {
        assert_equal(&Case::new(33, 16, 0, Mask::Full));
    }

    #[test]
    fn results_are_the_same_bits_on_any_number_of_threads() {
        let case = Case::new(50, 40, 90, Mask::Causal { first: 0 });
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let gradient = pool.install(|| case.attended().backward(&case.queries, &case.queries).unwrap());
            let shared = gradient.shared.unwrap();
            [gradient.queries, gradient.own.keys, gradient.own.values, shared.keys, shared.values]
                .map(|tensor| Floats::of(&tensor).unwrap().to_vec())
        };
        assert_eq!(run(1), run(3));
    }
}
