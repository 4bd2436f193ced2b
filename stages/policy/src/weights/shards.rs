//! Weights in several files: numbered shards of a bounded size, and the index that says which holds which tensor.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::Tensor;
use safetensors::tensor::SafeTensorError;
use serde_json::{Map, json};

use super::mapped::MappedFile;
use crate::checkpoint::{WEIGHTS, WEIGHTS_INDEX, weight_files, weight_map, write_json};
use crate::error::{Error, Result};

/// Refuses shards that do not hold what their index says: one of them is of another checkpoint, or of another saving.
pub(super) fn check_index(folder: &Path, files: &[MappedFile]) -> Result<()> {
    let Some(places) = weight_map(folder)? else { return Ok(()) };
    let wrong = |tensor: &str, problem: String| {
        let problem = format!("{problem}; fetch the index and the shards again, from one place");
        Err(Error::Config { path: folder.join(WEIGHTS_INDEX), field: format!("weight_map.{tensor}"), problem })
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    let mut held = HashSet::new();
    for file in files {
        for tensor in file.tensors() {
            match places.get(&tensor.name) {
                Some(place) if place == file.path() => held.insert(tensor.name),
                Some(place) => {
                    let problem = format!("found {}, but {} holds it", name(place), name(file.path()));
                    return wrong(&tensor.name, problem);
                }
                None => return wrong(&tensor.name, format!("is missing, but {} holds it", name(file.path()))),
            };
        }
    }
    match places.iter().find(|(tensor, _)| !held.contains(*tensor)) {
        Some((tensor, place)) => wrong(tensor, format!("found {}, which does not hold it", name(place))),
        None => Ok(()),
    }
}

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
