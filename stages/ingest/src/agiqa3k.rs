//! AGIQA-3K as distributed: `data.csv` beside the pictures. Its scores of quality are taken; those of how well a picture goes with
//! its prompt are not quality.

use crate::formats::delimited;
use crate::rated::{Place, Set, in_file};
use crate::scores::{Measure, Score, Scores};

/// The data set.
pub(crate) const SET: Set = Set {
    // The name is anybody's, so the header must tell.
    files: &[("data.csv", "name,prompt,adj1,adj2,style,mos_quality")],
    place: Place::Together(&["AGIQA-3K"]),
    read: |folder, file| in_file(folder, file, scores),
};

/// The scale: 0 to 5 in steps of 0.1 (Li et al., "AGIQA-3K", 2023).
const MOS: Measure = Measure { name: "agiqa3k-mos-quality", range: Some((0.0, 5.0)), lower_better: false };

/// The scores of quality.
pub(crate) fn scores(file: &str, bytes: &[u8]) -> Result<Scores, String> {
    let sheet = delimited::with_header(bytes)?;
    sheet.has(&["name", "mos_quality", "std_quality"])?;
    Scores::of(
        file,
        sheet,
        &MOS,
        |row| row.name("name"),
        |row| Ok(Score { mos_std: Some(row.spread("std_quality")?), ..row.mos("mos_quality")? }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rated::tests::{read_in, source, whole_file};

    #[test]
    fn quality_is_taken_beside_quoted_prompts_and_empty_cells() {
        let scores = read_in(&SET, 0);
        let rows: Vec<_> = scores.rows.iter().map(|it| (it.line, it.name.as_str(), it.mos, it.mos_std)).collect();
        let expected = [
            (2, "AttnGAN_normal_000.jpg", 0.912_345_678, Some(0.234_567_891)),
            (3, "DALLE2_001.jpg", 0.0, Some(0.5)),
            (4, "xl2.2_normal_299.jpg", 3.612_345_67, Some(0.456_789_12)),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn any_other_data_csv_is_not_taken_for_it() {
        assert_eq!(SET.file(source(&[("data.csv", b"name,mos\n")], &[]).path()), None);
    }

    #[test]
    fn the_distributed_file_is_read_whole() {
        let Some(scores) = whole_file("agiqa3k/data.csv", scores) else { return };
        assert_eq!(scores.rows.len(), 2982);
    }
}
