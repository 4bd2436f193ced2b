//! The files that `policy.py` and its neighbours in `tests/fixtures` make; what each holds is said there.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use evoq_policy::policy::Policy;
use evoq_policy::train::Group;
use evoq_policy::{Grid, Pixels, Prompt, Question, Reasoning, Task};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file or folder of the fixtures.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// A JSON file of the fixtures.
pub fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

/// All arrays of a safetensors file.
pub fn arrays(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path(name), &Device::Cpu).unwrap()
}

/// The random checkpoint.
pub fn policy() -> Policy {
    Policy::load(&path("policy/checkpoint"), &Device::Cpu).unwrap()
}

/// An empty folder of this name, for what a test writes.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A copy of the checkpoint's folder in which a test may change files.
pub fn copy_of_checkpoint(name: &str) -> PathBuf {
    let folder = scratch(name);
    for entry in fs::read_dir(path("policy/checkpoint")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    folder
}

/// One prompt with all that the reference made of it.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub task: String,
    pub reasoning: String,
    pub text: String,
    pub pictures: Vec<String>,
    pub ids: Vec<u32>,
    pub grids: Vec<[usize; 2]>,
    pub positions: Vec<Vec<i64>>,
    pub delta: i64,
    pub rows: Vec<u32>,
    pub greedy: Vec<u32>,
    pub completions: Vec<Vec<u32>>,
}

impl Case {
    /// Every prompt of the fixtures.
    pub fn all() -> Vec<Self> {
        json("policy/prompts.json")
    }

    /// The prompt of this name.
    pub fn named(name: &str) -> Self {
        Self::all().into_iter().find(|case| case.name == name).unwrap()
    }

    /// The prompt's template with its text.
    pub fn question(&self) -> Question {
        let task = if self.task == "score" { Task::Score } else { Task::Compare };
        let reasoning = if self.reasoning == "on" { Reasoning::On } else { Reasoning::Off };
        Question::new(task, reasoning)
    }

    /// The grids of its pictures.
    pub fn grids(&self) -> Vec<Grid> {
        self.grids.iter().map(|&[height, width]| Grid { height, width }).collect()
    }

    /// The reference's pixel values of its pictures.
    pub fn pixels(&self, values: &HashMap<String, Tensor>) -> Vec<Pixels> {
        self.pictures.iter().zip(self.grids()).map(|(name, grid)| pixels(values, name, grid)).collect()
    }
}

/// The pictures of all prompts, each once, and the prompts with their completions as groups that look at them.
pub fn pictures_and_groups(cases: &[Case]) -> (Vec<Pixels>, Vec<Group>) {
    let values = arrays("policy/values.safetensors");
    let (mut names, mut pictures): (Vec<&String>, Vec<Pixels>) = (Vec::new(), Vec::new());
    for case in cases {
        for (name, pixels) in case.pictures.iter().zip(case.pixels(&values)) {
            if !names.contains(&name) {
                names.push(name);
                pictures.push(pixels);
            }
        }
    }
    let group = |case: &Case| Group {
        pictures: case.pictures.iter().map(|name| names.iter().position(|n| *n == name).unwrap()).collect(),
        prompt: Prompt { grids: case.grids(), ids: case.ids.clone() },
        completions: case.completions.clone(),
    };
    let groups = cases.iter().map(group).collect();
    (pictures, groups)
}

/// The reference's pixel values of one picture; the file holds one of the two equal frames.
pub fn pixels(values: &HashMap<String, Tensor>, name: &str, grid: Grid) -> Pixels {
    let frame = flat(&values[&format!("pixels.{name}")]);
    let patches = frame.chunks(196).flat_map(|channel| [channel, channel]).flatten().copied().collect();
    Pixels { patches, grid }
}

/// A tensor's values in row-major order.
pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference of two sequences of one length.
pub fn furthest(one: &[f32], other: &[f32]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, |worst, d| {
        if d >= worst {
            d
        } else if d.is_nan() {
            f64::INFINITY
        } else {
            worst
        }
    })
}

/// Euclidean length.
pub fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// ‖ours − theirs‖ / ‖theirs‖.
pub fn relative(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    let (ours, theirs) = (flat(ours), flat(theirs));
    norm(ours.iter().zip(&theirs).map(|(a, b)| a - b)) / norm(theirs.into_iter())
}

/// Standard deviation of the values.
pub fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}
