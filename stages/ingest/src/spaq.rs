//! SPAQ as distributed: `MOS and Image attribute scores.xlsx` beside `TestImage/`. Also a copy that is about, whose scores were
//! brought to 1..5.

use crate::formats::{delimited, has_extension, xlsx};
use crate::rated::{Place, Set, in_file};
use crate::scores::{Measure, Record, Score, Scores};

/// The data set.
pub(crate) const SET: Set = Set {
    files: &[
        ("MOS and Image attribute scores.xlsx", ""),
        ("Annotations/MOS and Image attribute scores.xlsx", ""),
        ("SPAQ_test_all.txt", ""),
    ],
    place: Place::Together(&["TestImage"]),
    read: |folder, file| in_file(folder, file, scores),
};

/// The scale as distributed: people moved a slider on 0..100 (Fang et al., "Perceptual Quality Assessment of Smartphone
/// Photography", 2020).
const MOS: Measure = Measure { name: "spaq-mos", range: Some((0.0, 100.0)), lower_better: false };
/// The copy's scale: the least score of the set is 1 there, the greatest 5. Its deviations are still on 0..100.
const COPY: Measure = Measure { name: "spaq-1to5", range: Some((1.0, 5.0)), lower_better: false };

/// The scores of either file. The workbook has no deviations, and its other columns are attributes.
pub(crate) fn scores(file: &str, bytes: &[u8]) -> Result<Scores, String> {
    let is_name = |row: &Record| row.name("Image name");
    if has_extension(file, "xlsx") {
        let sheet = xlsx::sheet(bytes, None, &["Image name", "MOS"])?;
        return Scores::of(file, sheet, &MOS, is_name, |row| row.mos("MOS"));
    }
    let sheet = delimited::without_header(bytes, &["Image name", "MOS", "std"], delimited::words);
    Scores::of(file, sheet, &COPY, is_name, |row| Ok(Score { mos_std: Some(row.spread("std")?), ..row.mos("MOS")? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rated::tests::{read_in, whole_file};

    #[test]
    fn the_workbook_gives_scores_on_0_to_100_and_no_deviation() {
        let scores = read_in(&SET, 0);
        assert_eq!((scores.scale.name.as_str(), scores.scale.quality(50.0)), ("spaq-mos", 3.0));
        let rows: Vec<_> = scores.rows.iter().map(|it| (it.line, it.name.as_str(), it.mos, it.mos_std)).collect();
        assert_eq!(rows, [(2, "00001.jpg", 43.0, None), (3, "00002.jpg", 57.6, None), (4, "00003.jpg", 73.28, None)]);
    }

    #[test]
    fn the_copy_has_another_scale_and_11125_rows() {
        let Some(scores) = whole_file("spaq/SPAQ_test_all.txt", scores) else { return };
        assert_eq!((scores.rows.len(), scores.scale.name.as_str()), (11125, "spaq-1to5"));
        assert_eq!(scores.rows[0].mos_std, Some(17.553_998_323_540_3));
    }
}
