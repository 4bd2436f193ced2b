//! Receipts: what one unit of a step's work wrote, so that a restart skips it and any process that finds all can commit.
//!
//! A receipt lies below the artifact's prefix, in a folder of its step's fingerprint, create-only: where two processes did
//! the same unit, the first receipt counts. Once the artifact is committed its receipts are of no more use.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use evoq_schemas::Table;
use serde::{Deserialize, Serialize};

use crate::files::remove_folder;
use crate::{Created, Draft, Error, Location, Result, TableParts, TableWriter, read};

/// The version of the layout that this release writes and reads.
const LAYOUT: u32 = 1;
/// The folder of receipts below an artifact's prefix.
pub(crate) const FOLDER: &str = "receipts";

/// What one unit of work wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The version of this layout.
    evoq: u32,
    /// The unit, from 0.
    pub unit: u32,
    /// How many units the step has.
    pub units: u32,
    /// The unit's share of each table; a table to which it gave no row is absent.
    pub tables: BTreeMap<String, TableParts>,
    /// What the stage wants to know of the unit when all are done.
    pub note: serde_json::Value,
}

impl Receipt {
    /// The receipt in `bytes`, or what is wrong with it.
    fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        let receipt: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        read::tables(&receipt.tables)?;
        Ok(receipt)
    }
}

/// One unit of work in the making: its rows by table, and a note.
pub struct Unit {
    prefix: Location,
    stage: String,
    number: u32,
    of: u32,
    /// Open writers by table. Each closes itself into the unit's parts.
    tables: BTreeMap<&'static str, Box<dyn OpenTable>>,
    note: serde_json::Value,
}

/// A [`TableWriter`] of any table.
trait OpenTable: Any + Send {
    fn finish(self: Box<Self>) -> Result<TableParts>;
}

impl<T: Table + Send> OpenTable for TableWriter<T> {
    fn finish(self: Box<Self>) -> Result<TableParts> {
        TableWriter::finish(*self)
    }
}

impl Unit {
    /// The writer of the unit's rows of the table `T`.
    pub fn table<T: Table + Send>(&mut self) -> &mut TableWriter<T> {
        let open = self
            .tables
            .entry(T::NAME)
            .or_insert_with(|| Box::new(TableWriter::<T>::new(&self.prefix, &self.stage).of_unit(self.number)));
        let open: &mut dyn Any = open.as_mut();
        open.downcast_mut().expect("a table has one row type")
    }

    /// Appends a row to the table `T`.
    pub fn push<T: Table + Send>(&mut self, row: T) -> Result<()> {
        self.table::<T>().push(row)
    }

    /// Leaves a note for the end of the stage, in place of an earlier one.
    pub fn note(&mut self, note: impl Serialize) {
        self.note = serde_json::to_value(note).expect("a note is plain data");
    }
}

impl Draft {
    /// Starts unit `number` of `of`.
    pub fn unit(&self, number: u32, of: u32) -> Unit {
        let stage = self.stage();
        let (tables, note) = (BTreeMap::new(), serde_json::Value::Null);
        Unit { prefix: self.location().clone(), stage, number, of, tables, note }
    }

    /// Ends a unit: its parts are put, then its receipt, create-only.
    pub fn close_unit(&self, unit: Unit) -> Result<()> {
        let mut tables = BTreeMap::new();
        for (name, open) in unit.tables {
            tables.insert(name.to_owned(), open.finish()?);
        }
        tables.retain(|_, parts| parts.rows > 0);
        let receipt = Receipt { evoq: LAYOUT, unit: unit.number, units: unit.of, tables, note: unit.note };
        let text = serde_json::to_string(&receipt).expect("a receipt is plain data");
        match self.receipt_place(unit.number).create(Bytes::from(text))? {
            // Who was first counts: the receipts are read back when all are there.
            Created::New | Created::Same | Created::Exists => Ok(()),
        }
    }

    /// The units that have receipts.
    pub fn done_units(&self) -> Result<BTreeSet<u32>> {
        let names = self.receipts_place().list()?;
        Ok(names.iter().filter_map(|(name, _)| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// The receipt of unit `number` of `of`.
    pub fn receipt(&self, number: u32, of: u32) -> Result<Receipt> {
        let place = self.receipt_place(number);
        let corrupt = |what: String| Error::Corrupt { uri: place.uri().to_owned(), what };
        let receipt = Receipt::read(&place.get()?)
            .map_err(|what| corrupt(format!("is not a receipt: {what}; remove it, and its unit is done anew")))?;
        if (receipt.evoq, receipt.unit, receipt.units) == (LAYOUT, number, of) {
            Ok(receipt)
        } else {
            Err(corrupt(format!(
                "is of unit {} of {}, layout {}; expected unit {number} of {of}, layout {LAYOUT}: remove it, and its unit is \
                 done anew",
                receipt.unit, receipt.units, receipt.evoq
            )))
        }
    }

    /// Removes all receipts of this step, and with `parts` what they name.
    pub fn remove_receipts(&self, parts: bool) -> Result<()> {
        let place = self.receipts_place();
        for (name, _) in place.list()? {
            let receipt = place.join(&name);
            if parts && let Ok(found) = Receipt::read(&receipt.get()?) {
                for entry in found.tables.values().flat_map(|table| &table.parts) {
                    self.location().join(&entry.name).delete()?;
                }
            }
            receipt.delete()?;
        }
        // A bucket has no folders; on a disk an empty one would stay.
        let folder = self.location().join(FOLDER);
        match folder.local() {
            Some(path) if folder.list()?.is_empty() => remove_folder(path),
            _ => Ok(()),
        }
    }

    /// Receipts of another step that once used the same prefix are in another folder.
    fn receipts_place(&self) -> Location {
        let fingerprint = self.fingerprint();
        self.location().join(FOLDER).join(fingerprint.get(..16).unwrap_or(fingerprint))
    }

    fn receipt_place(&self, unit: u32) -> Location {
        self.receipts_place().join(&format!("{unit:05}.json"))
    }
}

#[cfg(test)]
mod tests {
    use evoq_schemas::{Design, ImageId, Pair, PairId, Reject};

    use super::*;
    use crate::Artifact;
    use crate::draft::tests::header;

    fn pair(i: usize) -> Pair {
        let (a, b): (ImageId, ImageId) = (format!("set/{i:05}a").into(), format!("set/{i:05}b").into());
        Pair { pair_id: PairId::of(&a, &b), image_a: a, image_b: b, design: Design::Random, reference_id: None }
    }

    fn draft(folder: &tempfile::TempDir, fingerprint: &str) -> Draft {
        Draft::new(&Location::open(folder.path().to_str().unwrap()).unwrap(), header(fingerprint))
    }

    fn close(draft: &Draft, number: u32, rows: std::ops::Range<usize>) {
        let mut unit = draft.unit(number, 2);
        rows.clone().for_each(|i| unit.push(pair(i)).unwrap());
        unit.note(rows.len());
        draft.close_unit(unit).unwrap();
    }

    #[test]
    fn units_make_the_same_artifact_in_whatever_order_and_process_they_are_done() {
        let manifests = [[0, 1], [1, 0]].map(|order| {
            let folder = tempfile::tempdir().unwrap();
            for unit in order {
                close(&draft(&folder, "f"), unit, unit as usize * 3..unit as usize * 3 + 3);
            }
            let mut last = draft(&folder, "f");
            assert_eq!(last.done_units().unwrap(), BTreeSet::from([0, 1]));
            let receipts: Vec<_> = (0..2).map(|unit| last.receipt(unit, 2).unwrap()).collect();
            last.add_units::<Pair>(&receipts).unwrap();
            last.add_units::<Reject>(&receipts).unwrap();
            last.commit().unwrap();
            let artifact = Artifact::open(folder.path().to_str().unwrap()).unwrap();
            assert_eq!(artifact.rows::<Pair>().unwrap(), (0..6).map(pair).collect::<Vec<_>>());
            assert!(artifact.rows::<Reject>().unwrap().is_empty());
            artifact.manifest
        });
        assert_eq!(manifests[0], manifests[1]);
    }

    #[test]
    fn the_first_receipt_of_a_unit_counts() {
        let folder = tempfile::tempdir().unwrap();
        let draft = draft(&folder, "f");
        close(&draft, 0, 0..3);
        close(&draft, 0, 0..4);
        assert_eq!(draft.receipt(0, 2).unwrap().note, 3);
    }

    #[test]
    fn another_steps_receipts_are_not_taken_for_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        close(&draft(&folder, "f"), 0, 0..3);
        assert!(draft(&folder, "g").done_units().unwrap().is_empty());
        assert!(draft(&folder, "f").receipt(0, 3).unwrap_err().to_string().contains("unit 0 of 2"));
    }

    #[test]
    fn a_receipt_that_names_what_is_not_below_its_prefix_is_refused_and_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("pairs/part.parquet");
        crate::write_file(&outside, b"not ours").unwrap();
        let draft = Draft::new(&Location::open(folder.path().join("a").to_str().unwrap()).unwrap(), header("f"));
        close(&draft, 0, 0..3);
        let place = draft.receipt_place(0);
        let text = String::from_utf8(place.get().unwrap().to_vec()).unwrap();
        let name = text.split('"').find(|text| text.ends_with(".parquet")).unwrap();
        place.put(Bytes::from(text.replace(name, "../pairs/part.parquet"))).unwrap();
        assert!(draft.receipt(0, 2).unwrap_err().to_string().contains("../pairs/part.parquet"));
        draft.remove_receipts(true).unwrap();
        assert!(outside.exists());
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_receipt_never_names_a_place_outside_its_prefix(
            flips in proptest::collection::vec((0usize..1000, 0u8..8), 0..4),
            length in 0usize..1000,
        ) {
            let digest = "0123456789abcdef".repeat(4);
            let text = format!(
                r#"{{"evoq":1,"unit":0,"units":2,"tables":{{"pairs":{{"rows":3,"parts":[{{"name":"pairs/part-0-a.parquet","rows":3,"bytes":9,"digest":"{digest}"}}]}}}},"note":null}}"#
            );
            let mut bytes = text.into_bytes();
            for (at, bit) in flips {
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            // Half of them are whole, half are cut.
            bytes.truncate(length.max(1) * 2 % (2 * bytes.len()));
            if let Ok(receipt) = Receipt::read(&bytes) {
                for part in receipt.tables.values().flat_map(|table| &table.parts) {
                    proptest::prop_assert!(part.name.split('/').all(|it| !it.is_empty() && it != "." && it != ".."));
                }
            }
        }
    }

    #[test]
    fn receipts_can_be_removed_with_what_they_name() {
        let folder = tempfile::tempdir().unwrap();
        let draft = draft(&folder, "f");
        close(&draft, 0, 0..3);
        draft.remove_receipts(true).unwrap();
        assert_eq!(draft.location().list().unwrap(), []);
        assert!(!folder.path().join(FOLDER).exists());
    }
}
