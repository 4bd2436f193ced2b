//! The items of an estimate: what the two engines keep and make in a training step.

use super::{Item, Memory, Phase, Work};
use crate::config::Config;
use crate::device::{LOGITS, PAGE, Place, SCORES};
use crate::model::{CHUNK_ROWS, LOGITS as CPU_LOGITS};
use crate::ops::block::{STATES, mlp_rows, state_values};
use crate::sample::LANES;
use crate::train::{LARGE, LOOKS, Trainable, WAITING};
use crate::weights::expected;

use Phase::{Sampling, Text, Update, Vision};

const ALWAYS: &[Phase] = &Phase::ALL;

/// Bytes of an `f32`.
const F32: u64 = 4;

/// Where a policy lies that is trained there.
fn memory(place: Place) -> Memory {
    match place {
        Place::Cpu => Memory::Host,
        Place::Cuda => Memory::Device,
    }
}

/// Bytes of a number of the policy.
fn width(place: Place) -> u64 {
    place.dtype().size_in_bytes() as u64
}

fn item(what: &'static str, memory: Memory, phases: &'static [Phase], bytes: u64, formula: &'static str) -> Item {
    Item { what, memory, phases, bytes, formula }
}

/// What is there from the first update to the last; `all` numbers, of which `trained` are.
pub(super) fn resident(work: &Work, all: u64, trained: u64) -> Vec<Item> {
    let (here, b) = (memory(work.place), width(work.place));
    let mut items = vec![
        item("policy", here, ALWAYS, b * all, "b·N"),
        item("reference policy", here, ALWAYS, b * all, "b·N"),
        item("both moments, f32", Memory::Host, ALWAYS, 2 * F32 * trained, "8·n"),
    ];
    // A variable that is f32 in host memory is its own master.
    if matches!(work.trainable, Trainable::Lora { .. }) || work.place == Place::Cuda {
        items.push(item("master weights, f32", Memory::Host, ALWAYS, F32 * trained, "4·n"));
    }
    items.push(item("gradients, f32", here, &[Text, Vision, Update], F32 * trained, "4·n"));
    items
}

/// What sampling makes.
pub(super) fn sampling(config: &Config, work: &Work) -> Vec<Item> {
    let (here, b, t) = (memory(work.place), width(work.place), &config.text);
    let lanes = LANES.min(work.pictures * work.completions);
    let prompts = lanes.div_ceil(work.completions);
    let keys = 2 * t.num_hidden_layers * t.num_key_value_heads * t.head_dim();
    let prompt = work.prompt_tokens(config);
    let tokens = prompts * prompt + lanes * (work.completion_tokens - 1).next_multiple_of(PAGE);
    let bytes = (b * (tokens * keys) as u64).min(work.cache_bytes as u64);
    let features = b * (work.pictures * work.grid.tokens(config.vision.spatial_merge_size) * t.hidden_size) as u64;
    let pass = text_pass(config, work, prompt).max(vision_pass(config, work));
    vec![
        item("pictures, f32", Memory::Host, ALWAYS, F32 * pixels(config, work), "4·B·p·patch"),
        item("features, of policy and reference", here, &[Sampling, Text], 2 * features, "2·b·B·m·H"),
        item("keys and values", here, &[Sampling], bytes, "b·2·L·(keys of a row)·tokens, or the cache's bound"),
        item("a pass over a prompt or picture", here, &[Sampling], pass, "its largest layer"),
        item("logits of lanes", here, &[Sampling], 6 * F32 * (lanes * t.vocab_size) as u64, "6·4·lanes·V"),
    ]
}

/// What the gradients' way forward and back makes.
pub(super) fn gradients(config: &Config, work: &Work, trained: u64) -> Vec<Item> {
    let mut items = match work.place {
        Place::Cpu => on_cpu(config, work),
        Place::Cuda => on_device(config, work),
    };
    if trained > 0 && work.place == Place::Cuda {
        let bytes = (width(work.place) + 2 * F32) * largest(config, work);
        items.push(item(
            "a gradient before it is added",
            Memory::Device,
            &[Text, Vision],
            bytes,
            "(b+8)·(largest tensor)",
        ));
    }
    items
}

/// Numbers of the largest gradient.
fn largest(config: &Config, work: &Work) -> u64 {
    let shapes = expected(config);
    let numbers = shapes.iter().filter(|(name, _)| work.trainable.weights()(name));
    let of_weights = numbers.map(|(_, shape)| shape.iter().product::<usize>()).max();
    let of_adapters = match work.trainable {
        Trainable::Lora { rank, .. } => rank * config.text.intermediate_size,
        _ => 0,
    };
    of_weights.unwrap_or(of_adapters) as u64
}

fn tower_learns(work: &Work) -> bool {
    matches!(work.trainable, Trainable::All | Trainable::Vision | Trainable::Merger)
}

fn on_device(config: &Config, work: &Work) -> Vec<Item> {
    let (b, t, v) = (width(work.place), &config.text, &config.vision);
    let (rows, prompt) = (work.rows(config), work.prompt_tokens(config));
    let inputs = b * (rows * t.hidden_size * (t.num_hidden_layers + 1)) as u64;
    let lanes = work.completions * (work.completion_tokens - 1);
    let scores = t.num_attention_heads * (lanes * (prompt + work.completion_tokens)).max(1024.min(prompt) * prompt);
    let key_width = t.num_key_value_heads * t.head_dim();
    let layer = b * (rows * (8 * t.hidden_size + 4 * key_width)) as u64
        + mlp_backward(b, rows * t.intermediate_size).max(attention_backward(b, scores));
    let logits = (16 + 2 * b) * ((lanes + 1) * t.vocab_size).min(LOGITS.max(t.vocab_size)) as u64;
    let here = Memory::Device;
    let mut items = vec![
        item("inputs of the text layers", here, &[Text], inputs, "b·R·H·(L+1)"),
        item("a text layer, made again, and back", here, &[Text], layer, "b·R·(8H+4·keys) + MLP or scores"),
        item("logits of a run of rows, and back", here, &[Text], logits, "(16+2b)·min((R-P+1)·V, 2^27)"),
    ];
    if tower_learns(work) {
        let patches = work.grid.patches();
        let inputs = b * (patches * v.hidden_size * (v.depth + 1)) as u64;
        let block = b * (patches * 12 * v.hidden_size) as u64
            + mlp_backward(b, patches * v.intermediate_size)
                .max(attention_backward(b, v.num_heads * patches * patches));
        let dfeatures = F32 * (work.pictures * work.grid.tokens(v.spatial_merge_size) * t.hidden_size) as u64;
        items.push(item("gradients of features, f32", here, &[Text, Vision], dfeatures, "4·B·m·H"));
        items.push(item("inputs of a picture's tower blocks", here, &[Vision], inputs, "b·p·H·(L+1) of the tower"));
        items.push(item(
            "a tower block, made again, and back",
            here,
            &[Vision],
            block,
            "b·p·12H + MLP or scores, of the tower",
        ));
    }
    items
}

/// Of an MLP's inner values: gate and up, their product and gradients in `b` bytes, and the slopes in `f32`.
fn mlp_backward(b: u64, values: usize) -> u64 {
    (4 * b + 6 * F32) * values as u64
}

/// Of attention scores: the weights, their gradient and that of the scores in `f32`, and the rounded ones.
fn attention_backward(b: u64, scores: usize) -> u64 {
    (4 * b + 6 * F32) * scores.min(SCORES) as u64
}

/// A pass over a prompt: its largest layer.
fn text_pass(config: &Config, work: &Work, rows: usize) -> u64 {
    let (b, t) = (width(work.place), &config.text);
    let scores = (t.num_attention_heads * rows.min(1024) * rows).min(SCORES);
    let made = b * (rows * (8 * t.hidden_size + 4 * t.intermediate_size)) as u64;
    if work.place == Place::Cuda { made + 3 * F32 * scores as u64 } else { made }
}

/// A pass over a picture: its largest block.
fn vision_pass(config: &Config, work: &Work) -> u64 {
    let (b, v, rows) = (width(work.place), &config.vision, work.grid.patches());
    let made = b * (rows * (8 * v.hidden_size + 4 * v.intermediate_size)) as u64;
    if work.place == Place::Cuda { made + 3 * F32 * (v.num_heads * rows * rows).min(SCORES) as u64 } else { made }
}

fn pixels(config: &Config, work: &Work) -> u64 {
    (work.pictures * work.grid.patches() * config.vision.patch_dim()) as u64
}

fn on_cpu(config: &Config, work: &Work) -> Vec<Item> {
    let t = &config.text;
    let bytes = 4 * expected(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
    let a_group = work.rows(config);
    let groups = CHUNK_ROWS.div_ceil(a_group).min(work.pictures);
    let chunks = work.pictures.div_ceil(groups);
    let side_by_side = if bytes > LARGE { 1 } else { (WAITING / bytes.max(1)).max(2).min(chunks) };
    let rows = groups * a_group;
    let keys = t.num_key_value_heads * t.head_dim();
    let block = Shape { hidden: t.hidden_size, keys, inner: t.intermediate_size };
    let predicting = groups * (work.completions * (work.completion_tokens - 1) + 1);
    let logits = (predicting * t.vocab_size).min(CPU_LOGITS.max(t.vocab_size));
    let times = |values: usize| F32 * (side_by_side * values) as u64;
    let here = Memory::Host;
    let mut items = vec![
        item(
            "inputs or states of the text layers",
            here,
            &[Text],
            times(rows * block.kept(rows, t.num_hidden_layers)),
            "4·R·H·L, or all made of a layer, if less than 2^26",
        ),
        item(
            "a text layer and back",
            here,
            &[Text],
            times(block.back(rows)),
            "4·R·6·(H+keys), or 4·R·(4H+2·keys) + MLP",
        ),
        item("logits of a run of rows, and back", here, &[Text], times(logits), "4·min((R-P+1)·V, 2^24)"),
    ];
    if side_by_side > 1 {
        let own = (bytes * side_by_side) as u64;
        items.push(item("gradients of chunks side by side", here, &[Text, Vision], own, "4·N·chunks, about 2^28"));
    }
    if tower_learns(work) {
        items.extend(tower_on_cpu(config, work, side_by_side));
    }
    items
}

/// The vision tower's part of [`on_cpu`].
fn tower_on_cpu(config: &Config, work: &Work, side_by_side: usize) -> [Item; 3] {
    let (v, patches) = (&config.vision, work.grid.patches());
    let pictures = CHUNK_ROWS.div_ceil(patches).min(work.pictures);
    let rows = pictures * patches;
    let block = Shape { hidden: v.hidden_size, keys: v.hidden_size, inner: v.intermediate_size };
    // Beside the blocks' part a look has its patches, of one frame, and what goes through the merger.
    let a_row = block.kept(rows, v.depth) + v.patch_dim() / v.temporal_patch_size + 4 * v.hidden_size;
    let a_look = 4 * rows * a_row;
    let chunks = work.pictures.div_ceil(pictures);
    let side_by_side = side_by_side.min(chunks);
    // Those that are kept from the way forward, or made again.
    let looks = (LOOKS / a_look).min(chunks).max(side_by_side);
    let features = work.pictures * work.grid.tokens(v.spatial_merge_size) * config.text.hidden_size;
    let back = F32 * (side_by_side * block.back(rows)) as u64;
    let (here, both): (_, &[Phase]) = (Memory::Host, &[Text, Vision]);
    [
        item("gradients of features", here, both, F32 * features as u64, "4·B·m·H"),
        item("states of the tower", here, both, (looks * a_look) as u64, "as of the text layers, 2^27 in all, or one"),
        item("a tower block and back", here, &[Vision], back, "4·p·12H, or 4·p·6H + MLP, of the tower"),
    ]
}

/// Widths of a block's rows: of the residual stream and queries, of the keys, and within the MLP.
struct Shape {
    hidden: usize,
    keys: usize,
    inner: usize,
}

impl Shape {
    /// Values to a row that a pass keeps of `layers` blocks: all that their gradients need where that is little, else their
    /// inputs.
    fn kept(&self, rows: usize, layers: usize) -> usize {
        let states = layers * state_values(self.hidden, self.hidden, self.keys, self.inner);
        if 4 * rows * states <= STATES { states } else { layers * self.hidden }
    }

    /// Values of a block that is made again and its way back, beside its input: in the attention, the states of queries, keys
    /// and values, the gradients of the block's and of the attention's result, those that go to queries, keys and values, and
    /// these as rows; in the MLP, the attention's states and results, the gradient, and of a run of rows what the MLP makes.
    fn back(&self, rows: usize) -> usize {
        let run = mlp_rows(rows, self.inner);
        let mlp = rows * (4 * self.hidden + 2 * self.keys) + run * (self.hidden + 3 * self.inner);
        mlp.max(6 * rows * (self.hidden + self.keys))
    }
}
