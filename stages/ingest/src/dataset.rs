//! Which kind of source a source is, and what its data set is called.

use std::path::Path;

use evoq_stage::bad_input;

use crate::listing::{Entry, Listing};
use crate::rated::Set;
use crate::table::Flags;
use crate::take::Choice;
use crate::{agiqa3k, csiq, folder, kadid10k, koniq10k, livec, pipal, spaq, table, tid2013};

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
    /// SPAQ as distributed: xlsx and `TestImage/`.
    Spaq,
    /// AGIQA-3K as distributed: data.csv and image folder.
    Agiqa3k,
    /// LIVE in the Wild as distributed: Data/*.mat and Images/.
    Livec,
    /// KADID-10k as distributed: dmos.csv and images/.
    Kadid10k,
    /// PIPAL as distributed: `Train_Label/` and image folders.
    Pipal,
    /// TID2013 as distributed: `mos_with_names.txt` and `distorted_images/`.
    Tid2013,
    /// CSIQ as distributed: csiq.DMOS.xlsx and `dst_imgs/`.
    Csiq,
    /// The pictures that a file of scores names, which --scores tells.
    Table,
    /// Pictures drawn from numbers.
    Procedural,
}

/// The rated data sets that have files of their own.
const SETS: [Dataset; 8] = [
    Dataset::Koniq10k,
    Dataset::Spaq,
    Dataset::Agiqa3k,
    Dataset::Livec,
    Dataset::Kadid10k,
    Dataset::Pipal,
    Dataset::Tid2013,
    Dataset::Csiq,
];

impl Dataset {
    /// How a rated data set is read; `None` for the other kinds.
    fn set(self) -> Option<&'static Set> {
        match self {
            Self::Koniq10k => Some(&koniq10k::SET),
            Self::Spaq => Some(&spaq::SET),
            Self::Agiqa3k => Some(&agiqa3k::SET),
            Self::Livec => Some(&livec::SET),
            Self::Kadid10k => Some(&kadid10k::SET),
            Self::Pipal => Some(&pipal::SET),
            Self::Tid2013 => Some(&tid2013::SET),
            Self::Csiq => Some(&csiq::SET),
            Self::Folder | Self::Table | Self::Procedural => None,
        }
    }

    /// Its word on the command line.
    fn word(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |it| it.get_name().to_owned())
    }

    /// What a data set of this kind is called if nothing else is said; `None` where the folder's path ends without a name.
    pub(crate) fn default_name(self, source: &str) -> Option<String> {
        match self {
            Self::Folder | Self::Table => {
                let path = std::path::absolute(source).ok()?;
                // `#` and `/` divide ids.
                Some(path.file_name()?.to_str()?.replace('#', "_"))
            }
            rated_or_drawn => Some(rated_or_drawn.word()),
        }
    }

    /// The pictures of the source, by name; of a rated data set, those of the chosen split that have a score.
    pub(crate) fn listing(self, source: &str, name: &str, flags: &Flags, choice: Choice) -> anyhow::Result<Listing> {
        let folder = Path::new(source);
        match (self, self.set()) {
            (_, Some(set)) => set.listing(folder, name, choice),
            (Self::Table, _) => table::listing(folder, name, flags, choice),
            (Self::Procedural, _) => numbered(source),
            _ => folder::listing(folder),
        }
    }
}

/// The kinds that `source` may be by its looks, and by whether there is a file of scores; none if nothing is there.
fn candidates(source: &str, flags: &Flags) -> Vec<Dataset> {
    let folder = Path::new(source);
    if source.starts_with(PROCEDURAL) {
        return vec![Dataset::Procedural];
    }
    if !folder.is_dir() {
        return Vec::new();
    }
    if flags.scores.is_some() {
        return vec![Dataset::Table];
    }
    let found = SETS.into_iter().filter(|it| it.set().is_some_and(|set| set.file(folder).is_some()));
    let found: Vec<_> = found.collect();
    if found.is_empty() { vec![Dataset::Folder] } else { found }
}

/// The kind of `source` by its looks; `None` if nothing is there, or files of several data sets are.
pub(crate) fn recognised(source: &str, flags: &Flags) -> Option<Dataset> {
    match candidates(source, flags)[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// The kind of `source`: the one that was `told`, if the source can be that, or the one it is recognised as.
pub(crate) fn of_source(source: &str, told: Option<Dataset>, flags: &Flags) -> anyhow::Result<Dataset> {
    let found = candidates(source, flags);
    let Some(first) = found.first().copied() else {
        let what = if Path::new(source).exists() { "is a file" } else { "not found" };
        return Err(bad_input(format!("--source {source}: {what}; expected a folder, or procedural:COUNT")));
    };
    let Some(told) = told else {
        if found.len() > 1 {
            let words: Vec<_> = found.iter().map(|it| it.word()).collect();
            return Err(bad_input(format!(
                "--source {source}: has the files of {}; say which it is with --dataset",
                words.join(" and of ")
            )));
        }
        return Ok(first);
    };
    if (told == Dataset::Procedural) != (first == Dataset::Procedural) {
        return Err(bad_input(format!(
            "--source {source}: does not go with --dataset {}; expected procedural:COUNT for procedural pictures, and a folder \
             for anything else",
            told.word()
        )));
    }
    match (told == Dataset::Table, &flags.scores) {
        (false, Some(scores)) => Err(bad_input(format!(
            "--scores {}: does not go with --dataset {}, which has scores of its own or none; leave one of them out",
            scores.display(),
            told.word()
        ))),
        (true, None) => Err(bad_input("--dataset table: expected --scores FILE with it")),
        _ => Ok(told),
    }
}

/// The data set's name: the one that was `told`, or the default.
pub(crate) fn name(source: &str, dataset: Dataset, told: Option<&str>) -> anyhow::Result<String> {
    told.map(ToOwned::to_owned).or_else(|| dataset.default_name(source)).ok_or_else(|| {
        bad_input(format!("--source {source}: the path ends without a name; say what it is with --name"))
    })
}

/// The numbered pictures of a source that says how many to draw.
fn numbered(source: &str) -> anyhow::Result<Listing> {
    let count = source.strip_prefix(PROCEDURAL).and_then(|count| count.parse().ok());
    match count {
        Some(count @ 1..=MOST) => {
            let entries = (0..count).map(|index| Entry::plain(format!("{index:06}.png")));
            Ok(Listing { entries: entries.collect(), ..Listing::default() })
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
        let of = |source: &str, told| of_source(source, told, &Flags::default());
        assert_eq!(of(path, None).unwrap(), Dataset::Folder);
        assert_eq!(of("procedural:3", None).unwrap(), Dataset::Procedural);
        write_file(&folder.path().join("koniq10k_distributions_sets.csv"), b"").unwrap();
        assert_eq!(of(path, None).unwrap(), Dataset::Koniq10k);
        assert_eq!(of(path, Some(Dataset::Folder)).unwrap(), Dataset::Folder);
        for (source, told) in [(path, Dataset::Procedural), ("procedural:3", Dataset::Folder)] {
            let error = of(source, Some(told)).unwrap_err().to_string();
            assert!(error.contains(source), "{error}");
        }
    }

    #[test]
    fn every_rated_data_set_is_recognised_by_any_of_its_files_and_called_by_its_word() {
        for dataset in SETS {
            for (path, start) in dataset.set().unwrap().files {
                let folder = tempfile::tempdir().unwrap();
                write_file(&folder.path().join(path), start.as_bytes()).unwrap();
                let source = folder.path().to_str().unwrap();
                assert_eq!(of_source(source, None, &Flags::default()).unwrap(), dataset, "{path}");
                assert_eq!(dataset.default_name(source).unwrap(), dataset.word());
            }
        }
        assert_eq!(SETS.map(Dataset::word)[2..6], ["agiqa3k", "livec", "kadid10k", "pipal"]);
    }

    #[test]
    fn a_folder_with_the_files_of_two_data_sets_must_be_told_which() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["mos_with_names.txt", "csiq_label.txt"] {
            write_file(&folder.path().join(name), b"").unwrap();
        }
        let source = folder.path().to_str().unwrap();
        let error = of_source(source, None, &Flags::default()).unwrap_err().to_string();
        assert!(error.contains("tid2013 and of csiq") && error.contains("--dataset"), "{error}");
        assert_eq!(recognised(source, &Flags::default()), None);
        assert_eq!(of_source(source, Some(Dataset::Csiq), &Flags::default()).unwrap(), Dataset::Csiq);
    }

    #[test]
    fn a_file_of_scores_makes_a_table_of_any_folder() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().to_str().unwrap();
        let flags = Flags { scores: Some("mine.csv".into()), ..Flags::default() };
        assert_eq!(of_source(source, None, &flags).unwrap(), Dataset::Table);
        for (told, flags) in [(Dataset::Csiq, &flags), (Dataset::Table, &Flags::default())] {
            assert!(of_source(source, Some(told), flags).unwrap_err().to_string().contains("--scores"));
        }
    }

    #[test]
    fn a_source_that_is_not_there_or_no_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        write_file(&file, b"").unwrap();
        for (source, what) in [(file, "is a file"), (folder.path().join("b"), "not found")] {
            let error = of_source(source.to_str().unwrap(), None, &Flags::default()).unwrap_err().to_string();
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
