//! What a source holds, before any picture is read.

use evoq_schemas::{Rating, Split};

/// The pictures of a source, by name, and what is wrong with the source already.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The pictures, in the order of their rows.
    pub(crate) entries: Vec<Entry>,
    /// Faults, one line each: name, what was found, remedy.
    pub(crate) problems: Vec<String>,
}

/// A picture of a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its name in the data set, with forward slashes: what its id is made of.
    pub(crate) name: String,
    /// Its file, relative to the source.
    pub(crate) path: String,
    /// The data set's own split, where it has one.
    pub(crate) split: Option<Split>,
    /// Its human score, where it has one.
    pub(crate) rating: Option<Rating>,
}

impl Entry {
    /// A picture without split or score, named as its file.
    pub(crate) fn plain(path: String) -> Self {
        Self { name: path.clone(), path, split: None, rating: None }
    }
}
