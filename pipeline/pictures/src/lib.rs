//! Pictures by id: bytes from the store, upright pixels from bytes, and variants rendered from their recipes.
//!
//! What every reader of `images` uses: a stored picture and a recipe both come as 8-bit RGB from [`Pictures::load`], and a
//! recipe's pixels are made by one function, [`variant`], whoever asks. Faults of a table's content are
//! [`evoq_artifacts::Error`]s that name the part and the picture.

mod cache;
mod decode;
mod pages;
mod pictures;
mod render;

pub use decode::{DecodeError, Decoded, decode, encode_png, is_grey};
pub use pictures::Pictures;
pub use render::{RenderError, distorted, recipe_digest, render, variant};

/// The `format` of a variant that is rendered on demand.
pub const RECIPE: &str = "recipe";
