//! The device engine on the device: whether it says what the CPU engine says, and how fast it votes in the 7B shape.
//! `docs/cuda.md` has the whole command; it takes a few minutes.
//!
//!     device FOLDER cuda 7b [PEAK]     PEAK: the card's dense bf16 rate in TFLOP/s, 989 unless given (H100, H200)
//!     device FOLDER cpu tiny           the same on the CPU, in a shape that it can bear
//!     device train FOLDER cuda 7b      a training step: all weights, one picture, 32 completions of 64 tokens
//!     device train FOLDER cpu tiny     the same on the CPU
//!
//! `FOLDER` is a checkpoint, as small as one likes: parity is measured on it, and its tokenizer serves the random weights
//! of the benchmark. Each line that it prints is a JSON object.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use candle_core::{Device, Tensor};
use clap::ValueEnum;
use evoq_policy::device::{memory_in_use, random};
use evoq_policy::train::Trainable;
use evoq_policy::{
    AdamW, Asked, Completion, Config, DevicePolicy, Draw, Features, Grid, Group, Hyper, Learner, Pixels, Place, Policy,
    Processor, Prompt, Question, Reasoning, Request, Sampling, Task, Template, TextConfig, Tokenizer, VisionConfig,
    Work, estimate,
};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Votes of a pair, as in the paper, and new tokens of each.
const VOTES: usize = 32;
const TOKENS: usize = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["train", folder, place, shape] = arguments.as_slice() {
        return train(Path::new(folder), Place::from_str(place, false)?, shape);
    }
    let [folder, place, shape, rest @ ..] = arguments.as_slice() else {
        println!("device FOLDER cuda|cpu 7b|tiny [PEAK] | train FOLDER cuda|cpu 7b|tiny");
        return Ok(());
    };
    let (folder, place) = (Path::new(folder), Place::from_str(place, false)?);
    let peak = rest.first().map_or(Ok(989.0), |peak| peak.parse::<f64>())?;
    parity(folder, place)?;
    speed(folder, place, shape, peak)
}

/// Seconds of `work`, up to when the device has done it.
fn timed<T>(policy: &DevicePolicy, work: impl FnOnce() -> evoq_policy::Result<T>) -> Outcome<(T, f64)> {
    policy.synchronize()?;
    let start = Instant::now();
    let made = work()?;
    policy.synchronize()?;
    Ok((made, start.elapsed().as_secs_f64()))
}

fn keys(count: usize) -> Vec<Draw> {
    let key = |lane: usize| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(lane as u64).to_le_bytes());
        Draw::Key(key)
    };
    (0..count).map(key).collect()
}

/// A picture of smooth stripes in this many patches.
fn picture(config: &Config, grid: Grid) -> Pixels {
    let length = grid.patches() * config.vision.patch_dim();
    let frames = config.vision.temporal_patch_size;
    let area = config.vision.patch_size * config.vision.patch_size;
    // The frames of a still picture are equal.
    let place = |at: usize| at / (area * frames) * area + at % area;
    Pixels { patches: (0..length).map(|at| (place(at) as f32 * 0.37).sin()).collect(), grid }
}

fn ask<'a>(prompt: &'a Prompt, features: &'a [Features], draws: Vec<Draw>) -> Request<'a> {
    Request { asked: Asked { prompt, features: features.iter().collect() }, draws }
}

/// The two engines on one checkpoint: the draws that noise alone decides, and log-probabilities of the same completions.
fn parity(folder: &Path, place: Place) -> Outcome<()> {
    let (first, device) = (Policy::load(folder, &Device::Cpu)?, DevicePolicy::load(folder, place)?);
    let pixels = [(8, 12), (16, 16)].map(|(height, width)| picture(&first.config, Grid { height, width }));
    let prompt = first.prompt(&Question::new(Task::Compare, Reasoning::Off), &pixels.clone().map(|it| it.grid))?;
    let ours = pixels.iter().map(|pixels| first.look(pixels)).collect::<Result<Vec<_>, _>>()?;
    let theirs = pixels.iter().map(|pixels| device.look(pixels)).collect::<Result<Vec<_>, _>>()?;
    let (ours, theirs) = (ask(&prompt, &ours, keys(VOTES)), ask(&prompt, &theirs, keys(VOTES)));
    // So hot that the logits count for nothing: the draws are the noise's own.
    let hot = Sampling { temperature: 1e7, max_tokens: 16, ..Sampling::default() };
    let sample = |sampling: &Sampling| -> Outcome<[Vec<Completion>; 2]> {
        let first = first.sample(std::slice::from_ref(&ours), sampling)?.concat();
        Ok([first, device.sample(std::slice::from_ref(&theirs), sampling)?.concat()])
    };
    let equal = |[one, other]: &[Vec<Completion>; 2]| {
        let same = |(one, other): (&Completion, &Completion)| {
            one.ids.iter().zip(&other.ids).take_while(|(one, other)| one == other).count()
        };
        let tokens: usize = one.iter().map(|completion| completion.ids.len()).sum();
        one.iter().zip(other).map(same).sum::<usize>() as f64 / tokens as f64
    };
    let noise = equal(&sample(&hot)?);
    let sampled = sample(&Sampling { max_tokens: 16, ..Sampling::default() })?;
    let completions: Vec<Vec<u32>> = sampled[0].iter().map(|completion| completion.ids.clone()).collect();
    let (ours, theirs) = (std::slice::from_ref(&ours.asked), std::slice::from_ref(&theirs.asked));
    let one = first.completion_logprobs(ours, &[&completions])?.concat().concat();
    let other = device.completion_logprobs(theirs, &[&completions])?.concat().concat();
    let off: Vec<f64> = one.iter().zip(&other).map(|(a, b)| f64::from((a - b).abs())).collect();
    println!(
        "{}",
        json!({
            "what": "parity", "device": place.parameters()[0].1, "dtype": place.parameters()[1].1,
            "equal_draws_by_noise_alone": noise, "equal_tokens_up_to_the_first_other": equal(&sampled),
            "logprob_off_mean": off.iter().sum::<f64>() / off.len() as f64,
            "logprob_off_most": off.iter().copied().fold(0.0, f64::max),
        })
    );
    if noise < 0.999 {
        return Err(format!("{noise} of the draws that noise alone decides are the CPU engine's, expected all").into());
    }
    Ok(())
}

/// The 7B shape, or one of the same make that a CPU can bear; token ids stay the checkpoint's.
fn shaped(mut config: Config, shape: &str) -> Outcome<(Config, Grid)> {
    let (text, vision, grid) = match shape {
        // 1024x768 pixels are resized to 1036x756: 54 rows of 74 patches.
        "7b" => ([3584, 18944, 28, 28, 4, 152_064], [32, 1280, 3420, 16], Grid { height: 54, width: 74 }),
        "tiny" => ([256, 512, 2, 2, 1, 2048], [8, 160, 256, 2], Grid { height: 18, width: 22 }),
        other => return Err(format!("found shape {other}, expected 7b or tiny").into()),
    };
    config.text = TextConfig {
        hidden_size: text[0],
        intermediate_size: text[1],
        num_hidden_layers: text[2],
        num_attention_heads: text[3],
        num_key_value_heads: text[4],
        vocab_size: text[5],
        max_position_embeddings: 128_000,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
        mrope_section: [16, 24, 24],
    };
    config.vision = VisionConfig {
        depth: vision[0],
        hidden_size: vision[1],
        intermediate_size: vision[2],
        num_heads: vision[3],
        out_hidden_size: text[0],
        patch_size: 14,
        spatial_merge_size: 2,
        temporal_patch_size: 2,
        window_size: 112,
        fullatt_block_indexes: (0..4).map(|n| (n + 1) * vision[0] / 4 - 1).collect(),
        in_chans: 3,
    };
    config.tie_word_embeddings = false;
    Ok((config, grid))
}

/// Multiply-adds count twice. Attention over `rows` of which each sees `seen` in the mean.
fn attention(heads_width: usize, rows: usize, seen: usize) -> f64 {
    4.0 * heads_width as f64 * rows as f64 * seen as f64
}

/// Floating-point operations of reading a prompt of `rows`, up to the logits after it.
fn prefill_operations(config: &Config, rows: usize) -> f64 {
    let t = &config.text;
    let kv = t.num_key_value_heads * t.head_dim();
    let a_layer = 2 * t.hidden_size * (t.hidden_size + kv) + 3 * t.hidden_size * t.intermediate_size;
    let products = 2.0 * (a_layer * rows) as f64 + attention(t.hidden_size, rows, rows / 2);
    t.num_hidden_layers as f64 * products + 2.0 * (t.hidden_size * t.vocab_size) as f64
}

fn vision_operations(config: &Config, rows: usize) -> f64 {
    let v = &config.vision;
    let a_block = 4 * v.hidden_size * v.hidden_size + 3 * v.hidden_size * v.intermediate_size;
    let whole = v.fullatt_block_indexes.len() as f64;
    let window = v.window_tokens() * v.window_tokens() * v.spatial_merge_size * v.spatial_merge_size;
    let merged = v.hidden_size * v.spatial_merge_size * v.spatial_merge_size;
    let merger = (rows / (v.spatial_merge_size * v.spatial_merge_size)) * merged * (merged + v.out_hidden_size);
    v.depth as f64 * 2.0 * (a_block * rows) as f64
        + whole * attention(v.hidden_size, rows, rows)
        + (v.depth as f64 - whole) * attention(v.hidden_size, rows, window)
        + 2.0 * merger as f64
}

fn speed(folder: &Path, place: Place, shape: &str, peak: f64) -> Outcome<()> {
    let (config, grid) = shaped(Config::load(folder)?, shape)?;
    let (device, start) = (place.open()?, Instant::now());
    let mut tensors = random(&config, &device, place.dtype())?;
    let (tokenizer, template) = (Tokenizer::load(folder)?, Template::load(folder)?);
    let policy = DevicePolicy::new(config, &mut tensors, tokenizer, template, Processor::load(folder)?)?;
    policy.synchronize()?;
    println!("{}", json!({"what": "weights", "shape": shape, "seconds": start.elapsed().as_secs_f64()}));

    let pixels = picture(&policy.config, grid);
    policy.look(&pixels)?;
    let (features, vision) = timed(&policy, || (0..2).map(|_| policy.look(&pixels)).collect::<Result<Vec<_>, _>>())?;
    let share = |operations: f64, seconds: f64| operations / seconds / peak / 1e12;
    let operations = 2.0 * vision_operations(&policy.config, grid.patches());
    println!(
        "{}",
        json!({"what": "vision", "patches": 2 * grid.patches(), "seconds": vision, "tflop": operations / 1e12,
            "share_of_peak": share(operations, vision)})
    );

    let prompt = policy.prompt(&Question::new(Task::Compare, Reasoning::On), &[grid; 2])?;
    // End tokens are banned, so that all replies are of the same length.
    let sampling = |max_tokens| Sampling { max_tokens, banned: policy.config.eos.clone(), ..Sampling::default() };
    let request = ask(&prompt, &features, keys(VOTES));
    let requests = std::slice::from_ref(&request);
    policy.sample(requests, &sampling(2))?;
    let (_, prefill) = timed(&policy, || policy.sample(requests, &sampling(1)))?;
    let operations = prefill_operations(&policy.config, prompt.ids.len());
    println!(
        "{}",
        json!({"what": "prefill", "tokens": prompt.ids.len(), "seconds": prefill, "tflop": operations / 1e12,
            "share_of_peak": share(operations, prefill)})
    );
    for (options, sampling) in [
        ("none", sampling(TOKENS)),
        ("top-k 50, top-p 0.9", Sampling { top_k: Some(50), top_p: 0.9, ..sampling(TOKENS) }),
    ] {
        let (replies, seconds) = timed(&policy, || policy.sample(requests, &sampling))?;
        let tokens: usize = replies.iter().flatten().map(|reply| reply.ids.len()).sum();
        println!(
            "{}",
            json!({"what": "vote", "options": options, "lanes": VOTES, "tokens_a_lane": TOKENS, "seconds": seconds,
                "tokens_a_second": (tokens - VOTES) as f64 / (seconds - prefill),
                "milliseconds_a_step": (seconds - prefill) * 1e3 / (TOKENS - 1) as f64,
                "votes_a_second": VOTES as f64 / (seconds + vision)})
        );
    }
    // Four pairs at a time fill the lanes that are decoded together.
    let requests = vec![request.clone(); 4];
    let (replies, seconds) = timed(&policy, || policy.sample(&requests, &sampling(TOKENS)))?;
    let votes: usize = replies.iter().map(Vec::len).sum();
    println!(
        "{}",
        json!({"what": "votes of four pairs", "lanes": votes, "tokens_a_lane": TOKENS, "seconds": seconds,
            "votes_a_second": votes as f64 / (seconds + 4.0 * vision)})
    );
    Ok(())
}

/// Two training steps with random weights, of which the first pays for what is made once; beside the arithmetic of
/// `estimate`.
fn train(folder: &Path, place: Place, shape: &str) -> Outcome<()> {
    let (config, grid) = shaped(Config::load(folder)?, shape)?;
    let device = place.open()?;
    let tensors = random(&config, &device, place.dtype())?;
    let (tokenizer, template) = (Tokenizer::load(folder)?, Template::load(folder)?);
    // The second engine on the CPU as well.
    let policy = DevicePolicy::to_train(config, tensors, tokenizer, template, Processor::load(folder)?)?;
    let prompt = policy.prompt(&Question::new(Task::Score, Reasoning::On), &[grid])?;
    let (config, end) = (policy.config.clone(), policy.config.eos[0]);
    let learner = Learner::try_from(policy)?;
    let reference = learner.frozen()?;
    let learnt = learner.learnt(Trainable::All, 1)?;
    let mut optimizer = AdamW::new(learner.variables(&learnt).into_iter(), Hyper::default())?;

    let pixels = [picture(&config, grid)];
    let completion = |lane: usize| (0..TOKENS).map(|t| ((lane * 7919 + t * 104_729) % end as usize) as u32).collect();
    let groups = [Group { prompt, pictures: vec![0], completions: (0..VOTES).map(completion).collect() }];
    let loss = |_: usize, logprobs: &Tensor, mask: &Tensor| {
        let advantages: Vec<f32> = (0..VOTES).map(|lane| (lane as f32).sin()).collect();
        let advantages = Tensor::from_vec(advantages, (VOTES, 1), &Device::Cpu)?;
        (logprobs.broadcast_mul(&advantages)? * mask)?.sum_all()? / -((VOTES * TOKENS) as f64)
    };
    let work = Work {
        place,
        trainable: Trainable::All,
        grid,
        pictures: 1,
        question_tokens: groups[0].prompt.ids.len() - grid.tokens(config.vision.spatial_merge_size),
        completions: VOTES,
        completion_tokens: TOKENS,
        cache_bytes: 0,
    };
    for warm_up in [true, false] {
        let start = Instant::now();
        reference.answerer().logprobs(&pixels, &groups)?;
        device.synchronize()?;
        let scored = start.elapsed().as_secs_f64();
        let mut sum = learner.begin(&learnt);
        learner.accumulate(&mut sum, &pixels, &groups, &loss)?;
        let gradients = sum.finish()?;
        device.synchronize()?;
        let learned = start.elapsed().as_secs_f64();
        let step = optimizer.step(&gradients.by_name, 3e-7)?;
        device.synchronize()?;
        let updated = start.elapsed().as_secs_f64();
        println!(
            "{}",
            json!({"what": "train", "shape": shape, "warm_up": warm_up, "rows": work.rows(&config),
                "reference_seconds": scored, "gradients_seconds": learned - scored, "update_seconds": updated - learned,
                "norm": step.gradient_norm, "device_bytes": memory_in_use(&device)})
        );
    }
    // With the memory pool that keeps what is freed, what is in use now is the most that was.
    println!("{}", estimate(&config, &work));
    Ok(())
}
