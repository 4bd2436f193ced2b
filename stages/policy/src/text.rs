//! The language model over rows: embeddings, decoder blocks, the head; packed forward and backward, and decoding one
//! token a lane from cached keys and values.

use candle_core::{Tensor, Var};

use crate::config::{Config, TextConfig};
use crate::error::Result;
use crate::ops::attention::{Attended, KeysValues, Plan, SpanState};
use crate::ops::block::{Block, BlockState, Projection};
use crate::ops::heads::{Heads, Lanes, Rotary, merge, split};
use crate::ops::linear::{Linear, Sums};
use crate::ops::norm::Norm;
use crate::ops::softmax::Mask;
use crate::ops::{Floats, tensor};
use crate::positions::Frequencies;
use crate::weights::Weights;

const EMBEDDINGS: &str = "model.embed_tokens";

/// The language model's weights and sizes.
#[derive(Debug)]
pub struct TextModel {
    config: TextConfig,
    embed_tokens: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
    frequencies: Frequencies,
}

/// What the backward pass needs of the blocks' forward pass.
#[derive(Debug)]
pub struct TextState {
    blocks: Vec<BlockState<Vec<SpanState>>>,
}

impl TextState {
    /// Keys and values of one span in every layer: a prompt's cache.
    pub fn into_cache(self, span: usize) -> Vec<KeysValues> {
        self.blocks.into_iter().map(|mut block| block.attention.swap_remove(span).own).collect()
    }
}

/// What the backward pass needs of the head's forward pass.
#[derive(Debug)]
pub struct HeadState {
    x: Tensor,
    normed: Tensor,
}

impl TextModel {
    /// Takes the weights named `model.…` and `lm_head.weight`; they stay shared with `weights`.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        let tied = config.tie_word_embeddings;
        let config = config.text.clone();
        let at = |name: &str| weights.get(name).map(Var::as_detached_tensor);
        let linear = |name: String| at(&format!("{name}.weight")).map(|weight| Linear::new(name, weight, None));
        let biased = |name: String| -> Result<Linear> {
            let (weight, bias) = (at(&format!("{name}.weight"))?, at(&format!("{name}.bias"))?);
            Ok(Linear::new(name, weight, Some(bias)))
        };
        let norm = |name: String| at(&name).map(|weight| Norm::new(name, weight, config.rms_norm_eps));
        let heads = Heads {
            kv: config.num_key_value_heads,
            rep: config.num_attention_heads / config.num_key_value_heads,
            dim: config.head_dim(),
        };
        let block = |n: usize| -> Result<Block> {
            let name = |part: &str| format!("model.layers.{n}.{part}");
            Ok(Block {
                norm1: norm(name("input_layernorm.weight"))?,
                projection: Projection::Separate([
                    biased(name("self_attn.q_proj"))?,
                    biased(name("self_attn.k_proj"))?,
                    biased(name("self_attn.v_proj"))?,
                ]),
                output: linear(name("self_attn.o_proj"))?,
                norm2: norm(name("post_attention_layernorm.weight"))?,
                gate: linear(name("mlp.gate_proj"))?,
                up: linear(name("mlp.up_proj"))?,
                down: linear(name("mlp.down_proj"))?,
                heads,
            })
        };
        Ok(Self {
            embed_tokens: at(&format!("{EMBEDDINGS}.weight"))?,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?,
            norm: norm("model.norm.weight".to_owned())?,
            head: linear(if tied { EMBEDDINGS } else { "lm_head" }.to_owned())?,
            frequencies: Frequencies::new(config.rope_theta, config.head_dim() / 2),
            config,
        })
    }

    /// Width of the residual stream.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    /// Division of a row of queries into heads.
    pub fn heads(&self) -> Heads {
        Heads {
            kv: self.config.num_key_value_heads,
            rep: self.config.num_attention_heads / self.config.num_key_value_heads,
            dim: self.config.head_dim(),
        }
    }

    /// Rotation of rows at these positions.
    pub fn rotary(&self, positions: impl Iterator<Item = [u32; 3]>) -> Rotary {
        self.frequencies.text(positions, self.config.mrope_section)
    }

    /// The embedding matrix, `[V, H]` row by row.
    pub(crate) fn embeddings(&self) -> Result<Floats<'_>> {
        Ok(Floats::of(&self.embed_tokens)?)
    }

    /// Embeddings of tokens, `[R, H]`; ids must be within the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let width = self.hidden_size();
        let table = self.embeddings()?;
        let rows = ids.iter().flat_map(|&id| &table[id as usize * width..][..width]).copied().collect();
        Ok(tensor(rows, (ids.len(), width))?)
    }

    /// Adds the rows of `dx` to the gradient of their tokens' embeddings; rows without an id are not embeddings.
    pub fn embed_backward(&self, ids: impl Iterator<Item = Option<u32>>, dx: &Tensor, sums: &mut Sums) -> Result<()> {
        let width = self.hidden_size();
        let mut gradient = vec![0.0; self.embed_tokens.elem_count()];
        for (row, id) in Floats::of(dx)?.chunks_exact(width).zip(ids) {
            let Some(id) = id else { continue };
            let sum = &mut gradient[id as usize * width..][..width];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums.add(&format!("{EMBEDDINGS}.weight"), tensor(gradient, self.embed_tokens.shape())?)?;
        Ok(())
    }

    /// All blocks over packed rows.
    pub fn forward(&self, mut x: Tensor, plan: &Plan) -> Result<(Tensor, TextState)> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, state) = block.forward(x, |projected| plan.forward(projected))?;
            x = y;
            blocks.push(state);
        }
        Ok((x, TextState { blocks }))
    }

    /// The gradient of [`Self::forward`]'s input, given that of its result.
    pub fn backward(&self, state: &TextState, plan: &Plan, mut dx: Tensor, sums: &mut Sums) -> Result<Tensor> {
        for (block, kept) in self.blocks.iter().zip(&state.blocks).rev() {
            dx = block.backward(kept, plan, &dx, sums)?;
        }
        Ok(dx)
    }

    /// Logits `[M, V]` of rows `[M, H]`: the final norm and the head.
    pub fn logits(&self, x: Tensor) -> Result<(Tensor, HeadState)> {
        let normed = self.norm.forward(&x)?;
        Ok((self.head.product(&normed)?, HeadState { x, normed }))
    }

    /// The gradient of [`Self::logits`]'s input, given that of the logits.
    pub fn logits_backward(&self, state: &HeadState, dlogits: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        let dnormed = self.head.backward(&state.normed, dlogits, None, sums)?;
        Ok(self.norm.backward(&state.x, &dnormed, None, sums)?)
    }

    /// All blocks over one new token a lane, `x [L, H]`, at position `position` (the same in all three rows).
    pub fn decode(&self, mut x: Tensor, cache: &mut Cache, position: u32) -> Result<Tensor> {
        let lanes = Lanes { start: 0, count: x.dim(0)?, length: 1 };
        let rotary = self.rotary(std::iter::repeat_n([position; 3], lanes.count));
        let (heads, step) = (self.heads(), cache.length);
        for (block, layer) in self.blocks.iter().zip(&cache.layers) {
            let (y, _) = block.forward(x, |projected| {
                let queries = split(projected.q, heads, lanes, Some(&rotary))?;
                let by_lane = (heads.kv * lanes.count, 1, heads.dim);
                let keys = split(projected.k, heads.keys(), lanes, Some(&rotary))?.reshape(by_lane)?;
                let values = split(projected.v, heads.keys(), lanes, None)?.reshape(by_lane)?;
                layer.own.keys.slice_set(&keys, 1, step)?;
                layer.own.values.slice_set(&values, 1, step)?;
                let own = KeysValues {
                    keys: layer.own.keys.narrow(1, 0, step + 1)?,
                    values: layer.own.values.narrow(1, 0, step + 1)?,
                };
                let shared = Some(&layer.prompt);
                let attended = Attended { shared, own: &own, mask: Mask::Full, rep: heads.rep };
                let (_, from_own, from_shared) = attended.forward(&queries)?;
                let parts: Vec<&Tensor> = std::iter::once(&from_own).chain(&from_shared).collect();
                let mut out = vec![0.0; lanes.count * heads.width()];
                merge(&parts, heads, lanes, None, &mut out, heads.width(), 0)?;
                Ok((tensor(out, (lanes.count, heads.width()))?, ()))
            })?;
            x = y;
        }
        cache.length += 1;
        Ok(x)
    }
}

/// Keys and values while decoding: the prompt's once, and room for each lane's own.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    length: usize,
}

#[derive(Debug)]
struct LayerCache {
    prompt: KeysValues,
    own: KeysValues,
}

impl Cache {
    /// A cache for `lanes` lanes of at most `capacity` new tokens after a prompt.
    pub fn new(prompt: Vec<KeysValues>, lanes: usize, capacity: usize) -> Result<Self> {
        let room = |prompt: &Tensor| -> Result<Tensor> {
            let (kv, _, dim) = prompt.dims3()?;
            Ok(Tensor::zeros((kv * lanes, capacity, dim), prompt.dtype(), prompt.device())?)
        };
        let layer = |prompt: KeysValues| -> Result<LayerCache> {
            let own = KeysValues { keys: room(&prompt.keys)?, values: room(&prompt.values)? };
            Ok(LayerCache { prompt, own })
        };
        Ok(Self { layers: prompt.into_iter().map(layer).collect::<Result<_>>()?, length: 0 })
    }
}
