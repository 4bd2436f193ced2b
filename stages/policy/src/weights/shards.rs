//! Writing weights: one file, or numbered shards of a bounded size and the index that says where each tensor is.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use safetensors::tensor::SafeTensorError;
use serde_json::{Map, json};

use crate::checkpoint::{WEIGHTS, WEIGHTS_INDEX, weight_files, write_json};
use crate::error::{Error, Result};

/// Writes tensors, in their order, into files of at most `most` bytes of numbers each; a larger tensor has one of its
/// own. What another saving left there goes first: an old file of all weights would win over new shards.
pub(super) fn write(folder: &Path, tensors: &[(&str, &Tensor)], most: usize) -> Result<()> {
    remove_old(folder)?;
    let shards = cut(tensors, most);
    if let [all] = shards.as_slice() {
        return write_file(&folder.join(WEIGHTS), all);
    }
    let mut places = Map::new();
    for (number, shard) in (1..).zip(&shards) {
        let name = format!("model-{number:05}-of-{:05}.safetensors", shards.len());
        write_file(&folder.join(&name), shard)?;
        places.extend(shard.iter().map(|(tensor, _)| ((*tensor).to_owned(), json!(name))));
    }
    let total: usize = tensors.iter().map(|(_, tensor)| bytes(tensor)).sum();
    write_json(&folder.join(WEIGHTS_INDEX), &json!({"metadata": {"total_size": total}, "weight_map": places}))
}

/// Consecutive runs of tensors; one, perhaps empty, where all fit.
fn cut<'a, 'b>(tensors: &'b [(&'a str, &'a Tensor)], most: usize) -> Vec<&'b [(&'a str, &'a Tensor)]> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0);
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        if index > start && size + bytes(tensor) > most {
            shards.push(&tensors[start..index]);
            (start, size) = (index, 0);
        }
        size += bytes(tensor);
    }
    shards.push(&tensors[start..]);
    shards
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

fn write_file(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors.iter().copied(), Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => Error::Io { path: path.to_owned(), source },
        source => Error::Safetensors { path: path.to_owned(), source },
    })
}

/// Removes the weight files that a reader of the folder would take, and their index.
fn remove_old(folder: &Path) -> Result<()> {
    let mut old = match weight_files(folder) {
        Ok(files) => files,
        Err(Error::NoWeights { .. }) => return Ok(()),
        // An index that names what is not there: it goes, and what it does name is no longer named.
        Err(_) => Vec::new(),
    };
    old.push(folder.join(WEIGHTS_INDEX));
    for path in old.into_iter().filter(|path| path.exists()) {
        std::fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
    }
    Ok(())
}
