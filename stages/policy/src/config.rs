//! `config.json` and `generation_config.json`: the sizes and token ids of a model. All four generations of the file
//! that trainers have written since the release are read; the release's flat layout is written.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::checkpoint::{Json, read_json, read_json_if_present, write_json};
use crate::error::{Error, Result};

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
    /// Reads `config.json` and, where there is one, `generation_config.json`.
    ///
    /// # Errors
    /// A file that is missing or malformed; a field that is missing, of the wrong type, or of a value for which this
    /// crate has no arithmetic (another architecture, activation or rotary scheme).
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let value = read_json(&path)?;
        let top = Json::new(&path, &value)?;
        if let Some(found) = top.text("model_type")?.filter(|&name| name != "qwen2_5_vl") {
            return Err(
                top.error("model_type", format!("found {found}, expected qwen2_5_vl: no other architecture is read"))
            );
        }
        // Since 4.52 the text fields are nested, in 4.x with a flat copy beside them.
        let text = top.object("text_config")?.unwrap_or_else(|| top.clone());
        let vision = top.object("vision_config")?.ok_or_else(|| top.missing("vision_config"))?;

        let generation_path = folder.join("generation_config.json");
        let generation = read_json_if_present(&generation_path)?.unwrap_or_else(|| json!({}));
        let mut eos = Json::new(&generation_path, &generation)?.tokens("eos_token_id")?;
        for source in [&top, &text] {
            if eos.is_empty() {
                eos = source.tokens("eos_token_id")?;
            }
        }
        if eos.is_empty() {
            return Err(top.missing("eos_token_id"));
        }
        let tied = match top.truth("tie_word_embeddings")? {
            Some(tied) => tied,
            None => text.truth("tie_word_embeddings")?.unwrap_or(false),
        };
        let token = |field| top.token(field)?.ok_or_else(|| top.missing(field));
        let config = Self {
            image_token_id: token("image_token_id")?,
            video_token_id: token("video_token_id")?,
            vision_start_token_id: token("vision_start_token_id")?,
            vision_end_token_id: token("vision_end_token_id")?,
            vision_token_id: top.token("vision_token_id")?,
            tie_word_embeddings: tied,
            bos: top.token("bos_token_id")?.or(text.token("bos_token_id")?),
            eos,
            generation: generation.as_object().cloned().unwrap_or_default(),
            text: read_text(&text)?,
            vision: read_vision(&vision)?,
        };
        config.check().map_err(|(part, field, problem)| match part {
            Part::Text => text.error(field, problem),
            Part::Vision => vision.error(field, problem),
        })?;
        Ok(config)
    }

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

fn read_text(text: &Json) -> Result<TextConfig> {
    silu(text)?;
    if text.truth("use_sliding_window")? == Some(true) {
        return Err(text.error("use_sliding_window", "found true; only full attention is computed here"));
    }
    // 5.x gathers base and sections in `rope_parameters`; before, `rope_theta` stood beside `rope_scaling`.
    let (rope, name) = match text.object("rope_parameters")? {
        Some(rope) => (Some(rope), "rope_parameters"),
        None => (text.object("rope_scaling")?, "rope_scaling"),
    };
    let rope = rope.ok_or_else(|| text.missing(name))?;
    for field in ["rope_type", "type"] {
        if let Some(found) = rope.text(field)?.filter(|name| !matches!(*name, "mrope" | "default")) {
            return Err(rope.error(
                field,
                format!("found {found}, expected mrope or default: lengthened positions are not computed here"),
            ));
        }
    }
    let theta = match rope.number("rope_theta")? {
        Some(theta) => Some(theta),
        None => text.number("rope_theta")?,
    };
    let sections = rope.integers("mrope_section")?.ok_or_else(|| rope.missing("mrope_section"))?;
    Ok(TextConfig {
        hidden_size: text.require_integer("hidden_size")?,
        intermediate_size: text.require_integer("intermediate_size")?,
        num_hidden_layers: text.require_integer("num_hidden_layers")?,
        num_attention_heads: text.require_integer("num_attention_heads")?,
        num_key_value_heads: text.require_integer("num_key_value_heads")?,
        vocab_size: text.require_integer("vocab_size")?,
        max_position_embeddings: text.integer("max_position_embeddings")?.unwrap_or(128_000),
        rms_norm_eps: text.number("rms_norm_eps")?.ok_or_else(|| text.missing("rms_norm_eps"))?,
        rope_theta: theta.ok_or_else(|| text.missing("rope_theta"))?,
        mrope_section: sections.try_into().map_err(|found: Vec<usize>| {
            rope.error("mrope_section", format!("found {found:?}, expected three numbers"))
        })?,
    })
}

/// transformers 4.49 drops every vision key that has the 7B value, so those values are filled in. The hidden size is
/// always there: the code's default (3584) is no release's.
fn read_vision(vision: &Json) -> Result<VisionConfig> {
    silu(vision)?;
    let or = |field, value| Ok::<_, Error>(vision.integer(field)?.unwrap_or(value));
    let channels = match vision.integer("in_chans")? {
        Some(channels) => channels,
        None => or("in_channels", 3)?,
    };
    if channels != 3 {
        return Err(vision.error("in_chans", format!("found {channels}, expected 3")));
    }
    Ok(VisionConfig {
        depth: or("depth", 32)?,
        hidden_size: vision.require_integer("hidden_size")?,
        intermediate_size: or("intermediate_size", 3420)?,
        num_heads: or("num_heads", 16)?,
        out_hidden_size: or("out_hidden_size", 3584)?,
        patch_size: or("patch_size", 14)?,
        spatial_merge_size: or("spatial_merge_size", 2)?,
        temporal_patch_size: or("temporal_patch_size", 2)?,
        window_size: or("window_size", 112)?,
        fullatt_block_indexes: vision.integers("fullatt_block_indexes")?.unwrap_or_else(|| vec![7, 15, 23, 31]),
        in_chans: channels,
    })
}

fn silu(part: &Json) -> Result<()> {
    match part.text("hidden_act")? {
        None | Some("silu") => Ok(()),
        Some(found) => Err(part.error("hidden_act", format!("found {found}, expected silu"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `config.json` of the 7B release, but for the fields that nothing reads.
    fn release() -> Value {
        json!({
            "model_type": "qwen2_5_vl", "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064,
            "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "max_position_embeddings": 128_000, "use_sliding_window": false, "sliding_window": 32768,
            "tie_word_embeddings": false, "bos_token_id": 151_643, "eos_token_id": 151_645,
            "vision_start_token_id": 151_652, "vision_end_token_id": 151_653, "vision_token_id": 151_654,
            "image_token_id": 151_655, "video_token_id": 151_656,
            "vision_config": {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420,
                "hidden_act": "silu", "in_chans": 3, "patch_size": 14, "spatial_patch_size": 14, "temporal_patch_size": 2,
                "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
                "tokens_per_second": 2, "out_hidden_size": 3584},
        })
    }

    fn load(config: &Value) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        Config::load(folder.path())
    }

    fn message(config: &Value) -> String {
        load(config).unwrap_err().to_string()
    }

    #[test]
    fn the_release_layout_reads_and_is_written_back() {
        let config = load(&release()).unwrap();
        assert_eq!(config.text.head_dim(), 128);
        assert_eq!(config.vision.head_dim(), 80);
        assert_eq!(config.vision.patch_dim(), 1176);
        assert_eq!(config.vision.window_tokens(), 4);
        assert_eq!(config.eos, [151_645]);
        let written = config.to_json();
        for (field, value) in release().as_object().unwrap() {
            assert_eq!(&written[field], value, "{field}");
        }
        assert_eq!(load(&written).unwrap(), config);
    }

    #[test]
    fn vision_keys_that_4_49_drops_are_filled_with_the_release_values() {
        let mut sparse = release();
        sparse["vision_config"] = json!({"hidden_size": 1280, "in_chans": 3, "model_type": "qwen2_5_vl",
            "spatial_patch_size": 14, "tokens_per_second": 2, "torch_dtype": "bfloat16"});
        sparse["rope_scaling"] = json!({"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"});
        assert_eq!(load(&sparse).unwrap(), load(&release()).unwrap());
    }

    #[test]
    fn the_nested_layout_of_4_52_beside_a_flat_copy_reads_the_same() {
        let mut both = release();
        both["text_config"] = release();
        both["text_config"]["model_type"] = json!("qwen2_5_vl_text");
        both["text_config"]["sliding_window"] = Value::Null;
        let tied = both.as_object_mut().unwrap().shift_remove("tie_word_embeddings").unwrap();
        both["text_config"]["tie_word_embeddings"] = tied;
        assert_eq!(load(&both).unwrap(), load(&release()).unwrap());
    }

    #[test]
    fn the_nested_layout_of_5_reads_the_same() {
        let flat = release();
        let mut text = json!({"model_type": "qwen2_5_vl_text", "layer_types": ["full_attention"], "pad_token_id": null,
            "rope_parameters": {"mrope_section": [16, 24, 24], "rope_theta": 1_000_000.0, "rope_type": "default", "type": "mrope"}});
        for field in [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "vocab_size",
            "rms_norm_eps",
            "max_position_embeddings",
            "bos_token_id",
            "eos_token_id",
        ] {
            text[field] = flat[field].clone();
        }
        let mut nested = json!({"model_type": "qwen2_5_vl", "dtype": "float32", "tie_word_embeddings": false,
            "text_config": text, "vision_config": flat["vision_config"]});
        for field in
            ["vision_start_token_id", "vision_end_token_id", "vision_token_id", "image_token_id", "video_token_id"]
        {
            nested[field] = flat[field].clone();
        }
        nested["vision_config"]["in_channels"] = json!(3);
        nested["vision_config"]["rope_parameters"] = json!({"rope_theta": 10000.0, "rope_type": "axial"});
        assert_eq!(load(&nested).unwrap(), load(&flat).unwrap());
    }

    #[test]
    fn the_end_tokens_of_the_generation_config_win() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), release().to_string()).unwrap();
        let generation = r#"{"eos_token_id": [151645, 151643], "temperature": 1e-06}"#;
        std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
        let config = Config::load(folder.path()).unwrap();
        assert_eq!(config.eos, [151_645, 151_643]);
        let again = tempfile::tempdir().unwrap();
        config.save(again.path()).unwrap();
        assert_eq!(Config::load(again.path()).unwrap(), config);
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let mut config = release();
        config.as_object_mut().unwrap().shift_remove("vocab_size");
        assert!(message(&config).contains("config.json: field `vocab_size`: is missing"), "{}", message(&config));
        config["vocab_size"] = json!("many");
        assert!(message(&config).contains("field `vocab_size`: found \"many\""), "{}", message(&config));
        let mut config = release();
        config["vision_config"]["depth"] = json!(-1);
        assert!(message(&config).contains("field `vision_config.depth`: found -1"), "{}", message(&config));
    }

    #[test]
    fn what_this_crate_cannot_compute_is_refused() {
        for (field, value, named) in [
            ("model_type", json!("qwen3_vl"), "expected qwen2_5_vl"),
            ("hidden_act", json!("gelu"), "expected silu"),
            ("use_sliding_window", json!(true), "full attention"),
            ("rope_scaling", json!({"type": "yarn", "mrope_section": [16, 24, 24]}), "yarn"),
            ("rope_scaling", json!({"type": "mrope", "mrope_section": [16, 24, 25]}), "sums to 65"),
            ("num_attention_heads", json!(27), "multiple of 27"),
            ("num_attention_heads", json!(0), "1 or more"),
            ("hidden_size", json!(28 * 64), "mrope_section"),
        ] {
            let mut config = release();
            config[field] = value;
            assert!(message(&config).contains(named), "{}", message(&config));
        }
        let mut config = release();
        config["vision_config"]["out_hidden_size"] = json!(2048);
        assert!(message(&config).contains("vision_config.out_hidden_size"), "{}", message(&config));
    }
}
