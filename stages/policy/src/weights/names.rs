//! Which tensors a model has, and under which of the names in use.

use crate::config::Config;

/// The head, absent where it is tied to the embedding matrix.
pub(super) const HEAD: &str = "lm_head.weight";

/// Release name and shape of every tensor of a model, in the model's order; no head where it is tied.
pub fn expected(config: &Config) -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    vision_tensors(config, &mut all);
    text_tensors(config, &mut all);
    all
}

/// Name and shape of a linear layer: `[out, in]` and, where it has one, its bias.
fn linear(all: &mut Vec<(String, Vec<usize>)>, name: &str, output: usize, input: usize, bias: bool) {
    all.push((format!("{name}.weight"), vec![output, input]));
    if bias {
        all.push((format!("{name}.bias"), vec![output]));
    }
}

fn vision_tensors(config: &Config, all: &mut Vec<(String, Vec<usize>)>) {
    let v = &config.vision;
    let (hidden, inner) = (v.hidden_size, v.intermediate_size);
    let patch = vec![hidden, v.in_chans, v.temporal_patch_size, v.patch_size, v.patch_size];
    all.push(("visual.patch_embed.proj.weight".to_owned(), patch));
    for block in 0..v.depth {
        let name = |part: &str| format!("visual.blocks.{block}.{part}");
        all.push((name("norm1.weight"), vec![hidden]));
        all.push((name("norm2.weight"), vec![hidden]));
        linear(all, &name("attn.qkv"), 3 * hidden, hidden, true);
        linear(all, &name("attn.proj"), hidden, hidden, true);
        linear(all, &name("mlp.gate_proj"), inner, hidden, true);
        linear(all, &name("mlp.up_proj"), inner, hidden, true);
        linear(all, &name("mlp.down_proj"), hidden, inner, true);
    }
    let merged = hidden * v.spatial_merge_size * v.spatial_merge_size;
    all.push(("visual.merger.ln_q.weight".to_owned(), vec![hidden]));
    linear(all, "visual.merger.mlp.0", merged, merged, true);
    linear(all, "visual.merger.mlp.2", v.out_hidden_size, merged, true);
}

fn text_tensors(config: &Config, all: &mut Vec<(String, Vec<usize>)>) {
    let t = &config.text;
    let (hidden, inner, kv) = (t.hidden_size, t.intermediate_size, t.num_key_value_heads * t.head_dim());
    all.push(("model.embed_tokens.weight".to_owned(), vec![t.vocab_size, hidden]));
    for layer in 0..t.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        all.push((name("input_layernorm.weight"), vec![hidden]));
        all.push((name("post_attention_layernorm.weight"), vec![hidden]));
        linear(all, &name("self_attn.q_proj"), hidden, hidden, true);
        linear(all, &name("self_attn.k_proj"), kv, hidden, true);
        linear(all, &name("self_attn.v_proj"), kv, hidden, true);
        linear(all, &name("self_attn.o_proj"), hidden, hidden, false);
        linear(all, &name("mlp.gate_proj"), inner, hidden, false);
        linear(all, &name("mlp.up_proj"), inner, hidden, false);
        linear(all, &name("mlp.down_proj"), hidden, inner, false);
    }
    all.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        all.push((HEAD.to_owned(), vec![t.vocab_size, hidden]));
    }
}

/// The release's name of a tensor. Trainers also write the names that the modules have in memory, and transformers
/// 5.5.3 writes a mix, so each name is mapped by itself.
pub(super) fn release_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        format!("model.{rest}")
    } else if name.starts_with("model.visual.") {
        name["model.".len()..].to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn the_releases_have_as_many_tensors_and_numbers_as_published() {
        let mut config = config(false);
        config.text = crate::config::TextConfig {
            hidden_size: 3584,
            intermediate_size: 18944,
            num_hidden_layers: 28,
            num_attention_heads: 28,
            num_key_value_heads: 4,
            vocab_size: 152_064,
            max_position_embeddings: 128_000,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            mrope_section: [16, 24, 24],
        };
        config.vision = crate::config::VisionConfig {
            depth: 32,
            hidden_size: 1280,
            intermediate_size: 3420,
            num_heads: 16,
            out_hidden_size: 3584,
            patch_size: 14,
            spatial_merge_size: 2,
            temporal_patch_size: 2,
            window_size: 112,
            fullatt_block_indexes: vec![7, 15, 23, 31],
            in_chans: 3,
        };
        let count = |config: &Config| {
            let all = expected(config);
            (all.len(), all.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>())
        };
        assert_eq!(count(&config), (729, 8_292_166_656));
        config.tie_word_embeddings = true;
        config.text.hidden_size = 2048;
        config.text.intermediate_size = 11008;
        config.text.num_hidden_layers = 36;
        config.text.num_attention_heads = 16;
        config.text.num_key_value_heads = 2;
        config.text.vocab_size = 151_936;
        config.vision.out_hidden_size = 2048;
        assert_eq!(count(&config), (824, 3_754_622_976));
    }
}
