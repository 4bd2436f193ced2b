//! The language model on tensors: embeddings, blocks, head. Prompts are read here; what follows them is in `decode`.

use candle_core::{DType, Device, Tensor};

use super::attention::{KeysValues, Projected, Sight, attend};
use super::layers::{Block, Heads, Linear, Norm, Rotary};
use super::sums::Sums;
use super::weights::Tensors;
use crate::config::{Config, TextConfig};
use crate::error::{Error, Result};
use crate::positions::{Frequencies, Positions};
use crate::sample::Asked;

/// The embedding matrix, without `.weight`.
pub(super) const EMBEDDINGS: &str = "model.embed_tokens";

/// The language model's weights and sizes.
#[derive(Debug)]
pub(super) struct TextModel {
    pub config: TextConfig,
    pub device: Device,
    pub dtype: DType,
    embed_tokens: Tensor,
    blocks: Vec<Block>,
    pub norm: Norm,
    pub head: Linear,
    frequencies: Frequencies,
}

/// A prompt that was read: its keys and values in every layer, `[kv, P, d]`, and the position of the token after it.
#[derive(Debug)]
pub(super) struct PromptCache {
    pub layers: Vec<KeysValues>,
    pub next: u32,
}

impl TextModel {
    /// Takes the tensors named `model.…` and `lm_head.weight`.
    pub fn new(config: &Config, tensors: &mut Tensors) -> Result<Self> {
        let tied = config.tie_word_embeddings;
        let config = config.text.clone();
        let epsilon = config.rms_norm_eps;
        let kv = config.num_key_value_heads;
        let heads = Heads { kv, rep: config.num_attention_heads / kv, dim: config.head_dim() };
        let mut block = |n: usize| -> Result<Block> {
            let name = |part: &str| format!("model.layers.{n}.{part}");
            let projections = ["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}")));
            Ok(Block {
                norm1: tensors.norm(&name("input_layernorm"), epsilon)?,
                projection: tensors.side_by_side(&projections)?,
                output: tensors.linear(&name("self_attn.o_proj"))?,
                norm2: tensors.norm(&name("post_attention_layernorm"), epsilon)?,
                gate_up: tensors.side_by_side(&[name("mlp.gate_proj"), name("mlp.up_proj")])?,
                down: tensors.linear(&name("mlp.down_proj"))?,
                heads,
            })
        };
        let blocks = (0..config.num_hidden_layers).map(&mut block).collect::<Result<_>>()?;
        let embed_tokens = tensors.take(&format!("{EMBEDDINGS}.weight"))?;
        let head = if tied {
            Linear { name: EMBEDDINGS.to_owned(), weight: embed_tokens.clone(), bias: None }
        } else {
            tensors.linear("lm_head")?
        };
        Ok(Self {
            device: tensors.device.clone(),
            dtype: tensors.dtype,
            embed_tokens,
            blocks,
            norm: tensors.norm("model.norm", epsilon)?,
            head,
            frequencies: Frequencies::new(config.rope_theta, config.head_dim() / 2),
            config,
        })
    }

    /// The decoder blocks, in order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Bytes of keys and values that a token takes, in all layers.
    pub fn bytes_a_token(&self) -> usize {
        let width = self.config.num_key_value_heads * self.config.head_dim();
        self.blocks.len() * 2 * width * self.dtype.size_in_bytes()
    }

    /// Zeros `[N, kv, S, d]` for keys or values of lanes.
    pub fn empty(&self, lanes: usize, tokens: usize) -> Result<Tensor> {
        let shape = (lanes, self.config.num_key_value_heads, tokens, self.config.head_dim());
        Ok(Tensor::zeros(shape, self.dtype, &self.device)?)
    }

    /// Rotation of text at positions 0 to `count`, of which rows are then picked.
    pub fn rotary(&self, count: u32) -> Result<Rotary> {
        self.rotary_at((0..count).map(|position| [position; 3]))
    }

    /// Angles are made in `f32` and cast to the model's number format, as in the reference.
    pub fn rotary_at(&self, positions: impl Iterator<Item = [u32; 3]>) -> Result<Rotary> {
        let angles = self.frequencies.text(positions, self.config.mrope_section);
        Ok(Rotary::new(angles, &self.device, self.dtype)?)
    }

    /// Embeddings `[R, H]` of ids that are within the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(self.embed_tokens.index_select(&Tensor::new(ids, &self.device)?, 0)?)
    }

    /// Adds the gradient of the embedding matrix to `sums`, given that of a prompt's rows and of the rows of `ids` after them;
    /// pictures' rows are no embeddings.
    pub fn embed_backward(
        &self,
        prompt: &[u32],
        ids: &[u32],
        image: u32,
        drows: &Tensor,
        sums: &mut Sums,
    ) -> Result<()> {
        let tokens = prompt.iter().chain(ids).zip(0_u32..);
        // The image token within the prompt alone: what follows was sampled.
        let here = tokens.filter(|(id, row)| **id != image || *row as usize >= prompt.len());
        let (ids, rows): (Vec<u32>, Vec<u32>) = here.map(|(id, row)| (*id, row)).unzip();
        sums.add(&format!("{EMBEDDINGS}.weight"), || {
            let drows = drows.index_select(&Tensor::new(rows, &self.device)?, 0)?.to_dtype(DType::F32)?;
            let zeros = Tensor::zeros(self.embed_tokens.shape(), DType::F32, &self.device)?;
            zeros.index_add(&Tensor::new(ids, &self.device)?, &drows, 0)
        })?;
        Ok(())
    }

    /// Logits `[R, V]` of rows `[R, H]`, in `f32`.
    pub fn logits(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(self.head.forward(&self.norm.forward(rows)?)?.to_dtype(DType::F32)?)
    }

    /// Reads a prompt: its keys and values, and the last row `[1, H]`, which predicts what follows.
    pub fn read(&self, asked: &Asked, image_token: u32, merge: usize) -> Result<(PromptCache, Tensor)> {
        let positions = Positions::of(&asked.prompt.ids, image_token, &asked.prompt.grids, merge)?;
        let rotary = self.rotary_at(positions.tokens.into_iter())?;
        let mut x = self.embed_prompt(asked, image_token)?;
        let mut layers = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            x = block.forward(&x, &rotary, |Projected { queries, keys, values }| {
                let attended = attend(&queries, &keys, &values, Sight::Causal)?;
                // Copies: these are parts of larger tensors, which would be kept with them.
                layers.push(KeysValues { keys: keys.force_contiguous()?, values: values.force_contiguous()? });
                Ok(attended)
            })?;
        }
        let last = x.narrow(0, x.dim(0)? - 1, 1)?;
        Ok((PromptCache { layers, next: positions.next }, last))
    }

    /// A prompt's rows: embeddings, and the pictures' merged tokens in their places.
    pub fn embed_prompt(&self, asked: &Asked, image_token: u32) -> Result<Tensor> {
        let ids = &asked.prompt.ids;
        let (embedded, mut features) = (self.embed(ids)?, asked.features.iter());
        let (mut pieces, mut start) = (Vec::new(), 0);
        for run in ids.chunk_by(|a, b| (*a == image_token) == (*b == image_token)) {
            let mut filled = 0;
            while run[0] == image_token && filled < run.len() {
                let features = features.next().ok_or(Error::PictureCount { expected: 1, found: 0 })?;
                filled += features.tensor.dim(0)?;
                pieces.push(features.tensor.to_device(&self.device)?.to_dtype(self.dtype)?);
            }
            if run[0] != image_token {
                pieces.push(embedded.narrow(0, start, run.len())?);
            } else if filled != run.len() {
                let problem = format!("pictures of {filled} tokens were given where the prompt has {}", run.len());
                return Err(Error::Batch { problem });
            }
            start += run.len();
        }
        Ok(Tensor::cat(&pieces, 0)?)
    }
}
