//! A new, untrained checkpoint of a given shape. Its weights are drawn by name from one seed, so that the same shape and
//! seed give the same bytes everywhere.

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Deserialize;
use serde_json::{Map, json};

use crate::config::{Config, Part, TextConfig, VisionConfig};
use crate::error::{Error, Result};
use crate::processor::Processor;
use crate::prompt::{Question, Reasoning, Task};
use crate::template::{SYSTEM_LINE, Template};
use crate::tokenizer::{END_OF_TEXT, IMAGE_PAD, TURN_END, Tokenizer, VIDEO_PAD, VISION_END, VISION_PAD, VISION_START};
use crate::weights::{self, Weights};

/// Standard deviation of the embeddings.
const EMBEDDING_STD: f64 = 0.05;

/// The sizes of a new checkpoint. Patches, channels, norms and the tied head are the release's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// The language model.
    pub text: TextShape,
    /// The vision tower.
    pub vision: VisionShape,
    /// Fewest pixels of a picture after the processor's resize.
    pub min_pixels: usize,
    /// Most pixels of a picture after the processor's resize.
    pub max_pixels: usize,
    /// Merges that the tokenizer learns, at most.
    pub merges: usize,
}

/// Sizes of the language model; see [`TextConfig`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextShape {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Rows of the embedding matrix: the tokenizer's length or more.
    pub vocab_size: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rotary frequencies for time, height and width; sums to half the head's width.
    pub mrope_section: [usize; 3],
}

/// Sizes of the vision tower; see [`VisionConfig`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionShape {
    /// Blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Blocks that attend over the whole picture.
    pub fullatt_block_indexes: Vec<usize>,
}

/// The pieces of text that are one token each in a new checkpoint's tokenizer: the sentences of both questions, what
/// the chat layout puts around them, and the marks of a reply. A prompt of 53 tokens would need 152 without them.
pub fn fixed_pieces() -> Vec<String> {
    let mut pieces: Vec<String> =
        [SYSTEM_LINE, "system\n", "user\n", "assistant\n", "\n", "<think>", "</think>", "\\boxed{"]
            .map(str::to_owned)
            .into();
    for task in [Task::Compare, Task::Score] {
        for sentence in Question::new(task, Reasoning::On).sentences() {
            if !pieces.iter().any(|piece| piece == sentence) {
                pieces.push(sentence.to_owned());
            }
        }
    }
    pieces
}

/// Makes a checkpoint of a shape around a tokenizer (of [`Tokenizer::train`] with [`fixed_pieces`], as a rule).
///
/// Matrices are N(0, 1/fan-in); those that write to the residual stream are divided by √(2·layers); embeddings have a
/// standard deviation of .05; norms are one, biases zero. The patch projection is a cosine basis that whitens natural
/// pictures. Every draw is keyed by seed and tensor name.
///
/// # Errors
/// A shape that fits no model, or a tokenizer that it has no room for.
pub fn init(
    shape: &Shape,
    tokenizer: Tokenizer,
    seed: u64,
    device: &Device,
) -> Result<(Config, Weights, Tokenizer, Template, Processor)> {
    let config = config(shape, &tokenizer)?;
    let tensors = weights::expected(&config).into_iter().map(|(name, dims)| {
        let values = values(&config, &name, &dims, seed);
        Ok((name, Tensor::from_vec(values, dims, device)?))
    });
    let weights = Weights::from_tensors(tensors.collect::<Result<Vec<_>>>()?)?;
    Ok((config, weights, tokenizer, Template::standard()?, Processor::new(shape.min_pixels, shape.max_pixels)))
}

fn config(shape: &Shape, tokenizer: &Tokenizer) -> Result<Config> {
    let refuse = |field: &str, problem: String| Error::Shape { field: field.to_owned(), problem };
    let (t, v) = (&shape.text, &shape.vision);
    if shape.min_pixels == 0 || shape.min_pixels > shape.max_pixels {
        let problem =
            format!("found {}, expected 1 or more and not above max_pixels ({})", shape.min_pixels, shape.max_pixels);
        return Err(refuse("min_pixels", problem));
    }
    if t.vocab_size < tokenizer.len() {
        let problem =
            format!("found {}, the tokenizer has {} tokens; raise it or lower merges", t.vocab_size, tokenizer.len());
        return Err(refuse("text.vocab_size", problem));
    }
    let token = |name| {
        tokenizer.id(name).ok_or_else(|| refuse("text.vocab_size", format!("the tokenizer has no token {name}")))
    };
    let (end_of_text, turn_end) = (token(END_OF_TEXT)?, token(TURN_END)?);
    let config = Config {
        text: TextConfig {
            hidden_size: t.hidden_size,
            intermediate_size: t.intermediate_size,
            num_hidden_layers: t.num_hidden_layers,
            num_attention_heads: t.num_attention_heads,
            num_key_value_heads: t.num_key_value_heads,
            vocab_size: t.vocab_size,
            max_position_embeddings: t.max_position_embeddings,
            rms_norm_eps: 1e-6,
            rope_theta: t.rope_theta,
            mrope_section: t.mrope_section,
        },
        vision: VisionConfig {
            depth: v.depth,
            hidden_size: v.hidden_size,
            intermediate_size: v.intermediate_size,
            num_heads: v.num_heads,
            out_hidden_size: t.hidden_size,
            patch_size: 14,
            spatial_merge_size: 2,
            temporal_patch_size: 2,
            window_size: v.window_size,
            fullatt_block_indexes: v.fullatt_block_indexes.clone(),
            in_chans: 3,
        },
        image_token_id: token(IMAGE_PAD)?,
        video_token_id: token(VIDEO_PAD)?,
        vision_start_token_id: token(VISION_START)?,
        vision_end_token_id: token(VISION_END)?,
        vision_token_id: Some(token(VISION_PAD)?),
        tie_word_embeddings: true,
        bos: Some(end_of_text),
        eos: vec![turn_end, end_of_text],
        generation: Map::from_iter([
            ("bos_token_id".to_owned(), json!(end_of_text)),
            ("do_sample".to_owned(), json!(true)),
            ("eos_token_id".to_owned(), json!([turn_end, end_of_text])),
            ("pad_token_id".to_owned(), json!(end_of_text)),
        ]),
    };
    config.check().map_err(|(part, field, problem)| {
        let part = match part {
            Part::Text => "text",
            Part::Vision => "vision",
        };
        refuse(&format!("{part}.{field}"), problem)
    })?;
    Ok(config)
}

/// The first values of one tensor.
fn values(config: &Config, name: &str, dims: &[usize], seed: u64) -> Vec<f32> {
    let count: usize = dims.iter().product();
    if name.contains("norm") || name.ends_with("ln_q.weight") {
        return vec![1.0; count];
    }
    if name.rsplit('.').next() == Some("bias") {
        return vec![0.0; count];
    }
    let rows = dims.first().copied().unwrap_or(1).max(1);
    let scale = if name == "model.embed_tokens.weight" {
        EMBEDDING_STD
    } else {
        let writes = ["o_proj.weight", "down_proj.weight", "attn.proj.weight"].iter().any(|end| name.ends_with(end));
        let layers = if name.starts_with("visual.") { config.vision.depth } else { config.text.num_hidden_layers };
        let residual = if writes { (2 * layers) as f64 } else { 1.0 };
        1.0 / ((count / rows) as f64 * residual).sqrt()
    };
    let mut values = normals(seed, name, count, scale);
    if name == "visual.patch_embed.proj.weight" {
        cosine_basis(&config.vision, &mut values);
    }
    values
}

/// `count` draws from N(0, scale²), keyed by seed and name: Box and Muller's method with the logarithm and cosine of
/// the `libm` crate, which are the same on every machine.
fn normals(seed: u64, name: &str, count: usize, scale: f64) -> Vec<f32> {
    let mut key = blake3::Hasher::new();
    key.update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(*key.finalize().as_bytes());
    // 53 bits, above 0 and up to 1.
    let mut uniform = move || ((generator.next_u64() >> 11) + 1) as f64 * (1.0 / (1_u64 << 53) as f64);
    let mut pair = || {
        let radius = scale * (-2.0 * libm::log(uniform())).sqrt();
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * uniform());
        [(radius * cosine) as f32, (radius * sine) as f32]
    };
    let mut values: Vec<f32> = (0..count.div_ceil(2)).flat_map(|_| pair()).collect();
    values.truncate(count);
    values
}

/// Luminance and two opponent colours, each of unit length.
const COLOURS: [[f64; 3]; 3] = [
    [0.577_350_269_189_625_8, 0.577_350_269_189_625_8, 0.577_350_269_189_625_8],
    [0.707_106_781_186_547_5, -0.707_106_781_186_547_5, 0.0],
    [0.408_248_290_463_863, 0.408_248_290_463_863, -0.816_496_580_927_726],
];

/// Overwrites rows of the patch projection `[H, C, F, P, P]` by a cosine basis (DCT-II, orthonormal), each frame having
/// its share: lowest frequencies first, colours to about 1/√6 of luminance's highest, as in JPEG. A patch's amplitude at a
/// frequency of r half waves falls about as 4/(r + ¼) in natural pictures (normalised, 112 pixels a side), its
/// opponent colours' 4.5 times lower, so gains rise by the inverse and every output has about unit variance.
/// Rows beyond the basis keep their draws.
fn cosine_basis(vision: &VisionConfig, values: &mut [f32]) {
    let (side, frames, channels) = (vision.patch_size, vision.temporal_patch_size, vision.in_chans);
    let mut functions: Vec<(usize, usize, usize, usize)> = (0..COLOURS.len())
        .flat_map(|colour| (0..side * side).map(move |at| (colour, at / side, at % side)))
        .map(|(colour, v, u)| ((u * u + v * v) * if colour == 0 { 1 } else { 6 }, colour, v, u))
        .collect();
    functions.sort_unstable();
    let wave = |frequency: usize, at: usize| {
        let norm = if frequency == 0 { 1.0 } else { 2.0 };
        let angle = std::f64::consts::PI * (at as f64 + 0.5) * frequency as f64 / side as f64;
        (norm / side as f64).sqrt() * libm::cos(angle)
    };
    let row_length = channels * frames * side * side;
    for ((_, colour, v, u), row) in functions.into_iter().zip(values.chunks_exact_mut(row_length)) {
        let gain = (((u * u + v * v) as f64).sqrt() + 0.25) / 4.0 * if colour == 0 { 1.0 } else { 4.5 };
        for (at, value) in row.iter_mut().enumerate() {
            let (x, y, channel) = (at % side, at / side % side, at / (side * side * frames));
            *value = (gain * COLOURS[colour][channel] * wave(v, y) * wave(u, x) / frames as f64) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint;
    use crate::processor::Grid;
    use crate::prompt::Prompt;

    /// The workflow's own shape file.
    fn shape() -> Shape {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workflows/tiny-policy/shape.yaml");
        serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Replies of the warm start's form: every grade, every name.
    fn replies() -> impl Iterator<Item = String> {
        let names = ["blurred", "noisy", "speckled", "blocky", "pixelated", "dark", "bright", "flat", "harsh", "vivid"];
        let grades = ["slightly", "quite", "very"];
        (0..300).flat_map(move |i| {
            let (a, b) = (names[i % 10], names[i * 7 % 10]);
            let (g, h) = (grades[i % 3], grades[i / 3 % 3]);
            [
                format!("<think>{g} {a}, {h} {b}</think>\\boxed{{{}}}", i % 2),
                format!("<think>looks clean, {g} {a}</think>\\boxed{{{}}}", i / 2 % 2),
                format!("<think>looks {a}</think>\\boxed{{{}.{:02}}}", 1 + i % 4, i % 100),
            ]
        })
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(replies(), &fixed_pieces(), shape().merges).unwrap()
    }

    fn made(seed: u64) -> (Config, Weights, Tokenizer, Template, Processor) {
        init(&shape(), tokenizer(), seed, &Device::Cpu).unwrap()
    }

    fn tensor(weights: &Weights, name: &str) -> Vec<f32> {
        weights.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn std(values: &[f32]) -> f64 {
        (values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn the_tiny_policy_has_a_million_and_a_half_parameters() {
        assert_eq!(made(1).1.parameters(), 1_484_288);
    }

    #[test]
    fn prompts_are_short_and_replies_have_eleven_tokens() {
        let (config, _, tokenizer, template, processor) = made(1);
        assert!(tokenizer.len() <= 512, "{}", tokenizer.len());
        let grid = processor.grid(112, 112).unwrap();
        assert_eq!(grid, Grid { height: 8, width: 8 });
        for (task, tokens) in [(Task::Compare, 53), (Task::Score, 35)] {
            let question = Question::new(task, Reasoning::On);
            let prompt =
                Prompt::new(&question, &vec![grid; question.pictures()], &config, &tokenizer, &template).unwrap();
            assert_eq!(prompt.ids.len(), tokens, "{task:?}");
            assert_eq!(prompt.ids.iter().filter(|&&id| id == config.image_token_id).count(), 16 * question.pictures());
        }
        let longest = replies().map(|reply| tokenizer.encode(&reply).unwrap().len()).max();
        // The end of the turn is the eleventh.
        assert_eq!(longest, Some(10));
    }

    #[test]
    fn a_prompt_needs_as_many_pictures_as_its_question() {
        let (config, _, tokenizer, template, processor) = made(1);
        let grids = [processor.grid(112, 112).unwrap(); 3];
        let question = Question::new(Task::Compare, Reasoning::Off);
        let result = Prompt::new(&question, &grids, &config, &tokenizer, &template);
        assert!(result.unwrap_err().to_string().contains("2 pictures and was given 3"));
    }

    #[test]
    fn vision_tokens_and_empty_rows_are_banned_and_nothing_else() {
        let (config, _, tokenizer, ..) = made(1);
        let banned = tokenizer.banned(&config);
        let vision =
            [VISION_START, VISION_END, VISION_PAD, IMAGE_PAD, VIDEO_PAD].map(|token| tokenizer.id(token).unwrap());
        assert_eq!(banned, vision.into_iter().chain(tokenizer.len() as u32..512).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let [a, b, c] = [3, 3, 4].map(|seed| {
            let folder = tempfile::tempdir().unwrap();
            let (config, weights, tokenizer, template, processor) = made(seed);
            checkpoint::save(folder.path(), &config, &weights, &tokenizer, &template, &processor).unwrap();
            [checkpoint::WEIGHTS, "config.json", "tokenizer.json"]
                .map(|name| std::fs::read(folder.path().join(name)).unwrap())
        });
        assert_eq!(a, b);
        assert_ne!(a, c);
    }

    #[test]
    fn a_saved_folder_reads_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (config, weights, tokenizer, template, processor) = made(1);
        checkpoint::save(folder.path(), &config, &weights, &tokenizer, &template, &processor).unwrap();
        assert_eq!(Config::load(folder.path()).unwrap(), config);
        assert_eq!(Processor::load(folder.path()).unwrap(), processor);
        assert_eq!(
            Tokenizer::load(folder.path()).unwrap().encode("very noisy").unwrap(),
            tokenizer.encode("very noisy").unwrap()
        );
        let rendered = Template::load(folder.path()).unwrap().render(1, "Q?").unwrap();
        assert_eq!(rendered, template.render(1, "Q?").unwrap());
        let loaded = Weights::load(folder.path(), &config, &Device::Cpu).unwrap();
        for (name, _) in weights.iter() {
            assert_eq!(tensor(&loaded, name), tensor(&weights, name), "{name}");
        }
    }

    #[test]
    fn draws_have_the_scale_of_their_place() {
        let (_, weights, ..) = made(1);
        let close = |name: &str, expected: f64| {
            let found = std(&tensor(&weights, name));
            assert!((found / expected - 1.0).abs() < 0.03, "{name}: {found}, expected {expected}");
        };
        close("model.embed_tokens.weight", 0.05);
        close("model.layers.0.self_attn.q_proj.weight", (1.0 / 128.0_f64).sqrt());
        close("model.layers.2.mlp.down_proj.weight", (1.0 / 256.0 / 6.0_f64).sqrt());
        close("visual.blocks.1.attn.proj.weight", (1.0 / 128.0 / 6.0_f64).sqrt());
        close("visual.merger.mlp.2.weight", (1.0 / 512.0_f64).sqrt());
        assert!(tensor(&weights, "visual.blocks.0.norm1.weight").iter().all(|&value| value == 1.0));
        assert!(tensor(&weights, "visual.merger.ln_q.weight").iter().all(|&value| value == 1.0));
        assert!(tensor(&weights, "model.norm.weight").iter().all(|&value| value == 1.0));
        assert!(tensor(&weights, "visual.blocks.0.attn.qkv.bias").iter().all(|&value| value == 0.0));
    }

    #[test]
    fn patch_filters_are_orthogonal_and_see_both_frames_alike() {
        let (_, weights, ..) = made(1);
        let patch = tensor(&weights, "visual.patch_embed.proj.weight");
        let rows: Vec<&[f32]> = patch.chunks(1176).collect();
        assert_eq!(rows.len(), 128);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                assert!(dot(a, b).abs() < 1e-4);
            }
            for channel in a.chunks(392) {
                assert_eq!(channel[..196], channel[196..]);
            }
        }
        // A flat patch meets the constant filters alone.
        let flat: Vec<f64> = rows.iter().map(|row| row[..392].iter().map(|&w| f64::from(w)).sum()).collect();
        assert_eq!(flat.iter().filter(|sum| sum.abs() > 1e-4).count(), 3);
    }

    #[test]
    fn an_impossible_shape_is_named() {
        let message = |change: fn(&mut Shape)| {
            let mut shape = shape();
            change(&mut shape);
            init(&shape, tokenizer(), 1, &Device::Cpu).err().unwrap().to_string()
        };
        for (message, named) in [
            (message(|shape| shape.text.vocab_size = 300), "shape: field `text.vocab_size`: found 300"),
            (
                message(|shape| shape.text.num_attention_heads = 3),
                "`text.hidden_size`: found 128, expected a multiple of 3",
            ),
            (message(|shape| shape.text.mrope_section = [4, 6, 7]), "`text.mrope_section`: sums to 17"),
            (message(|shape| shape.vision.depth = 0), "`vision.depth`: found 0"),
            (message(|shape| shape.min_pixels = 20_000), "`min_pixels`: found 20000"),
        ] {
            assert!(message.contains(named), "{message}");
        }
    }
}
