//! One model, however a version of transformers has written its folder, and a folder of ours that reads back the same.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use evoq_policy::policy::Policy;
use evoq_policy::{Config, Error, Weights};

use crate::fixture::{copy_of_checkpoint, flat, path, policy, scratch};
use crate::parity::tie;

/// Rewrites the weights of a folder under other names; `None` leaves a tensor out.
fn rename(folder: &Path, name: impl Fn(&str) -> Option<String>) {
    let file = folder.join("model.safetensors");
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(&file, &Device::Cpu)
        .unwrap()
        .into_iter()
        .filter_map(|(old, tensor)| name(&old).map(|new| (new, tensor)))
        .collect();
    candle_core::safetensors::save(&tensors, file).unwrap();
}

fn assert_same_weights(one: &Weights, other: &Weights) {
    let (one, other): (Vec<_>, Vec<_>) = (one.iter().collect(), other.iter().collect());
    assert_eq!(one.len(), other.len());
    for ((name, a), (other_name, b)) in one.iter().zip(&other) {
        assert_eq!(name, other_name);
        assert!(flat(a) == flat(b), "{name}");
    }
}

#[test]
fn configs_of_four_versions_read_as_one() {
    let release = Config::load(&path("policy/checkpoint")).unwrap().to_json();
    for version in ["v4_49", "v4_57", "v5"] {
        let folder = copy_of_checkpoint(&format!("config-{version}"));
        fs::copy(path(&format!("policy/configs/{version}/config.json")), folder.join("config.json")).unwrap();
        assert_eq!(Config::load(&folder).unwrap().to_json(), release, "{version}");
    }
}

#[test]
fn weights_with_the_names_of_version_5_load_as_those_of_the_release() {
    let folder = copy_of_checkpoint("names-in-memory");
    rename(&folder, |name| {
        Some(match name.strip_prefix("model.") {
            Some(rest) => format!("model.language_model.{rest}"),
            None if name.starts_with("visual.") => format!("model.{name}"),
            None => name.to_owned(),
        })
    });
    let config = Config::load(&folder).unwrap();
    assert_same_weights(&Weights::load(&folder, &config, &Device::Cpu).unwrap(), &policy().weights);
}

#[test]
fn weights_with_mixed_names_load_as_those_of_the_release() {
    let folder = copy_of_checkpoint("names-mixed");
    rename(&folder, |name| Some(if name.starts_with("visual.") { format!("model.{name}") } else { name.to_owned() }));
    let config = Config::load(&folder).unwrap();
    assert_same_weights(&Weights::load(&folder, &config, &Device::Cpu).unwrap(), &policy().weights);
}

#[test]
fn a_folder_that_lacks_a_tensor_is_refused_by_its_name() {
    let folder = copy_of_checkpoint("lacking");
    rename(&folder, |name| (name != "visual.blocks.2.norm1.weight").then(|| name.to_owned()));
    let error = Policy::load(&folder, &Device::Cpu).err().unwrap();
    assert!(matches!(&error, Error::MissingTensor { name, .. } if name == "visual.blocks.2.norm1.weight"), "{error}");
}

#[test]
fn a_saved_folder_reads_back_as_the_same_policy() {
    let policy = policy();
    let folder = scratch("saved");
    policy.save(&folder).unwrap();
    let back = Policy::load(&folder, &Device::Cpu).unwrap();
    assert_eq!(back.config.to_json(), policy.config.to_json());
    assert_same_weights(&back.weights, &policy.weights);
    let text = "Ünïcode, 3.52 <|im_end|>\n";
    assert_eq!(back.tokenizer.encode(text).unwrap(), policy.tokenizer.encode(text).unwrap());
}

#[test]
fn a_tied_policy_is_saved_without_an_output_matrix() {
    let (tied, saved) = (copy_of_checkpoint("tied"), scratch("saved-tied"));
    tie(&tied);
    Policy::load(&tied, &Device::Cpu).unwrap().save(&saved).unwrap();
    let tensors = candle_core::safetensors::load(saved.join("model.safetensors"), &Device::Cpu).unwrap();
    assert!(!tensors.contains_key("lm_head.weight") && tensors.len() == policy().weights.iter().count() - 1);
    Policy::load(&saved, &Device::Cpu).unwrap();
}

#[test]
fn saving_twice_writes_the_same_bytes() {
    let policy = policy();
    let (one, two) = (scratch("saved-once"), scratch("saved-twice"));
    policy.save(&one).unwrap();
    Policy::load(&one, &Device::Cpu).unwrap().save(&two).unwrap();
    for entry in fs::read_dir(&one).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(one.join(&name)).unwrap() == fs::read(two.join(&name)).unwrap(), "{}", name.display());
    }
}
