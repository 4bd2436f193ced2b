//! PIPAL as distributed: `Train_Label/` with a file of scores for each reference, beside the folders of the distorted pictures.

use std::path::Path;

use evoq_artifacts::{list_files, read_file};
use evoq_stage::bad_input;

use crate::formats::{Sheet, delimited, has_extension};
use crate::rated::{Place, Set};
use crate::scores::{Fault, Measure, Score, Scores};

/// The data set.
pub(crate) const SET: Set = Set {
    files: &[("Train_Label", ""), ("train_label", "")],
    place: Place::Scattered(&["Train_Dist", "Distortion_1 to Distortion_4"]),
    read,
};

/// The scale: Elo ratings, which have no bounds of their own; those of the training set go from 917 to 1836 (Gu et al., "PIPAL",
/// 2020).
const ELO: Measure = Measure { name: "pipal-elo", range: None, lower_better: false };

fn read(folder: &Path, labels: &str) -> anyhow::Result<Scores> {
    let mut files = Vec::new();
    for name in list_files(&folder.join(labels))?.into_iter().filter(|it| has_extension(it, "txt")) {
        let file = format!("{labels}/{name}");
        let sheet = sheet(&read_file(&folder.join(&file))?);
        files.push((file, sheet));
    }
    scores(labels, &files).map_err(|what| bad_input(format!("{}: {what}", folder.join(labels).display())))
}

/// A file's rows: name and rating, without a header.
pub(crate) fn sheet(bytes: &[u8]) -> Sheet {
    delimited::without_header(bytes, &["name", "elo"], delimited::commas)
}

/// The scores of all files. The range is that of all of them together.
pub(crate) fn scores(labels: &str, files: &[(String, Sheet)]) -> Result<Scores, String> {
    if files.is_empty() {
        return Err("no .txt file in the folder; expected A0001.txt and others, one a reference".to_owned());
    }
    Scores::of_files(
        labels,
        files,
        &ELO,
        |row| row.name("name"),
        |row| Ok(Score { group: Some(reference(row.text("name"))?), ..row.mos("elo")? }),
    )
}

/// The reference of a picture: `A0001_00_00.bmp` was made from `A0001.bmp`.
fn reference(name: &str) -> Result<String, Fault> {
    let parts = name.rsplit_once('.').map(|(stem, kind)| (stem.split('_').collect::<Vec<_>>(), kind));
    match parts.as_ref().map(|(stem, kind)| (stem.as_slice(), kind)) {
        Some(([reference, _, _], kind)) => Ok(format!("{reference}.{kind}")),
        _ => Err(Fault("malformed", format!("`{name}` is no name of PIPAL's; expected one such as A0001_00_00.bmp"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::RangeIs;
    use crate::rated::tests::read_in;

    #[test]
    fn the_files_of_all_references_are_read_and_their_range_is_one() {
        let scores = read_in(&SET, 0);
        let rows: Vec<_> =
            scores.rows.iter().map(|it| (it.source.as_str(), it.line, it.name.as_str(), it.mos)).collect();
        let expected = [
            ("Train_Label/A0001.txt", 1, "A0001_00_00.bmp", 1503.0125),
            ("Train_Label/A0001.txt", 2, "A0001_00_01.bmp", 1498.75),
            ("Train_Label/A0002.txt", 1, "A0002_00_00.bmp", 917.25),
            ("Train_Label/A0002.txt", 2, "A0002_00_01.bmp", 1835.5),
        ];
        assert_eq!(rows, expected);
        assert_eq!(scores.rows[3].group.as_deref(), Some("A0002.bmp"));
        assert_eq!((scores.scale.low, scores.scale.high, scores.scale.range_is), (917.25, 1835.5, RangeIs::Observed));
    }

    #[test]
    fn a_name_without_its_reference_is_malformed_and_an_empty_file_is_refused() {
        let files = |second: &[u8]| {
            let first = ("a.txt".to_owned(), sheet(b"A0001_00_00.bmp,1500\nA0001_00_01.bmp,1600\nA0001.bmp,1700\n"));
            scores("Train_Label", &[first, ("b.txt".to_owned(), sheet(second))])
        };
        let scores = files(b"A0001_00_00.bmp,1400\n").unwrap();
        let rejects: Vec<_> =
            scores.rejects.iter().map(|it| (it.source.as_str(), it.line, it.reason.as_str())).collect();
        assert_eq!(rejects, [("a.txt", Some(3), "malformed"), ("b.txt", Some(1), "duplicate")]);
        assert!(files(b"\n").unwrap_err().contains("no rows in b.txt"));
    }
}
