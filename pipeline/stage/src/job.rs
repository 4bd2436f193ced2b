//! What a stage works on: its inputs, its artifact in the making, progress, and whether to stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use evoq_artifacts::{Artifact, Draft, Error, Scratch, TableWriter, checkpoint};
use evoq_schemas::Table;

use crate::units::Shard;
use crate::{Interrupted, Progress, bad_input};

/// Set by the first Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// A policy that a stage reads.
#[derive(Debug, Clone)]
pub struct PolicyInput {
    /// The checkpoint folder on this machine.
    pub folder: PathBuf,
    /// The digest of its files.
    pub digest: String,
}

/// What a stage works on.
#[derive(Debug)]
pub struct Job {
    pub(crate) tables: BTreeMap<&'static str, Vec<Artifact>>,
    pub(crate) policies: BTreeMap<&'static str, String>,
    pub(crate) draft: Draft,
    /// The stage's name.
    pub(crate) stage: &'static str,
    /// What is of no use once the artifact is committed.
    pub(crate) scratch: Option<Scratch>,
    /// Which units this process does.
    pub(crate) shard: Shard,
    /// Whether units are left to other shards, so that there is nothing to commit yet.
    pub(crate) unfinished: bool,
    /// Whether there are receipts, which are of no use once the artifact is committed.
    pub(crate) divided: bool,
}

impl Job {
    /// Whether the optional input was given.
    pub fn has(&self, input: &str) -> bool {
        self.policies.contains_key(input) || self.tables.get(input).is_some_and(|it| !it.is_empty())
    }

    /// The artifacts of a table input, in the order given.
    pub fn artifacts(&self, input: &str) -> &[Artifact] {
        self.tables.get(input).map_or(&[], Vec::as_slice)
    }

    /// The rows of a table input, all its artifacts read as one.
    pub fn rows<T: Table>(&self, input: &str) -> anyhow::Result<Vec<T>> {
        self.rows_without(input, &[])
    }

    /// The rows of a table input; the columns in `without`, which must be nullable, are not read and are null.
    pub fn rows_without<T: Table>(&self, input: &str, without: &[&str]) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        for artifact in self.artifacts(input) {
            rows.extend(artifact.rows_without::<T>(without)?);
        }
        Ok(rows)
    }

    /// A policy input: an artifact, or a checkpoint folder outside the store.
    pub fn policy(&self, input: &str) -> anyhow::Result<PolicyInput> {
        let uri = self.policies.get(input).ok_or_else(|| bad_input(format!("--{input} was not given")))?;
        let folder = match Artifact::open(uri) {
            Ok(artifact) => artifact.policy_folder()?,
            Err(Error::NoArtifact { .. }) => checkpoint::folder(uri)?,
            Err(error) => return Err(error.into()),
        };
        let digest = checkpoint::digest(&folder)?;
        Ok(PolicyInput { folder, digest })
    }

    /// A writer of the output table `T`. Give it back to [`Job::close`].
    pub fn write<T: Table>(&self) -> TableWriter<T> {
        self.draft.table::<T>()
    }

    /// Takes the rows of `writer` as the output table `T`.
    pub fn close<T: Table>(&mut self, writer: TableWriter<T>) -> anyhow::Result<()> {
        self.draft.add(T::NAME, writer.finish()?);
        Ok(())
    }

    /// Writes the output table `T` from rows in memory.
    pub fn write_all<T: Table>(&mut self, rows: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
        let mut writer = self.write::<T>();
        for row in rows {
            writer.push(row)?;
        }
        self.close(writer)
    }

    /// Takes the checkpoint folder as the output policy.
    pub fn put_policy(&mut self, folder: &Path) -> anyhow::Result<()> {
        Ok(self.draft.put_policy(folder)?)
    }

    /// A folder of this machine that is removed when it is dropped.
    pub fn scratch_folder(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(tempfile::tempdir()?)
    }

    /// Starts to show progress over `total` pieces of `what`.
    pub fn progress(&self, what: &str, total: u64) -> Progress {
        Progress::new(what, total)
    }

    /// Fails once the user has asked to stop: to be called between pieces of work.
    pub fn check(&self) -> Result<(), Interrupted> {
        if STOP.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
