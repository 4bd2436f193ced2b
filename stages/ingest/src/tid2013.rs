//! TID2013 as distributed: `mos_with_names.txt` beside `distorted_images/`, and `mos_std.txt`, which has the same order.
//!
//! Names are written in one case there and in another on the disk: `i01_01_1.bmp` may be `I01_01_1.BMP`.

use std::path::Path;

use evoq_artifacts::read_file;
use evoq_stage::bad_input;

use crate::formats::{Sheet, delimited};
use crate::rated::{Place, Set};
use crate::scores::{Fault, Measure, Score, Scores};

/// The data set.
pub(crate) const SET: Set =
    Set { files: &[("mos_with_names.txt", "")], place: Place::Together(&["distorted_images"]), read };

/// The scale: points that a picture won in nine comparisons, 0 to 9 (the data set's own readme; Ponomarenko et al., "Image
/// database TID2013", 2015).
const MOS: Measure = Measure { name: "tid2013-mos", range: Some((0.0, 9.0)), lower_better: false };

/// The files of the same order, which may be there: the mean scores again, and their deviations.
const ALIGNED: [&str; 2] = ["mos.txt", "mos_std.txt"];

fn read(folder: &Path, file: &str) -> anyhow::Result<Scores> {
    let named = read_file(&folder.join(file))?;
    let mut aligned = [None, None];
    for (name, bytes) in ALIGNED.iter().zip(&mut aligned) {
        let path = folder.join(name);
        *bytes = path.is_file().then(|| read_file(&path)).transpose()?;
    }
    let [mos, std] = aligned.each_ref().map(Option::as_deref);
    scores(file, &named, mos, std).map_err(|what| bad_input(format!("{}: {what}", folder.join(file).display())))
}

/// The scores, with their deviations where those are given. The mean scores again, if given, must be the same.
pub(crate) fn scores(file: &str, named: &[u8], mos: Option<&[u8]>, std: Option<&[u8]>) -> Result<Scores, String> {
    let [again, deviations] = ALIGNED;
    let mut sheet = delimited::without_header(named, &["mos", "name"], delimited::words);
    if let Some(bytes) = mos {
        align(&mut sheet, again, bytes)?;
    }
    if let Some(bytes) = std {
        align(&mut sheet, deviations, bytes)?;
    }
    Scores::of(
        file,
        sheet,
        &MOS,
        |row| row.name("name"),
        |row| {
            let score = row.mos("mos")?;
            if mos.is_some() && row.number(again)? != score.mos {
                let what =
                    format!("the score is {} here and {} in {again}; expected the same", score.mos, row.text(again));
                return Err(Fault("score", what));
            }
            let mos_std = std.map(|_| row.spread(deviations)).transpose()?;
            Ok(Score { group: Some(reference(row.text("name"))?), mos_std, ..score })
        },
    )
}

/// Adds the numbers of the file `name`, one a line, as a column.
fn align(sheet: &mut Sheet, name: &str, bytes: &[u8]) -> Result<(), String> {
    let column = delimited::without_header(bytes, &[name], delimited::words);
    let (found, expected) = (column.rows.len() + column.malformed.len(), sheet.rows.len() + sheet.malformed.len());
    if found != expected {
        return Err(format!("{name} beside it has {found} lines; expected {expected}, one for each of its own"));
    }
    // By line, so that a malformed line on either side shifts nothing.
    let numbers: std::collections::HashMap<u64, Vec<String>> =
        column.rows.into_iter().map(|it| (it.line, it.cells)).collect();
    sheet.columns.push(name.to_owned());
    for row in &mut sheet.rows {
        let number = numbers.get(&row.line).and_then(|cells| cells.first()).cloned();
        row.cells.push(number.unwrap_or_default());
    }
    Ok(())
}

/// The reference of a picture: `i01_01_1.bmp` was made from `I01.bmp`, however either is written.
fn reference(name: &str) -> Result<String, Fault> {
    let parts: Vec<&str> = name.split(['_', '.']).collect();
    match parts[..] {
        [reference, _, _, kind] => Ok(format!("{}.{}", reference.to_uppercase(), kind.to_lowercase())),
        _ => Err(Fault("malformed", format!("`{name}` is no name of TID2013's; expected one such as I01_01_1.bmp"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rated::tests::{ALL, labels, read_in, source};

    #[test]
    fn scores_come_first_and_deviations_stand_in_another_file() {
        let scores = read_in(&SET, 0);
        let rows: Vec<_> = scores.rows.iter().map(|it| (it.name.as_str(), it.mos, it.mos_std)).collect();
        let expected = [
            ("I01_01_1.bmp", 5.51351, Some(0.13021)),
            ("i01_01_2.bmp", 5.45946, Some(0.16)),
            ("I25_24_5.BMP", 2.77778, Some(0.14)),
        ];
        assert_eq!(rows, expected);
        let groups: Vec<_> = scores.rows.iter().map(|it| it.group.as_deref().unwrap()).collect();
        assert_eq!(groups, ["I01.bmp", "I01.bmp", "I25.bmp"]);
    }

    #[test]
    fn pictures_are_found_without_regard_to_case() {
        let names = ["i01_01_1.BMP", "I01_01_2.bmp", "other/i01.bmp"].map(|it| format!("distorted_images/{it}"));
        let folder = source(&[("mos_with_names.txt", b"5.5 I01_01_1.bmp\r\n5.6 i01_01_2.bmp\r\n")], &names);
        let paths: Vec<_> =
            SET.listing(folder.path(), "t", ALL).unwrap().entries.into_iter().map(|it| it.path).collect();
        assert_eq!(paths, names[..2]);
    }

    #[test]
    fn files_that_are_not_aligned_are_found_out() {
        let named = b"5.5 I01_01_1.bmp\n4.5 I01_01_2.bmp\n";
        assert!(
            scores("m.txt", named, None, Some(b"0.1\n")).unwrap_err().contains("mos_std.txt beside it has 1 lines")
        );
        let scores = scores("m.txt", named, Some(b"4.5\n4.5\n"), None).unwrap();
        assert_eq!(
            (scores.rows.len(), scores.rejects[0].line, scores.rejects[0].reason.as_str()),
            (1, Some(1), "score")
        );
    }

    #[test]
    fn the_distributed_files_are_read_whole() {
        let Some(folder) = labels("tid2013") else { return };
        let scores = (SET.read)(&folder, SET.files[0].0).unwrap();
        assert_eq!((scores.rows.len(), scores.rejects.len()), (3000, 0));
        assert!(scores.rows.iter().all(|it| it.mos_std.is_some()));
        assert_eq!(scores.rows.iter().map(|it| &it.group).collect::<HashSet<_>>().len(), 25);
    }
}
