//! Checkpoint folders on their way into the store and back, a piece at a time.
//!
//! A policy stands below its artifact as a plain folder, so that other programs can open it there. Its files' names carry no
//! digest: a second run of the same step could write over the first one's. Each file is therefore ended only while there is
//! no manifest, and looked after when it is up; the run that commits looks whether its files are still its own, before and
//! after. What is left is found by whoever reads the policy, by its digests.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::digests::{digest_anew, file_digests};
use crate::files::{cache_folder, error, list_files, make_folder};
use crate::{Artifact, Error, FileEntry, Location, Result};

/// The folder of a policy below its artifact's prefix.
pub(crate) const FOLDER: &str = "policy";

/// What to do about a policy that is not what its manifest states.
pub(crate) const REMOVE: &str = "remove the artifact and run the step again";

/// A policy that has been put.
#[derive(Debug, Clone, Default)]
pub(crate) struct PutPolicy {
    /// Its files.
    pub files: Vec<FileEntry>,
    /// What tells each file's state in the store from others; nothing where another run had committed.
    pub tags: Vec<Option<String>>,
}

/// Puts the checkpoint folder `folder` as the policy of the artifact at `prefix`. Where another run has committed, its files
/// are left as its manifest states them.
pub(crate) fn put(prefix: &Location, folder: &Path) -> Result<PutPolicy> {
    let manifest = prefix.join("manifest.json");
    let mut policy = PutPolicy::default();
    for name in list_files(folder)? {
        let path = folder.join(&name);
        let place = prefix.join(FOLDER).join(&name);
        let is_free = || Ok(!manifest.exists()?);
        let put = if is_free()? { place.put_file(&path, is_free)? } else { None };
        let entry = if let Some(put) = put {
            policy.tags.push(put.tag);
            FileEntry { name, bytes: put.bytes, digest: put.digest.to_hex().to_string() }
        } else {
            let bytes = crate::files::size(&path)?;
            FileEntry { name, bytes, digest: digest_anew(&path)?.to_hex().to_string() }
        };
        policy.files.push(entry);
    }
    // A file that was ended in the same moment as another run's manifest was made.
    if policy.tags.len() == policy.files.len() && manifest.exists()? {
        let theirs = Artifact::at(prefix)?.manifest.policy;
        if let Some(file) = policy.files.iter().find(|file| !theirs.contains(file)) {
            return Err(overwritten(&prefix.join(FOLDER).join(&file.name), REMOVE));
        }
    }
    Ok(policy)
}

/// Looks whether the files that were put are still there as they were put; `remedy` is told where they are not.
pub(crate) fn check_put(prefix: &Location, policy: &PutPolicy, remedy: &str) -> Result<()> {
    for (file, tag) in policy.files.iter().zip(&policy.tags) {
        let place = prefix.join(FOLDER).join(&file.name);
        if place.tag()? != *tag && place.digest(file.bytes)?.to_hex().as_str() != file.digest {
            return Err(overwritten(&place, remedy));
        }
    }
    Ok(())
}

fn overwritten(place: &Location, remedy: &str) -> Error {
    let what = format!("another run of this step wrote here at the same time, with another result; {remedy}");
    Error::Corrupt { uri: place.uri().to_owned(), what }
}

impl Artifact {
    /// The checkpoint folder on this machine: the artifact's own, or a copy of it in the cache (`EVOQ_CACHE`). Its files have
    /// the digests that the manifest states.
    pub fn policy_folder(&self) -> Result<PathBuf> {
        if self.manifest.policy.is_empty() {
            return Err(Error::NoTable {
                uri: self.location().uri().to_owned(),
                table: "policy".to_owned(),
                found: self.manifest.tables.keys().cloned().collect::<Vec<_>>().join(", "),
            });
        }
        let place = self.location().join(FOLDER);
        let folder = match place.local() {
            Some(path) => path.to_path_buf(),
            None => cache_folder().join("policy").join(self.fingerprint()),
        };
        for file in &self.manifest.policy {
            let is_here = || {
                let digests = file_digests(&folder, std::slice::from_ref(&file.name))?;
                Ok(digests.iter().all(|digest| digest.to_hex().as_str() == file.digest))
            };
            let is_here = match is_here() {
                Err(Error::NotFound { .. }) => false,
                is_here => is_here?,
            };
            let remote = place.join(&file.name);
            match (is_here, remote.local()) {
                (true, _) => {}
                (false, Some(_)) => return Err(wrong_digest(&remote)),
                (false, None) => bring(&remote, file, &folder.join(&file.name))?,
            }
        }
        Ok(folder)
    }
}

/// Brings the object at `remote`, checked, to `path`, which whoever reads the cache sees whole or not at all.
fn bring(remote: &Location, file: &FileEntry, path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    make_folder(folder)?;
    let writing = |source| error(path, "writing", source);
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(writing)?;
    let mut hasher = blake3::Hasher::new();
    remote.read_all(file.bytes, |piece| {
        hasher.update(piece);
        new.write_all(piece).map_err(writing)
    })?;
    if hasher.finalize().to_hex().as_str() != file.digest {
        return Err(wrong_digest(remote));
    }
    new.persist(path).map_err(|failed| writing(failed.error))?;
    Ok(())
}

fn wrong_digest(place: &Location) -> Error {
    Error::Corrupt {
        uri: place.uri().to_owned(),
        what: format!("is missing or does not have the digest that the manifest states; {REMOVE}"),
    }
}
