//! KonIQ-10k as distributed: a csv of scores beside a folder of pictures (1024x768/ or 512x384/).
//!
//! There are two csv files, and their mean scores are on scales that are not affine images of one another (Pearson 0.9954): the
//! z-scores of `koniq10k_distributions_sets.csv`, which holds the official split, and the plain means of
//! `koniq10k_scores_and_distributions.csv`. Either score is kept as it is, and its scale is named. `SD` is on 1..5 in both.

use evoq_schemas::Split;

use crate::formats::delimited;
use crate::rated::{Place, Set, in_file};
use crate::scores::{Fault, Measure, Record, Score, Scores};

/// The data set; the file with the official split first.
pub(crate) const SET: Set = Set {
    files: &[("koniq10k_distributions_sets.csv", ""), ("koniq10k_scores_and_distributions.csv", "")],
    place: Place::Together(&["1024x768", "512x384"]),
    read: |folder, file| in_file(folder, file, scores),
};

/// The scale of the file with the splits: z-scores brought to 0..100 (Hosu et al., "KonIQ-10k", 2020).
const Z_SCORE: Measure = Measure { name: "koniq10k-mos-z", range: Some((0.0, 100.0)), lower_better: false };
/// The scale of the other file's `MOS`: the mean of five grades, 1 bad to 5 excellent (the same).
const MEAN: Measure = Measure { name: "koniq10k-1to5", range: Some((1.0, 5.0)), lower_better: false };

/// The scores of either csv: which it is, its column `set` tells.
pub(crate) fn scores(file: &str, bytes: &[u8]) -> Result<Scores, String> {
    let sheet = delimited::with_header(bytes)?;
    sheet.has(&["image_name", "c_total", "MOS", "SD"])?;
    let measure = if sheet.column("set").is_some() { Z_SCORE } else { MEAN };
    let has_split = sheet.column("set").is_some();
    Scores::of(
        file,
        sheet,
        &measure,
        |row| row.name("image_name"),
        |row| {
            Ok(Score {
                split: if has_split { Some(split(row.text("set"))?) } else { None },
                mos_std: Some(row.spread("SD")?),
                raters: Some(raters(row)?),
                ..row.mos("MOS")?
            })
        },
    )
}

fn split(text: &str) -> Result<Split, Fault> {
    match text {
        "training" => Ok(Split::Train),
        "validation" => Ok(Split::Validation),
        "test" => Ok(Split::Test),
        other => Err(Fault("malformed", format!("`set` is `{other}`; expected training, validation or test"))),
    }
}

fn raters(row: &Record) -> Result<u32, Fault> {
    let text = row.text("c_total");
    // One of the files may write counts as 105.0.
    let digits = text.strip_suffix(".0").unwrap_or(text);
    digits.parse().map_err(|_| Fault("malformed", format!("`c_total` is `{text}`; expected a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rated::tests::{ALL, read_in, source, whole_file};
    use crate::take::Choice;

    const SETS: &str = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n";

    /// Three pictures of the csv with splits, in `pictures/`.
    fn koniq(pictures: &str) -> tempfile::TempDir {
        let csv = format!(
            "{SETS}3.jpg,0,0,0,1,0,105,75,.5,training\n1.jpg,0,0,0,1,0,99,20,.6,test\n2.jpg,0,0,1,0,0,98,50,.7,validation\n"
        );
        let names = ["1.jpg", "2.jpg", "3.jpg"].map(|name| format!("{pictures}/{name}"));
        source(&[(SET.files[0].0, csv.as_bytes())], &names)
    }

    #[test]
    fn pictures_come_by_name_with_their_official_split_and_score() {
        let listing = SET.listing(koniq("512x384").path(), "k", ALL).unwrap();
        assert_eq!(listing.rejects, []);
        let splits: Vec<_> = listing.entries.iter().map(|it| (it.path.as_str(), it.split.unwrap())).collect();
        let expected =
            [("512x384/1.jpg", Split::Test), ("512x384/2.jpg", Split::Validation), ("512x384/3.jpg", Split::Train)];
        assert_eq!(splits, expected);
        let rating = listing.entries[2].rating.clone().unwrap();
        assert_eq!((rating.image_id.as_str(), rating.mos, rating.quality), ("k/3.jpg", 75.0, 4.0));
        assert_eq!((rating.mos_std, rating.raters, rating.scale.as_str()), (Some(0.5), Some(105), "koniq10k-mos-z"));
    }

    #[test]
    fn the_full_size_is_taken_where_both_are_complete_and_the_complete_one_otherwise() {
        let folder = koniq("512x384");
        let paths = || SET.listing(folder.path(), "k", ALL).unwrap().entries.into_iter().map(|it| it.path);
        let full = |name: &str| evoq_artifacts::write_file(&folder.path().join("1024x768").join(name), b"x").unwrap();
        full("1.jpg");
        assert!(paths().all(|it| it.starts_with("512x384/")));
        full("2.jpg");
        full("3.jpg");
        assert!(paths().all(|it| it.starts_with("1024x768/")));
    }

    #[test]
    fn only_pictures_of_the_chosen_split_must_be_there() {
        let folder = koniq("1024x768");
        std::fs::remove_file(folder.path().join("1024x768/3.jpg")).unwrap();
        let all = SET.listing(folder.path(), "k", ALL).unwrap();
        assert_eq!((all.rejects.len(), all.rejects[0].line, all.rejects[0].reason.as_str()), (1, Some(2), "missing"));
        assert!(all.rejects[0].detail.contains("1024x768/3.jpg"), "{:?}", all.rejects);
        let choice = Choice { split: Some(Split::Test), ..ALL };
        let test = SET.listing(folder.path(), "k", choice).unwrap();
        assert_eq!((test.entries.len(), test.rejects.len()), (1, 0));
    }

    #[test]
    fn the_other_file_has_plain_means_and_no_split() {
        let csv = b"image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n\"1.jpg\",0,1,20,70,9,100.0,3.87,.5,74.9\n";
        let scores = scores("x.csv", csv).unwrap();
        assert_eq!((scores.scale.name.as_str(), scores.scale.low, scores.scale.high), ("koniq10k-1to5", 1.0, 5.0));
        let row = &scores.rows[0];
        assert_eq!((row.mos, row.split, row.raters), (3.87, None, Some(100)));
    }

    #[test]
    fn each_bad_row_is_a_reject_by_line_and_column() {
        for (row, reason, detail) in [
            ("a.jpg,0,0,0,0,0,5,104,.5,test", "score", "the score is 104"),
            ("a.jpg,0,0,0,0,0,5.5,50,.5,test", "malformed", "`c_total` is `5.5`"),
            ("a.jpg,0,0,0,0,0,5,50,,test", "score", "`SD` is ``"),
            ("a.jpg,0,0,0,0,0,5,50,.5,dev", "malformed", "`set` is `dev`"),
        ] {
            let scores = scores("x.csv", format!("{SETS}{row}\n").as_bytes()).unwrap();
            let found = &scores.rejects[0];
            assert_eq!((scores.rows.len(), found.line, found.reason.as_str()), (0, Some(2), reason));
            assert!(found.detail.starts_with(detail), "{found:?}");
        }
        assert!(scores("x.csv", b"image,MOS\na,1\n").unwrap_err().contains("`image_name`"));
    }

    #[test]
    fn a_holdout_does_not_go_with_the_official_split() {
        let choice = Choice { holdout: Some(0.2), ..ALL };
        assert!(SET.listing(koniq("512x384").path(), "k", choice).unwrap_err().to_string().contains("--holdout"));
    }

    #[test]
    fn the_committed_rows_of_both_files_are_read() {
        let (z, mean) = (read_in(&SET, 0), read_in(&SET, 1));
        assert_eq!((z.rows.len(), mean.rows.len()), (4, 4));
        assert_eq!((z.scale.name.as_str(), mean.scale.name.as_str()), ("koniq10k-mos-z", "koniq10k-1to5"));
        assert_eq!(
            z.rows.iter().map(|it| it.raters).collect::<Vec<_>>(),
            mean.rows.iter().map(|it| it.raters).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_distributed_file_is_read_whole() {
        let Some(scores) = whole_file("koniq10k/koniq10k_distributions_sets.csv", scores) else { return };
        let of = |split| scores.rows.iter().filter(|row| row.split == Some(split)).count();
        assert_eq!((of(Split::Train), of(Split::Validation), of(Split::Test)), (7058, 1000, 2015));
    }
}
