//! Whether what the manifests state is there, byte for byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::digests::digest_anew;
use crate::policy::FOLDER;
use crate::{Artifact, Error, Location, Result};

/// How many files are read side by side.
const READERS: usize = 8;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many artifacts there are.
    pub artifacts: usize,
    /// How many files their manifests name.
    pub files: usize,
    /// How many bytes these were read to have.
    pub bytes: u64,
    /// Where something is wrong, and what.
    pub bad: Vec<(String, String)>,
}

/// A file that a manifest names.
struct Stated {
    /// Its name below the place that is verified.
    name: String,
    bytes: u64,
    digest: String,
}

/// Reads every part and every policy file of every artifact at or below `place`, and compares them with what the manifests
/// state. What cannot be read for a failure of the store is an error, not a finding.
pub fn verify(place: &Location) -> Result<Verified> {
    let there: BTreeMap<String, u64> = place.list()?.into_iter().collect();
    let (mut verified, mut stated) = (Verified::default(), Vec::new());
    for prefix in artifact_prefixes(there.keys()) {
        verified.artifacts += 1;
        match Artifact::at(&below(place, &prefix)) {
            Ok(artifact) => stated.extend(files(&prefix, &artifact)),
            Err(Error::Corrupt { uri, what }) => verified.bad.push((uri, what)),
            Err(error) => return Err(error),
        }
    }
    if verified.artifacts == 0 {
        return Err(Error::NoArtifact { uri: place.uri().to_owned() });
    }
    verified.files = stated.len();
    for (file, fault) in stated.iter().zip(look(place, &stated, &there)) {
        match fault? {
            None => verified.bytes += file.bytes,
            Some(what) => verified.bad.push((below(place, &file.name).uri().to_owned(), what)),
        }
    }
    Ok(verified)
}

/// The prefixes of the artifacts among the objects `names`: each empty or with a slash at its end.
pub(crate) fn artifact_prefixes<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let prefix = |name: &'a String| name.strip_suffix("manifest.json").filter(|it| it.is_empty() || it.ends_with('/'));
    let prefixes: Vec<&str> = names.filter_map(prefix).collect();
    // A file of a policy may have any name.
    let is_own = |prefix: &&&str| {
        let is_within = |other: &&str| {
            prefix
                .strip_prefix(*other)
                .is_some_and(|rest| rest.starts_with(FOLDER) && rest[FOLDER.len()..].starts_with('/'))
        };
        !prefixes.iter().any(is_within)
    };
    prefixes.iter().filter(is_own).map(|&prefix| prefix.to_owned()).collect()
}

/// The place `name` below `place`; an empty name is the place itself.
pub(crate) fn below(place: &Location, name: &str) -> Location {
    let name = name.trim_end_matches('/');
    if name.is_empty() { place.clone() } else { place.join(name) }
}

/// The files that the manifest of the artifact at `prefix` names.
fn files(prefix: &str, artifact: &Artifact) -> Vec<Stated> {
    let manifest = &artifact.manifest;
    let parts = manifest.tables.values().flat_map(|table| &table.parts);
    let parts = parts.map(|part| (part.name.clone(), part.bytes, part.digest.clone()));
    let policy =
        manifest.policy.iter().map(|file| (format!("{FOLDER}/{}", file.name), file.bytes, file.digest.clone()));
    let stated = parts.chain(policy);
    stated.map(|(name, bytes, digest)| Stated { name: format!("{prefix}{name}"), bytes, digest }).collect()
}

/// For each of the files `stated`, what is wrong with it.
fn look(place: &Location, stated: &[Stated], there: &BTreeMap<String, u64>) -> Vec<Result<Option<String>>> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..READERS.min(stated.len()) {
            scope.spawn(|| {
                while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed))
                    && let Some(file) = stated.get(i)
                {
                    let fault = fault(place, file, there.get(&file.name).copied());
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(i, fault);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// What is wrong with `file`, of which the listing says that it has `found` bytes.
fn fault(place: &Location, file: &Stated, found: Option<u64>) -> Result<Option<String>> {
    let Some(found) = found else { return Ok(Some("is missing".to_owned())) };
    if found != file.bytes {
        return Ok(Some(format!("has {found} bytes; its manifest states {}", file.bytes)));
    }
    let at = below(place, &file.name);
    let digest = match at.local() {
        Some(path) => digest_anew(path)?,
        None => at.digest(file.bytes)?,
    };
    let digest = digest.to_hex();
    let what = format!(
        "has the digest {}…; its manifest states {}…",
        &digest[..16],
        file.digest.get(..16).unwrap_or_default()
    );
    Ok((digest.as_str() != file.digest).then_some(what))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use evoq_schemas::{Reject, Table};

    use super::*;
    use crate::Draft;
    use crate::draft::tests::header;

    /// A root with an artifact that has a table and a policy, and one with a table.
    fn root() -> (tempfile::TempDir, Location) {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().join("root").to_str().unwrap()).unwrap();
        crate::write_file(&folder.path().join("policy/config.json"), b"{}").unwrap();
        // A file of a policy may have the name of a manifest.
        crate::write_file(&folder.path().join("policy/manifest.json"), b"not ours").unwrap();
        for (name, has_policy) in [("grpo/a", true), ("pair/b", false)] {
            let mut draft = Draft::new(&root.join(name), header("f"));
            draft.add(Reject::NAME, draft.table::<Reject>().finish().unwrap());
            if has_policy {
                draft.put_policy(&folder.path().join("policy")).unwrap();
            }
            draft.commit().unwrap();
        }
        (folder, root)
    }

    #[test]
    fn whole_artifacts_are_counted_and_nothing_is_wrong() {
        let (_folder, root) = root();
        let verified = verify(&root).unwrap();
        assert_eq!((verified.artifacts, verified.files, verified.bad), (2, 4, Vec::new()));
        assert_eq!(verify(&root.join("pair/b")).unwrap().artifacts, 1);
        assert!(matches!(verify(&root.join("pair/c")), Err(Error::NoArtifact { .. })));
    }

    #[test]
    fn each_missing_cut_or_changed_file_is_found() {
        let (_folder, root) = root();
        let part = root.list().unwrap().into_iter().find(|(name, _)| name.ends_with(".parquet")).unwrap().0;
        let bytes = root.join(&part).get().unwrap();
        let found = |bytes: Option<Bytes>| {
            match bytes {
                Some(bytes) => root.join(&part).put(bytes).unwrap(),
                None => root.join(&part).delete().unwrap(),
            }
            let bad = verify(&root).unwrap().bad;
            assert_eq!((bad.len(), bad[0].0.as_str()), (1, root.join(&part).uri()));
            bad[0].1.clone()
        };
        let mut changed = bytes.to_vec();
        changed[100] ^= 1;
        assert!(found(Some(changed.into())).contains("has the digest"));
        assert!(found(Some(bytes.slice(..100))).contains("has 100 bytes"));
        assert_eq!(found(None), "is missing");
        root.join(&part).put(bytes).unwrap();
        root.join("grpo/a/policy/config.json").put(Bytes::from_static(b"[]")).unwrap();
        assert!(verify(&root).unwrap().bad[0].0.ends_with("grpo/a/policy/config.json"));
    }

    #[test]
    fn a_damaged_manifest_is_a_finding_and_the_others_are_looked_at() {
        let (_folder, root) = root();
        root.join("grpo/a/manifest.json").put(Bytes::from_static(b"{")).unwrap();
        let verified = verify(&root).unwrap();
        assert_eq!((verified.artifacts, verified.files, verified.bad.len()), (2, 1, 1));
        assert!(verified.bad[0].1.contains("is not a manifest"));
    }
}
