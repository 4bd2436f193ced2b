//! Where the time of a vote goes, on a checkpoint of any size. `peers.py` beside this file runs it in turn with others.
//!
//!     policy matmul                                     rates of matrix products, in the shapes of the mid-size model
//!     policy load FOLDER                                reads the weights
//!     policy vote FOLDER PICTURE PICTURE [K] [NEW]      K replies of NEW tokens about two pictures
//!     policy greedy FOLDER PICTURE PICTURE [NEW]        the greedy reply, as ids
//!     policy train FOLDER PICTURE [K] [NEW] [PICTURES]  a training step: forward, backward and update, a group a picture
//!
//! Threads are set by `RAYON_NUM_THREADS`. Each line that it prints is a JSON object.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and local files")]

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use evoq_policy::ops::linear::{Kernel, Linear};
use evoq_policy::train::Group;
use evoq_policy::{AdamW, Asked, Draw, Features, Hyper, Policy, Question, Reasoning, Request, Sampling, Task};
use rayon::prelude::*;
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // In the pool from the start: work that enters it from outside waits for a thread to wake.
    let work = || match arguments.as_slice() {
        ["matmul"] => matmul(),
        ["load", folder] => load(folder).map(drop),
        ["vote", folder, one, other, rest @ ..] => vote(folder, [*one, *other], rest),
        ["greedy", folder, one, other, rest @ ..] => greedy(folder, [*one, *other], rest),
        ["train", folder, picture, rest @ ..] => train(folder, picture, rest),
        _ => {
            println!(
                "policy matmul | load FOLDER | vote FOLDER PICTURE PICTURE [K] [NEW] | greedy FOLDER PICTURE PICTURE [NEW] \
                 | train FOLDER PICTURE [K] [NEW] [PICTURES]"
            );
            Ok(())
        }
    };
    rayon::ThreadPoolBuilder::new().build()?.install(work)
}

/// Seconds by the wall and of all CPUs.
struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn stop(&self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64(), cpu_seconds() - self.1)
    }
}

/// CPU seconds of this process so far, in hundredths, as Linux tells them.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn load(folder: &str) -> Result<Policy, Box<dyn std::error::Error + Send + Sync>> {
    let clock = Clock::start();
    let policy = Policy::load(Path::new(folder), &Device::Cpu)?;
    let (wall, cpu) = clock.stop();
    println!("{}", json!({"what": "load", "parameters": policy.weights.parameters(), "wall": wall, "cpu": cpu}));
    Ok(policy)
}

fn look(policy: &Policy, pictures: [&str; 2]) -> Result<Vec<Features>, Box<dyn std::error::Error + Send + Sync>> {
    let clock = Clock::start();
    let pixels = pictures.par_iter().map(|path| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        Ok(policy.processor.pixels(&image::open(path)?.to_rgb8())?)
    });
    let pixels = pixels.collect::<Result<Vec<_>, _>>()?;
    let (wall, cpu) = clock.stop();
    println!("{}", json!({"what": "pixels", "wall": wall, "cpu": cpu}));
    let clock = Clock::start();
    let features = pixels.iter().map(|pixels| policy.look(pixels)).collect::<Result<Vec<_>, _>>()?;
    let (wall, cpu) = clock.stop();
    println!("{}", json!({"what": "vision", "wall": wall, "cpu": cpu}));
    Ok(features)
}

fn number(rest: &[&str], index: usize, default: usize) -> Result<usize, std::num::ParseIntError> {
    rest.get(index).map_or(Ok(default), |text| text.parse())
}

fn vote(folder: &str, pictures: [&str; 2], rest: &[&str]) -> Outcome {
    let (lanes, tokens) = (number(rest, 0, 32)?, number(rest, 1, 32)?);
    let policy = load(folder)?;
    let whole = Clock::start();
    let features = look(&policy, pictures)?;
    let question = Question::new(Task::Compare, Reasoning::Off);
    let prompt = policy.prompt(&question, &[features[0].grid, features[1].grid])?;
    // End tokens are banned, so that all replies are of the same length.
    let sampling = Sampling { banned: policy.config.eos.clone(), ..Sampling::default() };
    let keys = (0..lanes as u64).map(|lane| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&lane.to_le_bytes());
        Draw::Key(key)
    });
    let request =
        Request { asked: Asked { prompt: &prompt, features: features.iter().collect() }, draws: keys.collect() };
    let requests = std::slice::from_ref(&request);
    let mut seconds = Vec::new();
    for new in [1, tokens] {
        let clock = Clock::start();
        let replies = policy.sample(requests, &Sampling { max_tokens: new, ..sampling.clone() })?;
        seconds.push(clock.stop());
        assert!(replies[0].iter().all(|reply| reply.ids.len() == new), "a reply ended early");
        if new == tokens {
            let (wall, cpu) = whole.stop();
            // The first call read the prompt once more than was needed.
            let (wall, cpu) = (wall - seconds[0].0, cpu - seconds[0].1);
            let made = (lanes * tokens) as f64;
            println!(
                "{}",
                json!({"what": "vote", "lanes": lanes, "tokens": tokens, "prompt": prompt.ids.len(), "wall": wall, "cpu": cpu, "tokens_a_second": made / wall})
            );
        }
    }
    let steps = (tokens - 1) as f64;
    let (prefill, all) = (seconds[0], seconds[1]);
    println!("{}", json!({"what": "prefill", "wall": prefill.0, "cpu": prefill.1}));
    // Two floating point operations a weight and lane, attention apart.
    let text = policy.weights.iter().filter(|(name, _)| !name.starts_with("visual.") && !name.contains("embed"));
    let work = 2.0 * text.map(|(_, weight)| weight.elem_count()).sum::<usize>() as f64 * lanes as f64;
    let (wall, cpu) = ((all.0 - prefill.0) / steps, (all.1 - prefill.1) / steps);
    println!(
        "{}",
        json!({"what": "decode step", "wall": wall, "cpu": cpu, "gflops": work / wall / 1e9, "gflops_a_cpu": work / cpu / 1e9})
    );
    Ok(())
}

fn greedy(folder: &str, pictures: [&str; 2], rest: &[&str]) -> Outcome {
    let policy = load(folder)?;
    let features = look(&policy, pictures)?;
    let question = Question::new(Task::Compare, Reasoning::Off);
    let prompt = policy.prompt(&question, &[features[0].grid, features[1].grid])?;
    let reply = policy.greedy(&prompt, &features.iter().collect::<Vec<_>>(), number(rest, 0, 32)?)?;
    println!(
        "{}",
        json!({"what": "greedy", "ids": reply.ids, "text": reply.text, "least_lead": reply.leads.iter().copied().fold(f32::INFINITY, f32::min)})
    );
    Ok(())
}

/// Two training steps; the first touches all that stays. The peak of resident memory is counted from what a step cannot do
/// without: the numbers of weights (which are their own master), reference and both moments, and the program itself.
fn train(folder: &str, picture: &str, rest: &[&str]) -> Outcome {
    let (lanes, tokens, pictures) = (number(rest, 0, 32)?, number(rest, 1, 32)?, number(rest, 2, 1)?);
    let program = status("VmRSS:");
    let policy = load(folder)?;
    let reference = policy.frozen()?;
    let pixels = policy.processor.pixels(&image::open(picture)?.to_rgb8())?;
    let prompt = policy.prompt(&Question::new(Task::Score, Reasoning::Off), &[pixels.grid])?;
    let usable: Vec<u32> = (0..policy.config.eos[0]).collect();
    let completion = |lane: usize| (0..tokens).map(|t| usable[(lane * 7919 + t * 104_729) % usable.len()]).collect();
    let group = |picture| Group {
        prompt: prompt.clone(),
        pictures: vec![picture],
        completions: (0..lanes).map(completion).collect(),
    };
    let groups: Vec<Group> = (0..pictures).map(group).collect();
    let pixels = vec![pixels; pictures];
    let loss = |group: usize, logprobs: &Tensor, mask: &Tensor| {
        let advantages: Vec<f32> = (0..lanes).map(|lane| ((lane + group) as f32).sin()).collect();
        let advantages = Tensor::from_vec(advantages, (lanes, 1), &Device::Cpu)?;
        (logprobs.broadcast_mul(&advantages)? * mask)?.sum_all()? / (-((lanes * tokens * pictures) as f64))
    };
    let vars = policy.weights.iter().map(|(name, var)| (name.to_owned(), var.clone()));
    let mut optimizer = AdamW::new(vars, Hyper::default())?;
    for warm in [true, false] {
        reset_peak();
        let state = (4 * size_of::<f32>() * policy.weights.parameters()) as f64 / f64::from(1 << 20);
        let whole = Clock::start();
        let gradients = policy.gradients(&pixels, &groups, &loss, None)?;
        let (gradients_wall, gradients_cpu) = whole.stop();
        let step = optimizer.step(&gradients.by_name, 3e-7)?;
        drop(gradients);
        let ((wall, cpu), peak) = (whole.stop(), status("VmHWM:"));
        println!(
            "{}",
            json!({"what": "train", "warm_up": warm, "pictures": pictures, "lanes": lanes, "tokens": tokens,
                "prompt": prompt.ids.len(), "wall": wall, "cpu": cpu, "gradients_wall": gradients_wall, "gradients_cpu": gradients_cpu,
                "program_mib": program, "state_mib": state, "peak_mib": peak, "above_mib": peak - state - program, "norm": step.gradient_norm})
        );
    }
    drop(reference);
    Ok(())
}

/// A figure of this process's memory in MiB, as Linux tells it; `VmHWM` is the peak of `VmRSS`.
fn status(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Makes `VmHWM` start again from what is resident now.
fn reset_peak() {
    // Where Linux does not allow it, the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Rows, and the layers of the mid-size language model as (out, in).
fn matmul() -> Outcome {
    let shapes = [(768, 768), (256, 768), (4096, 768), (768, 4096), (2048, 768)];
    for (rows, kernel) in
        [(32, Kernel::RowByRow), (32, Kernel::General), (590, Kernel::RowByRow), (590, Kernel::General)]
    {
        for (output, input) in shapes {
            // As many matrices as a model has layers, so that they come from memory as they do there.
            let layers = (0..10).map(|_| -> candle_core::Result<Linear> {
                Ok(Linear::new(String::new(), Tensor::randn(0_f32, 1.0, (output, input), &Device::Cpu)?, None))
            });
            let layers = layers.collect::<Result<Vec<_>, _>>()?;
            let x = Tensor::randn(0_f32, 1.0, (rows, input), &Device::Cpu)?;
            let mut best = (f64::INFINITY, f64::INFINITY);
            for _ in 0..5 {
                let clock = Clock::start();
                let repeats = (4e9 / (2 * rows * output * input * layers.len()) as f64).ceil() as usize;
                for _ in 0..repeats {
                    for layer in &layers {
                        layer.product(&x, kernel)?;
                    }
                }
                let (wall, cpu) = clock.stop();
                let times = (repeats * layers.len()) as f64;
                best = (best.0.min(wall / times), best.1.min(cpu / times));
            }
            let work = 2e-9 * (rows * output * input) as f64;
            println!(
                "{}",
                json!({"what": "matmul", "kernel": format!("{kernel:?}"), "rows": rows, "out": output, "in": input, "gflops": work / best.0, "gflops_a_cpu": work / best.1})
            );
        }
    }
    Ok(())
}
