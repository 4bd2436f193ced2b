//! Every reader of scores against files that are cut, flipped, spliced or made up. It may not panic, and what it takes must be what
//! stands there: each line of a text is a row or a reject, and a row says what a plain reading of the same line says.

use std::collections::BTreeSet;

use evoq_test_support::accidents::{accidents, after, try_all};
use proptest::prelude::*;

use crate::formats::tests::fixture;
use crate::formats::{has_extension, json, parquet, xlsx};
use crate::scores::{Score, Scores};
use crate::table::Flags;
use crate::{agiqa3k, csiq, kadid10k, koniq10k, livec, pipal, spaq, table, tid2013};

type Read<T> = fn(&[u8]) -> Result<T, String>;
/// Whether a row says what the cells of its line say.
type Agrees = fn(&Score, &dyn Fn(&str) -> String) -> bool;

/// A text file of scores, and how to read a line of it plainly.
struct Text {
    file: &'static str,
    read: Read<Scores>,
    /// What divides cells; a space stands for any.
    divider: char,
    /// The columns, where no header says.
    columns: &'static [&'static str],
    agrees: Agrees,
    /// Whether the row with this name is left out.
    left_out: fn(&str) -> bool,
}

/// Whether `text` is the number.
fn is(number: f64, text: &str) -> bool {
    text.trim().parse() == Ok(number)
}

fn none(_: &str) -> bool {
    false
}

const TEXTS: [Text; 11] = [
    Text {
        file: "koniq10k/koniq10k_distributions_sets.csv",
        read: |bytes| koniq10k::scores("f.csv", bytes),
        divider: ',',
        columns: &[],
        agrees: |row, cell| {
            row.name == cell("image_name")
                && is(row.mos, &cell("MOS"))
                && row.mos_std.is_some_and(|it| is(it, &cell("SD")))
        },
        left_out: none,
    },
    Text {
        file: "koniq10k/koniq10k_scores_and_distributions.csv",
        read: |bytes| koniq10k::scores("f.csv", bytes),
        divider: ',',
        columns: &[],
        agrees: |row, cell| row.name == cell("image_name") && is(row.mos, &cell("MOS")) && row.split.is_none(),
        left_out: none,
    },
    Text {
        file: "agiqa3k/data.csv",
        read: |bytes| agiqa3k::scores("f.csv", bytes),
        divider: ',',
        columns: &[],
        agrees: |row, cell| row.name == cell("name") && is(row.mos, &cell("mos_quality")),
        left_out: none,
    },
    Text {
        file: "kadid10k/dmos.csv",
        read: |bytes| kadid10k::scores("f.csv", bytes),
        divider: ',',
        columns: &[],
        agrees: |row, cell| {
            let variance: f64 = cell("var").parse().unwrap();
            row.name == cell("dist_img") && is(row.mos, &cell("dmos")) && row.mos_std == Some(variance.sqrt())
        },
        left_out: none,
    },
    Text {
        file: "kadid10k/KADID-10K_mos.txt",
        read: |bytes| kadid10k::scores("f.txt", bytes),
        divider: ' ',
        columns: &["ref", "name", "mos", "std"],
        agrees: |row, cell| row.name == cell("name") && is(row.mos, &cell("mos")) && row.group == Some(cell("ref")),
        left_out: none,
    },
    Text {
        file: "spaq/SPAQ_test_all.txt",
        read: |bytes| spaq::scores("f.txt", bytes),
        divider: ' ',
        columns: &["name", "mos", "std"],
        agrees: |row, cell| row.name == cell("name") && is(row.mos, &cell("mos")),
        left_out: none,
    },
    Text {
        file: "livec/LIVEC_test_all.txt",
        read: |bytes| livec::text("f.txt", bytes),
        divider: ' ',
        columns: &["name", "mos", "std"],
        agrees: |row, cell| row.name == cell("name") && is(row.mos, &cell("mos")),
        left_out: |name| ["t1.", "t2.", "t3.", "t4.", "t5.", "t6.", "t7."].iter().any(|it| name.starts_with(it)),
    },
    Text {
        file: "pipal/Train_Label/A0001.txt",
        read: |bytes| pipal::scores("labels", &[("f.txt".to_owned(), pipal::sheet(bytes))]),
        divider: ',',
        columns: &["name", "elo"],
        agrees: |row, cell| row.name == cell("name") && is(row.mos, &cell("elo")),
        left_out: none,
    },
    Text {
        file: "tid2013/mos_with_names.txt",
        read: |bytes| tid2013::scores("f.txt", bytes, None, None),
        divider: ' ',
        columns: &["mos", "name"],
        agrees: |row, cell| row.name == cell("name") && is(row.mos, &cell("mos")),
        left_out: none,
    },
    Text {
        file: "csiq/csiq_label.txt",
        read: |bytes| csiq::scores("csiq_label.txt", bytes),
        divider: ' ',
        columns: &["name", "dmos"],
        agrees: |row, cell| {
            row.name.eq_ignore_ascii_case(&cell("name").replace("noise", "AWGN").replace("fAWGN", "fnoise"))
                && is(row.mos, &cell("dmos"))
        },
        left_out: none,
    },
    Text {
        file: "csiq/csiq.beta.txt",
        read: |bytes| csiq::scores("csiq.beta.txt", bytes),
        divider: '\t',
        columns: &["image", "number", "kind", "level", "std", "dmos"],
        agrees: |row, cell| {
            row.group == Some(format!("{}.png", cell("image")))
                && row.name.ends_with(&format!(".{}.png", cell("level")))
                && is(row.mos, &cell("dmos"))
        },
        left_out: none,
    },
];

/// A file that is not a text, which a reader makes rows of text of.
const BINARIES: [(&str, Read<Vec<String>>); 8] = [
    ("spaq/MOS and Image attribute scores.xlsx", |bytes| rows(xlsx::sheet(bytes, None, &["Image name", "MOS"]))),
    ("csiq/csiq.DMOS.xlsx", |bytes| rows(xlsx::sheet(bytes, Some("all_by_image"), &["image", "dmos"]))),
    ("livec/AllImages_release.mat", |bytes| evoq_mat5::texts(bytes, "AllImages_release")),
    ("livec/AllMOS_release.mat", |bytes| numbers(bytes, "AllMOS_release")),
    ("livec/Data/AllImages_release.mat", |bytes| evoq_mat5::texts(bytes, "AllImages_release")),
    ("livec/Data/AllMOS_release.mat", |bytes| numbers(bytes, "AllMOS_release")),
    ("table/scores.parquet", |bytes| rows(parquet::sheet(bytes.to_vec()))),
    ("table/scores.json", |bytes| rows(json::sheet(bytes))),
];

fn rows(sheet: Result<crate::formats::Sheet, String>) -> Result<Vec<String>, String> {
    Ok(sheet?.rows.into_iter().map(|row| row.cells.join("|")).collect())
}

fn numbers(bytes: &[u8], name: &str) -> Result<Vec<String>, String> {
    Ok(evoq_mat5::numbers(bytes, name)?.into_iter().map(|it| it.to_string()).collect())
}

/// The cells of a line: a quote begins or ends what dividers do not divide, two are one.
fn plain(line: &str, divider: char) -> Vec<String> {
    if divider == ' ' {
        return line.split_whitespace().map(str::to_owned).collect();
    }
    let (mut cells, mut quoted, mut letters) = (vec![String::new()], false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cells.last_mut().unwrap().push(letters.next().unwrap()),
            '"' => quoted = !quoted,
            _ if letter == divider && !quoted => cells.push(String::new()),
            _ => cells.last_mut().unwrap().push(letter),
        }
    }
    cells.into_iter().map(|it| it.trim().to_owned()).collect()
}

/// What is wrong with what was read of `bytes`.
fn fault(text: &Text, bytes: &[u8], scores: &Scores) -> Option<String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines: Vec<&[u8]> = bytes.split(|it| *it == b'\n').collect();
    let mut full = (1_u64..).zip(&lines).filter(|(_, line)| !line.trim_ascii().is_empty()).map(|it| it.0);
    let header = text.columns.is_empty().then(|| full.next().unwrap());
    let of = |line: u64| plain(str::from_utf8(lines[line as usize - 1]).unwrap(), text.divider);
    let columns = header.map_or_else(|| text.columns.iter().map(|it| (*it).to_owned()).collect(), of);
    let mut left: BTreeSet<u64> = full.collect();
    for line in scores.rows.iter().map(|it| it.line).chain(scores.rejects.iter().map(|it| it.line.unwrap())) {
        if !left.remove(&line) {
            return Some(format!("line {line} is there twice, or blank"));
        }
    }
    for row in &scores.rows {
        let cells = of(row.line);
        let cell = |name: &str| cells[columns.iter().position(|it| it == name).unwrap()].clone();
        if cells.len() != columns.len() || !(text.agrees)(row, &cell) {
            return Some(format!("line {} is read as {row:?}", row.line));
        }
    }
    let name = columns.iter().position(|it| it == "name");
    let dropped = |line: &u64| !name.is_some_and(|at| (text.left_out)(&of(*line)[at]));
    left.into_iter().find(dropped).map(|line| format!("line {line} is dropped"))
}

#[test]
fn a_damaged_text_is_refused_or_each_line_is_a_reject_or_the_row_that_stands_there() {
    for text in &TEXTS {
        let whole = fixture(text.file);
        let sound = (text.read)(&whole).unwrap();
        assert_eq!((sound.rejects.len(), fault(text, &whole, &sound)), (0, None), "{}", text.file);
        try_all(accidents(), |accidents| {
            let bytes = after(whole.clone(), &accidents);
            let fault = (text.read)(&bytes).ok().and_then(|scores| fault(text, &bytes, &scores));
            let shown = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(fault, None, "{} {}", text.file, shown);
            Ok(())
        });
    }
}

#[test]
fn a_damaged_line_of_json_is_malformed_and_the_others_say_what_stands_there() {
    let whole = fixture("table/scores.jsonl");
    try_all(accidents(), |accidents| {
        let bytes = after(whole.clone(), &accidents);
        let Ok(sheet) = json::sheet(&bytes) else { return Ok(()) };
        let full = (1_u64..).zip(bytes.split(|it| *it == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
        let full: Vec<(u64, &[u8])> = full.collect();
        prop_assert_eq!(sheet.rows.len() + sheet.malformed.len(), full.len());
        for row in &sheet.rows {
            let line = full.iter().find(|(line, _)| *line == row.line).unwrap().1;
            let object: serde_json::Value = serde_json::from_slice(line.trim_ascii()).unwrap();
            for (column, cell) in sheet.columns.iter().zip(&row.cells) {
                let text = match &object[column] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.trim().to_owned(),
                    other => other.to_string(),
                };
                prop_assert_eq!(&text, cell);
            }
        }
        Ok(())
    });
}

#[test]
fn a_damaged_workbook_or_compressed_matrix_is_refused_or_reads_as_before() {
    for (file, read) in BINARIES.iter().filter(|(file, _)| has_extension(file, "xlsx") || file.starts_with("livec/All"))
    {
        let whole = fixture(file);
        let sound = read(&whole).unwrap();
        try_all(accidents(), |accidents| {
            if let Ok(rows) = read(&after(whole.clone(), &accidents)) {
                prop_assert_eq!(&rows, &sound, "{}", file);
            }
            Ok(())
        });
    }
}

#[test]
fn nothing_in_any_file_makes_a_reader_panic_or_run_away() {
    for (file, read) in BINARIES {
        let whole = fixture(file);
        try_all(accidents(), |accidents| {
            drop(read(&after(whole.clone(), &accidents)));
            Ok(())
        });
        // The first bytes are what a reader knows a file by; what follows is made up.
        try_all((0..=160_usize, prop::collection::vec(any::<u8>(), 0..600)), |(kept, random)| {
            drop(read(&[&whole[..kept.min(whole.len())], &random].concat()));
            Ok(())
        });
    }
    let random =
        prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\"\n,. 0aI1[{".to_vec())], 0..400);
    try_all(random, |random| {
        for text in &TEXTS {
            drop((text.read)(&random));
        }
        for file in ["a.csv", "a.txt", "a.json", "a.parquet"] {
            for has_header in [false, true] {
                drop(
                    table::sheet(file, random.clone(), has_header)
                        .map(|it| table::scores(file, it, "d", &Flags::default())),
                );
            }
        }
        Ok(())
    });
}
