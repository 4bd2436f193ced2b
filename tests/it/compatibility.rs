//! What evoq writes, read by pyarrow, polars, `DuckDB` and `datasets`: the same values in all of them and in `evoq sql`.

use std::path::{Path, PathBuf};
use std::process::Command;

use evoq_artifacts::write_file;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::programs::{ends_with, printed, program, repository, run};

/// The tables that the workflow fills, and the ledger's.
const TABLES: [&str; 17] = [
    "correlations",
    "demonstrations",
    "differences",
    "images",
    "label_report",
    "labels",
    "pairs",
    "predictions",
    "ratings",
    "rejects",
    "rollouts",
    "run_steps",
    "runs",
    "scores",
    "timings",
    "updates",
    "votes",
];

/// The Python that has the readers, by `EVOQ_COMPATIBILITY_PYTHON`. `None` is said loudly.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("EVOQ_COMPATIBILITY_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!(
            "SKIPPED: pip install -r tests/compatibility/requirements.txt, and name the Python that has it by \
             EVOQ_COMPATIBILITY_PYTHON"
        );
    }
    python
}

/// A photograph of a kind. The first lies on its side, and its EXIF says so.
fn photo(number: u32) -> Vec<u8> {
    let picture =
        RgbImage::from_fn(144, 120, |x, y| Rgb([(x * 2) as u8, (y * 2 + number * 9) as u8, (x * y / 70) as u8]));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture).unwrap();
    if number == 0 {
        // One entry: orientation (0x112), a short, 6: to be turned right by a quarter.
        let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        bytes.splice(2..2, exif.iter().copied());
    }
    bytes
}

/// `KonIQ-10k` as distributed, of twelve pictures and one that is cut off.
fn koniq10k(folder: &Path) {
    let mut csv = vec!["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set".to_owned()];
    for number in 0..13 {
        let split = ["training", "training", "validation", "test"][number as usize % 4];
        csv.push(format!("{number}.jpg,0,0,.2,.7,.1,10{number},{}.25,.5,{split}", 20 + 5 * number));
        let photo = photo(number);
        let kept = if number == 12 { photo.len() / 2 } else { photo.len() };
        write_file(&folder.join(format!("1024x768/{number}.jpg")), &photo[..kept]).unwrap();
    }
    write_file(&folder.join("koniq10k_distributions_sets.csv"), csv.join("\n").as_bytes()).unwrap();
}

/// What `evoq sql` says of the columns that `facts` is about, in the same form.
fn said_by_evoq(root: &str, table: &str, facts: &Value) -> Value {
    let mut asked = vec!["count(*) AS rows".to_owned()];
    for (column, facts) in facts["columns"].as_object().unwrap() {
        asked.push(format!("count(*) - count(\"{column}\") AS \"{column} nulls\""));
        asked.push(format!("count(DISTINCT \"{column}\") AS \"{column} distinct\""));
        if !facts["sum"].is_null() {
            asked.push(format!("coalesce(sum(CAST(\"{column}\" AS DOUBLE)), 0) AS \"{column} sum\""));
        }
    }
    let sql = format!("SELECT {} FROM {table}", asked.join(", "));
    let answer = printed(&ends_with(program("evoq").args(["sql", "--root", root, "--format", "json", "-c", &sql]), 0));
    serde_json::from_str::<Value>(&answer).unwrap()[0].take()
}

#[test]
fn every_table_reads_alike_in_pyarrow_polars_duckdb_datasets_and_evoq() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (photos, root) = (folder.path().join("koniq10k"), folder.path().join("root"));
    let root = root.to_str().unwrap();
    koniq10k(&photos);
    ends_with(&mut run("tables.yaml", root, &[&format!("photos={}", photos.display())]), 0);

    let script = repository().join("tests/compatibility/check.py");
    let checked = ends_with(Command::new(python).arg(script).arg(root).env("TMPDIR", folder.path()), 0);
    let held: Value = serde_json::from_str(&printed(&checked)).unwrap();
    for table in TABLES {
        let facts = &held[table];
        assert!(facts["rows"].as_u64().is_some_and(|rows| rows > 0), "table `{table}` was not checked: {facts}");
        let said = said_by_evoq(root, table, facts);
        assert_eq!(facts["rows"], said["rows"], "{table}");
        for (column, facts) in facts["columns"].as_object().unwrap() {
            for fact in ["nulls", "distinct"] {
                assert_eq!(facts[fact], said[format!("{column} {fact}")], "{table}: {fact} of {column}");
            }
            let (sum, other) = (&facts["sum"], &said[format!("{column} sum")]);
            let close = |sum: f64, other: f64| (sum - other).abs() <= 1e-9 * sum.abs().max(1.0);
            let same = sum.as_f64().is_none_or(|sum| other.as_f64().is_some_and(|other| close(sum, other)));
            assert!(same, "{table}: sum of {column} is {sum} elsewhere and {other} in evoq");
        }
    }
}
