//! The vision tower: patches to merged tokens in the language model's width, and back again for gradients.
//!
//! All pictures' patches are rows of one forward pass. They stand in window order from the start, so that a window is
//! a run of rows and windows of equal length are one batched product; only the merged tokens are put back in order.

use candle_core::{Tensor, Var};

use crate::config::{Config, VisionConfig};
use crate::error::{Error, Result};
use crate::ops::attention::{Plan, Span};
use crate::ops::block::{Block, Keep, Kept, Projection, keep};
use crate::ops::heads::{Heads, Lanes, Rotary};
use crate::ops::linear::Linear;
use crate::ops::norm::Norm;
use crate::ops::product::product;
use crate::ops::softmax::Mask;
use crate::ops::sums::Sums;
use crate::ops::{Floats, activation, tensor};
use crate::positions::Frequencies;
use crate::processor::Pixels;
use crate::weights::Weights;

/// Constants of the reference's code, not of its configuration.
const EPSILON: f64 = 1e-6;
const THETA: f64 = 1e4;

const PATCH_EMBED: &str = "visual.patch_embed.proj.weight";
const MERGER: &str = "visual.merger";

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
    blocks: Vec<Kept>,
    x: Tensor,
    merged: Tensor,
    hidden: Tensor,
    activated: Tensor,
    /// For each merged token in window order, its row in picture order.
    order: Vec<usize>,
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
            ln_q: norm(format!("{MERGER}.ln_q.weight"))?,
            merge_in: linear(format!("{MERGER}.mlp.0"))?,
            merge_out: linear(format!("{MERGER}.mlp.2"))?,
            frequencies: Frequencies::new(THETA, config.head_dim() / 4),
            config,
        })
    }

    /// Merged tokens of all pictures, `[tokens, out]`, each picture's in row-major order. Nothing is kept for a gradient.
    pub fn pass(&self, pictures: &[&Pixels]) -> Result<Tensor> {
        Ok(self.forward_keeping(pictures, Keep::Nothing)?.0)
    }

    /// [`Self::pass`] with what the backward pass needs for the gradients that are wanted.
    pub fn forward(&self, pictures: &[&Pixels], sums: &Sums) -> Result<(Tensor, VisionState)> {
        let keep = if is_walked(sums) { self.keep(self.rows(pictures)) } else { Keep::Nothing };
        self.forward_keeping(pictures, keep)
    }

    /// Whether any of the tower's gradients is wanted, the merger's or those of its blocks.
    pub fn is_wanted(&self, sums: &Sums) -> bool {
        is_walked(sums) || sums.wants(&format!("{MERGER}.mlp.2.weight"))
    }

    /// Merged tokens of a picture.
    pub fn tokens(&self, pixels: &Pixels) -> usize {
        pixels.grid.height * pixels.grid.width / self.unit()
    }

    /// Patches of these pictures: the rows of a pass.
    pub fn rows(&self, pictures: &[&Pixels]) -> usize {
        pictures.iter().map(|pixels| pixels.grid.height * pixels.grid.width).sum()
    }

    /// Bytes that [`Self::forward`] keeps of that many rows, about.
    pub fn bytes(&self, rows: usize) -> usize {
        let a_row = match self.keep(rows) {
            Keep::States => self.blocks.iter().map(Block::state_values).sum(),
            Keep::Inputs | Keep::Nothing => self.blocks.len() * self.config.hidden_size,
        };
        rows * (a_row + self.still_dim() + 4 * self.config.hidden_size) * size_of::<f32>()
    }

    fn keep(&self, rows: usize) -> Keep {
        keep(&self.blocks, rows)
    }

    /// All blocks and the merger, with a choice of what is kept of the blocks.
    pub(crate) fn forward_keeping(&self, pictures: &[&Pixels], keep: Keep) -> Result<(Tensor, VisionState)> {
        let (patches, order, [windows, whole]) = self.arrange(pictures)?;
        let mut x = product(&patches, &self.still_kernel()?.t()?)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (n, block) in self.blocks.iter().enumerate() {
            let (y, kept) = block.forward_keeping(x, self.plan(n, &windows, &whole), keep)?;
            x = y;
            blocks.extend(kept);
        }
        let merged = self.ln_q.forward(&x)?.reshape((order.len(), self.unit() * self.config.hidden_size))?;
        let hidden = self.merge_in.forward(&merged)?;
        let activated = activation::gelu(&hidden)?;
        let features = scatter_rows(&self.merge_out.forward(&activated)?, &order)?;
        let state = VisionState { patches, windows, pictures: whole, blocks, x, merged, hidden, activated, order };
        Ok((features, state))
    }

    /// Adds the gradients of all weights to `sums`, given that of the features, `[tokens, out]` row by row.
    pub fn backward(&self, state: VisionState, dfeatures: &[f32], sums: &mut Sums) -> Result<()> {
        let VisionState { patches, windows, pictures, mut blocks, x, merged, hidden, activated, order } = state;
        let mut dx = self.merger_backward([&x, &merged, &hidden, &activated], dfeatures, &order, sums)?;
        drop([x, merged, hidden, activated]);
        if !is_walked(sums) {
            return Ok(());
        }
        for (n, block) in self.blocks.iter().enumerate().rev() {
            let Some(kept) = blocks.pop() else { break };
            match block.backward(kept, self.plan(n, &windows, &pictures), dx, true, sums)? {
                Some(gradient) => dx = gradient,
                None => return Ok(()),
            }
        }
        let dx = tensor(dx, (patches.dim(0)?, self.config.hidden_size))?;
        sums.add(PATCH_EMBED, &self.frames_of_gradient(&product(&dx.t()?, &patches)?)?)?;
        Ok(())
    }

    /// The gradient of the merger's input, row by row, given that of the features.
    fn merger_backward(
        &self,
        [x, merged, hidden, activated]: [&Tensor; 4],
        dfeatures: &[f32],
        order: &[usize],
        sums: &mut Sums,
    ) -> Result<Vec<f32>> {
        let dy = gather_rows(dfeatures, dfeatures.len() / order.len(), order);
        self.merge_out.backward(&Floats::of(activated)?, &dy, sums)?;
        let mut dactivated = vec![0.0; activated.elem_count()];
        self.merge_out.backward_input(&dy, false, &mut dactivated)?;
        let dhidden = activation::gelu_backward(hidden, &tensor(dactivated, hidden.shape())?)?;
        let dhidden = Floats::of(&dhidden)?;
        self.merge_in.backward(&Floats::of(merged)?, &dhidden, sums)?;
        let mut dmerged = vec![0.0; merged.elem_count()];
        self.merge_in.backward_input(&dhidden, false, &mut dmerged)?;
        let mut dx = vec![0.0; dmerged.len()];
        self.ln_q.backward(&Floats::of(x)?, &dmerged, &mut dx, sums)?;
        Ok(dx)
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
        let (mut order, mut positions) = (Vec::new(), Vec::new());
        let mut patches = Vec::with_capacity(self.rows(pictures) * self.still_dim());
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

/// Whether the backward pass goes below the merger.
fn is_walked(sums: &Sums) -> bool {
    sums.wants(PATCH_EMBED)
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

/// Row `i` of the result is row `order[i]` of `rows`, which are of `width`.
fn gather_rows(rows: &[f32], width: usize, order: &[usize]) -> Vec<f32> {
    order.iter().flat_map(|&from| &rows[from * width..][..width]).copied().collect()
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
