//! Reading `config.json` and `generation_config.json`: all four generations that trainers have written since the release.

use std::path::Path;

use serde_json::json;

use super::{Config, Part, TextConfig, VisionConfig};
use crate::checkpoint::{Json, read_json, read_json_if_present};
use crate::error::{Error, Result};

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
    use serde_json::Value;

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
