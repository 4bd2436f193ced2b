//! Scratch: what a step that is not finished leaves so that it can go on and be looked at, `<root>/scratch/<fingerprint>/`.
//!
//! ```text
//! live.json                                      how far the step is, and the parts of its tables so far; replaced as a whole
//! <table>/part-<update>.<number>-<digest>.parquet  rows so far; parts are added and never changed
//! checkpoints/<done>.json                        a checkpoint: put after all that it names, so that it is there as a whole
//! checkpoints/<done>-<digest>.safetensors        its tensors
//! ```
//!
//! The root of an artifact at `<root>/<stage>/<fingerprint>` is `<root>`; an artifact made by hand elsewhere is its own root.
//! All that varies between two runs of one step (how often they write, when they were killed) may vary here, and is gone when
//! the artifact is committed. A part's name and a tensor file's carry their digests: two runs at once do no harm.

use std::collections::BTreeMap;

use bytes::Bytes;
use evoq_schemas::Table;
use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::files::{entries, remove_empty_folder, remove_file};
use crate::{Error, Location, Part, Result, TableParts, TableWriter, read};

/// The version of the layout that this release writes and reads.
pub(crate) const LAYOUT: u32 = 1;
/// The folder of scratch below a root.
pub(crate) const FOLDER: &str = "scratch";
/// The record of what there is to read.
const LIVE: &str = "live.json";

/// The scratch area of one step.
#[derive(Debug, Clone)]
pub struct Scratch {
    root: Location,
    place: Location,
    pub(crate) mark: Mark,
}

/// Whose scratch it is: stands in each of its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The stage.
    pub stage: String,
    /// The version of its algorithm.
    pub stage_version: u32,
    /// The step's fingerprint.
    pub fingerprint: String,
}

/// How far an unfinished step is, and what it has written: `live.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The version of this layout.
    evoq: u32,
    /// Whose it is.
    pub step: Mark,
    /// Pieces of work (optimizer steps) that the tables cover.
    pub done: u64,
    /// All pieces of work.
    pub total: u64,
    /// The parts so far of the tables, by name.
    pub tables: BTreeMap<String, TableParts>,
}

/// An unfinished step, to be read while it runs.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// How far it is, and what it has written.
    pub live: Live,
    place: Location,
}

impl Unfinished {
    /// The parts so far of the table `name`, in the order of their rows; none where it has no such table.
    pub fn parts(&self, name: &str) -> Vec<Part> {
        let parts = self.live.tables.get(name).map_or(&[][..], |table| &table.parts);
        parts.iter().map(|entry| Part::new(&self.place, entry.clone())).collect()
    }
}

/// The steps below `root` that have left something to read and are not finished, sorted by fingerprint. What they have written
/// goes away when they are: a part that is not found then is no fault.
pub fn unfinished(root: &Location) -> Result<Vec<Unfinished>> {
    let scratch = root.join(FOLDER);
    let mut found = Vec::new();
    for (name, _) in scratch.list()? {
        let Some((fingerprint, LIVE)) = name.split_once('/') else { continue };
        let place = scratch.join(fingerprint);
        match live(&place) {
            // It was finished meanwhile.
            Err(Error::NotFound { .. }) => {}
            live => found.push(Unfinished { live: live?, place }),
        }
    }
    Ok(found)
}

fn live(place: &Location) -> Result<Live> {
    let file = place.join(LIVE);
    let corrupt = |what: String| Error::Corrupt { uri: file.uri().to_owned(), what };
    let live: Live = serde_json::from_slice(&file.get()?)
        .map_err(|error| corrupt(format!("does not tell how far a step is: {error}; remove it")))?;
    read::tables(&live.tables).map_err(corrupt)?;
    if live.evoq != LAYOUT {
        return Err(corrupt(format!("has layout {}; this release reads {LAYOUT}", live.evoq)));
    }
    Ok(live)
}

impl Draft {
    /// The scratch area of the step whose artifact this is.
    pub fn scratch(&self) -> Result<Scratch> {
        let mark = self.mark();
        let root = root(self.location(), &mark)?;
        let place = root.join(FOLDER).join(&mark.fingerprint);
        Ok(Scratch { root, place, mark })
    }
}

/// The root of the artifact at `out`.
fn root(out: &Location, step: &Mark) -> Result<Location> {
    match out.uri().strip_suffix(&format!("/{}/{}", step.stage, step.fingerprint)) {
        Some("") => Location::open("/"),
        Some(root) => Location::open(root),
        None => Ok(out.clone()),
    }
}

impl Scratch {
    /// Where it is.
    pub fn place(&self) -> &Location {
        &self.place
    }

    /// The step's fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.mark.fingerprint
    }

    /// The root below which it is.
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// A writer of rows of the table `T` that come after those of the first `done` pieces of work.
    pub fn table<T: Table>(&self, done: u64) -> TableWriter<T> {
        let stage = format!("{} {}", self.mark.stage, self.mark.stage_version);
        TableWriter::new(&self.place, &stage).of_unit(u32::try_from(done).unwrap_or(u32::MAX))
    }

    /// Lets readers see the parts `tables`, which cover `done` of `total` pieces of work.
    pub fn show(&self, done: u64, total: u64, tables: BTreeMap<String, TableParts>) -> Result<()> {
        let live = Live { evoq: LAYOUT, step: self.mark.clone(), done, total, tables };
        let text = serde_json::to_string(&live).expect("a record is plain data");
        self.place.join(LIVE).put(Bytes::from(text))
    }

    /// Removes all of it. The record goes first, so that no reader looks for what is gone.
    pub fn remove(&self) -> Result<()> {
        self.place.join(LIVE).delete()?;
        let Some(folder) = self.place.local() else {
            let places: Vec<Location> = self.place.list()?.iter().map(|(name, _)| self.place.join(name)).collect();
            return Location::delete_all(&places.iter().collect::<Vec<_>>());
        };
        // Not what a store lists, but all there is: what was half written when a run was killed as well.
        for entry in entries(folder)? {
            let path = folder.join(&entry.name);
            remove_file(&path)?;
            let folders = path.ancestors().skip(1).take_while(|folder| Some(*folder) != self.root.local());
            // The first folder with something in it ends it.
            let _ = folders.map(remove_empty_folder).find(|is_gone| !is_gone);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use evoq_schemas::Reject;

    use super::*;
    use crate::draft::tests::header;

    pub(crate) fn reject(line: u64) -> Reject {
        Reject {
            source: "s".to_owned(),
            line: Some(line),
            name: line.to_string(),
            reason: "missing".to_owned(),
            detail: String::new(),
        }
    }

    /// A root, and the scratch of a step that the runner would start there.
    pub(crate) fn scratch() -> (tempfile::TempDir, Location, Scratch) {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        let scratch = Draft::new(&root.join("pair/f"), header("f")).scratch().unwrap();
        (folder, root, scratch)
    }

    /// The parts of a table whose parts end before these rows.
    pub(crate) fn tables(scratch: &Scratch, ends: &[u64]) -> BTreeMap<String, TableParts> {
        let (mut all, mut start) = (TableParts::default(), 0);
        for &end in ends {
            let mut writer = scratch.table::<Reject>(start);
            (start..end).for_each(|line| writer.push(reject(line)).unwrap());
            start = end;
            let parts = writer.finish().unwrap();
            all.rows += parts.rows;
            all.parts.extend(parts.parts);
        }
        BTreeMap::from([(Reject::NAME.to_owned(), all)])
    }

    #[test]
    fn the_rows_so_far_of_an_unfinished_step_are_read() {
        let (_folder, root, scratch) = scratch();
        assert!(unfinished(&root).unwrap().is_empty());
        scratch.show(2, 9, tables(&scratch, &[2])).unwrap();
        scratch.show(5, 9, tables(&scratch, &[2, 5])).unwrap();
        let found = unfinished(&root).unwrap();
        assert_eq!((found.len(), found[0].live.done, found[0].live.total), (1, 5, 9));
        assert_eq!(
            found[0].live.step,
            Mark { stage: "pair".to_owned(), stage_version: 1, fingerprint: "f".to_owned() }
        );
        let rows: Vec<Reject> = found[0].parts("rejects").iter().flat_map(|part| part.rows(&[]).unwrap()).collect();
        assert_eq!(rows, (0..5).map(reject).collect::<Vec<_>>());
        assert!(found[0].parts("votes").is_empty());
    }

    #[test]
    fn nothing_of_it_stays_not_even_what_was_half_written() {
        let (folder, root, scratch) = scratch();
        scratch.show(1, 2, tables(&scratch, &[1])).unwrap();
        crate::write_file(&folder.path().join("scratch/f/checkpoints/00000001-ab.safetensors#1"), b"half").unwrap();
        scratch.remove().unwrap();
        assert!(unfinished(&root).unwrap().is_empty());
        assert!(folder.path().exists() && !folder.path().join("scratch").exists());
    }

    #[test]
    fn an_artifact_made_by_hand_is_its_own_root() {
        let folder = tempfile::tempdir().unwrap();
        let out = Location::open(folder.path().to_str().unwrap()).unwrap();
        let scratch = Draft::new(&out, header("f")).scratch().unwrap();
        assert_eq!(scratch.place().uri(), out.join("scratch/f").uri());
        assert_eq!(scratch.root().uri(), out.uri());
    }

    #[test]
    fn a_record_that_leads_elsewhere_is_refused_by_name() {
        let (_folder, root, scratch) = scratch();
        scratch.show(1, 2, tables(&scratch, &[1])).unwrap();
        let file = scratch.place().join("live.json");
        let text = String::from_utf8(file.get().unwrap().to_vec()).unwrap();
        file.put(Bytes::from(text.replace("rejects/part", "../../part"))).unwrap();
        let error = unfinished(&root).unwrap_err().to_string();
        assert!(error.contains("live.json") && error.contains("../../part"), "{error}");
    }
}
