//! KonIQ-10k as distributed: a csv of scores beside a folder of pictures (1024x768/ or 512x384/).
//!
//! There are two csv files, and their mean scores are on scales that are not affine images of one another: the z-scores of
//! `koniq10k_distributions_sets.csv`, which holds the official split, and the plain means of
//! `koniq10k_scores_and_distributions.csv`. Either score is kept as it is, its scale is named, and `quality` maps the scale's
//! nominal range linearly onto 1..5.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use evoq_artifacts::{list_files, read_file};
use evoq_schemas::{Rating, Split};
use evoq_stage::bad_input;

use crate::listing::{Entry, Listing};
use crate::take::Choice;

/// The files of scores, the one with the official split first.
const SCORES: [&str; 2] = ["koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"];
/// The full-size pictures' folder, taken where the reduced ones are there as well.
const FULL_SIZE: &str = "1024x768";

/// The file of scores in `folder`, if there is one.
pub(crate) fn scores_file(folder: &Path) -> Option<&'static str> {
    SCORES.into_iter().find(|name| folder.join(name).is_file())
}

/// A scale of mean scores.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    name: &'static str,
    low: f64,
    high: f64,
}

/// The scale of the file with the splits.
const Z_SCORE: Scale = Scale { name: "z-score 0..100", low: 0.0, high: 100.0 };
/// The scale of the other file's `MOS`.
const MEAN: Scale = Scale { name: "mean 1..5", low: 1.0, high: 5.0 };

/// A row of the file of scores.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    line: u64,
    name: String,
    split: Option<Split>,
    mos: f64,
    mos_std: f64,
    raters: u32,
    scale: Scale,
}

impl Row {
    fn rating(&self, dataset: &str) -> Rating {
        let Scale { name, low, high } = self.scale;
        Rating {
            image_id: format!("{dataset}/{}", self.name).into(),
            mos: self.mos,
            mos_std: Some(self.mos_std),
            scale: name.to_owned(),
            quality: 1.0 + 4.0 * (self.mos - low) / (high - low),
            raters: Some(self.raters),
        }
    }
}

/// The pictures of the csv in `folder`, by name; those of other splits than the chosen one are left out. A picture without its
/// file is a problem, and no entry.
pub(crate) fn listing(folder: &Path, dataset: &str, choice: Choice) -> anyhow::Result<Listing> {
    let file = scores_file(folder).ok_or_else(|| {
        bad_input(format!(
            "--source {}: no {} here; expected KonIQ-10k as distributed",
            folder.display(),
            SCORES.join(" or ")
        ))
    })?;
    let (mut rows, mut problems) = read(&read_file(&folder.join(file))?)
        .map_err(|what| bad_input(format!("{}: {what}", folder.join(file).display())))?;
    let official = rows.iter().any(|row| row.split.is_some());
    if official && choice.holdout.is_some() {
        return Err(bad_input(format!("--holdout: {file} has the official split; leave --holdout out")));
    }
    if let Some(split) = choice.split.filter(|_| official) {
        rows.retain(|row| row.split == Some(split));
    }
    let files: HashSet<String> = list_files(folder)?.into_iter().collect();
    let pictures = match picture_folder(&rows, &files) {
        Some(pictures) => pictures,
        None if rows.is_empty() => FULL_SIZE,
        None => {
            return Err(bad_input(format!(
                "--source {}: not one of the {} pictures of {file} is below it; expected them in 1024x768/ or 512x384/",
                folder.display(),
                rows.len()
            )));
        }
    };
    tracing::info!("scores of {file}, {}; pictures of {pictures}/", rows.first().map_or("none", |row| row.scale.name));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let path = if pictures.is_empty() { row.name.clone() } else { format!("{pictures}/{}", row.name) };
        if files.contains(&path) {
            entries.push(Entry { rating: Some(row.rating(dataset)), name: row.name, path, split: row.split });
        } else {
            problems.push(format!("{path}: not found, but {file} has it in line {}: fetch it", row.line));
        }
    }
    Ok(Listing { entries, problems })
}

/// The folder, relative to the source, that holds the most of the pictures; the full-size one, then the first, if several do.
fn picture_folder<'a>(rows: &[Row], files: &'a HashSet<String>) -> Option<&'a str> {
    let names: HashSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for path in files {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if names.contains(name) {
            *counts.entry(folder).or_default() += 1;
        }
    }
    // The last of the largest is taken, so the order is turned.
    counts.into_iter().rev().max_by_key(|(folder, count)| (*count, *folder == FULL_SIZE)).map(|(folder, _)| folder)
}

/// The rows of a file of scores, and what is wrong with other rows; or why it is no such file.
fn read(bytes: &[u8]) -> Result<(Vec<Row>, Vec<String>), String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let columns: HashMap<&str, usize> = header.iter().enumerate().map(|(at, name)| (name, at)).collect();
    if let Some(missing) = ["image_name", "c_total", "MOS", "SD"].into_iter().find(|it| !columns.contains_key(it)) {
        let found: Vec<_> = header.iter().collect();
        return Err(format!(
            "no column `{missing}` in the first line ({}); expected it as distributed",
            found.join(",")
        ));
    }
    let has_split = columns.contains_key("set");
    let scale = if has_split { Z_SCORE } else { MEAN };
    let (mut rows, mut problems, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: &str| columns.get(column).and_then(|at| record.get(*at)).unwrap_or_default();
        match row(line, cell, scale, has_split) {
            Err(what) => problems.push(format!("line {line}: {what}")),
            Ok(row) => match lines.insert(row.name.clone(), line) {
                Some(first) => problems.push(format!("line {line}: `{}` is in line {first} already", row.name)),
                None => rows.push(row),
            },
        }
    }
    if rows.is_empty() && problems.is_empty() { Err("has no rows".to_owned()) } else { Ok((rows, problems)) }
}

fn row<'a>(line: u64, cell: impl Fn(&str) -> &'a str, scale: Scale, has_split: bool) -> Result<Row, String> {
    let number = |column: &str, low: f64, high: f64| {
        let value = cell(column).parse().ok().filter(|it| (low..=high).contains(it));
        value.ok_or_else(|| format!("`{column}` is `{}`; expected a number from {low} to {high}", cell(column)))
    };
    let split = match cell("set") {
        _ if !has_split => None,
        "training" => Some(Split::Train),
        "validation" => Some(Split::Validation),
        "test" => Some(Split::Test),
        other => return Err(format!("`set` is `{other}`; expected training, validation or test")),
    };
    if cell("image_name").is_empty() {
        return Err("`image_name` is empty; expected a picture's name".to_owned());
    }
    let raters = number("c_total", 0.0, f64::from(u32::MAX))?;
    if raters.fract() != 0.0 {
        return Err(format!("`c_total` is `{raters}`; expected a whole number"));
    }
    Ok(Row {
        line,
        name: cell("image_name").to_owned(),
        split,
        mos: number("MOS", scale.low, scale.high)?,
        mos_std: number("SD", 0.0, 100.0)?,
        raters: raters as u32,
        scale,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use evoq_artifacts::write_file;

    use super::*;

    const SETS: &str = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n";
    const ALL: Choice = Choice { holdout: None, split: None };

    /// Three pictures of the csv with splits, in `pictures/`.
    fn koniq(pictures: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let csv = format!(
            "{SETS}3.jpg,0,0,0,1,0,105,75,.5,training\n1.jpg,0,0,0,1,0,99,20,.6,test\n2.jpg,0,0,1,0,0,98,50,.7,validation\n"
        );
        write_file(&folder.path().join(SCORES[0]), csv.as_bytes()).unwrap();
        for name in ["1.jpg", "2.jpg", "3.jpg"] {
            write_file(&folder.path().join(pictures).join(name), b"x").unwrap();
        }
        folder
    }

    #[test]
    fn pictures_come_by_name_with_their_official_split_and_score() {
        let listing = listing(koniq("512x384").path(), "koniq10k", ALL).unwrap();
        assert_eq!(listing.problems, [""; 0]);
        let splits: Vec<_> = listing.entries.iter().map(|it| (it.path.as_str(), it.split.unwrap())).collect();
        let expected =
            [("512x384/1.jpg", Split::Test), ("512x384/2.jpg", Split::Validation), ("512x384/3.jpg", Split::Train)];
        assert_eq!(splits, expected);
        let rating = listing.entries[2].rating.clone().unwrap();
        assert_eq!((rating.image_id.as_str(), rating.mos, rating.quality), ("koniq10k/3.jpg", 75.0, 4.0));
        assert_eq!((rating.mos_std, rating.raters, rating.scale.as_str()), (Some(0.5), Some(105), "z-score 0..100"));
    }

    #[test]
    fn the_full_size_is_taken_where_both_are_complete_and_the_complete_one_otherwise() {
        let folder = koniq("512x384");
        let paths = || listing(folder.path(), "koniq10k", ALL).unwrap().entries.into_iter().map(|it| it.path);
        write_file(&folder.path().join("1024x768/1.jpg"), b"x").unwrap();
        assert!(paths().all(|it| it.starts_with("512x384/")));
        for name in ["2.jpg", "3.jpg"] {
            write_file(&folder.path().join("1024x768").join(name), b"x").unwrap();
        }
        assert!(paths().all(|it| it.starts_with("1024x768/")));
    }

    #[test]
    fn scores_without_any_picture_are_one_fault_not_many() {
        let folder = koniq("1024x768");
        evoq_artifacts::remove_folder(&folder.path().join("1024x768")).unwrap();
        let error = listing(folder.path(), "koniq10k", ALL).unwrap_err().to_string();
        assert!(error.contains("not one of the 3 pictures") && error.contains("1024x768/"), "{error}");
    }

    #[test]
    fn only_pictures_of_the_chosen_split_must_be_there() {
        let folder = koniq("1024x768");
        std::fs::remove_file(folder.path().join("1024x768/3.jpg")).unwrap();
        let all = listing(folder.path(), "koniq10k", ALL).unwrap();
        assert_eq!(all.problems.len(), 1);
        assert!(all.problems[0].contains("1024x768/3.jpg") && all.problems[0].contains("line 2"), "{:?}", all.problems);
        let choice = Choice { split: Some(Split::Test), ..ALL };
        let test = listing(folder.path(), "koniq10k", choice).unwrap();
        assert_eq!((test.entries.len(), test.problems.len()), (1, 0));
    }

    #[test]
    fn the_other_file_has_plain_means_and_no_split() {
        let csv = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n\"1.jpg\",0,1,20,70,9,100,3.87,.5,74.9\n";
        let (rows, problems) = read(csv.as_bytes()).unwrap();
        assert!(problems.is_empty());
        let rating = rows[0].rating("k");
        assert_eq!((rating.mos, rating.quality, rating.scale.as_str()), (3.87, 3.87, "mean 1..5"));
        assert_eq!((rows[0].split, rating.raters), (None, Some(100)));
    }

    #[test]
    fn each_bad_row_is_named_by_line_and_column() {
        for (row, named) in [
            ("a.jpg,0,0,0,0,0,5,104,.5,test", "line 2: `MOS` is `104`"),
            ("a.jpg,0,0,0,0,0,5,NaN,.5,test", "line 2: `MOS` is `NaN`"),
            ("a.jpg,0,0,0,0,0,5.5,50,.5,test", "line 2: `c_total`"),
            ("a.jpg,0,0,0,0,0,5,50,,test", "line 2: `SD` is ``"),
            ("a.jpg,0,0,0,0,0,5,50,.5,dev", "line 2: `set` is `dev`"),
            (",0,0,0,0,0,5,50,.5,test", "line 2: `image_name` is empty"),
        ] {
            let (rows, problems) = read(format!("{SETS}{row}\n").as_bytes()).unwrap();
            assert!(rows.is_empty() && problems.len() == 1 && problems[0].starts_with(named), "{problems:?}");
        }
        let twice = format!("{SETS}a.jpg,0,0,0,0,0,5,50,.5,test\na.jpg,0,0,0,0,0,5,51,.5,test\n");
        assert!(read(twice.as_bytes()).unwrap().1[0].starts_with("line 3: `a.jpg` is in line 2 already"));
    }

    #[test]
    fn what_is_no_file_of_scores_is_refused() {
        assert!(read(b"image,MOS\na,1\n").unwrap_err().contains("no column `image_name`"));
        assert!(read(SETS.as_bytes()).unwrap_err().contains("no rows"));
        assert!(read(format!("{SETS}a.jpg,1\n").as_bytes()).unwrap_err().contains("line: 2"));
    }

    #[test]
    fn a_holdout_does_not_go_with_the_official_split() {
        let choice = Choice { holdout: Some(0.2), split: None };
        assert!(listing(koniq("512x384").path(), "k", choice).unwrap_err().to_string().contains("--holdout"));
    }

    #[test]
    fn the_distributed_file_is_read_whole() {
        let shared = std::env::var_os("EVOQ_SHARED")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
        let file = shared.join("data/labels/koniq10k").join(SCORES[0]);
        if !file.is_file() {
            eprintln!("SKIPPED: {} is not there; point EVOQ_SHARED at the shared folder", file.display());
            return;
        }
        let (rows, problems) = read(&read_file(&file).unwrap()).unwrap();
        assert_eq!(problems, [""; 0]);
        let of = |split| rows.iter().filter(|row| row.split == Some(split)).count();
        assert_eq!((of(Split::Train), of(Split::Validation), of(Split::Test)), (7058, 1000, 2015));
    }
}
