//! The vision tower on tensors: one picture's patches to merged tokens in the language model's width.
//!
//! Patches stand in window order, and windows of equal length stand together (there are four lengths at most: inner
//! ones, those at the right and the lower edge, the corner), so that the attention of a kind is one batched product.

use candle_core::{DType, Device, Tensor};

use super::attention::{Attention, Segments};
use super::layers::{Block, Heads, Linear, Norm, Rotary, SideBySide, gelu_slope};
use super::sums::Sums;
use super::upload;
use super::weights::Tensors;
use crate::config::{Config, VisionConfig};
use crate::error::{Error, Result};
use crate::positions::Frequencies;
use crate::processor::Pixels;
use crate::vision::window_order;

/// Constants of the reference's code, not of its configuration.
const EPSILON: f64 = 1e-6;
const THETA: f64 = 1e4;

const PATCH_EMBED: &str = "visual.patch_embed.proj.weight";

/// The tower's weights and sizes.
#[derive(Debug)]
pub(super) struct VisionTower {
    config: VisionConfig,
    device: Device,
    dtype: DType,
    /// `[H, C, F, side, side]`: channels, frames.
    patch_embed: Tensor,
    blocks: Vec<Block>,
    ln_q: Norm,
    merge_in: Linear,
    merge_out: Linear,
    frequencies: Frequencies,
}

/// A picture's patches as rows.
struct Arranged {
    /// One frame of each patch.
    patches: Vec<f32>,
    /// Merged tokens in the order of the rows.
    order: Vec<usize>,
    /// Windows of equal length: how many, and the rows of each.
    windows: Vec<(usize, usize)>,
    /// Row and column of each patch.
    positions: Vec<[u32; 2]>,
}

/// The same on the device.
struct Rows {
    /// `[R, C·side²]`.
    patches: Tensor,
    rotary: Rotary,
    /// Merged tokens in the order of the rows.
    order: Vec<u32>,
    windows: Vec<(usize, usize)>,
    whole: [(usize, usize); 1],
}

impl Rows {
    /// Inside which rows block `n` attends.
    fn segments(&self, config: &VisionConfig, n: usize) -> &[(usize, usize)] {
        if config.fullatt_block_indexes.contains(&n) { &self.whole } else { &self.windows }
    }
}

/// How far down the tower gradients are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not at all: it is frozen.
    Nothing,
    /// The merger's alone.
    Merger,
    /// All.
    Tower,
}

impl Reach {
    /// By what is wanted.
    pub fn of(sums: &Sums) -> Self {
        match (sums.wants(PATCH_EMBED), sums.wants("visual.merger.mlp.2.weight")) {
            (true, _) => Self::Tower,
            (false, true) => Self::Merger,
            (false, false) => Self::Nothing,
        }
    }
}

impl VisionTower {
    /// Takes the tensors named `visual.…`.
    pub fn new(config: &Config, tensors: &mut Tensors) -> Result<Self> {
        let config = config.vision.clone();
        let heads = Heads { kv: config.num_heads, rep: 1, dim: config.head_dim() };
        let mut block = |n: usize| -> Result<Block> {
            let name = |part: &str| format!("visual.blocks.{n}.{part}");
            Ok(Block {
                norm1: tensors.norm(&name("norm1"), EPSILON)?,
                projection: SideBySide(vec![tensors.linear(&name("attn.qkv"))?]),
                output: tensors.linear(&name("attn.proj"))?,
                norm2: tensors.norm(&name("norm2"), EPSILON)?,
                gate_up: tensors.side_by_side(&[name("mlp.gate_proj"), name("mlp.up_proj")])?,
                down: tensors.linear(&name("mlp.down_proj"))?,
                heads,
            })
        };
        let blocks = (0..config.depth).map(&mut block).collect::<Result<_>>()?;
        Ok(Self {
            device: tensors.device.clone(),
            dtype: tensors.dtype,
            patch_embed: tensors.take(PATCH_EMBED)?,
            blocks,
            ln_q: tensors.norm("visual.merger.ln_q", EPSILON)?,
            merge_in: tensors.linear("visual.merger.mlp.0")?,
            merge_out: tensors.linear("visual.merger.mlp.2")?,
            frequencies: Frequencies::new(THETA, config.head_dim() / 4),
            config,
        })
    }

    /// Merged tokens of a picture, `[tokens, out]`, in row-major order.
    pub fn pass(&self, pixels: &Pixels) -> Result<Tensor> {
        let rows = self.rows(pixels)?;
        let mut x = self.embed(&rows)?;
        for (n, block) in self.blocks.iter().enumerate() {
            let segments = Segments(rows.segments(&self.config, n));
            x = block.forward(&x, &rows.rotary, |projected| segments.forward(&projected))?;
        }
        let merged = self.merge_in.forward(&self.merged(&x)?)?.gelu_erf()?;
        let mut places = vec![0_u32; rows.order.len()];
        (0..).zip(&rows.order).for_each(|(row, token)| places[*token as usize] = row);
        Ok(self.merge_out.forward(&merged)?.index_select(&Tensor::new(places, &self.device)?, 0)?)
    }

    /// Adds the gradients of all weights to `sums`, given that of [`Self::pass`]'s result in `f32`. The pass is made again, of
    /// which only the blocks' inputs are kept.
    pub fn backward(&self, pixels: &Pixels, dy: &Tensor, reach: Reach, sums: &mut Sums) -> Result<()> {
        let rows = self.rows(pixels)?;
        let mut inputs = vec![self.embed(&rows)?];
        for (n, block) in self.blocks.iter().enumerate() {
            let segments = Segments(rows.segments(&self.config, n));
            inputs.push(block.forward(&inputs[n], &rows.rotary, |projected| segments.forward(&projected))?);
        }
        let mut dx = match inputs.pop() {
            Some(x) => self.merger_backward(&x, &rows, dy, sums)?,
            None => return Ok(()),
        };
        if reach == Reach::Merger {
            return Ok(());
        }
        for (n, block) in self.blocks.iter().enumerate().rev() {
            let Some(x) = inputs.pop() else { break };
            dx = block.backward(&x, &rows.rotary, &Segments(rows.segments(&self.config, n)), &dx, sums)?;
        }
        // Every frame of the kernel gets what their sum gets.
        let [hidden, channels, frames, side, _] = *self.patch_embed.dims() else {
            return Err(Error::Batch {
                problem: format!("the patch kernel has {} sides, not 5", self.patch_embed.rank()),
            });
        };
        sums.add(PATCH_EMBED, || {
            let of_still = dx.t()?.matmul(&rows.patches)?.reshape((hidden, channels, 1, side, side))?;
            of_still.broadcast_as((hidden, channels, frames, side, side))?.contiguous()
        })?;
        Ok(())
    }

    /// The gradient of the last block's result.
    fn merger_backward(&self, x: &Tensor, rows: &Rows, dy: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        let merged = self.merged(x)?;
        let hidden = self.merge_in.forward(&merged)?;
        let order = Tensor::new(rows.order.as_slice(), &self.device)?;
        let dy = dy.index_select(&order, 0)?.to_dtype(self.dtype)?;
        let dactivated = self.merge_out.backward(&hidden.gelu_erf()?, &dy, sums)?.to_dtype(DType::F32)?;
        let dhidden = (dactivated * gelu_slope(&hidden)?)?.to_dtype(self.dtype)?;
        let dnormed = self.merge_in.backward(&merged, &dhidden, sums)?.reshape(x.shape())?;
        Ok(self.ln_q.backward(x, &dnormed, sums)?)
    }

    /// A picture's rows as the merger takes them, so many patches a token.
    fn merged(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.ln_q.forward(x)?.reshape((x.dim(0)? / self.unit(), self.unit() * self.config.hidden_size))?)
    }

    fn rows(&self, pixels: &Pixels) -> Result<Rows> {
        let Arranged { patches, order, windows, positions } = self.arrange(pixels)?;
        let count = positions.len();
        let angles = self.frequencies.patches(positions.into_iter());
        Ok(Rows {
            patches: upload(patches, (count, self.still_dim()), &self.device, self.dtype)?,
            // The reference rotates in f32 and casts back.
            rotary: Rotary::new(angles, &self.device, DType::F32)?,
            order: order.into_iter().map(|token| token as u32).collect(),
            windows,
            whole: [(1, count)],
        })
    }

    /// The product with the kernel for a still picture, whose frames are equal: the sum over frames, `[H, C·side²]`.
    fn embed(&self, rows: &Rows) -> Result<Tensor> {
        let summed = self.patch_embed.to_dtype(DType::F32)?.sum(2)?.to_dtype(self.dtype)?;
        let kernel = summed.reshape((self.config.hidden_size, self.still_dim()))?;
        Ok(rows.patches.matmul(&kernel.t()?)?)
    }

    /// Numbers of a patch in one frame.
    fn still_dim(&self) -> usize {
        self.config.patch_dim() / self.config.temporal_patch_size
    }

    /// Patches that make one merged token.
    pub fn unit(&self) -> usize {
        self.config.spatial_merge_size * self.config.spatial_merge_size
    }

    fn arrange(&self, pixels: &Pixels) -> Result<Arranged> {
        let (unit, width, merge) = (self.unit(), self.config.patch_dim(), self.config.spatial_merge_size);
        let (frames, area) = (self.config.temporal_patch_size, self.config.patch_size * self.config.patch_size);
        let grid = pixels.grid;
        let divides = grid.height.is_multiple_of(merge) && grid.width.is_multiple_of(merge);
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
        let columns = grid.width / merge;
        let (tokens, lengths) = window_order(grid.height / merge, columns, self.config.window_tokens());
        let mut rest = tokens.as_slice();
        let mut windows: Vec<&[usize]> = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (window, later) = rest.split_at(length);
            windows.push(window);
            rest = later;
        }
        windows.sort_by_key(|window| window.len());
        let kinds = windows.chunk_by(|a, b| a.len() == b.len()).map(|kind| (kind.len(), kind[0].len() * unit));
        let kinds = kinds.collect();
        let order = windows.concat();
        let (mut patches, mut positions) = (Vec::with_capacity(pixels.patches.len() / frames), Vec::new());
        for &token in &order {
            let rows = &pixels.patches[token * unit * width..][..unit * width];
            rows.chunks_exact(frames * area).for_each(|channel| patches.extend_from_slice(&channel[..area]));
            let (row, column) = (token / columns, token % columns);
            let place = |n: usize| [row * merge + n / merge, column * merge + n % merge].map(|at| at as u32);
            positions.extend((0..unit).map(place));
        }
        Ok(Arranged { patches, order, windows: kinds, positions })
    }
}
