//! How much memory training takes, by arithmetic on the shapes alone: what lies where, and when.
//!
//! Each item is a product of sizes that the code it stands for allocates; the constants that bound it there are used here.
//! Left out is what is small and the same for all shapes: the program itself, its libraries, the driver's context.

mod step;

use std::fmt;

use crate::config::{Config, TextConfig, VisionConfig};
use crate::device::Place;
use crate::processor::Grid;
use crate::train::Trainable;
use crate::weights::expected;

/// The training that is asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// The engine: its device and number format.
    pub place: Place,
    /// What is trained.
    pub trainable: Trainable,
    /// Each picture's size in patches, as the processor makes it.
    pub grid: Grid,
    /// Pictures of a micro-batch, each with a group of completions.
    pub pictures: usize,
    /// Tokens of the prompt beside those of its picture.
    pub question_tokens: usize,
    /// K: completions of each picture.
    pub completions: usize,
    /// Tokens of each completion; the longest where they differ.
    pub completion_tokens: usize,
    /// Most bytes of cached keys and values while sampling; see [`crate::Sampling::cache_bytes`].
    pub cache_bytes: usize,
}

impl Work {
    /// Tokens of a prompt.
    pub fn prompt_tokens(&self, config: &Config) -> usize {
        self.question_tokens + self.grid.tokens(config.vision.spatial_merge_size)
    }

    /// Rows of a group in the packed pass: the prompt once, and every completion but for its last token, which predicts
    /// nothing.
    pub fn rows(&self, config: &Config) -> usize {
        self.prompt_tokens(config) + self.completions * (self.completion_tokens - 1)
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The device's own.
    Device,
    /// The machine's.
    Host,
}

/// A part of an update; what is alive in one is gone in the next, but for what is listed with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Completions are drawn.
    Sampling,
    /// The language model's pass and its gradients.
    Text,
    /// The vision tower's pass and its gradients.
    Vision,
    /// The optimizer's step.
    Update,
}

impl Phase {
    /// In their order.
    pub const ALL: [Self; 4] = [Self::Sampling, Self::Text, Self::Vision, Self::Update];

    fn name(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Text => "text",
            Self::Vision => "vision",
            Self::Update => "update",
        }
    }
}

/// One thing that takes memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub what: &'static str,
    /// Where it lies.
    pub memory: Memory,
    /// When it is there.
    pub phases: &'static [Phase],
    /// How much it takes.
    pub bytes: u64,
    /// How that is computed, in the letters of [`LEGEND`].
    pub formula: &'static str,
}

/// What the letters in the formulas stand for.
pub const LEGEND: &str = "N numbers of the model, n of them trained; b bytes of a number; R rows of a group: its prompt's P and K·(T-1) of \
    its completions; B pictures of p patches and m tokens each; H width, I inner width, L layers, V vocabulary";

/// What a training takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// What was asked, in words.
    pub title: String,
    /// By memory, then by when it is there.
    pub items: Vec<Item>,
}

/// Computes what training a model of this shape takes.
pub fn estimate(config: &Config, work: &Work) -> Estimate {
    let all: usize = expected(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let trained = work.trainable.numbers(config);
    let title = format!(
        "{} numbers, {} of them trained, on {} in {}; {} pictures of {}x{} patches, prompts of {} tokens, {} completions of {} tokens each",
        grouped(all as u64),
        grouped(trained as u64),
        work.place.parameters()[0].1,
        work.place.dtype().as_str(),
        work.pictures,
        work.grid.height,
        work.grid.width,
        work.prompt_tokens(config),
        work.completions,
        work.completion_tokens,
    );
    let mut items = step::resident(work, all as u64, trained as u64);
    items.extend(step::sampling(config, work));
    items.extend(step::gradients(config, work, trained as u64));
    items.sort_by_key(|item| item.memory == Memory::Host);
    Estimate { title, items }
}

impl Estimate {
    /// What is in `memory` during `phase`, in bytes.
    pub fn during(&self, memory: Memory, phase: Phase) -> u64 {
        let there = |item: &&Item| item.memory == memory && item.phases.contains(&phase);
        self.items.iter().filter(there).map(|item| item.bytes).sum()
    }

    /// The most that is in `memory` at a time, in bytes, and when.
    pub fn peak(&self, memory: Memory) -> (u64, Phase) {
        // The first of equals.
        let most = Phase::ALL.into_iter().rev().max_by_key(|phase| self.during(memory, *phase));
        let phase = most.unwrap_or(Phase::Text);
        (self.during(memory, phase), phase)
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        writeln!(f, "{:<7} {:<38} {:<22} {:>11}  formula", "memory", "what", "when", "GiB")?;
        for item in &self.items {
            let when = if item.phases == Phase::ALL {
                "always".to_owned()
            } else {
                item.phases.iter().map(|phase| phase.name()).collect::<Vec<_>>().join(", ")
            };
            let memory = memory_name(item.memory);
            writeln!(f, "{memory:<7} {:<38} {when:<22} {:>11}  {}", item.what, gib(item.bytes), item.formula)?;
        }
        for memory in [Memory::Device, Memory::Host] {
            let (bytes, phase) = self.peak(memory);
            if bytes > 0 {
                let (memory, when) = (memory_name(memory), format!("during {}", phase.name()));
                writeln!(f, "{memory:<7} {:<38} {when:<22} {:>11}", "at most", gib(bytes))?;
            }
        }
        write!(f, "{LEGEND}")
    }
}

fn memory_name(memory: Memory) -> &'static str {
    match memory {
        Memory::Device => "device",
        Memory::Host => "host",
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / f64::from(1 << 30))
}

/// A number with its digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The published shape of that name: `7b` or `3b`. Its ids are the release's; it has no end tokens beyond the first.
pub fn published(name: &str) -> Option<Config> {
    let (hidden, inner, layers, heads, kv, vocabulary, tied) = match name {
        "7b" => (3584, 18944, 28, 28, 4, 152_064, false),
        "3b" => (2048, 11008, 36, 16, 2, 151_936, true),
        _ => return None,
    };
    Some(Config {
        text: TextConfig {
            hidden_size: hidden,
            intermediate_size: inner,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv,
            vocab_size: vocabulary,
            max_position_embeddings: 128_000,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            mrope_section: [16, 24, 24],
        },
        vision: VisionConfig {
            depth: 32,
            hidden_size: 1280,
            intermediate_size: 3420,
            num_heads: 16,
            out_hidden_size: hidden,
            patch_size: 14,
            spatial_merge_size: 2,
            temporal_patch_size: 2,
            window_size: 112,
            fullatt_block_indexes: vec![7, 15, 23, 31],
            in_chans: 3,
        },
        image_token_id: 151_655,
        video_token_id: 151_656,
        vision_start_token_id: 151_652,
        vision_end_token_id: 151_653,
        vision_token_id: Some(151_654),
        tie_word_embeddings: tied,
        bos: Some(151_643),
        eos: vec![151_645],
        generation: serde_json::Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 7B shape at 1024x768: 54 x 74 patches of the resized 1036x756.
    fn work(place: Place, trainable: Trainable) -> Work {
        Work {
            place,
            trainable,
            grid: Grid { height: 54, width: 74 },
            pictures: 8,
            question_tokens: 150,
            completions: 32,
            completion_tokens: 512,
            cache_bytes: 4 << 30,
        }
    }

    #[test]
    fn full_training_of_7b_fits_one_gpu_of_141_gb_and_a_host_of_128() {
        let config = published("7b").unwrap();
        let estimate = estimate(&config, &work(Place::Cuda, Trainable::All));
        println!("{estimate}");
        let bytes = |what: &str| estimate.items.iter().find(|item| item.what == what).unwrap().bytes;
        let numbers = 8_292_166_656;
        assert_eq!(bytes("policy") + bytes("reference policy") + bytes("gradients, f32"), 8 * numbers);
        assert_eq!(bytes("master weights, f32") + bytes("both moments, f32"), 12 * numbers);
        // The driver's context and the allocator's waste take their part of both.
        assert!(estimate.peak(Memory::Device).0 < 120_000_000_000, "{estimate}");
        assert!(estimate.peak(Memory::Host).0 < 110_000_000_000, "{estimate}");
    }

    #[test]
    fn what_is_frozen_has_no_gradients_and_no_moments() {
        let config = published("3b").unwrap();
        let of = |trainable| estimate(&config, &work(Place::Cuda, trainable)).peak(Memory::Host).0;
        let (all, text, vision) = (of(Trainable::All), of(Trainable::Text), of(Trainable::Vision));
        let both = 12 * expected(&config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
        let beside = all - both as u64;
        assert_eq!(all - beside, (text - beside) + (vision - beside));
        assert!(of(Trainable::Merger) < vision && of(Trainable::Lora { rank: 8, alpha: 16.0 }) < vision);
    }

    #[test]
    fn on_the_cpu_the_weights_are_their_own_master() {
        let config = published("3b").unwrap();
        let items = |trainable| estimate(&config, &work(Place::Cpu, trainable)).items;
        let has_master = |items: &[Item]| items.iter().any(|item| item.what == "master weights, f32");
        assert!(!has_master(&items(Trainable::All)));
        assert!(has_master(&items(Trainable::Lora { rank: 8, alpha: 16.0 })));
        assert!(items(Trainable::All).iter().all(|item| item.memory == Memory::Host));
    }

    #[test]
    fn the_table_ends_with_the_peak_of_each_memory() {
        let config = published("3b").unwrap();
        let printed = estimate(&config, &work(Place::Cuda, Trainable::All)).to_string();
        assert_eq!(printed.lines().filter(|line| line.contains("at most")).count(), 2, "{printed}");
        assert!(printed.contains("3,754,622,976 numbers"), "{printed}");
    }

    #[test]
    fn the_page_about_memory_has_these_tables() {
        let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = std::fs::read_to_string(repository.join("docs/memory.md")).unwrap();
        let tiny = Config::load(&repository.join("workflows/tiny-policy")).unwrap();
        let small = Work {
            grid: Grid { height: 8, width: 8 },
            pictures: 16,
            question_tokens: 60,
            completion_tokens: 64,
            ..work(Place::Cpu, Trainable::All)
        };
        let [three, seven] = ["3b", "7b"].map(|name| published(name).unwrap());
        for (config, work) in [
            (&seven, work(Place::Cuda, Trainable::All)),
            (&seven, work(Place::Cuda, Trainable::Lora { rank: 16, alpha: 32.0 })),
            (&three, work(Place::Cuda, Trainable::All)),
            (&tiny, small),
        ] {
            let printed = estimate(config, &work).to_string();
            assert!(page.contains(&printed), "docs/memory.md lacks this table, as it is now:\n{printed}");
        }
    }

    #[test]
    fn numbers_are_grouped_in_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
