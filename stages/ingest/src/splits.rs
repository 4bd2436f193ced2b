//! Which split a picture is of: the data set's own, that of a file, or one that is drawn.
//!
//! All variants of one reference belong into one split: a policy that is trained on some of them has seen the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use evoq_artifacts::read_file;
use evoq_schemas::{Reject, Split};
use evoq_stage::bad_input;
use serde_json::Value;

use crate::formats::delimited;
use crate::listing::{Entry, Listing, reject};

/// References that an error names.
const NAMED: usize = 3;

/// Gives the pictures of `listing` the splits of the file at `path`, in place of their own; a picture that is in no line has
/// none. A line whose picture is not in the data set, or that comes again, is a reject.
pub(crate) fn from_file(path: &Path, listing: &mut Listing) -> anyhow::Result<()> {
    let wrong = |what: String| bad_input(format!("--split-file {}: {what}", path.display()));
    let bytes = read_file(path)?;
    let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json"));
    let Lines { lines, malformed } = if is_json { of_json(&bytes) } else { of_csv(&bytes) }.map_err(wrong)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut rejects: Vec<Reject> =
        malformed.into_iter().map(|(line, name, what)| reject(&file, line, &name, "malformed", what)).collect();
    let known: HashSet<&str> = listing.rejects.iter().map(|it| it.name.as_str()).collect();
    let names: HashSet<&str> = listing.entries.iter().map(|it| it.name.as_str()).collect();
    let mut splits: HashMap<String, Split> = HashMap::new();
    for (line, name, split) in lines {
        // A row that was refused already is not told twice.
        if !names.contains(name.as_str()) {
            if !known.contains(name.as_str()) {
                let what = "is not in the data set; expected a picture's name as the table `images` has it";
                rejects.push(reject(&file, line, &name, "missing", what));
            }
        } else if let Some(first) = splits.insert(name.clone(), split) {
            let what = format!("is in {first} already, and here in {split}; expected it once");
            rejects.push(reject(&file, line, &name, "duplicate", what));
            splits.insert(name, first);
        }
    }
    for entry in &mut listing.entries {
        entry.split = splits.get(&entry.name).copied();
    }
    let without = listing.entries.iter().filter(|it| it.split.is_none()).count();
    if without > 0 {
        tracing::info!("{without} pictures are not in {file} and have no split");
    }
    listing.rejects.extend(rejects);
    Ok(())
}

/// What a file of splits says: line, name and split; and what it cannot mean: line, name and what was found.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<(Option<u64>, String, Split)>,
    malformed: Vec<(Option<u64>, String, String)>,
}

impl Lines {
    fn push(&mut self, line: Option<u64>, name: &str, split: &str) {
        match split.parse::<Split>() {
            Ok(split) => self.lines.push((line, name.to_owned(), split)),
            Err(_) => self.malformed.push((line, name.to_owned(), unknown(split))),
        }
    }
}

fn unknown(split: &str) -> String {
    let all: Vec<_> = Split::ALL.iter().map(Split::as_str).collect();
    format!("the split is `{split}`; expected {}", all.join(", "))
}

/// Rows `name,split` under a header.
fn of_csv(bytes: &[u8]) -> Result<Lines, String> {
    let sheet = delimited::with_header(bytes)?;
    sheet.has(&["name", "split"])?;
    let mut lines = Lines::default();
    lines.malformed.extend(sheet.malformed.iter().map(|(line, what)| (Some(*line), String::new(), what.clone())));
    for row in &sheet.rows {
        let cell = |column| sheet.column(column).and_then(|at| row.cells.get(at)).map_or("", String::as_str);
        lines.push(Some(row.line), cell("name"), cell("split"));
    }
    Ok(lines)
}

/// An object with a list of names for each split.
fn of_json(bytes: &[u8]) -> Result<Lines, String> {
    let splits: BTreeMap<String, Vec<Value>> = serde_json::from_slice(bytes)
        .map_err(|error| format!("{error}; expected an object with a list of names for each split"))?;
    let mut lines = Lines::default();
    for (split, names) in &splits {
        if split.parse::<Split>().is_err() {
            return Err(unknown(split));
        }
        for name in names {
            match name {
                Value::String(name) => lines.push(None, name, split),
                other => lines.malformed.push((None, other.to_string(), "expected a name in quotes".to_owned())),
            }
        }
    }
    Ok(lines)
}

/// Draws the splits of pictures that have a reference: its name decides, so that all its variants go one way.
pub(crate) fn draw_groups(share: f64, listing: &mut Listing) {
    for entry in &mut listing.entries {
        let group = entry.group.as_ref().filter(|_| entry.split.is_none());
        entry.split = group.map(|it| drawn(share, &blake3::hash(it.as_bytes()))).or(entry.split);
    }
}

/// The split that a digest draws; its first 53 bits count as a number in 0..1: `test` below `share`, `train` from there on.
pub(crate) fn drawn(share: f64, digest: &blake3::Hash) -> Split {
    let mut head = [0; 8];
    head.copy_from_slice(&digest.as_bytes()[..8]);
    let place = (u64::from_le_bytes(head) >> 11) as f64 / (1_u64 << 53) as f64;
    if place < share { Split::Test } else { Split::Train }
}

/// Refuses splits that part the variants of a reference; a variant without a split is in nobody's way.
pub(crate) fn check_groups(entries: &[Entry]) -> anyhow::Result<()> {
    let mut firsts: HashMap<&str, (&Entry, Split)> = HashMap::new();
    let mut parted: BTreeMap<&str, String> = BTreeMap::new();
    for entry in entries {
        let (Some(group), Some(split)) = (entry.group.as_deref(), entry.split) else { continue };
        let (first, its) = *firsts.entry(group).or_insert((entry, split));
        if its != split {
            let told = || format!("{group} ({} in {its}, {} in {split})", first.name, entry.name);
            parted.entry(group).or_insert_with(told);
        }
    }
    if parted.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = parted.values().take(NAMED).map(String::as_str).collect();
    let more = parted.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and of {more} more references") } else { String::new() };
    Err(bad_input(format!(
        "the splits part the variants of {}{more}: put all variants of a reference into one split",
        named.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use evoq_artifacts::write_file;

    use super::*;

    fn listing(names: &[&str]) -> Listing {
        Listing { entries: names.iter().map(|it| Entry::plain((*it).to_owned())).collect(), ..Listing::default() }
    }

    /// What a file of splits called `name` makes of the pictures a, b and c.
    fn read(name: &str, text: &str) -> anyhow::Result<Listing> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write_file(&path, text.as_bytes()).unwrap();
        let mut listing = listing(&["a", "b", "c"]);
        listing.rejects.push(reject("scores.csv", Some(7), "d", "score", ""));
        from_file(&path, &mut listing).map(|()| listing)
    }

    fn splits(listing: &Listing) -> Vec<Option<Split>> {
        listing.entries.iter().map(|it| it.split).collect()
    }

    #[test]
    fn csv_and_json_say_the_same_and_who_is_in_no_line_has_no_split() {
        let expected = [Some(Split::Test), None, Some(Split::Train)];
        for (name, text) in [
            ("s.csv", "name,split\nc,train\na,test\n"),
            ("s.txt", "split\tname\ntrain\tc\ntest\ta\n"),
            ("s.JSON", r#"{"train": ["c"], "test": ["a"]}"#),
        ] {
            let listing = read(name, text).unwrap();
            assert_eq!((splits(&listing), listing.rejects.len()), (expected.to_vec(), 1), "{name}");
        }
    }

    #[test]
    fn a_line_that_means_no_picture_or_no_split_or_comes_again_is_a_reject_and_the_first_counts() {
        let listing = read("s.csv", "name,split\na,test\nx,test\nb,dev\na,train\nd,test\n\"c\n").unwrap();
        let found: Vec<_> =
            listing.rejects[1..].iter().map(|it| (it.line, it.name.as_str(), it.reason.as_str())).collect();
        let expected = [
            (Some(7), "", "malformed"),
            (Some(4), "b", "malformed"),
            (Some(3), "x", "missing"),
            (Some(5), "a", "duplicate"),
        ];
        assert_eq!(found, expected);
        assert!(listing.rejects[1..].iter().all(|it| it.source == "s.csv"));
        assert_eq!(splits(&listing), [Some(Split::Test), None, None]);
    }

    #[test]
    fn a_file_of_another_form_is_refused_with_what_was_expected() {
        for (name, text, says) in [
            ("s.csv", "file,split\na,test\n", "`name`"),
            ("s.csv", "", "is empty"),
            ("s.json", "[1]", "an object with a list of names for each split"),
            ("s.json", r#"{"dev": ["a"]}"#, "the split is `dev`; expected train, validation, test"),
        ] {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains("--split-file") && error.contains(says), "{error}");
        }
    }

    fn grouped(of: &[(&str, &str, Option<Split>)]) -> Vec<Entry> {
        of.iter()
            .map(|(name, group, split)| Entry {
                group: Some((*group).to_owned()),
                split: *split,
                ..Entry::plain((*name).to_owned())
            })
            .collect()
    }

    #[test]
    fn variants_of_one_reference_in_two_splits_are_refused_by_the_reference() {
        let (train, test) = (Some(Split::Train), Some(Split::Test));
        let fine = grouped(&[("a1", "a", train), ("b1", "b", test), ("a2", "a", train), ("a3", "a", None)]);
        assert!(check_groups(&fine).is_ok());
        let parted =
            grouped(&[("a1", "a", train), ("b1", "b", test), ("b2", "b", train), ("a2", "a", None), ("a3", "a", test)]);
        let error = check_groups(&parted).unwrap_err().to_string();
        assert!(error.contains("of a (a1 in train, a3 in test), b (b1 in test, b2 in train): put"), "{error}");
    }

    #[test]
    fn a_drawn_split_takes_a_reference_whole() {
        let variants: Vec<_> = (0..4000).map(|i| (format!("{i}"), format!("reference {}", i / 10))).collect();
        let variants: Vec<_> = variants.iter().map(|(name, group)| (name.as_str(), group.as_str(), None)).collect();
        let mut listing = Listing { entries: grouped(&variants), ..Listing::default() };
        draw_groups(0.3, &mut listing);
        assert!(check_groups(&listing.entries).is_ok());
        let test = splits(&listing).iter().filter(|it| **it == Some(Split::Test)).count();
        // 120 references of 400 expected, standard deviation 9.
        assert!((930..1470).contains(&test), "{test}");
    }

    #[test]
    fn the_share_held_out_is_about_what_was_asked_for_and_grows_with_it() {
        let digests: Vec<_> = (0..10_000_u32).map(|it| blake3::hash(&it.to_le_bytes())).collect();
        let test = |share| digests.iter().map(|it| drawn(share, it) == Split::Test).collect::<Vec<_>>();
        let (fifth, third) = (test(0.2), test(0.33));
        // 2000 expected, standard deviation 40.
        assert!((1840..2160).contains(&fifth.iter().filter(|it| **it).count()));
        assert!(fifth.iter().zip(&third).all(|(small, large)| !small || *large));
    }
}
