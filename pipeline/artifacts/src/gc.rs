//! What runs that were killed leave behind, and its removal. What a manifest names is never touched, nor is what does not look
//! like something of this project.
//!
//! The pieces of a large object whose writer was killed before it was whole are not seen by any listing. A bucket's lifecycle
//! rule for incomplete multipart uploads removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::files::{self, now_ms, remove_empty_folder, remove_file};
use crate::policy::FOLDER as POLICY;
use crate::probe::NAME as PROBE;
use crate::receipt::FOLDER as RECEIPTS;
use crate::verify::{artifact_prefixes, below};
use crate::{Artifact, Entry, Error, Location, Result};

/// Why an object is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is below a manifest that does not name it: of a run that was killed or came second, or a receipt.
    NotNamed,
    /// It is of a run that left no manifest, and nothing was written there for long.
    NeverCommitted,
    /// It is scratch of an artifact that was committed since.
    OldScratch,
    /// It was being written when its writer was killed.
    HalfWritten,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNamed => "not named by its manifest",
            Self::NeverCommitted => "never committed",
            Self::OldScratch => "scratch of a committed artifact",
            Self::HalfWritten => "half written",
        })
    }
}

/// An object that is of no use.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// Where it is.
    pub location: Location,
    /// Its size.
    pub bytes: u64,
    /// Why it is of no use.
    pub reason: Reason,
    /// The prefix that must still have no manifest when it is removed.
    uncommitted: Option<Location>,
}

/// The leftovers below `root`, sorted by name. What has no manifest may be of a run that is under way: it counts when nothing
/// was written below its prefix for `older_than`.
pub fn leftovers(root: &Location, older_than: Duration) -> Result<Vec<Leftover>> {
    // A store does not list what is half written; a folder shows it.
    let entries = match root.local() {
        Some(path) => files::entries(path)?,
        None => root.entries()?,
    };
    let before_ms = now_ms().saturating_sub(u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX));
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let mut committed = BTreeMap::new();
    for prefix in artifact_prefixes(names.iter()) {
        // What a damaged manifest names is not known: nothing below it is touched.
        let artifact = match Artifact::at(&below(root, &prefix)) {
            Err(Error::Corrupt { .. }) => None,
            artifact => Some(artifact?),
        };
        committed.insert(prefix, artifact.map(|artifact| named(&artifact)));
    }
    let newest = newest(&entries, &committed);
    let leftover = |entry: &Entry| {
        let (reason, uncommitted) = reason(entry, &committed, &newest, before_ms)?;
        let uncommitted = uncommitted.map(|prefix| below(root, prefix));
        Some(Leftover { location: root.join(&entry.name), bytes: entry.bytes, reason, uncommitted })
    };
    Ok(entries.iter().filter_map(leftover).collect())
}

/// Removes `leftovers` of `root`, which [`leftovers`] found; gives how many are gone. What was committed since stays.
pub fn remove(root: &Location, leftovers: &[Leftover]) -> Result<usize> {
    let (mut removed, mut looked, mut remote) = (0, BTreeMap::new(), Vec::new());
    for leftover in leftovers {
        if let Some(prefix) = &leftover.uncommitted {
            let is_committed = match looked.get(prefix.uri()) {
                Some(&is_committed) => is_committed,
                None => prefix.join("manifest.json").exists()?,
            };
            looked.insert(prefix.uri().to_owned(), is_committed);
            if is_committed {
                continue;
            }
        }
        match leftover.location.local() {
            Some(path) => {
                remove_file(path)?;
                let folders = path.ancestors().skip(1).take_while(|folder| Some(*folder) != root.local());
                // The first folder with something in it ends it.
                let _ = folders.map(remove_empty_folder).find(|is_gone| !is_gone);
            }
            None => remote.push(&leftover.location),
        }
        removed += 1;
    }
    Location::delete_all(&remote)?;
    Ok(removed)
}

/// By the prefix of an artifact, what its manifest names below it, itself included; nothing where the manifest is damaged.
type Committed = BTreeMap<String, Option<BTreeSet<String>>>;

fn named(artifact: &Artifact) -> BTreeSet<String> {
    let manifest = &artifact.manifest;
    let parts = manifest.tables.values().flat_map(|table| &table.parts).map(|part| part.name.clone());
    let policy = manifest.policy.iter().map(|file| format!("{POLICY}/{}", file.name));
    parts.chain(policy).chain(["manifest.json".to_owned()]).collect()
}

/// The artifact that `name` is below: the innermost, and the rest of the name.
fn owner<'a>(name: &'a str, committed: &'a Committed) -> Option<(&'a Option<BTreeSet<String>>, &'a str)> {
    let mut prefixes = committed.iter().rev();
    prefixes.find_map(|(prefix, named)| Some((named, name.strip_prefix(prefix.as_str())?)))
}

/// `<stage>/<fingerprint>/`, where `name` is below such a prefix, and the rest of the name.
fn step_prefix(name: &str) -> Option<(&str, &str)> {
    let (_stage, rest) = name.split_once('/')?;
    let (fingerprint, rest) = rest.split_once('/')?;
    let is_fingerprint = fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_fingerprint.then(|| (&name[..name.len() - rest.len()], rest))
}

/// By the prefix of a step that is not committed, when something was last written there.
fn newest<'a>(entries: &'a [Entry], committed: &Committed) -> BTreeMap<&'a str, u64> {
    let mut newest = BTreeMap::new();
    for entry in entries {
        if let Some((prefix, _)) = step_prefix(&entry.name).filter(|(prefix, _)| !committed.contains_key(*prefix)) {
            let time: &mut u64 = newest.entry(prefix).or_default();
            *time = entry.modified_ms.max(*time);
        }
    }
    newest
}

/// Why `entry` is of no use, if so; and the prefix that must have no manifest for it.
fn reason<'a>(
    entry: &'a Entry,
    committed: &Committed,
    newest: &BTreeMap<&'a str, u64>,
    before_ms: u64,
) -> Option<(Reason, Option<&'a str>)> {
    let name = entry.name.as_str();
    if is_half_written(name) {
        return (entry.modified_ms <= before_ms).then_some((Reason::HalfWritten, None));
    }
    if let Some(rest) = name.strip_prefix("scratch/") {
        let fingerprint = rest.split('/').next().unwrap_or_default();
        let is_done = committed.keys().any(|prefix| prefix.trim_end_matches('/').ends_with(&format!("/{fingerprint}")));
        if is_done {
            return Some((Reason::OldScratch, None));
        }
        // Whoever goes on with it writes there: what has rested for long was given up.
        let (prefix, _) = step_prefix(name)?;
        let is_old = newest.get(prefix).is_some_and(|&time| time <= before_ms);
        return is_old.then_some((Reason::NeverCommitted, Some(prefix)));
    }
    if let Some((named, rest)) = owner(name, committed) {
        let is_named = named.as_ref().is_none_or(|named| named.contains(rest));
        return (!is_named && is_ours(rest)).then_some((Reason::NotNamed, None));
    }
    let (prefix, rest) = step_prefix(name)?;
    let is_old = newest.get(prefix).is_some_and(|&time| time <= before_ms);
    (is_old && is_ours(rest)).then_some((Reason::NeverCommitted, Some(prefix)))
}

/// Whether a stage may have written the object `name` below its prefix: nothing else is ever removed.
fn is_ours(name: &str) -> bool {
    let Some((folder, rest)) = name.split_once('/') else { return name.starts_with(PROBE) };
    let is_part = rest.starts_with("part-") && rest.ends_with(".parquet") && !rest.contains('/');
    folder == RECEIPTS || folder == POLICY || is_part
}

/// Whether `name` is one under which a file is written before it gets its own: the local store's `name#1`, or `.name.PID`.
fn is_half_written(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_known =
        |name: &str| [".parquet", ".json", ".safetensors", ".txt", ".jinja"].iter().any(|end| name.ends_with(end));
    let staged = name.rsplit_once('#').is_some_and(|(name, number)| is_known(name) && is_number(number));
    let replaced =
        || name.strip_prefix('.')?.rsplit_once('.').filter(|(name, number)| is_known(name) && is_number(number));
    staged || replaced().is_some()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use evoq_schemas::{Reject, Table};

    use super::*;
    use crate::Draft;
    use crate::draft::tests::header;

    const DAY: Duration = Duration::from_hours(24);

    /// A root with a committed artifact, and its prefix.
    fn root() -> (tempfile::TempDir, Location, String) {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        let prefix = format!("pair/{}", "ab".repeat(32));
        let mut draft = Draft::new(&root.join(&prefix), header("f"));
        draft.add(Reject::NAME, draft.table::<Reject>().finish().unwrap());
        draft.put_policy(&policy(&folder)).unwrap();
        draft.commit().unwrap();
        (folder, root, prefix)
    }

    fn policy(folder: &tempfile::TempDir) -> std::path::PathBuf {
        let policy = folder.path().join("scratch/other/checkpoint");
        files::write_file(&policy.join("config.json"), b"{}").unwrap();
        policy
    }

    fn put(root: &Location, names: &[&str]) {
        for name in names {
            files::write_file(root.join(name).local().unwrap(), b"left").unwrap();
        }
    }

    /// The names and reasons of what is left over, for the age.
    fn found(root: &Location, age: Duration) -> Vec<(String, Reason)> {
        let name =
            |it: &Leftover| it.location.uri().strip_prefix(root.uri()).unwrap().trim_start_matches('/').to_owned();
        leftovers(root, age).unwrap().iter().map(|it| (name(it), it.reason)).collect()
    }

    #[test]
    fn what_a_manifest_does_not_name_is_left_over_at_once_and_goes() {
        let (_folder, root, prefix) = root();
        let before = files::entries(root.local().unwrap()).unwrap();
        let at = |name: &str| format!("{prefix}/{name}");
        let left = [at("policy/old.safetensors"), at("receipts/f/00000.json"), at("rejects/part-00001-ab.parquet")];
        put(&root, &left.iter().map(String::as_str).collect::<Vec<_>>());
        let expected: Vec<_> = left.iter().map(|name| (name.clone(), Reason::NotNamed)).collect();
        assert_eq!(found(&root, DAY), expected);
        assert_eq!(remove(&root, &leftovers(&root, DAY).unwrap()).unwrap(), 3);
        assert_eq!(files::entries(root.local().unwrap()).unwrap(), before);
        assert!(!root.join(&at("receipts")).local().unwrap().exists());
        assert!(crate::verify(&root).unwrap().bad.is_empty());
    }

    #[test]
    fn a_prefix_without_a_manifest_is_left_over_when_nothing_was_written_there_for_long() {
        let (_folder, root, _) = root();
        let prefix = format!("vote/{}", "cd".repeat(32));
        let [part, half] =
            ["votes/part-0-a.parquet", "votes/part-1-b.parquet#1"].map(|name| format!("{prefix}/{name}"));
        put(&root, &[&part, &half]);
        assert_eq!(found(&root, DAY), []);
        let left = leftovers(&root, Duration::ZERO).unwrap();
        assert_eq!(
            found(&root, Duration::ZERO),
            [(part.clone(), Reason::NeverCommitted), (half.clone(), Reason::HalfWritten)]
        );
        // The run commits between the look and the removal.
        root.join(&prefix).join("manifest.json").put(Bytes::from_static(b"{}")).unwrap();
        assert_eq!(remove(&root, &left).unwrap(), 1);
        assert!(root.join(&part).exists().unwrap());
    }

    #[test]
    fn a_prefix_in_which_a_run_still_writes_is_left_alone() {
        let (_folder, root, _) = root();
        let prefix = format!("vote/{}", "cd".repeat(32));
        let [old, new] = ["votes/part-0-a.parquet", "votes/part-1-b.parquet"].map(|name| format!("{prefix}/{name}"));
        put(&root, &[&old, &new]);
        let entries =
            [(&old, 1), (&new, 1000)].map(|(name, modified_ms)| Entry { name: name.clone(), bytes: 1, modified_ms });
        let committed = Committed::new();
        let newest = newest(&entries, &committed);
        let reason = |before_ms| reason(&entries[0], &committed, &newest, before_ms).map(|it| it.0);
        assert_eq!(reason(999), None);
        assert_eq!(reason(1000), Some(Reason::NeverCommitted));
    }

    #[test]
    fn scratch_goes_when_its_artifact_is_committed() {
        let (_folder, root, prefix) = root();
        let scratch = format!("scratch/{}/optimizer.safetensors", &prefix["pair/".len()..]);
        put(&root, &[&scratch]);
        assert_eq!(found(&root, DAY), [(scratch, Reason::OldScratch)]);
    }

    #[test]
    fn scratch_of_a_step_that_was_given_up_is_left_over_when_nothing_was_written_there_for_long() {
        let (_folder, root, _) = root();
        let [old, new] =
            ["checkpoints/00000025.json", "live.json"].map(|name| format!("scratch/{}/{name}", "cd".repeat(32)));
        put(&root, &[&old, &new]);
        assert_eq!(found(&root, DAY), []);
        let left = [old, new].map(|name| (name, Reason::NeverCommitted));
        assert_eq!(found(&root, Duration::ZERO), left);
        assert_eq!(remove(&root, &leftovers(&root, Duration::ZERO).unwrap()).unwrap(), 2);
    }

    #[test]
    fn what_is_not_of_this_project_or_below_a_damaged_manifest_is_never_touched() {
        let (_folder, root, prefix) = root();
        let stranger = format!("vote/{}/notes.txt", "cd".repeat(32));
        put(&root, &["README.md", "ledger/1/plan.json", "photos/a/b.png", "draft#1", ".bashrc.1", &stranger]);
        put(&root, &[&format!("{prefix}/notes.txt"), &format!("{prefix}/mine/part-1.csv")]);
        assert_eq!(found(&root, Duration::ZERO), []);
        root.join(&prefix).join("manifest.json").put(Bytes::from_static(b"{")).unwrap();
        put(&root, &[&format!("{prefix}/rejects/part-00001-ab.parquet")]);
        assert_eq!(found(&root, Duration::ZERO), []);
    }

    #[test]
    fn files_that_are_written_elsewhere_first_are_left_over_when_they_are_old() {
        let (_folder, root, _) = root();
        let left = ["ledger/1/.plan.json.4711", "ledger/1/runs.parquet#3"];
        put(&root, &left);
        assert_eq!(found(&root, DAY), []);
        assert_eq!(found(&root, Duration::ZERO), left.map(|name| (name.to_owned(), Reason::HalfWritten)));
    }
}
