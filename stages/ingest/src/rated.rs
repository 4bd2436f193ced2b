//! Rated data sets: a file of scores, and the pictures below the same folder that it names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use evoq_artifacts::{list_files, read_file};
use evoq_schemas::Rating;
use evoq_stage::bad_input;

use crate::folder::is_picture;
use crate::listing::{Entry, Listing, reject};
use crate::scores::{Score, Scores};
use crate::take::Choice;

/// A data set as distributed.
pub(crate) struct Set {
    /// The files of scores that are known, relative to the source, the first that is there counts, and with what each begins.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// Where its pictures are.
    pub(crate) place: Place,
    /// Reads the scores of one of `files` below a folder.
    pub(crate) read: fn(&Path, &str) -> anyhow::Result<Scores>,
}

/// Where the pictures of a data set are, and the names of their folders as distributed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// All in one folder: the one that holds the most of them, and among such the first of these.
    Together(&'static [&'static str]),
    /// In several folders, each name in one of them.
    Scattered(&'static [&'static str]),
    /// Anywhere below the source, and named by their paths: names may be the same in several folders.
    Anywhere,
}

impl Set {
    /// The file of scores in `folder`, if there is one.
    pub(crate) fn file(&self, folder: &Path) -> Option<&'static str> {
        let begins = |path: &str, start: &str| {
            let path = folder.join(path);
            path.exists() && (start.is_empty() || read_file(&path).is_ok_and(|it| it.starts_with(start.as_bytes())))
        };
        self.files.iter().find(|(path, start)| begins(path, start)).map(|(path, _)| *path)
    }

    /// The pictures of the data set in `folder`, by name; those of other splits than the chosen one are left out.
    pub(crate) fn listing(&self, folder: &Path, dataset: &str, choice: Choice) -> anyhow::Result<Listing> {
        let file = self.file(folder).ok_or_else(|| {
            let files: Vec<_> = self.files.iter().map(|(path, _)| *path).collect();
            bad_input(format!(
                "--source {}: no file of scores here; expected the data set as distributed, with {}",
                folder.display(),
                files.join(" or ")
            ))
        })?;
        placed(folder, dataset, (self.read)(folder, file)?, self.place, choice)
    }
}

/// The scores that `read` finds in one file, or which file is wrong.
pub(crate) fn in_file(
    folder: &Path,
    file: &str,
    read: impl Fn(&str, &[u8]) -> Result<Scores, String>,
) -> anyhow::Result<Scores> {
    let path = folder.join(file);
    read(file, &read_file(&path)?).map_err(|what| bad_input(format!("{}: {what}", path.display())))
}

/// Finds the pictures that `scores` name below `folder`. A picture without its file, or with several, is a reject.
pub(crate) fn placed(
    folder: &Path,
    dataset: &str,
    scores: Scores,
    place: Place,
    choice: Choice,
) -> anyhow::Result<Listing> {
    let Scores { source, scale, mut rows, mut rejects } = scores;
    let official = rows.iter().any(|row| row.split.is_some());
    if official && choice.holdout.is_some() {
        return Err(bad_input(format!("--holdout: {source} has the official split; leave --holdout out")));
    }
    if let Some(split) = choice.split.filter(|_| official) {
        rows.retain(|row| row.split == Some(split));
    }
    let files: Vec<String> = list_files(folder)?.into_iter().filter(|it| is_picture(it)).collect();
    let pictures = Pictures::of(&files, &rows, place);
    let mut found: HashMap<&str, u64> = HashMap::new();
    let mut entries = Vec::with_capacity(rows.len());
    let count = rows.len();
    for mut row in rows {
        let path = pictures.path_of(&row.name).and_then(|path| match found.insert(path, row.line) {
            Some(first) => Err(("duplicate", format!("means {path}, as line {first} does; expected it once"))),
            None => Ok(path),
        });
        match path {
            Ok(path) => {
                if matches!(place, Place::Anywhere) {
                    path.clone_into(&mut row.name);
                }
                entries.push(entry(dataset, row, path, &scale));
            }
            Err((reason, what)) => rejects.push(reject(&row.source, Some(row.line), &row.name, reason, what)),
        }
    }
    if entries.is_empty() && count > 0 {
        let folders = match place {
            Place::Together(names) | Place::Scattered(names) => format!("; expected them in {}", names.join("/ or ")),
            Place::Anywhere => "; expected the folder of its pictures".to_owned(),
        };
        return Err(bad_input(format!(
            "--source {}: not one of the {count} pictures of {source} is below it{folders}",
            folder.display(),
        )));
    }
    let others = pictures.count() - found.len();
    let turned = if scale.lower_better { ", lower is better" } else { "" };
    tracing::info!(
        "scores of {source}: {}, {} to {} ({}{turned}); {others} pictures beside them have no score and are left out",
        scale.name,
        scale.low,
        scale.high,
        scale.range_is.as_str(),
    );
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Listing { entries, rejects, scale: Some(scale) })
}

fn entry(dataset: &str, row: Score, path: &str, scale: &crate::listing::Scale) -> Entry {
    let rating = Rating {
        image_id: format!("{dataset}/{}", row.name).into(),
        mos: row.mos,
        mos_std: row.mos_std,
        scale: scale.name.clone(),
        quality: scale.quality(row.mos),
        raters: row.raters,
    };
    Entry {
        rating: Some(rating),
        name: row.name,
        path: path.to_owned(),
        split: row.split,
        group: row.group,
        source: row.source,
        line: Some(row.line),
    }
}

/// The picture files below a source, by their last name in lower case.
struct Pictures<'a> {
    by_name: HashMap<String, Vec<&'a str>>,
    /// The one folder that counts, where one does.
    folder: Option<&'a str>,
}

impl<'a> Pictures<'a> {
    fn of(files: &'a [String], rows: &[Score], place: Place) -> Self {
        let names: HashSet<String> = rows.iter().map(|row| parts(&row.name).1.to_lowercase()).collect();
        let folder = match place {
            Place::Scattered(_) | Place::Anywhere => None,
            Place::Together(preferred) => fullest(files, &names, preferred),
        };
        let mut by_name: HashMap<String, Vec<&str>> = HashMap::new();
        for path in files.iter().filter(|it| folder.is_none_or(|folder| parts(it).0 == folder)) {
            by_name.entry(parts(path).1.to_lowercase()).or_default().push(path);
        }
        Self { by_name, folder }
    }

    fn count(&self) -> usize {
        self.by_name.values().map(Vec::len).sum()
    }

    /// The file of the picture `name`: the one with the same path, else the same last name, else the same last name but for the
    /// case of its letters. Folders that both have must agree. If there is none or are several, a reason and what was found.
    fn path_of(&self, name: &str) -> Result<&'a str, (&'static str, String)> {
        let files = self.by_name.get(&parts(name).1.to_lowercase());
        let agreeing = files.into_iter().flatten().filter(|path| agree(path, name));
        let mut agreeing: Vec<&str> = agreeing.copied().collect();
        let exact = |path: &&str| parts(path).1 == parts(name).1;
        if agreeing.iter().any(exact) {
            agreeing.retain(exact);
        }
        if agreeing.contains(&name) {
            agreeing.retain(|path| *path == name);
        }
        match agreeing[..] {
            [path] => Ok(path),
            [] => {
                let path = self.folder.filter(|it| !it.is_empty()).map_or(name.to_owned(), |it| format!("{it}/{name}"));
                Err(("missing", format!("{path} is not found; fetch it")))
            }
            _ => Err(("duplicate", format!("is at {}; keep one of them", agreeing.join(" and at ")))),
        }
    }
}

/// The folder that holds the most of the pictures; the first of the preferred ones, then the first, if several do.
fn fullest<'a>(files: &'a [String], names: &HashSet<String>, preferred: &[&str]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (folder, name) in files.iter().map(|it| parts(it)) {
        *counts.entry(folder).or_default() += usize::from(names.contains(&name.to_lowercase()));
    }
    let rank = |folder: &str| preferred.iter().position(|it| *it == parts(folder).1).unwrap_or(preferred.len());
    let best = counts.into_iter().min_by_key(|(folder, count)| (std::cmp::Reverse(*count), rank(folder)));
    best.map(|(folder, _)| folder)
}

/// The folder and the last name of a path.
fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Whether one of two paths is the end of the other, but for the case of letters.
fn agree(a: &str, b: &str) -> bool {
    let pairs = a.rsplit('/').zip(b.rsplit('/'));
    pairs.into_iter().all(|(a, b)| a.to_lowercase() == b.to_lowercase())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use evoq_artifacts::write_file;

    use super::*;
    use crate::formats::delimited;
    use crate::scores::Measure;

    pub(crate) const ALL: Choice = Choice { holdout: None, split: None };

    /// A folder with files of scores and empty pictures.
    pub(crate) fn source(files: &[(&str, &[u8])], pictures: &[String]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            write_file(&folder.path().join(path), bytes).unwrap();
        }
        for path in pictures {
            write_file(&folder.path().join(path), b"x").unwrap();
        }
        folder
    }

    /// A listing of `a.png` and `b.PNG` among `pictures`.
    fn found(pictures: &[&str], place: Place) -> anyhow::Result<Listing> {
        let pictures: Vec<String> = pictures.iter().map(|it| (*it).to_owned()).collect();
        let folder = source(&[], &pictures);
        let sheet = delimited::with_header(b"name,mos\na.png,1\nb.PNG,2\n").unwrap();
        let measure = Measure { name: "m", range: Some((1.0, 5.0)), lower_better: false };
        let scores = Scores::of("s.csv", sheet, &measure, |row| row.name("name"), |row| row.mos("mos")).unwrap();
        placed(folder.path(), "set", scores, place, ALL)
    }

    /// The paths of the pictures taken, and the reasons of rejects with what was found.
    fn paths(pictures: &[&str], place: Place) -> (Vec<String>, Vec<(String, String)>) {
        let Listing { entries, rejects, .. } = found(pictures, place).unwrap();
        (
            entries.into_iter().map(|it| it.path).collect(),
            rejects.into_iter().map(|it| (it.reason, it.detail)).collect(),
        )
    }

    #[test]
    fn scores_without_any_picture_are_one_fault_not_many() {
        let error = found(&["images/c.png"], Place::Together(&["images"])).unwrap_err().to_string();
        assert!(error.contains("not one of the 2 pictures of s.csv") && error.contains("images"), "{error}");
    }

    #[test]
    fn the_fullest_folder_counts_alone_where_all_pictures_are_together() {
        let (taken, rejects) = paths(&["full/a.png", "full/b.PNG", "half/a.png"], Place::Together(&["half"]));
        assert_eq!((taken, rejects.len()), (vec!["full/a.png".to_owned(), "full/b.PNG".to_owned()], 0));
        let (taken, rejects) = paths(&["x/a.png", "y/b.png"], Place::Together(&["y"]));
        assert_eq!(taken, ["y/b.png"]);
        assert_eq!(rejects, [("missing".to_owned(), "y/a.png is not found; fetch it".to_owned())]);
    }

    #[test]
    fn a_name_in_two_folders_is_a_reject_where_pictures_are_scattered() {
        let (taken, rejects) = paths(&["x/a.png", "y/b.PNG", "y/a.png"], Place::Scattered(&["x", "y"]));
        assert_eq!(taken, ["y/b.PNG"]);
        assert_eq!(rejects, [("duplicate".to_owned(), "is at x/a.png and at y/a.png; keep one of them".to_owned())]);
    }

    #[test]
    fn the_case_of_letters_counts_where_files_differ_by_nothing_else() {
        for pictures in [["a.png", "b.png", "b.PNG"], ["A.png", "b.PNG", "c.png"]] {
            let (taken, rejects) = paths(&pictures, Place::Together(&[]));
            assert_eq!((taken[0].to_lowercase(), taken[1].as_str(), rejects.len()), ("a.png".to_owned(), "b.PNG", 0));
        }
    }

    /// The scores of the committed rows of one of a set's files.
    pub(crate) fn read_in(set: &Set, file: usize) -> Scores {
        let (path, start) = set.files[file];
        let folder = fixtures(path);
        let bytes =
            std::fs::metadata(folder.join(path)).unwrap().is_file().then(|| read_file(&folder.join(path)).unwrap());
        assert!(bytes.is_none_or(|it| it.starts_with(start.as_bytes())), "{path} does not begin with {start}");
        (set.read)(&folder, path).unwrap()
    }

    /// The folder of committed score files of the set that has `path`.
    fn fixtures(path: &str) -> PathBuf {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let sets = std::fs::read_dir(&all).unwrap().map(|it| it.unwrap().path());
        let mut having = sets.filter(|it| it.join(path).exists());
        having.next().unwrap_or_else(|| panic!("no fixture {path}; run make.py in {}", all.display()))
    }

    /// A folder of real score files, where there is one.
    pub(crate) fn labels(set: &str) -> Option<PathBuf> {
        let shared = std::env::var_os("EVOQ_SHARED")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
        let folder = shared.join("data/labels").join(set);
        if folder.is_dir() {
            return Some(folder);
        }
        eprintln!("SKIPPED: {} is not there; point EVOQ_SHARED at the folder that has data/labels", folder.display());
        None
    }

    /// The scores of a real file, all of whose rows must be good; `None` where it is not there.
    pub(crate) fn whole_file(path: &str, read: impl Fn(&str, &[u8]) -> Result<Scores, String>) -> Option<Scores> {
        let (set, file) = path.split_once('/').unwrap();
        let scores = read(file, &read_file(&labels(set)?.join(file)).unwrap()).unwrap();
        assert_eq!(scores.rejects, []);
        Some(scores)
    }
}
