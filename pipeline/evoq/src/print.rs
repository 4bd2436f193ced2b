//! Text for people on stdout, and files that are asked for.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes to stdout. A reader that has gone away is no fault.
pub fn say(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Says a line on stderr. A run does not end because the reader of its words has: `evoq run … 2>&1 | head`.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Rows of words in columns as wide as they need to be.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|word| word.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(word, &width)| format!("{word:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Puts what `write` writes in the place of `file`, which is the old one until the new one is whole.
pub fn replace(file: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |error: std::io::Error| {
        Error::BadInput(format!("--output {} cannot be written: {error}; name another file", file.display()))
    };
    // As any new file: what the user's mask leaves of it.
    let everyone = Permissions::from_mode(0o666);
    let new = tempfile::Builder::new().prefix(".evoq-").permissions(everyone).tempfile_in(folder);
    let mut new = new.map_err(unwritable)?;
    write(new.as_file_mut()).map_err(|error| match error {
        Error::Output(error) => unwritable(error),
        error => error,
    })?;
    new.persist(file).map_err(|error| unwritable(error.error))?;
    Ok(())
}

/// The text as XML and HTML say it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
