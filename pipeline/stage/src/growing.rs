//! A table that can be read while a stage is still at work on it.
//!
//! Its rows go two ways: into the artifact's own parts, which are closed by size and the same whatever happened on the way,
//! and, piece by piece, into scratch, where they are read before the artifact is there and taken up again after a restart.

use evoq_artifacts::{Saved, Scratch, TableParts, TableWriter};
use evoq_schemas::Table;

/// An output table in the making whose rows so far can be read.
pub struct Growing<T> {
    writer: TableWriter<T>,
    /// The rows that are in no part of scratch yet.
    recent: Vec<T>,
    parts: TableParts,
}

impl<T: Table> Growing<T> {
    pub(crate) fn new(writer: TableWriter<T>) -> Self {
        Self { writer, recent: Vec::new(), parts: TableParts::default() }
    }

    /// Appends a row.
    pub fn push(&mut self, row: T) -> anyhow::Result<()> {
        self.recent.push(row.clone());
        Ok(self.writer.push(row)?)
    }

    pub(crate) fn into_writer(self) -> TableWriter<T> {
        self.writer
    }
}

/// A [`Growing`] table of any kind.
pub trait Grows {
    /// The table's name.
    fn name(&self) -> &'static str;
    /// Puts the rows that are in no part yet, and that come after those of the first `since` steps, into one; gives all parts.
    fn flush(&mut self, scratch: &Scratch, since: u64) -> evoq_artifacts::Result<TableParts>;
    /// Takes up the rows that `saved` names, in an empty table.
    fn take_up(&mut self, scratch: &Scratch, saved: &Saved) -> evoq_artifacts::Result<()>;
}

impl<T: Table> Grows for Growing<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn flush(&mut self, scratch: &Scratch, since: u64) -> evoq_artifacts::Result<TableParts> {
        if !self.recent.is_empty() {
            let mut writer = scratch.table::<T>(since);
            for row in self.recent.drain(..) {
                writer.push(row)?;
            }
            let new = writer.finish()?;
            self.parts.rows += new.rows;
            self.parts.parts.extend(new.parts);
        }
        Ok(self.parts.clone())
    }

    fn take_up(&mut self, scratch: &Scratch, saved: &Saved) -> evoq_artifacts::Result<()> {
        for part in scratch.parts::<T>(saved) {
            for row in part.rows::<T>(&[])? {
                self.writer.push(row)?;
            }
        }
        self.parts = saved.tables.get(T::NAME).cloned().unwrap_or_default();
        Ok(())
    }
}
