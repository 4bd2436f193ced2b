//! What the tests of the stages share: a stage's program as people run it, tables for it to read, and rows of pictures.
//!
//! Everything here panics where something is not as a test takes it to be: it is for tests alone.

pub mod faulty;
mod folder;
mod pictures;
mod program;

pub use folder::{Folder, rows, table};
pub use pictures::{original, stored, texture, variant};
pub use program::Program;
