//! `evoq verify`: whether every file that a manifest names is there, byte for byte.

use evoq_artifacts::{Location, Verified, verify};

use crate::error::{Error, Result};
use crate::print::{say, tell};

/// Reads all files of the artifacts at and below `place`. Each that is not as its manifest states is printed; one is a failure.
pub fn run(place: &str) -> Result<()> {
    let verified = verify(&Location::open(place)?)?;
    for (uri, what) in &verified.bad {
        say(&format!("{uri}: {what}\n"))?;
    }
    let Verified { artifacts, files, bytes, bad } = &verified;
    let end = if bad.is_empty() { ", all as they were written" } else { "" };
    tell(&format!("{artifacts} artifacts, {files} files, {} read{end}", size(*bytes)));
    if bad.is_empty() {
        return Ok(());
    }
    let which = "remove the artifacts they belong to, and run their steps again";
    Err(Error::Damaged(format!("{place}: {} files are not what their manifests state; {which}", bad.len())))
}

/// `312 bytes`, `4.5 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::tests::place;
    use evoq_artifacts::{Draft, Header, write_file};
    use evoq_schemas::{Reject, Table};

    #[test]
    fn a_changed_file_is_a_failure_that_counts_and_no_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let root = place(folder.path());
        let header = Header {
            stage: "ingest".to_owned(),
            stage_version: 1,
            fingerprint: "f".to_owned(),
            parameters: serde_json::Map::new(),
            inputs: std::collections::BTreeMap::new(),
        };
        let mut draft = Draft::new(&root.join("ingest/f"), header);
        let table = draft.table::<Reject>().finish().unwrap();
        let part = root.join("ingest/f").join(&table.parts[0].name);
        draft.add(Reject::NAME, table);
        draft.commit().unwrap();
        run(root.uri()).unwrap();
        write_file(part.local().unwrap(), b"cut").unwrap();
        let error = run(root.uri()).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("1 files are not what their manifests state"), "{error}");
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!(
            [312, 45_000, 45_000_000, 1_500_000_000].map(size),
            ["312 bytes", "45.0 kB", "45.0 MB", "1500.0 MB"]
        );
    }
}
