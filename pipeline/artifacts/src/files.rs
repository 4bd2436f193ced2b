//! Files of this machine that lie outside the store: sources, checkpoint folders, logs.
#![expect(clippy::disallowed_methods, reason = "the one place that touches files, so that every error has its path")]

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Entry, Error, Result};

/// The error of `what` on the file at `path`.
pub(crate) fn error(path: &Path, what: &'static str, source: io::Error) -> Error {
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

/// Some of the bytes of a file: those that are there, where it ends before the range does.
pub(crate) fn read_range(path: &Path, range: Range<u64>) -> Result<Vec<u8>> {
    let read = || {
        let mut file = fs::File::open(path)?;
        let end = file.metadata()?.len().min(range.end);
        let length = end.saturating_sub(file.seek(io::SeekFrom::Start(range.start))?);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| error(path, "reading", source))
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

/// Adds `bytes` at the end of a file, which is made if it is not there, with the folders above it.
pub fn append_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|source| error(path, "writing", source))
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

/// A file, to be read.
pub(crate) fn open(path: &Path) -> Result<fs::File> {
    fs::File::open(path).map_err(|source| error(path, "reading", source))
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error(path, "removing", source)),
        _ => Ok(()),
    }
}

/// All that is below `folder`, sorted by name, links not followed: also what a store leaves behind when it is killed. What
/// goes away while it is looked at is left out.
pub(crate) fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        let found = match fs::read_dir(&folder) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(|source| error(&folder, "listing", source))?,
        };
        for entry in found {
            let entry = entry.map_err(|source| error(&folder, "listing", source))?;
            // A name that is not UTF-8 is not of this project.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path();
            let Some(kind) = looked_at(&path)? else { continue };
            if kind.is_dir() {
                open.push((path, format!("{prefix}{name}/")));
            } else if kind.is_file() {
                let modified = kind.modified().map_err(|source| error(&path, "looking", source))?;
                entries.push(Entry {
                    name: format!("{prefix}{name}"),
                    bytes: kind.len(),
                    modified_ms: since_1970(modified),
                });
            }
        }
    }
    entries.sort();
    Ok(entries)
}

/// The size of a file.
pub(crate) fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(|source| error(path, "looking", source))?.len())
}

fn looked_at(path: &Path) -> Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        kind => Ok(Some(kind.map_err(|source| error(path, "looking", source))?)),
    }
}

/// Removes a folder that is empty; gives whether it did.
pub(crate) fn remove_empty_folder(path: &Path) -> bool {
    fs::remove_dir(path).is_ok()
}

/// Where copies of remote policies and known digests are kept: `EVOQ_CACHE`, else `~/.cache/evoq`, else the system's temporary
/// folder.
pub fn cache_folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/evoq"));
    std::env::var_os("EVOQ_CACHE").map(PathBuf::from).or_else(home).unwrap_or_else(|| std::env::temp_dir().join("evoq"))
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970 (UTC), for the ledger: nothing in an artifact may depend on it.
pub fn now_ms() -> u64 {
    since_1970(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_bytes_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_file(&path, b"0123456789").unwrap();
        for (range, expected) in [(2..5, "234"), (8..20, "89"), (10..12, ""), (20..22, "")] {
            assert_eq!(read_range(&path, range).unwrap(), expected.as_bytes());
        }
        assert!(matches!(read_range(&folder.path().join("b"), 0..1), Err(Error::NotFound { .. })));
    }

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
