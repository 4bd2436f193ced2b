//! Which kind of source a source is, and what its data set is called.

use std::path::Path;

use evoq_stage::bad_input;

use crate::koniq10k;
use crate::listing::{Entry, Listing};

/// With this a source begins whose pictures are drawn.
const PROCEDURAL: &str = "procedural:";
/// The most pictures that are drawn: their numbers have six digits.
const MOST: u32 = 1_000_000;

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dataset {
    /// Every picture file below a folder.
    Folder,
    /// KonIQ-10k as distributed: csv and image folder.
    Koniq10k,
    /// Pictures drawn from numbers.
    Procedural,
}

impl Dataset {
    /// What a data set of this kind is called if nothing else is said; `None` where the folder's path ends without a name.
    pub(crate) fn default_name(self, source: &str) -> Option<String> {
        match self {
            Self::Koniq10k => Some("koniq10k".to_owned()),
            Self::Procedural => Some("procedural".to_owned()),
            Self::Folder => {
                let path = std::path::absolute(source).ok()?;
                // `#` and `/` divide ids.
                Some(path.file_name()?.to_str()?.replace('#', "_"))
            }
        }
    }
}

/// The kind of `source` by its looks; `None` if nothing is there.
pub(crate) fn recognised(source: &str) -> Option<Dataset> {
    let folder = Path::new(source);
    if source.starts_with(PROCEDURAL) {
        Some(Dataset::Procedural)
    } else if !folder.is_dir() {
        None
    } else if koniq10k::scores_file(folder).is_some() {
        Some(Dataset::Koniq10k)
    } else {
        Some(Dataset::Folder)
    }
}

/// The kind of `source`: the one that was `told`, if the source can be that, or the one it is recognised as.
pub(crate) fn of_source(source: &str, told: Option<Dataset>) -> anyhow::Result<Dataset> {
    let found = recognised(source).ok_or_else(|| {
        let what = if Path::new(source).exists() { "is a file" } else { "not found" };
        bad_input(format!("--source {source}: {what}; expected a folder, or procedural:COUNT"))
    })?;
    let told = told.unwrap_or(found);
    if (told == Dataset::Procedural) == (found == Dataset::Procedural) {
        Ok(told)
    } else {
        Err(bad_input(format!(
            "--source {source}: does not go with --dataset {}; expected procedural:COUNT for procedural pictures, and a folder \
             for anything else",
            if told == Dataset::Procedural { "procedural" } else { "folder or koniq10k" }
        )))
    }
}

/// The data set's name: the one that was `told`, or the default.
pub(crate) fn name(source: &str, dataset: Dataset, told: Option<&str>) -> anyhow::Result<String> {
    told.map(ToOwned::to_owned).or_else(|| dataset.default_name(source)).ok_or_else(|| {
        bad_input(format!("--source {source}: the path ends without a name; say what it is with --name"))
    })
}

/// The numbered pictures of a source that says how many to draw.
pub(crate) fn numbered(source: &str) -> anyhow::Result<Listing> {
    let count = source.strip_prefix(PROCEDURAL).and_then(|count| count.parse().ok());
    match count {
        Some(count @ 1..=MOST) => {
            let entries = (0..count).map(|index| Entry::plain(format!("{index:06}.png")));
            Ok(Listing { entries: entries.collect(), problems: Vec::new() })
        }
        _ => Err(bad_input(format!("--source {source}: expected procedural:COUNT with a COUNT from 1 to {MOST}"))),
    }
}

#[cfg(test)]
mod tests {
    use evoq_artifacts::write_file;

    use super::*;

    #[test]
    fn kinds_are_recognised_and_can_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(of_source(path, None).unwrap(), Dataset::Folder);
        assert_eq!(of_source("procedural:3", None).unwrap(), Dataset::Procedural);
        write_file(&folder.path().join("koniq10k_distributions_sets.csv"), b"").unwrap();
        assert_eq!(of_source(path, None).unwrap(), Dataset::Koniq10k);
        assert_eq!(of_source(path, Some(Dataset::Folder)).unwrap(), Dataset::Folder);
        for (source, told) in [(path, Dataset::Procedural), ("procedural:3", Dataset::Folder)] {
            let error = of_source(source, Some(told)).unwrap_err().to_string();
            assert!(error.contains(source), "{error}");
        }
    }

    #[test]
    fn a_source_that_is_not_there_or_no_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        write_file(&file, b"").unwrap();
        for (source, what) in [(file, "is a file"), (folder.path().join("b"), "not found")] {
            let error = of_source(source.to_str().unwrap(), None).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(source.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_folder_gives_its_own_name_however_it_is_written() {
        let of = |source: &str, told| name(source, Dataset::Folder, told);
        assert_eq!(of("/data/photos/", None).unwrap(), "photos");
        assert_eq!(of("/data/my #1/.", None).unwrap(), "my _1");
        assert_eq!(of("/data/photos", Some("mine")).unwrap(), "mine");
        assert!(of("/", None).unwrap_err().to_string().contains("--name"));
    }

    #[test]
    fn drawn_pictures_are_numbered_in_order_of_their_names() {
        let listing = numbered("procedural:1200").unwrap();
        assert_eq!(listing.entries.len(), 1200);
        assert_eq!(listing.entries[42].name, "000042.png");
        assert!(listing.entries.is_sorted_by_key(|it| &it.name));
        for source in ["procedural:0", "procedural:-1", "procedural:", "procedural:many", "procedural:1000001"] {
            assert!(numbered(source).unwrap_err().to_string().contains(source));
        }
    }
}
