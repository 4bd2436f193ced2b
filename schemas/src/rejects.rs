//! `rejects`: what a source held and could not be taken.

use crate::table::table;

table! {
    /// A row or file of a source that was refused.
    Reject = "rejects", version 1 {
        /// The file it stood in.
        source: String,
        /// Where in it, 1-based, where there is such a place: the line, the row of a sheet, the element of an array.
        line: Option<u64>,
        /// The picture's name.
        name: String,
        /// The reason in a word: `truncated`, `unsupported`, `missing`, `duplicate`, `score`, or
        /// `malformed` for a row that does not have the form of its file.
        reason: String,
        /// What was found.
        detail: String,
    }
}

impl Reject {
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "every table has this check")]
    fn checked(&self) -> Result<(), String> {
        Ok(())
    }
}
