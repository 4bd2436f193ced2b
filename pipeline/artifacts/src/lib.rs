//! Artifacts: all that one step wrote, immutable, in a folder or a bucket. The one place that touches files and buckets.
//!
//! An artifact is a prefix with Parquet parts (`<table>/part-….parquet`), perhaps a checkpoint folder (`policy/`), and one
//! `manifest.json`, put last and create-only: a prefix without a manifest does not exist for readers. Work that divides into
//! units leaves a receipt for each, and whoever finds all receipts commits.

mod artifact;
pub mod checkpoint;
mod digests;
mod draft;
mod error;
mod fault;
#[cfg(test)]
mod faulty;
mod files;
mod gc;
mod location;
mod manifest;
mod part;
mod pieces;
mod policy;
mod probe;
mod read;
mod receipt;
mod s3;
mod saved;
mod scratch;
mod tensors;
mod timings;
mod verify;
mod write;

pub use artifact::Artifact;
pub use digests::{cache_place, content_digest, program_state};
pub use draft::{Draft, Header};
pub use error::{Error, Result};
pub use files::{append_file, cache_folder, list_files, make_folder, now_ms, read_file, remove_folder, write_file};
pub use gc::{Leftover, Reason, leftovers, remove};
pub use location::{Created, Entry, Location, block_on};
pub use manifest::{FileEntry, Manifest, PartEntry, TableParts};
pub use part::Part;
pub use receipt::{Receipt, Unit};
pub use saved::Saved;
pub use scratch::{Live, Mark, Scratch, Unfinished, unfinished};
pub use tensors::{OwnedTensor, TensorView};
pub use timings::{put_timings, timings};
pub use verify::{Verified, verify};
pub use write::TableWriter;
