//! Checkpoint folders: which files make a policy, and their digest.

use std::path::{Path, PathBuf};

use crate::digests::digest_of;
use crate::files::list_files;
use crate::{Error, Location, Result};

/// The folder on this machine of the checkpoint at `uri`, which is no artifact: a path or `file://…`.
pub fn folder(uri: &str) -> Result<PathBuf> {
    let place = Location::open(uri)?;
    place.local().map(Path::to_path_buf).ok_or_else(|| Error::Corrupt {
        uri: uri.to_owned(),
        what: "is neither an artifact nor on this machine; bring the checkpoint folder to this machine".to_owned(),
    })
}

/// The files beside the weights that decide what a policy does.
const FILES: [&str; 11] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// The files of the checkpoint `folder` that make the policy, sorted: configurations, tokenizer, template, processor, weights
/// and their index; not the README, not an optimizer's state.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    let is_weight = |name: &str| {
        name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
    };
    let mut names = list_files(folder)?;
    names.retain(|name| FILES.contains(&name.as_str()) || is_weight(name));
    if names.iter().any(|name| name == "config.json") {
        Ok(names)
    } else {
        Err(Error::Corrupt {
            uri: folder.display().to_string(),
            what: "is not a checkpoint folder (it has no config.json)".to_owned(),
        })
    }
}

/// The digest of the policy in `folder`, the same inside and outside the store: 64 hex digits over its [`files`].
pub fn digest(folder: &Path) -> Result<String> {
    digest_of(folder, &files(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_file;

    #[test]
    fn a_folder_is_named_by_path_or_uri_and_a_bucket_is_none() {
        assert_eq!(folder("file:///models/tiny").unwrap(), Path::new("/models/tiny"));
        assert_eq!(folder("/models/tiny").unwrap(), Path::new("/models/tiny"));
        assert!(folder("s3://bucket/tiny").unwrap_err().is_bad_input());
    }

    #[test]
    fn the_digest_covers_weights_and_configuration_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| write_file(&folder.path().join(name), text.as_bytes()).unwrap();
        put("config.json", "{}");
        put("model.safetensors", "weights");
        let before = digest(folder.path()).unwrap();
        put("README.md", "read me");
        put("optimizer.safetensors", "moments");
        assert_eq!(before, digest(folder.path()).unwrap());
        put("model.safetensors", "other weights");
        assert_ne!(before, digest(folder.path()).unwrap());
    }
}
