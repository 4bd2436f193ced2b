//! Artifacts: all that one step wrote, immutable, in a folder or a bucket. The one place that touches files and buckets.
//!
//! An artifact is a prefix with Parquet parts (`<table>/part-….parquet`), perhaps a checkpoint folder (`policy/`), and one
//! `manifest.json`, put last and create-only: a prefix without a manifest does not exist for readers. Work that divides into
//! units leaves a receipt for each, and whoever finds all receipts commits.

mod artifact;
pub mod checkpoint;
mod draft;
mod error;
mod files;
mod location;
mod manifest;
mod part;
mod receipt;
mod write;

pub use artifact::Artifact;
pub use draft::{Draft, Header};
pub use error::{Error, Result};
pub use files::{content_digest, list_files, make_folder, now_ms, read_file, remove_folder, write_file};
pub use location::{Created, Location, block_on};
pub use manifest::{FileEntry, Manifest, PartEntry, TableParts};
pub use part::Part;
pub use receipt::{Receipt, Unit};
pub use write::TableWriter;
