//! `config.json` and `generation_config.json`: the sizes and token ids of a model. All four generations of the file
//! that trainers have written since the release are read (`read`); the release's flat layout is written.

mod read;

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::checkpoint::write_json;
use crate::error::Result;

/// Sizes, constants and token ids of a Qwen2.5-VL model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// `<|image_pad|>`: its embeddings are overwritten by picture features.
    pub image_token_id: u32,
    /// `<|video_pad|>`; never used here, and banned from sampling.
    pub video_token_id: u32,
    /// `<|vision_start|>`, before a picture's tokens.
    pub vision_start_token_id: u32,
    /// `<|vision_end|>`, after a picture's tokens.
    pub vision_end_token_id: u32,
    /// `<|vision_pad|>`, where the file names it.
    pub vision_token_id: Option<u32>,
    /// Whether the output head is the embedding matrix (3B: yes, 7B: no).
    pub tie_word_embeddings: bool,
    /// The beginning-of-text id where the file names one; nothing is ever put before a prompt.
    pub bos: Option<u32>,
    /// Ids that end a completion, at least one: from `generation_config.json`, else from `config.json`.
    pub eos: Vec<u32>,
    /// `generation_config.json` as found, for writing it back. Nothing but `eos_token_id` is obeyed: the releases'
    /// temperature of 1e-6 and repetition penalty of 1.05 would make 32 votes one.
    pub generation: Map<String, Value>,
}

/// Sizes of the language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Rows of the embedding matrix; the last ones have no token.
    pub vocab_size: usize,
    /// Longest sequence that the positions reach, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How many rotary frequencies follow time, height and width; sums to half the head's width.
    pub mrope_section: [usize; 3],
}

impl TextConfig {
    /// Width of one attention head. The files have no field for it.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

/// Sizes of the vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the merger's output: the language model's hidden size.
    pub out_hidden_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side of the square of patches that becomes one token.
    pub spatial_merge_size: usize,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Blocks that attend over the whole picture; the others attend inside windows.
    pub fullatt_block_indexes: Vec<usize>,
    /// Colour channels.
    pub in_chans: usize,
}

impl VisionConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Numbers in one patch: channels · frames · side².
    pub fn patch_dim(&self) -> usize {
        self.in_chans * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Side of a window in merged tokens.
    pub fn window_tokens(&self) -> usize {
        self.window_size / self.patch_size / self.spatial_merge_size
    }
}

/// The half of a configuration that a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The language model.
    Text,
    /// The vision tower.
    Vision,
}

impl Config {
    /// What no arithmetic could follow: sizes of nothing, widths that do not divide, sections that do not sum. The
    /// error is the part, the field and the problem.
    pub(crate) fn check(&self) -> std::result::Result<(), (Part, &'static str, String)> {
        let (t, v) = (&self.text, &self.vision);
        let sizes = [
            (Part::Text, "hidden_size", t.hidden_size),
            (Part::Text, "intermediate_size", t.intermediate_size),
            (Part::Text, "num_hidden_layers", t.num_hidden_layers),
            (Part::Text, "num_attention_heads", t.num_attention_heads),
            (Part::Text, "num_key_value_heads", t.num_key_value_heads),
            (Part::Text, "vocab_size", t.vocab_size),
            (Part::Vision, "depth", v.depth),
            (Part::Vision, "hidden_size", v.hidden_size),
            (Part::Vision, "intermediate_size", v.intermediate_size),
            (Part::Vision, "num_heads", v.num_heads),
            (Part::Vision, "patch_size", v.patch_size),
            (Part::Vision, "spatial_merge_size", v.spatial_merge_size),
            (Part::Vision, "temporal_patch_size", v.temporal_patch_size),
            (Part::Vision, "window_size", v.window_size),
        ];
        if let Some((part, field, _)) = sizes.into_iter().find(|(_, _, size)| *size == 0) {
            return Err((part, field, "found 0, expected 1 or more".to_owned()));
        }
        let divisions = [
            (Part::Text, "hidden_size", t.hidden_size, t.num_attention_heads, "num_attention_heads"),
            (Part::Text, "num_attention_heads", t.num_attention_heads, t.num_key_value_heads, "num_key_value_heads"),
            (Part::Vision, "hidden_size", v.hidden_size, 4 * v.num_heads, "4 * num_heads"),
            (
                Part::Vision,
                "window_size",
                v.window_size,
                v.patch_size * v.spatial_merge_size,
                "patch_size * spatial_merge_size",
            ),
        ];
        for (part, field, size, divisor, of) in divisions {
            if !size.is_multiple_of(divisor) {
                return Err((part, field, format!("found {size}, expected a multiple of {divisor} ({of})")));
            }
        }
        let sum: usize = t.mrope_section.iter().sum();
        if 2 * sum != t.head_dim() {
            let problem = format!("sums to {sum}, expected half the width of a head, which is {}", t.head_dim());
            return Err((Part::Text, "mrope_section", problem));
        }
        if v.out_hidden_size != t.hidden_size {
            let problem =
                format!("found {}, expected {}, the language model's hidden_size", v.out_hidden_size, t.hidden_size);
            return Err((Part::Vision, "out_hidden_size", problem));
        }
        Ok(())
    }

    /// `config.json` in the layout of the releases: flat, with every key written out. The weights that are saved
    /// beside it are f32, and it says so.
    pub fn to_json(&self) -> Value {
        let (t, v) = (&self.text, &self.vision);
        let mut value = json!({
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "attention_dropout": 0.0,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos.first(),
            "hidden_act": "silu",
            "hidden_size": t.hidden_size,
            "image_token_id": self.image_token_id,
            "initializer_range": 0.02,
            "intermediate_size": t.intermediate_size,
            "max_position_embeddings": t.max_position_embeddings,
            "max_window_layers": t.num_hidden_layers,
            "model_type": "qwen2_5_vl",
            "num_attention_heads": t.num_attention_heads,
            "num_hidden_layers": t.num_hidden_layers,
            "num_key_value_heads": t.num_key_value_heads,
            "rms_norm_eps": t.rms_norm_eps,
            "rope_scaling": { "type": "mrope", "mrope_section": t.mrope_section },
            "rope_theta": t.rope_theta,
            "sliding_window": 32768,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "transformers_version": "4.41.2",
            "use_cache": true,
            "use_sliding_window": false,
            "video_token_id": self.video_token_id,
            "vision_config": {
                "depth": v.depth,
                "fullatt_block_indexes": v.fullatt_block_indexes,
                "hidden_act": "silu",
                "hidden_size": v.hidden_size,
                "in_chans": v.in_chans,
                "intermediate_size": v.intermediate_size,
                "num_heads": v.num_heads,
                "out_hidden_size": v.out_hidden_size,
                "patch_size": v.patch_size,
                "spatial_merge_size": v.spatial_merge_size,
                "spatial_patch_size": v.patch_size,
                "temporal_patch_size": v.temporal_patch_size,
                "tokens_per_second": 2,
                "window_size": v.window_size,
            },
            "vision_end_token_id": self.vision_end_token_id,
            "vision_start_token_id": self.vision_start_token_id,
            "vision_token_id": self.vision_token_id,
            "vocab_size": t.vocab_size,
        });
        // An absent id is left out: `null` would stand for "no such token" in some versions' checks.
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        value
    }

    /// Writes `config.json` and `generation_config.json`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("config.json"), &self.to_json())?;
        let mut generation = self.generation.clone();
        generation.insert("eos_token_id".to_owned(), json!(self.eos));
        write_json(&folder.join("generation_config.json"), &Value::Object(generation))
    }
}
