//! LIVE in the Wild (the `ChallengeDB`) as distributed: three MATLAB files in Data/ that are aligned by index, beside Images/. Also a
//! copy of the scores that is about, as text. The seven pictures on which people were trained, t1 to t7, are left out of either.

use std::path::Path;

use evoq_artifacts::read_file;
use evoq_stage::bad_input;

use crate::formats::{Row, Sheet, delimited};
use crate::rated::{Place, Set, in_file};
use crate::scores::{Measure, Score, Scores};

/// The data set.
pub(crate) const SET: Set = Set {
    files: &[("Data/AllMOS_release.mat", ""), ("AllMOS_release.mat", ""), ("LIVEC_test_all.txt", "")],
    place: Place::Scattered(&["Images"]),
    read,
};

/// The scale: a slider on 0..100 (Ghadiyaram and Bovik, "Massive Online Crowdsourced Study of Subjective and Objective Picture
/// Quality", 2016).
const MOS: Measure = Measure { name: "livec-mos", range: Some((0.0, 100.0)), lower_better: false };
/// The copy's scale: the least score is 0 there, the greatest 100. Its deviations are as distributed.
const COPY: Measure = Measure { name: "livec-0to100", range: Some((0.0, 100.0)), lower_better: false };

/// The columns of the copy, and of the three files when they are put side by side.
const COLUMNS: [&str; 3] = ["AllImages_release", "AllMOS_release", "AllStdDev_release"];

fn read(folder: &Path, file: &str) -> anyhow::Result<Scores> {
    let Some(stem) = file.strip_suffix("AllMOS_release.mat") else {
        return in_file(folder, file, text);
    };
    let [names, mos, std] = COLUMNS.map(|it| folder.join(format!("{stem}{it}.mat")));
    let [names, mos, std] = [read_file(&names)?, read_file(&mos)?, read_file(&std)?];
    scores(file, &names, &mos, &std).map_err(|what| bad_input(format!("{}: {what}", folder.join(file).display())))
}

/// The scores of the three files: names, mean scores, deviations. A row's line is its index, 1-based.
pub(crate) fn scores(file: &str, names: &[u8], mos: &[u8], std: &[u8]) -> Result<Scores, String> {
    let [images, means, deviations] = COLUMNS;
    let names = evoq_mat5::texts(names, images).map_err(|what| format!("{images}.mat: {what}"))?;
    let mos = evoq_mat5::numbers(mos, means).map_err(|what| format!("{means}.mat: {what}"))?;
    let std = evoq_mat5::numbers(std, deviations).map_err(|what| format!("{deviations}.mat: {what}"))?;
    if names.len() != mos.len() || names.len() != std.len() {
        return Err(format!(
            "{} names, {} scores and {} deviations in the three files; expected as many of each",
            names.len(),
            mos.len(),
            std.len()
        ));
    }
    let mut sheet = Sheet::new(COLUMNS);
    for (((name, mos), std), line) in names.into_iter().zip(mos).zip(std).zip(1..) {
        sheet.rows.push(Row { line, cells: vec![name, mos.to_string(), std.to_string()] });
    }
    rated(file, sheet, &MOS)
}

/// The scores of the copy.
pub(crate) fn text(file: &str, bytes: &[u8]) -> Result<Scores, String> {
    rated(file, delimited::without_header(bytes, &COLUMNS, delimited::words), &COPY)
}

fn rated(file: &str, mut sheet: Sheet, measure: &Measure) -> Result<Scores, String> {
    let [images, means, deviations] = COLUMNS;
    sheet.rows.retain(|row| !row.cells.first().is_some_and(|name| is_training(name)));
    Scores::of(
        file,
        sheet,
        measure,
        |row| row.name(images),
        |row| Ok(Score { mos_std: Some(row.spread(deviations)?), ..row.mos(means)? }),
    )
}

/// Whether a name is that of one of the seven: t and a digit. All others are numbers.
fn is_training(name: &str) -> bool {
    matches!(name.as_bytes(), [b't', b'1'..=b'7', b'.', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rated::tests::{read_in, whole_file};

    #[test]
    fn names_scores_and_deviations_are_put_side_by_side_without_the_training_pictures() {
        // The second file of the fixtures is compressed, the first is not.
        for file in [0, 1] {
            let scores = read_in(&SET, file);
            let rows: Vec<_> = scores.rows.iter().map(|it| (it.line, it.name.as_str(), it.mos, it.mos_std)).collect();
            let expected = [
                (8, "3.bmp", 63.987_654_321_098_76, Some(19.5)),
                (9, "611.JPG", 3.42, Some(11.25)),
                (10, "100.bmp", 92.0, Some(16.0)),
            ];
            assert_eq!(rows, expected);
            assert_eq!(scores.rejects, []);
        }
    }

    #[test]
    fn the_copy_holds_1162_pictures_without_the_training_pictures() {
        let Some(scores) = whole_file("livew/LIVEC_test_all.txt", text) else { return };
        assert_eq!((scores.rows.len(), scores.scale.name.as_str()), (1162, "livec-0to100"));
    }
}
