//! Scores of other tools, from a csv file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use evoq_artifacts::read_file;
use evoq_pictures::Pictures;
use evoq_schemas::{Decoding, ImageId, Score, ScoreMethod};
use evoq_stage::{Job, bad_input};

/// Why a picture has no score that the file does not name.
const NOT_IN_FILE: &str = "not_in_file";

/// Faults that are shown one by one.
const SHOWN: usize = 20;

/// Writes the scores of `file` for the pictures `ids`, in their order. Nothing is written where a row of the file cannot be used;
/// pictures that it does not name have a reason in place of a score.
pub fn run(file: &Path, lower_better: bool, job: &mut Job, pictures: &Pictures, ids: &[ImageId]) -> anyhow::Result<()> {
    let bytes = read_file(file)?;
    let names = ids.iter().map(|id| Ok((id, pictures.row(id)?.name.as_str()))).collect::<anyhow::Result<Vec<_>>>()?;
    let found = scores(&bytes, &names).map_err(|faults| {
        let shown = faults.iter().take(SHOWN).fold(String::new(), |text, it| text + "\n  " + it);
        let more = faults.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        bad_input(format!("--import {}: correct or remove these rows{shown}{more}", file.display()))
    })?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let method = if lower_better { ScoreMethod::ImportedLowerBetter } else { ScoreMethod::Imported };
    let missing = ids.len() - found.len();
    if missing > 0 {
        tracing::warn!("{missing} of {} pictures are not in {}; they have no score", ids.len(), file.display());
    }
    job.write_all(ids.iter().map(|id| {
        let found = found.get(id);
        Score {
            image_id: id.clone(),
            policy: digest.clone(),
            sample: 0,
            decoding: Decoding::Greedy,
            score: found.map(|it| it.0),
            invalid_reason: found.is_none().then(|| NOT_IN_FILE.to_owned()),
            reply: found.map_or_else(String::new, |it| it.1.clone()),
            tokens: 0,
            method,
        }
    }))
}

/// The scores in a csv file, as numbers and as they stand there, of the pictures with these ids and names; or what is wrong with
/// its rows, each with its line.
pub(crate) fn scores(
    bytes: &[u8],
    pictures: &[(&ImageId, &str)],
) -> Result<HashMap<ImageId, (f64, String)>, Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|error| vec![format!("line 1: {error}")])?.clone();
    let column = |name: &str| header.iter().position(|it| it == name);
    let (Some((key, by_id)), Some(value)) =
        (column("image_id").map(|at| (at, true)).or_else(|| column("name").map(|at| (at, false))), column("score"))
    else {
        let columns = quoted(&header.iter().collect::<Vec<_>>().join(", "));
        return Err(vec![format!(
            "line 1: columns {columns}; expected `image_id` or `name`, and `score`: rename them"
        )]);
    };
    let mut known: HashMap<&str, Vec<&ImageId>> = HashMap::new();
    for (id, name) in pictures {
        known.entry(if by_id { id.as_str() } else { name }).or_default().push(id);
    }
    let mut found = HashMap::new();
    let mut lines: HashSet<String> = HashSet::new();
    let mut faults = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                faults.push(error.to_string());
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let (key, value) = (record.get(key).unwrap_or_default(), record.get(value).unwrap_or_default());
        let fault = match (known.get(key).map(Vec::as_slice), value.parse::<f64>().ok().filter(|it| it.is_finite())) {
            _ if key.is_empty() => "no picture is named".to_owned(),
            (None | Some([]), _) => format!("no picture {} among those that are rated", quoted(key)),
            (Some([_, _, ..]), _) => {
                format!("several pictures have the name {}; use the column `image_id`", quoted(key))
            }
            (_, None) => format!("{} is no finite number", quoted(value)),
            (Some([_]), _) if !lines.insert(key.to_owned()) => format!("picture {} stands there twice", quoted(key)),
            (Some([id]), Some(score)) => {
                found.insert((*id).clone(), (score, value.to_owned()));
                continue;
            }
        };
        faults.push(format!("line {line}: {fault}"));
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// The beginning of a cell, as it can stand in one line of text.
fn quoted(cell: &str) -> String {
    const LONGEST: usize = 120;
    let beginning: String = cell.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if cell.chars().nth(LONGEST).is_some() { format!("`{beginning}…`") } else { format!("`{beginning}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, f64)>, Vec<String>> {
        let ids = ["set/a.png", "set/b.png", "other/b.png"].map(ImageId::from);
        let pictures: Vec<(&ImageId, &str)> = ids.iter().zip(["a.png", "b.png", "b.png"]).collect();
        let mut found: Vec<_> =
            scores(text.as_bytes(), &pictures)?.into_iter().map(|(id, it)| (id.as_str().to_owned(), it.0)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    #[test]
    fn pictures_are_found_by_id_or_by_name() {
        assert_eq!(
            read("score,image_id\n1e1,set/b.png\n-2, set/a.png\n").unwrap(),
            [("set/a.png".to_owned(), -2.0), ("set/b.png".to_owned(), 10.0)]
        );
        assert_eq!(read("\u{feff}name,score\na.png,0.5\n").unwrap(), [("set/a.png".to_owned(), 0.5)]);
    }

    #[test]
    fn every_row_that_cannot_be_used_is_listed_with_its_line() {
        let faults = read("name,score\na.png,high\n,1\nc.png,1\nb.png,1\na.png,nan\na.png,\na.png,3\na.png,3\na.png\n")
            .unwrap_err();
        let expected = [
            "line 2: `high` is no finite number",
            "line 3: no picture is named",
            "line 4: no picture `c.png` among those that are rated",
            "line 5: several pictures have the name `b.png`; use the column `image_id`",
            "line 6: `nan` is no finite number",
            "line 7: `` is no finite number",
            "line 9: picture `a.png` stands there twice",
        ];
        assert_eq!(faults[..7], expected);
        assert!(faults[7].contains("line: 10"), "{}", faults[7]);
        assert_eq!(faults.len(), 8);
    }

    #[test]
    fn a_file_without_the_columns_is_refused_by_those_it_has() {
        let faults = read("file,niqe\na.png,3\n").unwrap_err();
        assert_eq!(faults, ["line 1: columns `file, niqe`; expected `image_id` or `name`, and `score`: rename them"]);
    }
}
