//! Any file of scores beside any folder of pictures: csv, JSON, JSON lines, Parquet, or lines such as `[reference] name mos
//! [deviation]`. What its columns are is known by their names, or told by flags.

use std::path::{Path, PathBuf};

use evoq_artifacts::read_file;
use evoq_stage::bad_input;

use crate::folder::is_picture;
use crate::formats::{Sheet, delimited, json, parquet};
use crate::listing::Listing;
use crate::rated::{Place, placed};
use crate::scores::{Measure, Score, Scores};
use crate::take::Choice;

/// What columns of pictures, scores, deviations and references are called, in lower case: by pyiqa's tables, by what models are
/// trained on, and by people.
const IMAGES: [&str; 10] = [
    "img_name",
    "dist_name",
    "dist_img",
    "image_name",
    "img_path",
    "image_path",
    "image",
    "name",
    "filename",
    "file_name",
];
const SCORES: [&str; 4] = ["mos", "gt_score", "score", "mos_quality"];
const DEVIATIONS: [&str; 4] = ["std", "mos_std", "sd", "std_quality"];
const REFERENCES: [&str; 3] = ["ref_name", "ref_img", "ref"];

/// What a line without a header may be, a letter for each of its words: `n`ame or `f`igure.
const LAYOUTS: [(&str, &[&str]); 5] = [
    ("nf", &["name", "mos"]),
    ("nff", &["name", "mos", "std"]),
    ("nnf", &["ref", "name", "mos"]),
    ("nnff", &["ref", "name", "mos", "std"]),
    ("fn", &["mos", "name"]),
];

/// The flags that say what a file of scores is.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Flags {
    /// A file of scores for the pictures below the source: csv, JSON, JSON lines, Parquet, or lines `[reference] name mos
    /// [deviation]`. Pictures without a score are left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) scores: Option<PathBuf>,
    /// The column of the pictures' names [default: known by its name, such as `img_name`, `dist_name` or image].
    #[arg(long, value_name = "COLUMN", requires = "scores")]
    pub(crate) image_column: Option<String>,
    /// The column of the scores [default: known by its name, such as mos, `gt_score` or score].
    #[arg(long, value_name = "COLUMN", requires = "scores")]
    pub(crate) mos_column: Option<String>,
    /// The column of the scores' standard deviations [default: known by its name, such as std; none if there is none].
    #[arg(long, value_name = "COLUMN", requires = "scores")]
    pub(crate) std_column: Option<String>,
    /// The lower score is the better picture's, as with DMOS.
    #[arg(long, requires = "scores")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lower_better: bool,
    /// The range of the scores that becomes 1..5 [default: the least and the greatest score of the file].
    #[arg(long, value_name = "LOW..HIGH", value_parser = range, allow_hyphen_values = true, requires = "scores")]
    pub(crate) range: Option<Range>,
}

/// A range of scores.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Range(f64, f64);

fn range(text: &str) -> Result<Range, &'static str> {
    let number = |text: &str| text.parse().ok().filter(|it: &f64| it.is_finite());
    let ends = text.split_once("..").and_then(|(low, high)| Some(Range(number(low)?, number(high)?)));
    ends.filter(|Range(low, high)| low < high).ok_or("expected LOW..HIGH, such as 0..100")
}

/// The pictures below `folder` that the file of scores names, by path.
pub(crate) fn listing(folder: &Path, dataset: &str, flags: &Flags, choice: Choice) -> anyhow::Result<Listing> {
    let path = flags.scores.as_deref().ok_or_else(|| bad_input("--dataset table: expected --scores FILE with it"))?;
    let wrong = |what: String| bad_input(format!("--scores {}: {what}", path.display()));
    let file = path.file_name().and_then(|it| it.to_str()).ok_or_else(|| wrong("is no file's name".to_owned()))?;
    let sheet = sheet(file, read_file(path)?, flags.image_column.is_some()).map_err(wrong)?;
    placed(folder, dataset, scores(file, sheet, dataset, flags).map_err(wrong)?, Place::Anywhere, choice)
}

/// The rows of a file; what it is, its name tells.
pub(crate) fn sheet(file: &str, bytes: Vec<u8>, has_header: bool) -> Result<Sheet, String> {
    let (_, kind) = file.rsplit_once('.').unwrap_or_default();
    match kind.to_lowercase().as_str() {
        "json" | "jsonl" | "ndjson" => json::sheet(&bytes),
        "parquet" => parquet::sheet(bytes),
        _ if has_header || begins_with_header(&bytes) => delimited::with_header(&bytes),
        _ => without_header(&bytes),
    }
}

/// Whether one of the first line's cells is what a column of pictures is called.
fn begins_with_header(bytes: &[u8]) -> bool {
    let first = delimited::lines(bytes).next().and_then(|(_, line)| line.ok()).unwrap_or_default();
    first.split([',', ';', '\t']).any(|cell| IMAGES.contains(&cell.trim().trim_matches('"').to_lowercase().as_str()))
}

/// The rows of a file without a header, as the layout that most of its lines have.
fn without_header(bytes: &[u8]) -> Result<Sheet, String> {
    let lines: Vec<&str> = delimited::lines(bytes).filter_map(|(_, line)| line.ok()).collect();
    let has_commas = lines.first().is_some_and(|it| it.contains(','));
    let divide: delimited::Divide = if has_commas { delimited::commas } else { delimited::words };
    let cells = lines.iter().filter_map(|line| divide(line).ok());
    let layouts = cells.map(|cells| cells.iter().map(|cell| letter(cell)).collect::<String>());
    let mut counts = [0_usize; LAYOUTS.len()];
    for layout in layouts {
        for ((letters, _), count) in LAYOUTS.iter().zip(&mut counts) {
            *count += usize::from(layout == *letters);
        }
    }
    // The last of the largest is taken, so the order is turned.
    let most = LAYOUTS.iter().zip(counts).rev().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0);
    let Some(((_, columns), _)) = most else {
        let what = "no line is `[reference] name mos [deviation]`, and the first names no known column of pictures; if it is a \
                    header, say which column that is with --image-column";
        return Err(what.to_owned());
    };
    Ok(delimited::without_header(bytes, columns, divide))
}

/// Whether a word is a name or a figure.
fn letter(word: &str) -> char {
    if !is_picture(word) && word.parse::<f64>().is_ok() { 'f' } else { 'n' }
}

/// The scores of a sheet.
pub(crate) fn scores(file: &str, sheet: Sheet, dataset: &str, flags: &Flags) -> Result<Scores, String> {
    let expected = |found: Option<String>, flag: &str| {
        found.ok_or_else(|| {
            format!("none of the columns {} is known; say which it is with {flag}", sheet.columns.join(", "))
        })
    };
    let image = expected(column(&sheet, flags.image_column.as_deref(), &IMAGES, "--image-column")?, "--image-column")?;
    let mos = expected(column(&sheet, flags.mos_column.as_deref(), &SCORES, "--mos-column")?, "--mos-column")?;
    let std = column(&sheet, flags.std_column.as_deref(), &DEVIATIONS, "--std-column")?;
    let reference = column(&sheet, None, &REFERENCES, "the column of references")?;
    let measure = Measure {
        name: &format!("{dataset}-{mos}"),
        range: flags.range.map(|Range(low, high)| (low, high)),
        lower_better: flags.lower_better,
    };
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Scores::of(
        file,
        sheet,
        &measure,
        |row| row.name(&image).map(|name| tidy(&name)),
        |row| {
            let std = std.as_deref().filter(|it| !row.text(it).is_empty());
            Ok(Score {
                group: reference.as_deref().and_then(|it| filled(row.text(it))),
                mos_std: std.map(|it| row.spread(it)).transpose()?,
                ..row.mos(&mos)?
            })
        },
    )
}

/// The column that was `told`, or the only one that is called as one of the `known`; `None` if there is no such column.
fn column(sheet: &Sheet, told: Option<&str>, known: &[&str], flag: &str) -> Result<Option<String>, String> {
    if let Some(told) = told {
        sheet.has(&[told])?;
        return Ok(Some(told.to_owned()));
    }
    let mut found: Vec<&str> = sheet.columns.iter().map(String::as_str).collect();
    found.retain(|it| known.contains(&it.to_lowercase().as_str()));
    match found[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.to_owned())),
        _ => Err(format!("each of the columns {} may be meant; say which one is with {flag}", found.join(", "))),
    }
}

/// A path with forward slashes, and without `./` before it.
fn tidy(path: &str) -> String {
    let path = path.replace('\\', "/");
    path.trim_start_matches("./").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rated::tests::{ALL, source};

    const PICTURES: [&str; 3] = ["a/1.png", "a/2.png", "b/1.png"];

    fn fixture(file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/table").join(file)
    }

    /// Names, scores and deviations of a fixture.
    fn read(file: &str) -> Vec<(String, f64, Option<f64>)> {
        let sheet = sheet(file, read_file(&fixture(file)).unwrap(), false).unwrap();
        let scores = scores(file, sheet, "mine", &Flags::default()).unwrap();
        scores.rows.into_iter().map(|it| (it.name, it.mos, it.mos_std)).collect()
    }

    fn of(text: &str, flags: &Flags) -> Result<Scores, String> {
        scores("s.csv", sheet("s.csv", text.as_bytes().to_vec(), flags.image_column.is_some())?, "mine", flags)
    }

    #[test]
    fn tables_of_all_kinds_are_read_by_the_names_of_their_columns() {
        let row = |name: &str, mos, std| (name.to_owned(), mos, std);
        let [first, second] = [row("a/1.png", 3.5, Some(0.5)), row("a/2.png", 1.25, Some(0.25))];
        assert_eq!(read("meta_info.csv"), [first.clone(), second.clone(), row("b/1.png", 4.75, Some(0.0))]);
        let [reference, other] = [row("d1.bmp", 3.5, Some(0.5)), row("d2.bmp", 1.25, Some(0.25))];
        assert_eq!(read("meta_info_fr.csv"), [reference.clone(), other.clone()]);
        assert_eq!(read("words.txt"), [reference, other]);
        for file in ["scores.json", "scores.jsonl"] {
            assert_eq!(read(file), [row("a/1.png", 3.5, None), row("a/2.png", 1.25, None)]);
        }
        // A float of 32 bits is the number that it is, not the text it was written from.
        assert_eq!(read("scores.parquet"), [row("a/1.png", 3.5, None), row("a/2.png", f64::from(1.1_f32), None)]);
    }

    #[test]
    fn pictures_are_found_by_path_and_named_by_it() {
        let folder = source(&[], &PICTURES.map(str::to_owned));
        let flags = Flags { scores: Some(fixture("meta_info.csv")), range: Some(Range(1.0, 5.0)), ..Flags::default() };
        let listing = listing(folder.path(), "mine", &flags, ALL).unwrap();
        assert_eq!(listing.rejects, []);
        let found: Vec<_> = listing.entries.iter().map(|it| (it.name.as_str(), it.path.as_str(), it.line)).collect();
        assert_eq!(
            found,
            [
                (PICTURES[0], PICTURES[0], Some(2)),
                (PICTURES[1], PICTURES[1], Some(3)),
                (PICTURES[2], PICTURES[2], Some(4))
            ]
        );
        let rating = listing.entries[0].rating.clone().unwrap();
        assert_eq!((rating.scale.as_str(), rating.quality, rating.mos_std), ("mine-mos", 3.5, Some(0.5)));
    }

    #[test]
    fn folders_that_only_one_side_has_do_not_matter_and_two_rows_for_one_picture_do() {
        let folder = source(&[], &PICTURES.map(str::to_owned));
        let csv = "image,mos\n/data/mine/a/1.png,1\n2.png,2\n1.png,3\nc/2.png,4\nA\\2.PNG,5\n";
        let scores = of(csv, &Flags::default()).unwrap();
        let listing = placed(folder.path(), "mine", scores, Place::Anywhere, ALL).unwrap();
        assert_eq!(listing.entries.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a/1.png", "a/2.png"]);
        let rejects: Vec<_> = listing.rejects.iter().map(|it| (it.line.unwrap(), it.reason.as_str())).collect();
        assert_eq!(rejects, [(4, "duplicate"), (5, "missing"), (6, "duplicate")]);
        assert_eq!(listing.rejects[0].detail, "is at a/1.png and at b/1.png; keep one of them");
    }

    #[test]
    fn flags_name_columns_turn_the_scale_and_say_its_range() {
        let flags = Flags {
            image_column: Some("file".to_owned()),
            mos_column: Some("dmos".to_owned()),
            std_column: Some("sigma".to_owned()),
            lower_better: true,
            range: Some(Range(0.0, 100.0)),
            ..Flags::default()
        };
        let scores = of("file;dmos;mos;sigma\na.png;25;1;\nb.png;101;1;2\nc.png;0;1;3\n", &flags).unwrap();
        assert_eq!(
            scores.rows.iter().map(|it| (it.mos, it.mos_std)).collect::<Vec<_>>(),
            [(25.0, None), (0.0, Some(3.0))]
        );
        assert_eq!((scores.scale.name.as_str(), scores.scale.quality(25.0)), ("mine-dmos", 4.0));
        assert_eq!(scores.rejects[0].reason, "score");
    }

    #[test]
    fn columns_that_nobody_knows_or_that_two_may_be_are_asked_for() {
        let error = |text: &str| of(text, &Flags::default()).unwrap_err();
        assert!(error("image,dmos\na.png,1\n").contains("say which it is with --mos-column"));
        assert!(
            error("image,name,mos\na.png,a,1\n")
                .contains("image, name may be meant; say which one is with --image-column")
        );
        assert!(error("picture,dmos\n").contains("--image-column"));
        let flags = Flags { mos_column: Some("quality".to_owned()), ..Flags::default() };
        assert!(of("image,mos\na.png,1\n", &flags).unwrap_err().contains("`quality`"));
    }

    #[test]
    fn lines_without_a_header_have_the_layout_of_most_of_them() {
        let of = |text: &str| {
            let scores = of(text, &Flags::default()).unwrap();
            let rows: Vec<_> = scores.rows.into_iter().map(|it| (it.group, it.name, it.mos, it.mos_std)).collect();
            (rows, scores.rejects.into_iter().map(|it| (it.line.unwrap(), it.reason)).collect::<Vec<_>>())
        };
        let named = |name: &str| name.to_owned();
        for text in ["x 1\na.png 1\nb.png 2 3\nc.png 5\n", "a.png,1\nb.png\nc.png, 5", "1 a.png\nb.png\n5 c.png\n"] {
            let (rows, rejects) = of(text);
            let good: Vec<_> = rows.iter().filter(|it| it.1 != "x").cloned().collect();
            assert_eq!(good, [(None, named("a.png"), 1.0, None), (None, named("c.png"), 5.0, None)], "{text}");
            assert_eq!(rejects.len(), 1);
        }
        let (rows, _) = of("r.png a.png 1 0.5\nr.png b.png 2 0.25\n");
        assert_eq!(rows[1], (Some(named("r.png")), named("b.png"), 2.0, Some(0.25)));
    }

    #[test]
    fn a_range_is_two_numbers_the_lower_first() {
        assert_eq!(range("-1.5..2"), Ok(Range(-1.5, 2.0)));
        for text in ["1", "2..1", "1..1", "0..NaN", "a..b", "0..inf"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
