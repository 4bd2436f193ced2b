//! What is wrong is said in one line that names it: broken checkpoints, pictures that are too long or too large, prompts
//! that are too long, requests for nothing.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use evoq_policy::{Asked, Draw, Error, Policy, Processor, Prompt, Question, Reasoning, Request, Sampling, Task};
use image::RgbImage;
use serde_json::{Value, json};

use crate::fixture::{copy_of_checkpoint, policy};

/// The error with which a folder is refused: one line that holds each of `parts`.
fn refusal(folder: &Path, parts: &[&str]) -> String {
    one_line(&Policy::load(folder, &Device::Cpu).err().expect("the folder is refused"), parts)
}

fn one_line(error: &Error, parts: &[&str]) -> String {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    message
}

/// Rewrites one JSON file of a folder.
fn edit(folder: &Path, file: &str, change: impl Fn(&mut Value)) {
    let path = folder.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the weights of a folder.
fn edit_weights(folder: &Path, change: impl Fn(&mut Vec<(String, Tensor)>)) {
    let path = folder.join("model.safetensors");
    let mut tensors: Vec<_> = candle_core::safetensors::load(&path, &Device::Cpu).unwrap().into_iter().collect();
    change(&mut tensors);
    safetensors(&path, &tensors);
}

fn safetensors(path: &Path, tensors: &[(String, Tensor)]) {
    let map = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&map, path).unwrap();
}

/// A copy of the checkpoint in several shards.
fn sharded(name: &str) -> std::path::PathBuf {
    let folder = copy_of_checkpoint(name);
    policy().weights.save_in_shards(&folder, 400_000).unwrap();
    assert!(!folder.join("model.safetensors").exists());
    folder
}

/// The name of the shard that the index gives for the head, and that of another.
fn two_shards(folder: &Path) -> [String; 2] {
    let index: Value = serde_json::from_slice(&fs::read(folder.join(INDEX)).unwrap()).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let first = map["lm_head.weight"].as_str().unwrap();
    let other = map.values().filter_map(Value::as_str).find(|shard| *shard != first).unwrap();
    [first.to_owned(), other.to_owned()]
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn another_architecture_is_refused_by_its_name() {
    let folder = copy_of_checkpoint("refused-architecture");
    edit(&folder, "config.json", |config| config["model_type"] = json!("qwen3_vl"));
    refusal(&folder, &["config.json", "model_type", "qwen3_vl", "expected qwen2_5_vl"]);
}

#[test]
fn a_file_that_is_not_there_is_named_before_the_weights_are_read() {
    for file in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
        let folder = copy_of_checkpoint("refused-missing-file");
        for name in [file, "processor_config.json"] {
            let _ = fs::remove_file(folder.join(name));
        }
        // The weights are no weights: whoever reads them first says so.
        fs::write(folder.join("model.safetensors"), "").unwrap();
        refusal(&folder, &[file, "there is no such file", "fetch it"]);
    }
}

#[test]
fn a_tokenizer_that_is_none_is_refused() {
    let folder = copy_of_checkpoint("refused-tokenizer");
    fs::write(folder.join("tokenizer.json"), r#"{"model": 1}"#).unwrap();
    refusal(&folder, &["tokenizer.json"]);
}

#[test]
fn a_truncated_shard_is_named() {
    let folder = sharded("refused-truncated");
    let [shard, _] = two_shards(&folder);
    let bytes = fs::read(folder.join(&shard)).unwrap();
    for kept in [0, 7, 100, bytes.len() - 1] {
        fs::write(folder.join(&shard), &bytes[..kept]).unwrap();
        refusal(&folder, &[&shard, "not a readable safetensors file", "fetch the file again"]);
    }
}

#[test]
fn a_weight_that_is_no_number_is_named_with_its_place() {
    let folder = copy_of_checkpoint("refused-nan");
    edit_weights(&folder, |tensors| {
        let (_, norm) = tensors.iter_mut().find(|(name, _)| name == "model.norm.weight").unwrap();
        let mut values = norm.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        values[3] = f32::NAN;
        *norm = Tensor::new(values, &Device::Cpu).unwrap();
    });
    refusal(&folder, &["model.safetensors", "`model.norm.weight` holds NaN at position 3"]);
}

#[test]
fn a_missing_an_extra_and_a_misshaped_tensor_are_named() {
    let folder = copy_of_checkpoint("refused-tensors");
    edit_weights(&folder, |tensors| tensors.retain(|(name, _)| name != "model.norm.weight"));
    refusal(&folder, &["`model.norm.weight` is missing"]);
    let zeros = |name: &str, size: usize| (name.to_owned(), Tensor::zeros(size, DType::F32, &Device::Cpu).unwrap());
    edit_weights(&folder, |tensors| tensors.push(zeros("model.norm.weight", 7)));
    refusal(&folder, &["model.safetensors", "`model.norm.weight` has shape [7], config.json calls for ["]);
    let folder = copy_of_checkpoint("refused-extra");
    edit_weights(&folder, |tensors| tensors.push(zeros("model.layers.99.mlp.up_proj.weight", 7)));
    refusal(&folder, &["model.safetensors", "`model.layers.99.mlp.up_proj.weight` has no place in this model"]);
}

#[test]
fn an_index_that_says_another_thing_than_the_shards_is_refused() {
    let folder = sharded("refused-index");
    let [shard, other] = two_shards(&folder);
    let index = fs::read(folder.join(INDEX)).unwrap();
    let with = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        fs::write(folder.join(INDEX), &index).unwrap();
        edit(&folder, INDEX, |index| change(&mut index["weight_map"]));
        refusal(&folder, &[&[INDEX, "fetch"], parts].concat());
    };
    with(&|map| map["lm_head.weight"] = json!(other), &["weight_map.lm_head.weight", &other, &shard]);
    with(&|map| map["lm_head.weight"] = json!("gone"), &["weight_map.lm_head.weight", "gone"]);
    with(&|map| map["model.more.weight"] = json!(shard), &["weight_map.model.more.weight", "does not hold it"]);
    with(
        &|map| drop(map.as_object_mut().unwrap().remove("lm_head.weight")),
        &["weight_map.lm_head.weight", "is missing", &shard],
    );
}

#[test]
fn a_picture_of_one_by_ten_thousand_pixels_is_refused() {
    let error = policy().processor.pixels(&RgbImage::new(1, 10_000)).unwrap_err();
    one_line(&error, &["1x10000", "10000.0 times", "200 at most"]);
}

/// Most bytes that this process had in memory since it was last asked; Linux alone tells.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(kilobytes * 1024)
}

#[test]
fn a_picture_of_twenty_thousand_pixels_a_side_is_shrunk_in_bounded_memory() {
    // Its own 1.2 GB are of pages that were never written, and take no memory.
    let (picture, processor) = (RgbImage::new(20_000, 20_000), Processor::new(3136, 12_845_056));
    if peak_bytes().is_none() {
        return eprintln!("SKIPPED: this system does not tell how much memory a process had");
    }
    let pixels = processor.pixels(&picture).unwrap();
    let peak = peak_bytes().unwrap();
    assert!(pixels.grid.tokens(2) <= 12_845_056 / 784 && pixels.patches.len() <= 6 * 12_845_056);
    // The narrowed picture has 215 MB, the patches 308 MB; other tests run beside this one.
    assert!(peak < 2_000_000_000, "{peak} bytes");
}

#[test]
fn a_picture_that_fills_the_context_is_refused_before_its_patches_are_made() {
    let mut policy = policy();
    (policy.processor.max_pixels, policy.config.text.max_position_embeddings) = (usize::MAX, 4096);
    let error = policy.pixels(&RgbImage::new(20_000, 20_000)).unwrap_err();
    one_line(&error, &["20000x20000", "509796 tokens", "4096", "max_pixels"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let policy = policy();
    let limit = policy.config.text.max_position_embeddings;
    let prompt = Prompt { ids: vec![40; limit], grids: Vec::new() };
    let error = policy.greedy(&prompt, &[], 1).unwrap_err();
    one_line(&error, &[&(limit + 1).to_string(), &limit.to_string(), "smaller pictures"]);
    let asked = Asked { prompt: &prompt, features: Vec::new() };
    let error = policy.completion_logprobs(&[asked], &[&[vec![40]]]).unwrap_err();
    one_line(&error, &[&(limit + 1).to_string(), &limit.to_string()]);
}

#[test]
fn a_request_for_no_completions_is_refused() {
    let policy = policy();
    let prompt = Prompt { ids: vec![40; 4], grids: Vec::new() };
    let request = |draws| Request { asked: Asked { prompt: &prompt, features: Vec::new() }, draws };
    let requests = [request(vec![Draw::Greedy]), request(Vec::new())];
    one_line(&policy.sample(&requests, &Sampling::default()).unwrap_err(), &["0 completions", "1 or more"]);
}

#[test]
fn another_number_of_pictures_than_the_question_has_is_refused() {
    let error = policy().prompt(&Question::new(Task::Compare, Reasoning::Off), &[]).unwrap_err();
    one_line(&error, &["2 pictures", "given 0"]);
}
