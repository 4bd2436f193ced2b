//! A checkpoint folder on disk: which of its files hold the weights, how its JSON files are read, and how a whole folder
//! is written. What each file means is in the module of its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::processor::Processor;
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// The weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Which shard holds which tensor, when the weights are in several files.
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// The weight files of `folder`, sorted by name: the one file where there is one (as `transformers` prefers it), else
/// the shards that the index names.
///
/// # Errors
/// Neither file is there; the index is malformed or names a missing shard.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    match weight_map(folder)? {
        None => Ok(vec![folder.join(WEIGHTS)]),
        Some(map) => Ok(map.into_values().collect::<BTreeSet<_>>().into_iter().collect()),
    }
}

/// Which shard holds which tensor, by the index; none where one file holds all.
pub(crate) fn weight_map(folder: &Path) -> Result<Option<BTreeMap<String, PathBuf>>> {
    if folder.join(WEIGHTS).is_file() {
        return Ok(None);
    }
    let index = folder.join(WEIGHTS_INDEX);
    if !index.is_file() {
        return Err(Error::NoWeights { folder: folder.to_owned() });
    }
    let value = read_json(&index)?;
    let top = Json::new(&index, &value)?;
    let map = top.object("weight_map")?.ok_or_else(|| top.error("weight_map", "is missing"))?;
    let mut places = BTreeMap::new();
    for (tensor, shard) in map.entries() {
        // A shard is a file of this folder: a path that leads out of it is a broken or hostile index.
        let name = shard
            .as_str()
            .filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name))
            .ok_or_else(|| map.error(tensor, format!("found {shard}, expected the name of a file in this folder")))?;
        let path = folder.join(name);
        if !path.is_file() {
            return Err(map.error(tensor, format!("names the shard {name}, which is not in the folder; fetch it")));
        }
        places.insert(tensor.clone(), path);
    }
    Ok(Some(places))
}

/// Writes a whole folder, in the layout of the releases: `config.json` flat, release tensor names, one weight file.
/// `transformers` loads it with its `AutoProcessor` and its model class. The folder is made if it is not there.
///
/// # Errors
/// A file that cannot be written.
pub fn save(
    folder: &Path,
    config: &Config,
    weights: &Weights,
    tokenizer: &Tokenizer,
    template: &Template,
    processor: &Processor,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    config.save(folder)?;
    tokenizer.save(folder)?;
    template.save(folder)?;
    processor.save(folder)?;
    weights.save(folder)
}

/// The content of a file that every checkpoint folder has.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::MissingFile { path: path.to_owned() },
        _ => Error::Io { path: path.to_owned(), source },
    })
}

/// The JSON value in a file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = read(path)?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// The same, or nothing where the file is absent.
pub(crate) fn read_json_if_present(path: &Path) -> Result<Option<Value>> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}

/// Writes a JSON value with two spaces of indentation and a final newline, keys in the order given.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

/// Writes a file whole.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// A JSON object of a checkpoint file, read field by field so that every error names the file and the field.
/// A field that is `null` counts as absent, as it does in `transformers`.
#[derive(Clone)]
pub(crate) struct Json<'a> {
    path: &'a Path,
    prefix: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Json<'a> {
    /// The object that is the whole file.
    pub fn new(path: &'a Path, value: &'a Value) -> Result<Self> {
        let fields = value.as_object().ok_or_else(|| Error::Config {
            path: path.to_owned(),
            field: "(the whole file)".to_owned(),
            problem: "found no JSON object".to_owned(),
        })?;
        Ok(Self { path, prefix: String::new(), fields })
    }

    /// An error about one of the object's fields.
    pub fn error(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Config { path: self.path.to_owned(), field: format!("{}{field}", self.prefix), problem: problem.into() }
    }

    /// All fields, in the file's order.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.fields.iter()
    }

    /// A field, if it is there and not null.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// An object inside this one.
    pub fn object(&self, field: &str) -> Result<Option<Self>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let fields = value.as_object().ok_or_else(|| self.wrong(field, value, "an object"))?;
        Ok(Some(Self { path: self.path, prefix: format!("{}{field}.", self.prefix), fields }))
    }

    /// A whole number ≥ 0, if it is there.
    pub fn integer(&self, field: &str) -> Result<Option<usize>> {
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        self.read(field, "a whole number, 0 or more", number)
    }

    /// A whole number that must be there.
    pub fn require_integer(&self, field: &str) -> Result<usize> {
        self.integer(field)?.ok_or_else(|| self.missing(field))
    }

    /// A token id, if it is there.
    pub fn token(&self, field: &str) -> Result<Option<u32>> {
        self.read(field, "a token id", |value| value.as_u64().and_then(|id| u32::try_from(id).ok()))
    }

    /// One token id or a list of them; empty where the field is absent.
    pub fn tokens(&self, field: &str) -> Result<Vec<u32>> {
        let ids = self.read(field, "a token id or a list of them", |value| {
            let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
            value.as_array().map_or_else(|| Some(vec![id(value)?]), |list| list.iter().map(id).collect())
        })?;
        Ok(ids.unwrap_or_default())
    }

    /// A finite number, if it is there.
    pub fn number(&self, field: &str) -> Result<Option<f64>> {
        self.read(field, "a number", Value::as_f64)
    }

    /// A truth value, if it is there.
    pub fn truth(&self, field: &str) -> Result<Option<bool>> {
        self.read(field, "true or false", Value::as_bool)
    }

    /// A text, if it is there.
    pub fn text(&self, field: &str) -> Result<Option<&'a str>> {
        self.read(field, "a text", Value::as_str)
    }

    /// A list of whole numbers, if it is there.
    pub fn integers(&self, field: &str) -> Result<Option<Vec<usize>>> {
        self.read(field, "a list of whole numbers", |value| {
            let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
            value.as_array()?.iter().map(number).collect()
        })
    }

    /// A list of three numbers, if it is there.
    pub fn three_numbers(&self, field: &str) -> Result<Option<[f64; 3]>> {
        self.read(field, "a list of three numbers", |value| {
            let list: Vec<f64> = value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
            list.try_into().ok()
        })
    }

    /// An error for a field that has to be there.
    pub fn missing(&self, field: &str) -> Error {
        self.error(field, "is missing")
    }

    fn read<T>(&self, field: &str, expected: &str, parse: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| self.wrong(field, value, expected))
    }

    fn wrong(&self, field: &str, value: &Value, expected: &str) -> Error {
        self.error(field, format!("found {value}, expected {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a configuration, one weight file and a README.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("config.json", "{}"), (WEIGHTS, "weights"), ("README.md", "hello")] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let files = weight_files(folder).unwrap();
        files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_index_names_the_shards_and_a_stray_weight_file_is_left_out() {
        let folder = folder();
        std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
        let index =
            r#"{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-1.safetensors"}}"#;
        for (name, content) in
            [(WEIGHTS_INDEX, index), ("model-1.safetensors", ""), ("model-2.safetensors", ""), ("old.safetensors", "")]
        {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        assert_eq!(names(folder.path()), ["model-1.safetensors", "model-2.safetensors"]);
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        let folder = folder();
        std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
        let index = r#"{"weight_map": {"a": "../model.safetensors"}}"#;
        std::fs::write(folder.path().join(WEIGHTS_INDEX), index).unwrap();
        let message = weight_files(folder.path()).unwrap_err().to_string();
        assert!(message.contains("weight_map.a") && message.contains("../model.safetensors"), "{message}");
    }

    #[test]
    fn a_folder_without_weights_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = weight_files(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&folder.path().display().to_string()) && message.contains(WEIGHTS), "{message}");
    }
}
