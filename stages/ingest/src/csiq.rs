//! CSIQ as distributed: `csiq.DMOS.xlsx` beside `dst_imgs/`, or the same as text. The rating is a difference: lower is better.
//!
//! The workbook names picture, type and level, and spells types as no file does: `noise` is the `AWGN` of 1600.AWGN.1.png.

use crate::formats::{delimited, has_extension, xlsx};
use crate::rated::{Place, Set, in_file};
use crate::scores::{Fault, Measure, Record, Score, Scores};

/// The data set: the workbook first, whose scores have all digits and a deviation.
pub(crate) const SET: Set = Set {
    files: &[("csiq.DMOS.xlsx", ""), ("csiq.beta.xlsx", ""), ("csiq_label.txt", ""), ("csiq.beta.txt", "")],
    place: Place::Scattered(&["dst_imgs"]),
    read: |folder, file| in_file(folder, file, scores),
};

/// The scale: differences from the reference, normalised to span 0 to 1 (Larson and Chandler, "Most apparent distortion", 2010).
const DMOS: Measure = Measure { name: "csiq-dmos", range: Some((0.0, 1.0)), lower_better: true };

/// The sheet of the workbook.
const SHEET: &str = "all_by_image";
/// Its columns; `csiq.beta.txt` has them in the same order, without a header.
const COLUMNS: [&str; 6] = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"];

/// The scores of any of the files.
pub(crate) fn scores(file: &str, bytes: &[u8]) -> Result<Scores, String> {
    if file.ends_with("csiq_label.txt") {
        let sheet = delimited::without_header(bytes, &["name", "dmos"], delimited::words);
        return Scores::of(
            file,
            sheet,
            &DMOS,
            |row| parts_of(row.text("name")).and_then(name),
            |row| {
                let (image, _, _) = parts_of(row.text("name"))?;
                Ok(Score { group: Some(format!("{image}.png")), ..row.mos("dmos")? })
            },
        );
    }
    let sheet = if has_extension(file, "xlsx") {
        let sheet = xlsx::sheet(bytes, Some(SHEET), &COLUMNS)?;
        sheet.has(&COLUMNS)?;
        sheet
    } else {
        delimited::without_header(bytes, &COLUMNS, delimited::tabs)
    };
    let parts =
        |row: &Record| -> Result<_, Fault> { Ok((row.name("image")?, row.name("dst_type")?, row.name("dst_lev")?)) };
    Scores::of(
        file,
        sheet,
        &DMOS,
        |row| parts(row).and_then(|(a, b, c)| name((&a, &b, &c))),
        |row| {
            let group = Some(format!("{}.png", row.name("image")?));
            Ok(Score { group, mos_std: Some(row.spread("dmos_std")?), ..row.mos("dmos")? })
        },
    )
}

/// The name of the file of a picture, from its reference, type and level.
fn name((image, kind, level): (&str, &str, &str)) -> Result<String, Fault> {
    let kind = match kind.to_lowercase().as_str() {
        "noise" | "awgn" => "AWGN",
        "blur" => "BLUR",
        "jpeg" => "JPEG",
        "jpeg 2000" | "jpeg2000" => "jpeg2000",
        "fnoise" => "fnoise",
        "contrast" => "contrast",
        _ => {
            let what =
                format!("the distortion type is `{kind}`; expected noise, blur, jpeg, jpeg2000, fnoise or contrast");
            return Err(Fault("malformed", what));
        }
    };
    match level {
        "1" | "2" | "3" | "4" | "5" => Ok(format!("{image}.{kind}.{level}.png")),
        _ => Err(Fault("malformed", format!("the level is `{level}`; expected 1 to 5"))),
    }
}

/// Reference, type and level of a file's name.
fn parts_of(name: &str) -> Result<(&str, &str, &str), Fault> {
    match name.split('.').collect::<Vec<_>>()[..] {
        [image, kind, level, "png"] => Ok((image, kind, level)),
        _ => Err(Fault("malformed", format!("`{name}` is no name of CSIQ's; expected one such as 1600.AWGN.1.png"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::rated::tests::{ALL, read_in, source, whole_file};

    #[test]
    fn workbook_and_texts_name_the_same_pictures_and_lower_is_better() {
        let [book, label, beta] = [0, 2, 3].map(|file| read_in(&SET, file));
        let names = ["1600.AWGN.1.png", "1600.jpeg2000.5.png", "snow_leaves.BLUR.2.png"];
        for scores in [&book, &label, &beta] {
            assert_eq!(scores.rows.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), names);
            assert_eq!(scores.rows[2].group.as_deref(), Some("snow_leaves.png"));
        }
        assert_eq!((book.rows[0].line, book.rows[0].mos), (5, 0.061_987_654_321_098_76));
        assert_eq!((book.rows[0].mos_std, label.rows[0].mos_std), (Some(0.061_234_567_890_123_45), None));
        assert_eq!((book.scale.quality(0.0), book.scale.quality(1.0)), (5.0, 1.0));
    }

    #[test]
    fn pictures_are_found_in_folders_of_any_name() {
        let names = ["dst_imgs/noise/1600.AWGN.1.png", "dst_imgs/JPEG 2000/1600.JPEG2000.5.png"];
        let label = b"1600.AWGN.1.png 0.06\n1600.jpeg2000.5.png 0.9\n";
        let folder = source(&[("csiq_label.txt", label)], &names.map(str::to_owned));
        let listing = SET.listing(folder.path(), "csiq", ALL).unwrap();
        assert_eq!(listing.entries.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), names);
        assert!((listing.entries[0].rating.as_ref().unwrap().quality - 4.76).abs() < 1e-12);
    }

    #[test]
    fn an_unknown_type_or_level_is_malformed() {
        let scores = scores("csiq_label.txt", b"a.AWGN.1.png 0\na.haze.1.png .5\na.BLUR.6.png .5\na.png 1\n").unwrap();
        assert_eq!((scores.rows.len(), scores.rejects.len()), (1, 3));
        assert!(scores.rejects.iter().all(|it| it.reason == "malformed"));
    }

    #[test]
    fn the_distributed_files_hold_30_references_and_agree() {
        let mut all = Vec::new();
        for file in ["csiq/csiq.beta.xlsx", "csiq/csiq_label.txt", "csiq/csiq.beta.txt"] {
            let Some(scores) = whole_file(file, scores) else { return };
            assert_eq!(scores.rows.len(), 866);
            all.push(scores.rows);
        }
        let kinds = all[0].iter().fold(BTreeMap::new(), |mut counts: BTreeMap<&str, u32>, row| {
            *counts.entry(row.name.split('.').nth(1).unwrap()).or_default() += 1;
            counts
        });
        let expected =
            [("AWGN", 150), ("BLUR", 150), ("JPEG", 150), ("contrast", 116), ("fnoise", 150), ("jpeg2000", 150)];
        assert_eq!(kinds, BTreeMap::from(expected));
        assert_eq!(all[0].iter().map(|it| &it.group).collect::<HashSet<_>>().len(), 30);
        let of =
            |rows: &[Score]| -> BTreeMap<String, f64> { rows.iter().map(|it| (it.name.clone(), it.mos)).collect() };
        let [book, label, beta] = [0, 1, 2].map(|at| of(&all[at]));
        for (name, dmos) in &book {
            assert!((label[name] - dmos).abs() < 1e-6 && (beta[name] - dmos).abs() < 1e-3, "{name}");
        }
    }
}
