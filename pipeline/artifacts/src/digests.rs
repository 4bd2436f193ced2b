//! Digests of files outside the store: each is computed once, and again when the file's size or times have changed.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the two places that touch files; the clock tells a settled file"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::files::{cache_folder, error, list_files, open, read_file, write_file};

/// A file written less than this before it was looked at may be written again within one tick of the file system's clock:
/// its digest is not kept.
const UNSETTLED_NS: i128 = 2_000_000_000;

/// The digest of what stands at `path`: of a file's bytes, or of the names and bytes of all files of a folder.
pub fn content_digest(path: &Path) -> Result<String> {
    let kind = fs::metadata(path).map_err(|source| error(path, "looking", source))?;
    if kind.is_dir() {
        return digest_of(path, &list_files(path)?);
    }
    // A file of its own is a folder whose only file has no name.
    let digests = file_digests(path, &[String::new()])?;
    Ok(digests.into_iter().map(|digest| digest.to_hex().to_string()).collect())
}

/// What tells this state of the program at `path` from others. None for a script, which may be made of other files too, and
/// for a file written just now.
pub fn program_state(path: &Path) -> Option<String> {
    let kind = fs::metadata(path).ok()?;
    let mut start = [0; 2];
    open(path).ok()?.read_exact(&mut start).ok()?;
    let [modified_ns, changed_ns] = times(&kind);
    let is_settled = modified_ns.max(changed_ns) + UNSETTLED_NS < now_ns();
    (is_settled && &start != b"#!").then(|| format!("{}-{modified_ns}-{changed_ns}", kind.len()))
}

/// The file of the cache that is for what is known of `path`, by `kind` of knowledge. It may be missing, and may be removed.
pub fn cache_place(kind: &str, path: &Path) -> PathBuf {
    let name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    cache_folder().join(kind).join(format!("{}.json", &name[..32]))
}

fn times(kind: &fs::Metadata) -> [i128; 2] {
    let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    [ns(kind.mtime(), kind.mtime_nsec()), ns(kind.ctime(), kind.ctime_nsec())]
}

/// The digest of the files `names` of `folder`: names and bytes.
pub(crate) fn digest_of(folder: &Path, names: &[String]) -> Result<String> {
    let mut all = blake3::Hasher::new();
    for (name, digest) in names.iter().zip(file_digests(folder, names)?) {
        all.update(&(name.len() as u64).to_le_bytes());
        all.update(name.as_bytes());
        all.update(digest.as_bytes());
    }
    Ok(all.finalize().to_hex().to_string())
}

/// The digests of the files `names` of `folder`, in their order.
pub(crate) fn file_digests(folder: &Path, names: &[String]) -> Result<Vec<blake3::Hash>> {
    let folder = std::path::absolute(folder).map_err(|source| error(folder, "looking", source))?;
    Known::of(&folder).digests(names, now_ns())
}

/// The digest of a file, which is read anew and not held in memory.
pub(crate) fn digest_anew(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open(path)?).map_err(|source| error(path, "reading", source))?;
    Ok(hasher.finalize())
}

/// What is remembered of the files of one folder: a file of the cache.
#[derive(Debug)]
struct Known {
    folder: PathBuf,
    place: PathBuf,
    files: BTreeMap<String, Seen>,
}

/// A file as it was when its digest was computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    modified_ns: i128,
    /// When the file or what is known of it was changed: it shows a file that was put in place of another of equal size and
    /// time.
    changed_ns: i128,
    digest: String,
}

impl Known {
    fn of(folder: &Path) -> Self {
        Self::at(folder, cache_place("digests", folder))
    }

    /// What the cache file `place` knows of `folder`: nothing where it is missing or damaged.
    fn at(folder: &Path, place: PathBuf) -> Self {
        let files = read_file(&place).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { folder: folder.to_path_buf(), place, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.folder.clone() } else { self.folder.join(name) }
    }

    /// The digests of the files `names`; those that are new and settled at `now_ns` are remembered.
    fn digests(mut self, names: &[String], now_ns: i128) -> Result<Vec<blake3::Hash>> {
        let found: Vec<_> = names.par_iter().map(|name| self.digest(name)).collect();
        let (mut digests, mut is_changed) = (Vec::with_capacity(names.len()), false);
        for (name, found) in names.iter().zip(found) {
            let (digest, anew) = found?;
            digests.push(digest);
            if let Some(seen) = anew.filter(|it| it.modified_ns.max(it.changed_ns) + UNSETTLED_NS < now_ns) {
                self.files.insert(name.clone(), seen);
                is_changed = true;
            }
        }
        if is_changed {
            self.write();
        }
        Ok(digests)
    }

    /// The digest of the file `name`, and what is to be remembered of it if it was computed anew.
    fn digest(&self, name: &str) -> Result<(blake3::Hash, Option<Seen>)> {
        let path = self.path(name);
        // Looked at before it is read: what is written meanwhile shows in the times.
        let kind = fs::metadata(&path).map_err(|source| error(&path, "looking", source))?;
        let bytes = kind.len();
        let [modified_ns, changed_ns] = times(&kind);
        let same = |seen: &&Seen| (seen.bytes, seen.modified_ns, seen.changed_ns) == (bytes, modified_ns, changed_ns);
        let known = self.files.get(name).filter(same);
        if let Some(digest) = known.and_then(|seen| blake3::Hash::from_hex(&seen.digest).ok()) {
            return Ok((digest, None));
        }
        let digest = digest_anew(&path)?;
        let seen = Seen { bytes, modified_ns, changed_ns, digest: digest.to_hex().to_string() };
        Ok((digest, Some(seen)))
    }

    /// Remembers what is known. A cache that cannot be written costs time, no more.
    fn write(&mut self) {
        let folder = self.folder.clone();
        self.files.retain(|name, _| name.is_empty() || folder.join(name).exists());
        if let Ok(text) = serde_json::to_vec(&self.files) {
            let _ = write_file(&self.place, &text);
        }
    }
}

fn now_ns() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a file, and a place for what is known of it.
    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (source, cache) = (folder.path().join("source"), folder.path().join("cache/known.json"));
        write_file(&source.join("a.png"), b"one").unwrap();
        (folder, source, cache)
    }

    fn digest(source: &Path, cache: &Path, later_ns: i128) -> String {
        let digests = Known::at(source, cache.to_owned()).digests(&["a.png".to_owned()], now_ns() + later_ns).unwrap();
        digests[0].to_hex().to_string()
    }

    /// Puts another digest in the cache, so that what comes from it can be told.
    fn falsify(cache: &Path) -> String {
        let mut files: BTreeMap<String, Seen> = serde_json::from_slice(&read_file(cache).unwrap()).unwrap();
        let wrong = blake3::hash(b"wrong").to_hex().to_string();
        files.get_mut("a.png").unwrap().digest.clone_from(&wrong);
        write_file(cache, &serde_json::to_vec(&files).unwrap()).unwrap();
        wrong
    }

    #[test]
    fn a_settled_file_is_read_once_and_a_changed_one_again() {
        let (_folder, source, cache) = place();
        let one = digest(&source, &cache, 3_000_000_000);
        assert_eq!(one, blake3::hash(b"one").to_hex().to_string());
        let wrong = falsify(&cache);
        assert_eq!(digest(&source, &cache, 3_000_000_000), wrong);
        write_file(&source.join("a.png"), b"two").unwrap();
        assert_eq!(digest(&source, &cache, 0), blake3::hash(b"two").to_hex().to_string());
    }

    #[test]
    fn a_file_put_in_place_of_another_of_equal_size_and_time_is_read_again() {
        let (_folder, source, cache) = place();
        digest(&source, &cache, 3_000_000_000);
        let time = fs::metadata(source.join("a.png")).unwrap().modified().unwrap();
        write_file(&source.join("b.png"), b"two").unwrap();
        fs::File::options().append(true).open(source.join("b.png")).unwrap().set_modified(time).unwrap();
        fs::rename(source.join("b.png"), source.join("a.png")).unwrap();
        assert_eq!(digest(&source, &cache, 0), blake3::hash(b"two").to_hex().to_string());
    }

    #[test]
    fn a_file_that_was_written_just_now_is_not_remembered() {
        let (_folder, source, cache) = place();
        digest(&source, &cache, 0);
        assert!(!cache.exists());
    }

    #[test]
    fn a_program_is_known_again_until_it_is_written_and_a_script_never_is() {
        let (_folder, source, _) = place();
        let path = source.join("a.png");
        assert_eq!(program_state(&path), None);
        let old = SystemTime::now() - std::time::Duration::from_mins(1);
        fs::File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        // The change of the time is itself a change of just now.
        assert_eq!(program_state(&path), None);
        let program = std::env::current_exe().unwrap();
        assert_eq!(program_state(&program), program_state(&program));
        assert_eq!(program_state(Path::new("/usr/bin/ldd")).filter(|_| Path::new("/usr/bin/ldd").exists()), None);
    }

    #[test]
    fn a_damaged_cache_is_no_cache() {
        let (_folder, source, cache) = place();
        write_file(&cache, b"{\"a.png\": 1}").unwrap();
        assert_eq!(digest(&source, &cache, 3_000_000_000), blake3::hash(b"one").to_hex().to_string());
        falsify(&cache);
    }

    #[test]
    fn a_file_and_a_folder_have_the_digests_of_what_they_hold() {
        let (_folder, source, _) = place();
        let file = content_digest(&source.join("a.png")).unwrap();
        assert_eq!(file, blake3::hash(b"one").to_hex().to_string());
        let before = content_digest(&source).unwrap();
        fs::rename(source.join("a.png"), source.join("b.png")).unwrap();
        assert_ne!(content_digest(&source).unwrap(), before);
    }
}
