//! The weights: which tensors a model has, read from one or many safetensors files under any of the names in use, kept
//! as f32 variables under the release's names, written back as files of a bounded size.

mod mapped;
mod names;
mod shards;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;

use crate::checkpoint::weight_files;
use crate::config::Config;
use crate::error::{Error, Result};
use mapped::{MappedFile, Stored};
pub use names::expected;
use names::{HEAD, release_name};

/// All tensors of a model by release name (`visual.…`, `model.…`, `lm_head.weight`), in f32. They are variables, so
/// that the same object is trained; whoever only reads takes aliases without a graph (`as_detached_tensor`).
pub struct Weights {
    tensors: BTreeMap<String, Var>,
}

/// Most bytes of a weight file, as `transformers` writes them.
const MAX_SHARD: usize = 5_000_000_000;

impl Weights {
    /// Reads the weights of `folder` into f32 on `device`. Files are mapped, a tensor at a time for each thread, so that
    /// beside the weights themselves little memory is needed.
    ///
    /// # Errors
    /// No weight files; a file that is broken; an index that says another thing than the shards; a tensor that is missing, repeated, unknown to the configuration, of
    /// another shape, in another format than BF16, F16 and F32, or with values that are not finite.
    pub fn load(folder: &Path, config: &Config, device: &Device) -> Result<Self> {
        let stored = Checkpoint::open(folder, config)?;
        let read = |(name, (file, tensor)): (&String, &(usize, Stored))| {
            let values = stored.files[*file].read(tensor)?;
            Ok((name.clone(), Var::from_vec(values, tensor.shape.as_slice(), device)?))
        };
        Ok(Self { tensors: stored.tensors.par_iter().map(read).collect::<Result<_>>()? })
    }

    /// Weights from tensors that were made in memory, one for each of [`expected`].
    ///
    /// # Errors
    /// The device is out of memory.
    pub(crate) fn from_tensors(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let tensors = tensors.into_iter().map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)));
        Ok(Self { tensors: tensors.collect::<Result<_>>()? })
    }

    /// The tensor of that release name.
    ///
    /// # Errors
    /// The model has no such tensor.
    pub fn get(&self, name: &str) -> Result<&Var> {
        self.tensors.get(name).ok_or_else(|| Error::NoSuchTensor { name: name.to_owned() })
    }

    /// All tensors, sorted by release name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.tensors.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// How many numbers there are.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|var| var.elem_count()).sum()
    }

    /// A deep copy: training the one leaves the other as it is.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn copy(&self) -> Result<Self> {
        Self::from_tensors(self.tensors.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())))
    }

    /// Writes `model.safetensors`, or from 5 GB on numbered shards and their index: f32, release names, sorted, with the
    /// metadata that `transformers` asks for. The same weights give the same bytes. Weight files that were there go.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_in_shards(folder, MAX_SHARD)
    }

    /// [`Self::save`] with files of at most `most` bytes of numbers, or one tensor that is larger.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_in_shards(&self, folder: &Path, most: usize) -> Result<()> {
        let tensors: Vec<(&str, &Tensor)> = self.iter().map(|(name, var)| (name, var.as_tensor())).collect();
        shards::write(folder, &tensors, most)
    }
}

/// The weight files of a folder, of which each tensor was found, once and in its shape; nothing was read.
pub(crate) struct Checkpoint {
    files: Vec<MappedFile>,
    /// By release name: which file, and where.
    tensors: BTreeMap<String, (usize, Stored)>,
}

impl Checkpoint {
    /// Opens the files and compares what their headers name with what the configuration calls for.
    pub fn open(folder: &Path, config: &Config) -> Result<Self> {
        let expected: HashMap<String, Vec<usize>> = names::expected(config).into_iter().collect();
        let files = weight_files(folder)?;
        let files = files.iter().map(|path| MappedFile::open(path)).collect::<Result<Vec<_>>>()?;
        shards::check_index(folder, &files)?;
        let mut tensors: BTreeMap<String, (usize, Stored)> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for tensor in file.tensors() {
                let name = release_name(&tensor.name);
                if config.tie_word_embeddings && name == HEAD {
                    // A raw state dict of a tied model holds the embedding matrix a second time.
                    continue;
                }
                file.check(&tensor, expected.get(&name))?;
                let (path, repeated) = (file.path().to_owned(), tensor.name.clone());
                if tensors.insert(name, (index, tensor)).is_some() {
                    return Err(Error::RepeatedTensor { name: repeated, path });
                }
            }
        }
        let missing: Vec<String> = names::expected(config)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !tensors.contains_key(name))
            .collect();
        if let Some(name) = missing.first() {
            return Err(Error::MissingTensor {
                name: name.clone(),
                path: folder.to_owned(),
                missing: missing.len(),
                expected: expected.len(),
            });
        }
        Ok(Self { files, tensors })
    }

    /// Reads every tensor in the number format `dtype`, one after the other, onto `device`.
    pub fn read_as(&self, dtype: DType, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        let read = |(name, (file, tensor)): (&String, &(usize, Stored))| {
            Ok((name.clone(), self.files[*file].read_as(tensor, dtype, device)?))
        };
        self.tensors.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{WEIGHTS, WEIGHTS_INDEX};
    use candle_core::DType;
    use serde_json::{Value, json};

    /// A model of a few hundred numbers.
    pub(super) fn config(tied: bool) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let value = json!({
            "model_type": "qwen2_5_vl", "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10, "rms_norm_eps": 1e-6,
            "rope_theta": 1e4, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 0]}, "tie_word_embeddings": tied,
            "eos_token_id": 1, "vision_start_token_id": 2, "vision_end_token_id": 3, "image_token_id": 4, "video_token_id": 5,
            "vision_config": {"depth": 1, "hidden_size": 4, "num_heads": 1, "intermediate_size": 3, "out_hidden_size": 8},
        });
        std::fs::write(folder.path().join("config.json"), value.to_string()).unwrap();
        Config::load(folder.path()).unwrap()
    }

    /// Distinct numbers in every tensor; exact in BF16 and F16, so that all formats read back the same.
    fn tensors(config: &Config) -> Vec<(String, Tensor)> {
        let numbers = |count: usize, shift: usize| (0..count).map(move |i| ((i + shift) % 61) as f32 / 8.0).collect();
        let make = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
            let values: Vec<f32> = numbers(shape.iter().product(), 7 * index);
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        expected(config).into_iter().enumerate().map(make).collect()
    }

    fn write(path: &Path, tensors: &[(String, Tensor)]) {
        let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        safetensors::serialize_to_file(views, None, path).unwrap();
    }

    fn load(folder: &Path, config: &Config) -> Result<Weights> {
        Weights::load(folder, config, &Device::Cpu)
    }

    /// Loads a single file with these tensors.
    fn load_tensors(config: &Config, tensors: &[(String, Tensor)]) -> Result<Weights> {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join(WEIGHTS), tensors);
        load(folder.path(), config)
    }

    fn assert_holds(weights: &Weights, tensors: &[(String, Tensor)]) {
        assert_eq!(weights.iter().count(), tensors.len());
        for (name, tensor) in tensors {
            let found = weights.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(found, tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), "{name}");
        }
    }

    fn message(result: Result<Weights>) -> String {
        result.err().expect("the folder is refused").to_string()
    }

    #[test]
    fn release_names_in_memory_names_and_a_mix_of_both_are_one_model() {
        let config = config(false);
        let tensors = tensors(&config);
        let rename = |visual: bool, text: bool| -> Vec<(String, Tensor)> {
            let name = |name: &str| match (name.strip_prefix("visual."), name.strip_prefix("model.")) {
                (Some(rest), _) if visual => format!("model.visual.{rest}"),
                (_, Some(rest)) if text => format!("model.language_model.{rest}"),
                _ => name.to_owned(),
            };
            tensors.iter().map(|(old, tensor)| (name(old), tensor.clone())).collect()
        };
        for (visual, text) in [(false, false), (true, true), (true, false), (false, true)] {
            assert_holds(&load_tensors(&config, &rename(visual, text)).unwrap(), &tensors);
        }
    }

    #[test]
    fn half_precision_formats_become_f32() {
        let config = config(true);
        let tensors = tensors(&config);
        for format in [DType::BF16, DType::F16] {
            let half = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(format).unwrap()));
            assert_holds(&load_tensors(&config, &half.collect::<Vec<_>>()).unwrap(), &tensors);
        }
    }

    #[test]
    fn shards_are_read_through_their_index() {
        let config = config(false);
        let tensors = tensors(&config);
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = tensors.split_at(5);
        write(&folder.path().join("model-00001-of-00002.safetensors"), first);
        write(&folder.path().join("model-00002-of-00002.safetensors"), second);
        let map: serde_json::Map<_, _> = tensors
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                (name.clone(), json!(format!("model-0000{}-of-00002.safetensors", if i < 5 { 1 } else { 2 })))
            })
            .collect();
        let index = json!({"weight_map": map}).to_string();
        std::fs::write(folder.path().join(WEIGHTS_INDEX), index).unwrap();
        assert_holds(&load(folder.path(), &config).unwrap(), &tensors);
    }

    #[test]
    fn saving_and_loading_changes_nothing_and_the_bytes_are_the_same_each_time() {
        let config = config(true);
        let tensors = tensors(&config);
        let weights = load_tensors(&config, &tensors).unwrap();
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        weights.save(a.path()).unwrap();
        let again = load(a.path(), &config).unwrap();
        assert_holds(&again, &tensors);
        again.save(b.path()).unwrap();
        let bytes = std::fs::read(a.path().join(WEIGHTS)).unwrap();
        assert_eq!(bytes, std::fs::read(b.path().join(WEIGHTS)).unwrap());
        assert!(bytes.windows(15).any(|window| window == br#""format":"pt"},"#.as_slice()), "no metadata");
    }

    #[test]
    fn weights_over_the_bound_are_saved_in_shards_that_an_index_names() {
        let config = config(false);
        let tensors = tensors(&config);
        let weights = load_tensors(&config, &tensors).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The whole file that an earlier saving left would win over the shards.
        weights.save(folder.path()).unwrap();
        weights.save_in_shards(folder.path(), 1000).unwrap();
        assert!(!folder.path().join(WEIGHTS).exists());
        let index: Value = serde_json::from_slice(&std::fs::read(folder.path().join(WEIGHTS_INDEX)).unwrap()).unwrap();
        let bytes: usize = tensors.iter().map(|(_, tensor)| 4 * tensor.elem_count()).sum();
        assert_eq!(index["metadata"]["total_size"], bytes);
        let mut found = 0;
        let shards = weight_files(folder.path()).unwrap();
        assert!(shards.len() > 2);
        for (number, path) in (1..).zip(&shards) {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(name, format!("model-{number:05}-of-{:05}.safetensors", shards.len()));
            let file = MappedFile::open(path).unwrap();
            let size: usize = file.tensors().iter().map(|tensor| 4 * tensor.shape.iter().product::<usize>()).sum();
            assert!(size <= 1000 || file.tensors().len() == 1, "{name} holds {size} bytes");
            for tensor in file.tensors() {
                assert_eq!(index["weight_map"][&tensor.name], name);
                found += 1;
            }
        }
        assert_eq!(found, tensors.len());
        assert_holds(&load(folder.path(), &config).unwrap(), &tensors);
        // And back: shards that an earlier saving left go as well.
        weights.save(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_value_that_is_no_number_is_named_with_its_tensor_and_place() {
        let config = config(false);
        for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            let mut all = tensors(&config);
            let place = all.iter().position(|(name, _)| name == "model.norm.weight").unwrap();
            let mut values = all[place].1.to_vec1::<f32>().unwrap();
            values[5] = value;
            all[place].1 = Tensor::new(values, &Device::Cpu).unwrap();
            let message = message(load_tensors(&config, &all));
            assert!(message.contains(&format!("`model.norm.weight` holds {shown} at position 5")), "{message}");
        }
    }

    #[test]
    fn training_a_copy_leaves_the_original_alone() {
        let config = config(true);
        let tensors = tensors(&config);
        let weights = load_tensors(&config, &tensors).unwrap();
        let copy = weights.copy().unwrap();
        let norm = copy.get("model.norm.weight").unwrap();
        norm.set(&norm.affine(2.0, 1.0).unwrap()).unwrap();
        assert_holds(&weights, &tensors);
    }

    #[test]
    fn a_head_in_a_tied_model_is_passed_over() {
        let config = config(true);
        let mut all = tensors(&config);
        let expected = all.clone();
        let embedding = all.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap().1.clone();
        all.push((HEAD.to_owned(), embedding));
        assert_holds(&load_tensors(&config, &all).unwrap(), &expected);
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let config = config(false);
        let mut all = tensors(&config);
        all.retain(|(name, _)| name != HEAD);
        let message = message(load_tensors(&config, &all));
        assert!(message.contains("`lm_head.weight` is missing (1 of"), "{message}");
    }

    #[test]
    fn an_extra_a_misshaped_and_a_repeated_tensor_are_named_with_their_file() {
        let config = config(false);
        let all = tensors(&config);
        let one =
            |name: &str, shape: &[usize]| (name.to_owned(), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
        let mut extra = all.clone();
        extra.push(one("model.layers.1.mlp.up_proj.weight", &[6, 8]));
        let mut misshaped = all.clone();
        misshaped.retain(|(name, _)| name != "model.norm.weight");
        misshaped.push(one("model.language_model.norm.weight", &[9]));
        let mut repeated = all.clone();
        repeated.push(one("model.visual.merger.ln_q.weight", &[4]));
        for (tensors, named) in [
            (extra, "`model.layers.1.mlp.up_proj.weight` has no place"),
            (misshaped, "`model.language_model.norm.weight` has shape [9], config.json calls for [8]"),
            (repeated, "visual.merger.ln_q.weight` stands there a second time"),
        ] {
            let message = message(load_tensors(&config, &tensors));
            assert!(message.contains(named) && message.contains(WEIGHTS), "{message}");
        }
    }

    #[test]
    fn other_number_formats_are_refused() {
        let config = config(false);
        let mut all = tensors(&config);
        all[0].1 = all[0].1.to_dtype(DType::U8).unwrap();
        let message = message(load_tensors(&config, &all));
        assert!(message.contains("is stored as U8"), "{message}");
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let config = config(false);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WEIGHTS);
        write(&path, &tensors(&config));
        let bytes = std::fs::read(&path).unwrap();
        for kept in [0, 5, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..kept]).unwrap();
            let message = message(load(folder.path(), &config));
            assert!(message.contains("not a readable safetensors file"), "{message}");
        }
    }
}
