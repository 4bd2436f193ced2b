//! What the tests of several crates share: a stage's program as people run it, tables for it to read, rows of pictures, and servers
//! that are asked or written to.
//!
//! Everything here panics where something is not as a test takes it to be: it is for tests alone.

pub mod accidents;
pub mod faulty;
mod folder;
mod meter;
mod pictures;
mod program;
pub mod servers;
pub mod slurm;
mod transformers;

pub use folder::{Folder, rows, table};
pub use meter::Meter;
pub use pictures::{label, original, stored, texture, variant};
pub use program::Program;
pub use transformers::Transformers;
