//! KADID-10k as distributed: `dmos.csv` beside images/. Also a copy of the scores that is about, as text.
//!
//! What is called dmos is a mean of grades from 1, very annoying, to 5, imperceptible: higher is better.

use crate::formats::{delimited, has_extension};
use crate::rated::{Place, Set, in_file};
use crate::scores::{Measure, Score, Scores};

/// The data set.
pub(crate) const SET: Set = Set {
    // Other data sets have a dmos.csv as well.
    files: &[("dmos.csv", "dist_img,ref_img,dmos,var"), ("KADID-10K_mos.txt", "")],
    place: Place::Together(&["images"]),
    read: |folder, file| in_file(folder, file, scores),
};

/// The scale: five grades (Lin, Hosu and Saupe, "KADID-10k", 2019).
const DMOS: Measure = Measure { name: "kadid10k-dmos", range: Some((1.0, 5.0)), lower_better: false };

/// The scores of either file. The csv has a variance, of which the root is kept; the copy has the root.
pub(crate) fn scores(file: &str, bytes: &[u8]) -> Result<Scores, String> {
    let is_csv = has_extension(file, "csv");
    let sheet = if is_csv {
        delimited::with_header(bytes)?
    } else {
        delimited::without_header(bytes, &["ref_img", "dist_img", "dmos", "std"], delimited::words)
    };
    sheet.has(&["ref_img", "dist_img", "dmos", if is_csv { "var" } else { "std" }])?;
    Scores::of(
        file,
        sheet,
        &DMOS,
        |row| row.name("dist_img"),
        |row| {
            let std = if is_csv { row.spread("var")?.sqrt() } else { row.spread("std")? };
            Ok(Score { group: Some(row.name("ref_img")?), mos_std: Some(std), ..row.mos("dmos")? })
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rated::tests::{read_in, whole_file};

    #[test]
    fn a_variance_becomes_its_root_and_the_reference_the_group() {
        let scores = read_in(&SET, 0);
        let row = &scores.rows[0];
        assert_eq!((row.name.as_str(), row.group.as_deref(), row.mos), ("I01_01_01.png", Some("I01.png"), 4.5));
        assert_eq!(row.mos_std, Some(0.52_f64.sqrt()));
        assert_eq!((scores.rows.len(), scores.scale.quality(4.5)), (3, 4.5));
    }

    #[test]
    fn the_copy_holds_81_references_in_125_variants_each() {
        let Some(scores) = whole_file("kadid10k/KADID-10K_mos.txt", scores) else { return };
        assert_eq!(scores.rows.len(), 10125);
        let mut groups: BTreeMap<_, u32> = BTreeMap::new();
        for row in &scores.rows {
            *groups.entry(row.group.as_deref()).or_default() += 1;
        }
        assert_eq!((groups.len(), groups.values().all(|it| *it == 125)), (81, true));
        assert_eq!(scores.rows[0].mos_std, Some(0.704_272_674_466_360_3));
    }
}
