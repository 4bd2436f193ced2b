//! The vision tower: patches to merged tokens in the language model's width, and back again for gradients.
//!
//! All pictures' patches are rows of one forward pass. They stand in window order from the start, so that a window is
//! a run of rows and windows of equal length are one batched product; only the merged tokens are put back in order.

use candle_core::{Tensor, Var};

use crate::config::{Config, VisionConfig};
use crate::error::{Error, Result};
use crate::ops::attention::{Plan, Span, SpanState};
use crate::ops::block::{Block, BlockState, Projection};
use crate::ops::heads::{Heads, Lanes, Rotary};
use crate::ops::linear::{Kernel, Linear, Sums};
use crate::ops::norm::Norm;
use crate::ops::product::product;
use crate::ops::softmax::Mask;
use crate::ops::{Floats, activation, tensor};
use crate::positions::Frequencies;
use crate::processor::Pixels;
use crate::weights::Weights;

/// Constants of the reference's code, not of its configuration.
const EPSILON: f64 = 1e-6;
const THETA: f64 = 1e4;

const PATCH_EMBED: &str = "visual.patch_embed.proj.weight";

/// The tower's weights and sizes.
#[derive(Debug)]
pub struct VisionTower {
    config: VisionConfig,
    /// `[H, C, F, side, side]`: channels, frames.
    patch_embed: Tensor,
    blocks: Vec<Block>,
    ln_q: Norm,
    merge_in: Linear,
    merge_out: Linear,
    frequencies: Frequencies,
}

/// What the backward pass needs of a forward pass.
#[derive(Debug)]
pub struct VisionState {
    patches: Tensor,
    windows: Plan,
    pictures: Plan,
    blocks: Vec<BlockState<Vec<SpanState>>>,
    x: Tensor,
    merged: Tensor,
    hidden: Tensor,
    activated: Tensor,
    /// For each merged token in window order, its row in picture order.
    order: Vec<usize>,
    /// Merged tokens of each picture.
    tokens: Vec<usize>,
}

impl VisionState {
    /// Merged tokens of each picture.
    pub fn tokens(&self) -> &[usize] {
        &self.tokens
    }
}

impl VisionTower {
    /// Takes the weights named `visual.…`; they stay shared with `weights`.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        let config = config.vision.clone();
        let at = |name: &str| weights.get(name).map(Var::as_detached_tensor);
        let linear = |name: String| -> Result<Linear> {
            let (weight, bias) = (at(&format!("{name}.weight"))?, at(&format!("{name}.bias"))?);
            Ok(Linear::new(name, weight, Some(bias)))
        };
        let norm = |name: String| at(&name).map(|weight| Norm::new(name, weight, EPSILON));
        let heads = Heads { kv: config.num_heads, rep: 1, dim: config.head_dim() };
        let block = |n: usize| -> Result<Block> {
            let name = |part: &str| format!("visual.blocks.{n}.{part}");
            Ok(Block {
                norm1: norm(name("norm1.weight"))?,
                projection: Projection::Joint(linear(name("attn.qkv"))?),
                output: linear(name("attn.proj"))?,
                norm2: norm(name("norm2.weight"))?,
                gate: linear(name("mlp.gate_proj"))?,
                up: linear(name("mlp.up_proj"))?,
                down: linear(name("mlp.down_proj"))?,
                heads,
            })
        };
        Ok(Self {
            patch_embed: at(PATCH_EMBED)?,
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            ln_q: norm("visual.merger.ln_q.weight".to_owned())?,
            merge_in: linear("visual.merger.mlp.0".to_owned())?,
            merge_out: linear("visual.merger.mlp.2".to_owned())?,
            frequencies: Frequencies::new(THETA, config.head_dim() / 4),
            config,
        })
    }

    /// Merged tokens of all pictures, `[tokens, out]`, each picture's in row-major order. Nothing is kept for a gradient.
    pub fn pass(&self, pictures: &[&Pixels]) -> Result<Tensor> {
        let (patches, order, [windows, whole]) = self.arrange(pictures)?;
        let mut x = product(&patches, &self.still_kernel()?.t()?)?;
        drop(patches);
        for (n, block) in self.blocks.iter().enumerate() {
            let plan = self.plan(n, &windows, &whole);
            (x, _) = block.forward(x, Kernel::General, |projected| Ok((plan.pass(projected)?.0, ())))?;
        }
        let merged = self.ln_q.forward(&x)?.reshape((order.len(), self.unit() * self.config.hidden_size))?;
        let activated = activation::gelu(&self.merge_in.forward(&merged)?)?;
        scatter_rows(&self.merge_out.forward(&activated)?, &order)
    }

    /// [`Self::pass`] with all that the backward pass needs.
    pub fn forward(&self, pictures: &[&Pixels]) -> Result<(Tensor, VisionState)> {
        let (patches, order, plans) = self.arrange(pictures)?;
        let [windows, whole] = plans;
        let mut x = product(&patches, &self.still_kernel()?.t()?)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (n, block) in self.blocks.iter().enumerate() {
            let plan = self.plan(n, &windows, &whole);
            let (y, state) = block.forward(x, Kernel::General, |projected| plan.forward(projected))?;
            x = y;
            blocks.push(state);
        }
        let merged = self.ln_q.forward(&x)?.reshape((order.len(), self.unit() * self.config.hidden_size))?;
        let hidden = self.merge_in.forward(&merged)?;
        let activated = activation::gelu(&hidden)?;
        let tokens = pictures.iter().map(|pixels| pixels.grid.height * pixels.grid.width / self.unit()).collect();
        let features = scatter_rows(&self.merge_out.forward(&activated)?, &order)?;
        let state =
            VisionState { patches, windows, pictures: whole, blocks, x, merged, hidden, activated, order, tokens };
        Ok((features, state))
    }

    /// Adds the gradients of all weights to `sums`, given that of the features.
    pub fn backward(&self, state: &VisionState, dfeatures: &Tensor, sums: &mut Sums) -> Result<()> {
        let dy = gather_rows(dfeatures, &state.order)?;
        let dactivated = self.merge_out.backward(&state.activated, &dy, None, sums)?;
        let dhidden = activation::gelu_backward(&state.hidden, &dactivated)?;
        let dmerged = self.merge_in.backward(&state.merged, &dhidden, None, sums)?.reshape(state.x.shape())?;
        let mut dx = self.ln_q.backward(&state.x, &dmerged, None, sums)?;
        for (n, (block, kept)) in self.blocks.iter().zip(&state.blocks).enumerate().rev() {
            dx = block.backward(kept, self.plan(n, &state.windows, &state.pictures), &dx, sums)?;
        }
        sums.add(PATCH_EMBED, self.frames_of_gradient(&product(&dx.t()?, &state.patches)?)?)?;
        Ok(())
    }

    /// The patch kernel for a still picture, whose frames are equal: the sum over frames, `[H, C·side²]`. It halves the
    /// tower's widest product; only the order of additions differs from the reference.
    fn still_kernel(&self) -> Result<Tensor> {
        let (frames, area) = (self.config.temporal_patch_size, self.config.patch_size * self.config.patch_size);
        let kernel = Floats::of(&self.patch_embed)?;
        let mut out = Vec::with_capacity(kernel.len() / frames);
        for channel in kernel.chunks_exact(frames * area) {
            out.extend((0..area).map(|i| (0..frames).map(|frame| channel[frame * area + i]).sum::<f32>()));
        }
        Ok(tensor(out, (self.config.hidden_size, self.still_dim()))?)
    }

    /// The gradient of [`Self::still_kernel`] as that of the kernel: every frame gets the same.
    fn frames_of_gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        let (frames, area) = (self.config.temporal_patch_size, self.config.patch_size * self.config.patch_size);
        let gradient = Floats::of(gradient)?;
        let frames_of = |channel| std::iter::repeat_n(channel, frames).flatten();
        let out = gradient.chunks_exact(area).flat_map(frames_of).copied().collect();
        Ok(tensor(out, self.patch_embed.shape())?)
    }

    /// Numbers of a patch in one frame.
    fn still_dim(&self) -> usize {
        self.config.patch_dim() / self.config.temporal_patch_size
    }

    fn plan<'a>(&self, block: usize, windows: &'a Plan, pictures: &'a Plan) -> &'a Plan {
        if self.config.fullatt_block_indexes.contains(&block) { pictures } else { windows }
    }

    /// Patches that make one merged token.
    fn unit(&self) -> usize {
        self.config.spatial_merge_size * self.config.spatial_merge_size
    }

    /// The patches of all pictures in window order, the token order, and how windows and whole pictures attend.
    fn arrange(&self, pictures: &[&Pixels]) -> Result<(Tensor, Vec<usize>, [Plan; 2])> {
        let (unit, width) = (self.unit(), self.config.patch_dim());
        let (frames, area) = (self.config.temporal_patch_size, self.config.patch_size * self.config.patch_size);
        let (mut order, mut patches, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut windows, mut wholes) = (Vec::new(), Vec::new());
        for pixels in pictures {
            let grid = pixels.grid;
            let merge = self.config.spatial_merge_size;
            let divides = grid.height % merge == 0 && grid.width % merge == 0;
            if !divides || pixels.patches.len() != grid.height * grid.width * width || pixels.patches.is_empty() {
                return Err(Error::Batch {
                    problem: format!(
                        "{} pixel values do not make {}x{} patches of {width}, each side a multiple of {merge}",
                        pixels.patches.len(),
                        grid.height,
                        grid.width
                    ),
                });
            }
            let (tokens, lengths) = window_order(grid.height / merge, grid.width / merge, self.config.window_tokens());
            let first = order.len();
            for &token in &tokens {
                let rows = &pixels.patches[token * unit * width..][..unit * width];
                // The first frame stands for all: see `still_kernel`.
                rows.chunks_exact(frames * area).for_each(|channel| patches.extend_from_slice(&channel[..area]));
                let (row, column) = (token / (grid.width / merge), token % (grid.width / merge));
                positions.extend((0..unit).map(|n| [row * merge + n / merge, column * merge + n % merge]));
            }
            order.extend(tokens.iter().map(|token| first + token));
            windows.extend(lengths.iter().map(|tokens| tokens * unit));
            wholes.push(tokens.len() * unit);
        }
        let patches = tensor(patches, (order.len() * unit, self.still_dim()))?;
        let rows = positions.iter().map(|position| position.map(|n| n as u32));
        let rotary = self.frequencies.patches(rows);
        let heads = Heads { kv: self.config.num_heads, rep: 1, dim: self.config.head_dim() };
        let plans = [windows, wholes].map(|lengths| segments(&lengths, rotary.clone(), heads));
        Ok((patches, order, plans))
    }
}

/// Attention inside consecutive segments of rows; neighbours of equal length are lanes of one span.
fn segments(lengths: &[usize], rotary: Rotary, heads: Heads) -> Plan {
    let (mut spans, mut start): (Vec<Span>, usize) = (Vec::new(), 0);
    for run in lengths.chunk_by(|a, b| a == b) {
        let lanes = Lanes { start, count: run.len(), length: run[0] };
        start += lanes.count * lanes.length;
        spans.push(Span { lanes, mask: Mask::Full, prompt: None });
    }
    Plan { spans, rotary, heads }
}

/// Merged tokens in window order, and each window's number of tokens. Windows of `side`² tokens run row by row, as do
/// the tokens inside; those at the right and lower edges are smaller.
pub fn window_order(height: usize, width: usize, side: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut order, mut lengths) = (Vec::with_capacity(height * width), Vec::new());
    for top in (0..height).step_by(side) {
        for left in (0..width).step_by(side) {
            let (bottom, right) = ((top + side).min(height), (left + side).min(width));
            for row in top..bottom {
                order.extend((left..right).map(|column| row * width + column));
            }
            lengths.push((bottom - top) * (right - left));
        }
    }
    (order, lengths)
}

/// Row `i` of `rows` becomes row `order[i]` of the result.
fn scatter_rows(rows: &Tensor, order: &[usize]) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    let mut out = vec![0.0; count * width];
    for (row, &to) in Floats::of(rows)?.chunks_exact(width).zip(order) {
        out[to * width..][..width].copy_from_slice(row);
    }
    Ok(tensor(out, (count, width))?)
}

/// Row `i` of the result is row `order[i]` of `rows`.
fn gather_rows(rows: &Tensor, order: &[usize]) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    let values = Floats::of(rows)?;
    let out = order.iter().flat_map(|&from| &values[from * width..][..width]).copied().collect();
    Ok(tensor(out, (count, width))?)
}

#[cfg(test)]
mod tests {
    use super::window_order;

    #[test]
    fn windows_of_the_reference_are_cut() {
        // Patch grids 4x6, 16x16 and 18x10; lengths are in merged tokens, a quarter of the patches.
        assert_eq!(window_order(2, 3, 4), ((0..6).collect(), vec![6]));
        assert_eq!(window_order(8, 8, 4).1, [16; 4]);
        let (order, lengths) = window_order(9, 5, 4);
        assert_eq!(lengths, [16, 4, 16, 4, 4, 1]);
        assert_eq!(order[..21], [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18, 4, 9, 14, 19, 20]);
        let (order, lengths) = window_order(14, 18, 4);
        assert_eq!((order.len(), lengths.len()), (252, 20));
    }
}
