//! Files of this machine that lie outside the store: sources, checkpoint folders, logs.
#![expect(clippy::disallowed_methods, reason = "the one place that touches files, so that every error has its path")]

use std::fs;
use std::io;
use std::path::Path;

use crate::{Error, Result};

fn error(path: &Path, what: &'static str, source: io::Error) -> Error {
    let uri = path.display().to_string();
    if source.kind() == io::ErrorKind::NotFound {
        Error::NotFound { uri }
    } else {
        Error::Storage { uri, what, source: Box::new(source) }
    }
}

/// The bytes of a file.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| error(path, "reading", source))
}

/// Writes a file, replacing what is there as a whole: whoever reads or maps the old one keeps it. The folders above it are
/// made.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map_err(|source| {
        // What is left of it is no use; the first fault is the one to tell.
        let _ = fs::remove_file(&new);
        error(path, "writing", source)
    })
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| error(path, "making the folder", source))
}

/// Removes a folder and all in it, if it is there.
pub fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error(path, "removing", source)),
        _ => Ok(()),
    }
}

/// The files below `folder`, links followed: names relative to it with forward slashes, sorted.
pub fn list_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(|source| error(&folder, "listing", source))? {
            let entry = entry.map_err(|source| error(&folder, "listing", source))?;
            let path = entry.path();
            let name = entry.file_name().into_string().map_err(|name| Error::Corrupt {
                uri: folder.display().to_string(),
                what: format!("the name {} is not UTF-8; rename the file", name.display()),
            })?;
            let kind = fs::metadata(&path).map_err(|source| error(&path, "looking", source))?;
            if kind.is_dir() {
                open.push((path, format!("{prefix}{name}/")));
            } else {
                names.push(format!("{prefix}{name}"));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// The digest of what stands at `path`: of a file's bytes, or of the names and bytes of all files of a folder.
pub fn content_digest(path: &Path) -> Result<String> {
    let kind = fs::metadata(path).map_err(|source| error(path, "looking", source))?;
    if kind.is_dir() { digest_of(path, &list_files(path)?) } else { Ok(file_digest(path)?.to_hex().to_string()) }
}

/// The digest of a file, which is not held in memory.
fn file_digest(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).map_err(|source| error(path, "reading", source))?;
    hasher.update_reader(file).map_err(|source| error(path, "reading", source))?;
    Ok(hasher.finalize())
}

/// The digest of the files `names` of `folder`: names and bytes.
pub(crate) fn digest_of(folder: &Path, names: &[String]) -> Result<String> {
    let mut all = blake3::Hasher::new();
    for name in names {
        let digest = file_digest(&folder.join(name))?;
        all.update(&(name.len() as u64).to_le_bytes());
        all.update(name.as_bytes());
        all.update(digest.as_bytes());
    }
    Ok(all.finalize().to_hex().to_string())
}

/// Milliseconds since 1970 (UTC), for the ledger: nothing in an artifact may depend on it.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_file_that_is_replaced_stays_whole_for_those_who_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/weights");
        write_file(&path, b"old").unwrap();
        let mut reader = fs::File::open(&path).unwrap();
        write_file(&path, b"new").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), read_file(&path).unwrap().as_slice()), ("old", b"new".as_slice()));
        assert_eq!(list_files(folder.path()).unwrap(), ["a/weights"]);
    }
}
