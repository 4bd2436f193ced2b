//! `manifest.json`: what an artifact holds, and what it was made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All that an artifact holds. Nothing that varies from run to run stands here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this layout.
    pub evoq: u32,
    /// The stage that wrote it.
    pub stage: String,
    /// The version of the stage's algorithm.
    pub stage_version: u32,
    /// The step's fingerprint: 64 hex digits over stage, version, parameters and inputs.
    pub fingerprint: String,
    /// The parameters after defaults; a file outside the store stands as the digest of its content.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// The fingerprints of what was read, by input.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// The tables, by name.
    pub tables: BTreeMap<String, TableParts>,
    /// The files of the checkpoint folder `policy/`; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<FileEntry>,
}

impl Manifest {
    /// The version of the layout that this release writes and reads.
    pub(crate) const LAYOUT: u32 = 1;
}

/// The parts of a table, in the order of their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableParts {
    /// Rows in all parts.
    pub rows: u64,
    /// The parts.
    pub parts: Vec<PartEntry>,
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// Its name below the artifact's prefix.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// blake3 of its bytes in hex.
    pub digest: String,
}

/// One file of a checkpoint folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name below `policy/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// blake3 of its bytes in hex.
    pub digest: String,
}
