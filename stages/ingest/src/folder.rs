//! Any folder of pictures.

use std::path::Path;

use evoq_artifacts::list_files;
use evoq_stage::bad_input;

use crate::listing::{Entry, Listing};

/// The extensions of the formats that are read, in lower case.
const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"];

/// The picture files below `folder`, by name. Hidden files, and what has no picture's extension, are left out and counted.
pub(crate) fn listing(folder: &Path) -> anyhow::Result<Listing> {
    let files = list_files(folder)?;
    let all = files.len();
    let entries: Vec<Entry> = files.into_iter().filter(|name| is_picture(name)).map(Entry::plain).collect();
    let others = all - entries.len();
    if entries.is_empty() {
        return Err(bad_input(format!(
            "--source {}: no picture in this folder ({others} other files); expected PNG, JPEG, WebP, TIFF or BMP files",
            folder.display()
        )));
    }
    if others > 0 {
        tracing::info!("{others} other files in {} are left out", folder.display());
    }
    Ok(Listing { entries, ..Listing::default() })
}

/// Whether a file's name is that of a picture: it has an extension that is read, and nothing of its path is hidden.
pub(crate) fn is_picture(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    let extension = Path::new(name).extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase);
    !hidden && extension.is_some_and(|it| EXTENSIONS.contains(&it.as_str()))
}

#[cfg(test)]
mod tests {
    use evoq_artifacts::write_file;

    use super::*;

    #[test]
    fn pictures_are_told_by_their_extension() {
        for name in ["a.png", "b/c.JPG", "d.e.jpeg", "f.TiF", "g.webp", "h.bmp"] {
            assert!(is_picture(name), "{name}");
        }
        for name in ["README.md", "a.gif", "png", "a.png.txt", "._a.png", ".trash/a.png"] {
            assert!(!is_picture(name), "{name}");
        }
    }

    #[test]
    fn names_are_relative_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a/z.png", "a.png", "notes.txt"] {
            write_file(&folder.path().join(name), b"").unwrap();
        }
        let names: Vec<_> = listing(folder.path()).unwrap().entries.into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["a.png", "a/z.png", "b.png"]);
    }

    #[test]
    fn a_folder_without_pictures_is_refused_with_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        write_file(&folder.path().join("notes.txt"), b"").unwrap();
        let error = listing(folder.path()).unwrap_err().to_string();
        assert!(error.contains("1 other files") && error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
