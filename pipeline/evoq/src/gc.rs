//! `evoq gc`: what killed runs left behind, printed, and removed unless that is all that was asked.

use std::collections::BTreeMap;
use std::time::Duration;

use evoq_artifacts::{Location, leftovers, remove};

use crate::error::Result;
use crate::print::{say, tell};
use crate::verify::size;

/// Prints what is left over below `root`, and removes it unless `dry`. What has no manifest counts as left over when nothing
/// was written there for `older_than`.
pub fn run(root: &str, older_than: Duration, dry: bool) -> Result<()> {
    let root = Location::open(root)?;
    let found = leftovers(&root, older_than)?;
    let mut bytes = BTreeMap::new();
    for it in &found {
        say(&format!("{}  {}  {}\n", it.location.uri(), size(it.bytes), it.reason))?;
        *bytes.entry(it.reason).or_insert(0) += it.bytes;
    }
    for (reason, bytes) in bytes {
        let count = found.iter().filter(|it| it.reason == reason).count();
        tell(&format!("{count} {reason}, {}", size(bytes)));
    }
    match (found.is_empty(), dry) {
        (true, _) => tell("nothing is left over"),
        (false, true) => tell("nothing was removed"),
        (false, false) => tell(&format!("{} removed", remove(&root, &found)?)),
    }
    Ok(())
}

/// Reads an age: `30 min`, `12h`, `1d`.
pub fn age(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let age = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    match age {
        Some(age) if seconds > 0 => Ok(Duration::from_secs(age)),
        _ => Err("expected a number and s, min, h or d, such as 12h or 2d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::tests::place;
    use evoq_artifacts::write_file;

    #[test]
    fn a_dry_run_removes_nothing_and_a_true_one_what_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = place(folder.path());
        let part = folder.path().join("vote").join("ab".repeat(32)).join("votes/part-00000-ab.parquet");
        write_file(&part, b"half").unwrap();
        run(root.uri(), Duration::ZERO, true).unwrap();
        run(root.uri(), Duration::from_hours(1), false).unwrap();
        assert!(part.exists());
        run(root.uri(), Duration::ZERO, false).unwrap();
        assert!(!folder.path().join("vote").exists());
    }

    #[test]
    fn an_age_has_a_unit() {
        for (text, seconds) in [("90s", 90), ("30 min", 1800), ("12h", 43_200), ("1d", 86_400)] {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "d", "-1d", "1.5h", "1 week", "99999999999999999999d", "999999999999999999d"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
