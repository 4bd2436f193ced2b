//! The language model over packed rows: embeddings, decoder blocks, the head; forward and backward. Decoding from cached
//! keys and values is in `decode`.

use candle_core::{Tensor, Var};

use crate::config::{Config, TextConfig};
use crate::error::Result;
use crate::ops::attention::{KeysValues, Plan};
use crate::ops::block::{Block, Keep, Kept, Projection, keep};
use crate::ops::heads::{Heads, Rotary};
use crate::ops::linear::{Kernel, Linear};
use crate::ops::norm::Norm;
use crate::ops::sums::Sums;
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
    blocks: Vec<Kept>,
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
    pub fn embed_backward(&self, ids: impl Iterator<Item = Option<u32>>, dx: &[f32], sums: &mut Sums) {
        let width = self.hidden_size();
        sums.add_with(&embedding_name(), self.embed_tokens.shape(), |gradient| {
            for (row, id) in dx.chunks_exact(width).zip(ids) {
                let Some(id) = id else { continue };
                let sum = &mut gradient[id as usize * width..][..width];
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        });
    }

    /// Whether the gradient of the embedding matrix is wanted.
    pub fn embedding_is_wanted(&self, sums: &Sums) -> bool {
        sums.wants(&embedding_name())
    }

    /// All blocks over packed rows; nothing is kept for a gradient. Also gives each span's keys and values, layer by
    /// layer.
    pub fn pass(&self, mut x: Tensor, plan: &Plan) -> Result<(Tensor, Vec<Vec<KeysValues>>)> {
        let mut kept = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, spans) = block.forward(x, Kernel::General, |projected| plan.forward(projected))?;
            x = y;
            kept.push(spans.into_iter().map(|span| span.own).collect());
        }
        Ok((x, kept))
    }

    /// The decoder blocks, in order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// All blocks over packed rows, with what the backward pass needs: every block's state where all of them are small,
    /// else every block's input.
    pub fn forward(&self, x: Tensor, plan: &Plan) -> Result<(Tensor, TextState)> {
        let keep = keep(&self.blocks, x.dim(0)?);
        self.forward_keeping(x, plan, keep)
    }

    /// [`Self::forward`] with a choice of what is kept.
    pub(crate) fn forward_keeping(&self, mut x: Tensor, plan: &Plan, keep: Keep) -> Result<(Tensor, TextState)> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, kept) = block.forward_keeping(x, plan, keep)?;
            x = y;
            blocks.extend(kept);
        }
        Ok((x, TextState { blocks }))
    }

    /// The gradient of [`Self::forward`]'s input where it is wanted (`below`), given that of its result. What was kept of
    /// a block goes as soon as it was used.
    pub fn backward(
        &self,
        mut state: TextState,
        plan: &Plan,
        mut dx: Vec<f32>,
        below: bool,
        sums: &mut Sums,
    ) -> Result<Option<Vec<f32>>> {
        for (n, block) in self.blocks.iter().enumerate().rev() {
            let Some(kept) = state.blocks.pop() else { return Ok(None) };
            match block.backward(kept, plan, dx, below || n > 0, sums)? {
                Some(gradient) => dx = gradient,
                None => return Ok(None),
            }
        }
        Ok(Some(dx))
    }

    /// Logits `[M, V]` of rows `[M, H]`: the final norm and the head.
    pub fn logits(&self, x: Tensor, kernel: Kernel) -> Result<(Tensor, HeadState)> {
        let normed = self.norm.forward(&x)?;
        Ok((self.head.product(&normed, kernel)?, HeadState { x, normed }))
    }

    /// The gradient of [`Self::logits`]'s input, given that of the logits.
    pub fn logits_backward(&self, state: &HeadState, dlogits: &Tensor, sums: &mut Sums) -> Result<Vec<f32>> {
        let dlogits = Floats::of(dlogits)?;
        self.head.backward(&Floats::of(&state.normed)?, &dlogits, sums)?;
        let mut dnormed = vec![0.0; state.normed.elem_count()];
        self.head.backward_input(&dlogits, false, &mut dnormed)?;
        let mut dx = vec![0.0; dnormed.len()];
        self.norm.backward(&Floats::of(&state.x)?, &dnormed, &mut dx, sums)?;
        Ok(dx)
    }
}

fn embedding_name() -> String {
    format!("{EMBEDDINGS}.weight")
}
