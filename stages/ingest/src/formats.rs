//! The formats that files of scores come in. Each is turned into named columns and rows of text; what a column means is none of
//! their business.

use std::cell::Cell;
use std::panic::{UnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

pub(crate) mod delimited;
pub(crate) mod json;
pub(crate) mod parquet;
pub(crate) mod xlsx;

/// A file as columns and rows of text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sheet {
    /// The columns' names.
    pub(crate) columns: Vec<String>,
    /// The rows, each with a cell for each column.
    pub(crate) rows: Vec<Row>,
    /// What does not have the form of the file: its line, and what was found.
    pub(crate) malformed: Vec<(u64, String)>,
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Where it begins, 1-based: the line of a text file, the row of a sheet, the element of an array.
    pub(crate) line: u64,
    /// Its cells, without spaces around them; an empty cell is an empty text.
    pub(crate) cells: Vec<String>,
}

impl Sheet {
    /// A sheet without rows.
    pub(crate) fn new<T: ToString>(columns: impl IntoIterator<Item = T>) -> Self {
        let columns = columns.into_iter().map(|it| it.to_string().trim().to_owned()).collect();
        Self { columns, ..Self::default() }
    }

    /// Adds a row, or says that it has too few or too many cells.
    pub(crate) fn push(&mut self, line: u64, cells: Vec<String>) {
        if cells.len() == self.columns.len() {
            self.rows.push(Row { line, cells });
        } else {
            let columns = self.columns.join(", ");
            self.malformed
                .push((line, format!("has {} cells; expected {} ({columns})", cells.len(), self.columns.len())));
        }
    }

    /// Where the column is.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|it| it == name)
    }

    /// Whether each of these columns is there, and once.
    pub(crate) fn has(&self, names: &[&str]) -> Result<(), String> {
        for name in names {
            let count = self.columns.iter().filter(|it| it == name).count();
            if count != 1 {
                let found = self.columns.join(", ");
                return Err(format!("{count} columns are called `{name}` ({found}); expected one"));
            }
        }
        Ok(())
    }
}

/// Whether a file's name ends so.
pub(crate) fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|it| it.eq_ignore_ascii_case(extension))
}

/// A text without the mark that some programs put first.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

thread_local! {
    /// Whether a panic of this thread is expected and says nothing.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What `read` gives, or an error where it panics: the crates that read workbooks and Parquet do so on some damaged files.
pub(crate) fn contained<T>(read: impl FnOnce() -> Result<T, String> + UnwindSafe) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !EXPECTED.get() {
                loud(panic);
            }
        }));
    });
    EXPECTED.set(true);
    let result = catch_unwind(read);
    EXPECTED.set(false);
    result.unwrap_or_else(|_| Err("is damaged; fetch or write the file again".to_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A committed file.
    pub(crate) fn fixture(file: &str) -> Vec<u8> {
        evoq_artifacts::read_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)).unwrap()
    }

    /// What a reader of another make found in it.
    pub(crate) fn expected(file: &str) -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&fixture("expected.json")).unwrap()[file].clone()
    }

    #[test]
    fn a_row_with_too_few_or_too_many_cells_is_malformed() {
        let mut sheet = Sheet::new(["name", "mos"]);
        for cells in [vec!["a"], vec!["a", "1"], vec!["a", "1", "2"]] {
            sheet.push(3, cells.into_iter().map(str::to_owned).collect());
        }
        assert_eq!((sheet.rows.len(), sheet.malformed.len()), (1, 2));
        assert_eq!(sheet.malformed[1], (3, "has 3 cells; expected 2 (name, mos)".to_owned()));
    }

    #[test]
    fn a_panic_while_reading_is_an_error() {
        assert_eq!(contained(|| Ok(5)), Ok(5));
        let nothing: [u8; 0] = [];
        let at = nothing.len() + 1;
        assert!(contained(|| Ok(vec![0_u8; 1][at])).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_column_that_is_missing_or_there_twice_is_told_with_those_that_are_there() {
        let sheet = Sheet::new(["name", "mos ", "mos"]);
        assert_eq!(sheet.has(&["name"]), Ok(()));
        assert!(sheet.has(&["mos"]).unwrap_err().starts_with("2 columns are called `mos` (name, mos, mos)"));
        assert!(sheet.has(&["name", "std"]).unwrap_err().starts_with("0 columns are called `std`"));
    }
}
