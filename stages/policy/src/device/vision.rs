//! The vision tower on tensors: one picture's patches to merged tokens in the language model's width.
//!
//! Patches stand in window order, and windows of equal length stand together (there are four lengths at most: inner
//! ones, those at the right and the lower edge, the corner), so that the attention of a kind is one batched product.

use candle_core::{DType, Device, Tensor};

use super::layers::{Block, Heads, Linear, Norm, Projected, Rotary, Sight, attend};
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

/// The tower's weights and sizes.
#[derive(Debug)]
pub(super) struct VisionTower {
    config: VisionConfig,
    device: Device,
    dtype: DType,
    patch_embed: Linear,
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

impl VisionTower {
    /// Takes the tensors named `visual.…`.
    pub fn new(config: &Config, tensors: &mut Tensors) -> Result<Self> {
        let config = config.vision.clone();
        let heads = Heads { kv: config.num_heads, rep: 1, dim: config.head_dim() };
        let mut block = |n: usize| -> Result<Block> {
            let name = |part: &str| format!("visual.blocks.{n}.{part}");
            Ok(Block {
                norm1: tensors.norm(&name("norm1"), EPSILON)?,
                projection: tensors.linear(&name("attn.qkv"))?,
                output: tensors.linear(&name("attn.proj"))?,
                norm2: tensors.norm(&name("norm2"), EPSILON)?,
                gate_up: tensors.joined(&[name("mlp.gate_proj"), name("mlp.up_proj")])?,
                down: tensors.linear(&name("mlp.down_proj"))?,
                heads,
            })
        };
        let blocks = (0..config.depth).map(&mut block).collect::<Result<_>>()?;
        Ok(Self {
            device: tensors.device.clone(),
            dtype: tensors.dtype,
            patch_embed: Linear { weight: still_kernel(&config, tensors)?, bias: None },
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
        let Arranged { patches, order, windows, positions } = self.arrange(pixels)?;
        let (rows, tokens) = (positions.len(), order.len());
        let angles = self.frequencies.patches(positions.into_iter());
        // The reference rotates in f32 and casts back.
        let rotary = Rotary::new(angles, &self.device, DType::F32)?;
        let patches = upload(patches, (rows, self.still_dim()), &self.device, self.dtype)?;
        let mut x = self.patch_embed.forward(&patches)?;
        let whole = [(1, rows)];
        for (n, block) in self.blocks.iter().enumerate() {
            let segments = if self.config.fullatt_block_indexes.contains(&n) { &whole[..] } else { &windows[..] };
            x = block.forward(&x, &rotary, |projected| attend_segments(&projected, segments))?;
        }
        let merged = self.ln_q.forward(&x)?.reshape((tokens, self.unit() * self.config.hidden_size))?;
        let merged = self.merge_out.forward(&self.merge_in.forward(&merged)?.gelu_erf()?)?;
        let mut places = vec![0_u32; tokens];
        (0..).zip(&order).for_each(|(row, token)| places[*token] = row);
        Ok(merged.index_select(&Tensor::from_vec(places, tokens, &self.device)?, 0)?)
    }

    /// Numbers of a patch in one frame.
    fn still_dim(&self) -> usize {
        self.config.patch_dim() / self.config.temporal_patch_size
    }

    /// Patches that make one merged token.
    fn unit(&self) -> usize {
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

/// The patch kernel for a still picture, whose frames are equal: the sum over frames, `[H, C·side²]`.
fn still_kernel(config: &VisionConfig, tensors: &mut Tensors) -> Result<Tensor> {
    let kernel = tensors.take("visual.patch_embed.proj.weight")?;
    let summed = kernel.to_dtype(DType::F32)?.sum(2)?.to_dtype(kernel.dtype())?;
    Ok(summed.reshape((config.hidden_size, config.patch_dim() / config.temporal_patch_size))?)
}

/// Attention inside consecutive segments of rows, each entry so many of one length.
fn attend_segments(projected: &Projected, segments: &[(usize, usize)]) -> candle_core::Result<Tensor> {
    let (heads, _, rows, dim) = projected.queries.dims4()?;
    let (mut out, mut start) = (Vec::with_capacity(segments.len()), 0);
    for &(count, length) in segments {
        let of_segments = |x: &Tensor, at: usize| x.narrow(at, start, count * length);
        let batch = heads * count;
        let queries = of_segments(&projected.queries, 2)?.reshape((batch, 1, length, dim))?;
        let keys = of_segments(&projected.keys, 1)?.reshape((batch, length, dim))?;
        let values = of_segments(&projected.values, 1)?.reshape((batch, length, dim))?;
        out.push(attend(&queries, &keys, &values, Sight::Full)?.reshape((heads, 1, count * length, dim))?);
        start += count * length;
    }
    Tensor::cat(&out, 2)?.reshape((heads, 1, rows, dim))
}
