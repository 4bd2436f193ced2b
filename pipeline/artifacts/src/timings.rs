//! What stages tell of their own pace while they run: parts of the ledger's table `timings`, `<root>/ledger/timings/`.
//!
//! They belong to no artifact: two runs of one step make the same artifact and never the same timings.

use evoq_schemas::{Table, Timing};

use crate::{Location, Part, PartEntry, Result, TableWriter};

/// The folder of the ledger below a root.
const FOLDER: &str = "ledger";

/// Adds `rows` to the ledger at `root`; `stage` is recorded in the file's metadata.
pub fn put_timings(root: &Location, stage: &str, rows: impl IntoIterator<Item = Timing>) -> Result<()> {
    let mut writer = TableWriter::new(&root.join(FOLDER), stage);
    rows.into_iter().try_for_each(|row| writer.push(row))?;
    writer.finish().map(drop)
}

/// The parts of the table `timings` of the ledger at `root`, in no order that means anything.
pub fn timings(root: &Location) -> Result<Vec<Part>> {
    let folder = root.join(FOLDER);
    let found =
        folder.join(Timing::NAME).list()?.into_iter().filter(|(name, _)| name.strip_suffix(".parquet").is_some());
    let part = |(name, bytes)| {
        let name = format!("{}/{name}", Timing::NAME);
        Part::new(&folder, PartEntry { name, rows: 0, bytes, digest: String::new() })
    };
    Ok(found.map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_processes_told_stands_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        let row = |started_ms: u64| Timing {
            fingerprint: "f".to_owned(),
            stage: "grpo".to_owned(),
            started_ms,
            update_index: 0,
            phase: "sampling".to_owned(),
            seconds: 0.5,
            tokens: Some(7),
            peak_bytes: None,
        };
        put_timings(&root, "grpo", [row(1)]).unwrap();
        put_timings(&root, "grpo", [row(2)]).unwrap();
        let mut found: Vec<Timing> =
            timings(&root).unwrap().iter().flat_map(|part| part.rows::<Timing>(&[]).unwrap()).collect();
        found.sort_by_key(|row| row.started_ms);
        assert_eq!(found, [row(1), row(2)]);
    }
}
