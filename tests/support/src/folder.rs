//! A folder for one test, and tables in it.

use std::collections::BTreeMap;
use std::path::Path;

use evoq_artifacts::{Artifact, Draft, Header, Location};
use evoq_schemas::Table;
use tempfile::TempDir;

/// A folder that is removed when the test ends.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("there is a place for temporary files"))
    }
}

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The place `name` in it, as a flag's value.
    pub fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Commits the table of `rows` under `name`, and gives its URI.
    pub fn table<T: Table>(&self, name: &str, rows: &[T]) -> String {
        table(self.path(), name, rows)
    }
}

/// Commits the table of `rows` under `name` in `folder`, and gives its URI.
pub fn table<T: Table>(folder: &Path, name: &str, rows: &[T]) -> String {
    let uri = folder.join(name).display().to_string();
    let header = Header {
        stage: "test".to_owned(),
        stage_version: 1,
        fingerprint: name.to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let mut draft = Draft::new(&Location::open(&uri).expect("a test's place can be opened"), header);
    let mut writer = draft.table::<T>();
    for row in rows {
        writer.push(row.clone()).expect("a test's rows keep to their table");
    }
    draft.add(T::NAME, writer.finish().expect("a test's place can be written to"));
    draft.commit().expect("nothing else is at a test's place");
    uri
}

/// The rows of the table that was committed at `uri`.
pub fn rows<T: Table>(uri: &str) -> Vec<T> {
    Artifact::open(uri).and_then(|artifact| artifact.rows()).unwrap_or_else(|error| panic!("{error}"))
}
