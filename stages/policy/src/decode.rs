//! Decoding one token a lane from cached keys and values: the lanes of many prompts are rows of one pass, a prompt's
//! keys and values are kept once, and only what a lane has said itself is its own.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::Result;
use crate::ops::attention::{KeysValues, Projected};
use crate::ops::heads::{Lanes, Rotary, merge, split};
use crate::ops::kernels::{add_dots, add_weighted};
use crate::ops::linear::Kernel;
use crate::ops::norm::sum;
use crate::ops::softmax::weights;
use crate::ops::{Floats, tensor, widest};
use crate::text::TextModel;

/// Positions for which a lane gets room at a time.
const PAGE: usize = 16;

/// Multiply-adds of a layer's attention from which its heads and prompts are divided among threads.
const DIVIDED: usize = 1 << 20;

/// Keys and values of a prompt in every layer, `[kv, P, d]` each, and the position of the token that follows it.
#[derive(Debug)]
pub(crate) struct PromptCache {
    pub layers: Vec<KeysValues>,
    pub next: u32,
}

/// Keys and values of a lane's own tokens.
#[derive(Debug, Default)]
pub(crate) struct LaneCache {
    /// `[layer, 2, kv, PAGE, d]` each: keys, then values.
    pages: Vec<Vec<f32>>,
    /// Tokens whose keys and values are there.
    length: usize,
}

/// A prompt and those of its lanes that take part in a step.
#[derive(Debug)]
pub(crate) struct Decoding<'a> {
    pub prompt: &'a PromptCache,
    pub lanes: Vec<&'a mut LaneCache>,
}

/// Keys or values of one head in one layer, within a page.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    dim: usize,
}

impl LaneCache {
    /// The vectors at `place`, position by position, of the first `count` tokens.
    fn vectors(&self, place: Place, count: usize) -> impl Iterator<Item = &[f32]> {
        let pages = self.pages.iter();
        pages.flat_map(move |page| page[place.start..][..PAGE * place.dim].chunks_exact(place.dim)).take(count)
    }

    /// The vector at `place` of the token that is being read.
    fn newest(&mut self, place: Place) -> &mut [f32] {
        let at = place.start + self.length % PAGE * place.dim;
        &mut self.pages[self.length / PAGE][at..at + place.dim]
    }
}

impl TextModel {
    /// Bytes of keys and values that a token takes, in all layers.
    pub(crate) fn bytes_a_token(&self) -> usize {
        self.blocks().len() * 2 * self.heads().keys().width() * size_of::<f32>()
    }

    /// Bytes of keys and values that a lane takes which reads at most `tokens` of its own.
    pub(crate) fn bytes_a_lane(&self, tokens: usize) -> usize {
        tokens.div_ceil(PAGE) * PAGE * self.bytes_a_token()
    }

    /// Reads one more token of each lane, `ids` in the order of the lanes: rows `[N, H]` that predict the next ones.
    pub(crate) fn decode(&self, ids: &[u32], decoding: &mut [Decoding]) -> Result<Tensor> {
        let page = self.bytes_a_token() / size_of::<f32>() * PAGE;
        let mut positions = Vec::with_capacity(ids.len());
        for Decoding { prompt, lanes } in decoding.iter_mut() {
            for lane in lanes {
                positions.push([prompt.next + lane.length as u32; 3]);
                if lane.length == lane.pages.len() * PAGE {
                    lane.pages.push(vec![0.0; page]);
                }
            }
        }
        let rotary = self.rotary(positions.into_iter());
        let mut x = self.embed(ids)?;
        for (layer, block) in self.blocks().iter().enumerate() {
            (x, ()) = block.forward(x, Kernel::RowByRow, |projected| {
                Ok((self.attend(layer, projected, &rotary, decoding)?, ()))
            })?;
        }
        decoding.iter_mut().flat_map(|it| &mut it.lanes).for_each(|lane| lane.length += 1);
        Ok(x)
    }

    /// One layer's attention: stores the new keys and values, then lets each lane see its prompt and its own.
    fn attend(
        &self,
        layer: usize,
        projected: Projected,
        rotary: &Rotary,
        decoding: &mut [Decoding],
    ) -> candle_core::Result<Tensor> {
        let (heads, rows) = (self.heads(), projected.q.rows.dim(0)?);
        let lanes = Lanes { start: 0, count: rows, length: 1 };
        let queries = split(projected.q, heads, lanes, Some(rotary))?;
        let keys = split(projected.k, heads.keys(), lanes, Some(rotary))?;
        let values = split(projected.v, heads.keys(), lanes, None)?;
        let place = |kind: usize, head: usize| Place {
            start: ((layer * 2 + kind) * heads.kv + head) * PAGE * heads.dim,
            dim: heads.dim,
        };
        for (kind, new) in [keys, values].iter().enumerate() {
            for (head, of_head) in Floats::of(new)?.chunks_exact(rows * heads.dim).enumerate() {
                let lanes = decoding.iter_mut().flat_map(|it| &mut it.lanes);
                for (lane, vector) in lanes.zip(of_head.chunks_exact(heads.dim)) {
                    lane.newest(place(kind, head)).copy_from_slice(vector);
                }
            }
        }
        // Head by head and prompt by prompt, each with its part of the result: `[kv, N·rep, d]` in all.
        let (q, mut out) = (Floats::of(&queries)?, vec![0.0; rows * heads.width()]);
        let (mut tasks, mut work) = (Vec::new(), 0);
        let (mut q, mut rest) = (&*q, out.as_mut_slice());
        for head in 0..heads.kv {
            for Decoding { prompt, lanes } in &*decoding {
                let size = lanes.len() * heads.rep * heads.dim;
                let (queries, later) = q.split_at(size);
                let (here, after) = std::mem::take(&mut rest).split_at_mut(size);
                (q, rest) = (later, after);
                work += size * prompt.layers[layer].keys.dim(1)?;
                let places = [place(0, head), place(1, head)];
                tasks.push((
                    HeadStep { rep: heads.rep, head, places, prompt: &prompt.layers[layer] },
                    queries,
                    lanes,
                    here,
                ));
            }
        }
        if work < DIVIDED {
            tasks.into_iter().try_for_each(|(step, queries, lanes, out)| step.attend(queries, lanes, out))?;
        } else {
            tasks.into_par_iter().try_for_each(|(step, queries, lanes, out)| step.attend(queries, lanes, out))?;
        }
        let mut merged = vec![0.0; rows * heads.width()];
        merge(
            &[&tensor(out, (heads.kv, rows * heads.rep, heads.dim))?],
            heads,
            lanes,
            None,
            &mut merged,
            heads.width(),
            0,
        )?;
        tensor(merged, (rows, heads.width()))
    }
}

/// One head of one layer, for the lanes of one prompt.
struct HeadStep<'a> {
    rep: usize,
    head: usize,
    /// Where a lane's own keys and values are.
    places: [Place; 2],
    prompt: &'a KeysValues,
}

impl HeadStep<'_> {
    /// `queries [L·rep, d]` to attended values of the same shape.
    fn attend(&self, queries: &[f32], lanes: &[&mut LaneCache], out: &mut [f32]) -> candle_core::Result<()> {
        let (_, tokens, dim) = self.prompt.keys.dims3()?;
        let (keys, values) = (Floats::of(&self.prompt.keys)?, Floats::of(&self.prompt.values)?);
        let of_head = self.head * tokens * dim..(self.head + 1) * tokens * dim;
        let rows = lanes.len() * self.rep;
        let longest = lanes.iter().map(|lane| lane.length + 1).max().unwrap_or(0);
        let width = tokens + longest;
        let mut of_prompt = vec![0.0; rows * tokens];
        add_dots(queries, &keys[of_head.clone()], dim, &mut of_prompt)?;
        let (mut scores, mut inverse) = (vec![0.0; rows * width], vec![0.0; rows]);
        widest(|| {
            let rows =
                scores.chunks_exact_mut(width).zip(of_prompt.chunks_exact(tokens)).zip(queries.chunks_exact(dim));
            for (row, (((scores, of_prompt), query), inverse)) in rows.zip(&mut inverse).enumerate() {
                let lane = &lanes[row / self.rep];
                let own = lane.length + 1;
                scores[..tokens].copy_from_slice(of_prompt);
                for (score, key) in scores[tokens..].iter_mut().zip(lane.vectors(self.places[0], own)) {
                    *score = sum(dim, |i| query[i] * key[i]);
                }
                *inverse = 1.0 / weights(&mut scores[..tokens + own], 1.0 / (dim as f32).sqrt());
            }
        });
        add_weighted(&scores, width, &values[of_head], dim, out)?;
        widest(|| {
            for (row, ((scores, out), inverse)) in
                scores.chunks_exact(width).zip(out.chunks_exact_mut(dim)).zip(&inverse).enumerate()
            {
                let lane = &lanes[row / self.rep];
                for (weight, value) in scores[tokens..].iter().zip(lane.vectors(self.places[1], lane.length + 1)) {
                    out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
                }
                for out in out {
                    *out *= inverse;
                }
            }
        });
        Ok(())
    }
}
