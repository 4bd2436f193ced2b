//! Training checkpoints in scratch: where a step was, so that it goes on from there bit by bit.
//!
//! A checkpoint is a small record, put after the tensors and the parts that it names. What a record names is looked at, digest
//! by digest, before it is used: a checkpoint that is damaged or of another step is passed over for the one before.

use std::collections::BTreeMap;

use bytes::Bytes;
use evoq_schemas::Table;
use serde::{Deserialize, Serialize};

use crate::scratch::{LAYOUT, Mark};
use crate::tensors::{self, OwnedTensor, TensorView};
use crate::{Error, FileEntry, Location, Part, Result, Scratch, TableParts, read};

/// The folder of checkpoints below a step's scratch.
const FOLDER: &str = "checkpoints";

/// A training checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The version of this layout.
    evoq: u32,
    /// Whose it is.
    step: Mark,
    /// Pieces of work (optimizer steps) that are done.
    pub done: u64,
    /// All pieces of work.
    pub total: u64,
    /// The parts of the tables so far, by name.
    pub tables: BTreeMap<String, TableParts>,
    /// What the stage wants to know beside its tensors.
    pub note: serde_json::Value,
    /// Its tensors.
    tensors: FileEntry,
}

impl Scratch {
    /// Saves a checkpoint, and keeps the last `keep` up to this one.
    pub fn save(
        &self,
        (done, total): (u64, u64),
        tables: BTreeMap<String, TableParts>,
        note: serde_json::Value,
        tensors: &[TensorView<'_>],
        keep: usize,
    ) -> Result<()> {
        let mut file = tensors::entry(tensors);
        file.name = format!("{FOLDER}/{done:08}-{}.safetensors", file.digest.get(..16).unwrap_or_default());
        tensors::put(&self.place().join(&file.name), tensors)?;
        let saved = Saved { evoq: LAYOUT, step: self.mark.clone(), done, total, tables, note, tensors: file };
        let text = serde_json::to_string(&saved).expect("a checkpoint's record is plain data");
        self.record(done).put(Bytes::from(text))?;
        self.forget(done, keep)
    }

    /// The last checkpoint that is whole and of this step; `passed_over` gets why a later one is not.
    pub fn latest(&self, mut passed_over: impl FnMut(&Error)) -> Result<Option<Saved>> {
        for done in self.records()?.into_iter().rev() {
            match self.whole(done) {
                Ok(saved) => return Ok(Some(saved)),
                Err(error @ (Error::Corrupt { .. } | Error::NotFound { .. })) => passed_over(&error),
                // What cannot be reached may be whole.
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Gives the tensors of `saved` to `take`, one at a time.
    pub fn tensors(&self, saved: &Saved, take: impl FnMut(OwnedTensor) -> Result<()>) -> Result<()> {
        tensors::read(&self.place().join(&saved.tensors.name), saved.tensors.bytes, take)
    }

    /// The parts of the table `T` that `saved` names.
    pub fn parts<T: Table>(&self, saved: &Saved) -> Vec<Part> {
        let parts = saved.tables.get(T::NAME).map_or(&[][..], |table| &table.parts);
        parts.iter().map(|entry| Part::new(self.place(), entry.clone())).collect()
    }

    /// The checkpoint of `done` pieces of work, if all that it names has the digest that it states.
    fn whole(&self, done: u64) -> Result<Saved> {
        let place = self.record(done);
        let corrupt = |what: String| Error::Corrupt { uri: place.uri().to_owned(), what };
        let saved: Saved = serde_json::from_slice(&place.get()?)
            .map_err(|error| corrupt(format!("is not the record of a checkpoint: {error}")))?;
        read::tables(&saved.tables).map_err(corrupt)?;
        if !saved.tensors.name.starts_with(&format!("{FOLDER}/{done:08}-")) {
            return Err(corrupt(format!("names the tensors {:?}; expected those of {done}", saved.tensors.name)));
        }
        read::file(&saved.tensors).map_err(corrupt)?;
        if (saved.evoq, &saved.step, saved.done) != (LAYOUT, &self.mark, done) {
            let Mark { stage, stage_version, fingerprint } = &saved.step;
            return Err(corrupt(format!(
                "is of {stage} {stage_version}, step {fingerprint}, {} done, layout {}; expected {} {}, step {}, {done} done, \
                 layout {LAYOUT}",
                saved.done, saved.evoq, self.mark.stage, self.mark.stage_version, self.mark.fingerprint
            )));
        }
        let parts = saved.tables.values().flat_map(|table| &table.parts);
        let parts = parts.map(|part| (&part.name, part.bytes, &part.digest));
        let file = &saved.tensors;
        for (name, bytes, digest) in parts.chain([(&file.name, file.bytes, &file.digest)]) {
            check(&self.place().join(name), bytes, digest)?;
        }
        Ok(saved)
    }

    fn record(&self, done: u64) -> Location {
        self.place().join(FOLDER).join(&format!("{done:08}.json"))
    }

    /// The checkpoints that have a record, by the work that was done.
    fn records(&self) -> Result<Vec<u64>> {
        let names = self.place().join(FOLDER).list()?;
        Ok(names.iter().filter_map(|(name, _)| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Removes what is older than the last `keep` checkpoints up to `done`; those beyond are of a run that is further.
    /// Records go first: a record never names what is gone.
    fn forget(&self, done: u64, keep: usize) -> Result<()> {
        let upto: Vec<u64> = self.records()?.into_iter().filter(|it| *it <= done).collect();
        let Some(oldest) = upto.iter().rev().nth(keep.saturating_sub(1)) else { return Ok(()) };
        let folder = self.place().join(FOLDER);
        let number = |name: &str| name.split(['-', '.']).next()?.parse().ok();
        let old = folder
            .list()?
            .into_iter()
            .map(|(name, _)| name)
            .filter(|it| number(it).is_some_and(|it: u64| it < *oldest));
        let (records, tensors): (Vec<String>, Vec<String>) = old.partition(|name| name.strip_suffix(".json").is_some());
        records.iter().chain(&tensors).try_for_each(|name| folder.join(name).delete())
    }
}

/// Fails where the object at `place` is not of `bytes` bytes with this digest.
fn check(place: &Location, bytes: u64, digest: &str) -> Result<()> {
    let damaged = |what: &str| Error::Corrupt { uri: place.uri().to_owned(), what: what.to_owned() };
    if place.size()? != bytes {
        return Err(damaged("does not have the size that its checkpoint states"));
    }
    if place.digest(bytes)?.to_hex().as_str() != digest {
        return Err(damaged("does not have the digest that its checkpoint states"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use evoq_schemas::Reject;
    use serde_json::json;

    use super::*;
    use crate::Draft;
    use crate::draft::tests::header;
    use crate::faulty::{Fate, Faulty};
    use crate::scratch::tests::{reject, scratch, tables};

    fn save(scratch: &Scratch, done: u64, keep: usize) {
        let values = [done as f32, -0.5];
        let tensors = [TensorView { name: "w".to_owned(), shape: vec![2], values: &values }];
        scratch.save((done, 9), tables(scratch, &[done]), json!({ "w": done }), &tensors, keep).unwrap();
    }

    /// The last checkpoint, and why later ones were passed over.
    fn latest(scratch: &Scratch) -> (Option<Saved>, Vec<String>) {
        let mut said = Vec::new();
        (scratch.latest(|error| said.push(error.to_string())).unwrap(), said)
    }

    fn names(scratch: &Scratch) -> Vec<String> {
        scratch.place().join(FOLDER).list().unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_checkpoint_comes_back_with_its_tensors_rows_and_note() {
        let (_folder, _, scratch) = scratch();
        assert_eq!(latest(&scratch), (None, Vec::new()));
        save(&scratch, 2, 2);
        save(&scratch, 4, 2);
        let saved = latest(&scratch).0.unwrap();
        assert_eq!((saved.done, saved.total, &saved.note), (4, 9, &json!({ "w": 4 })));
        let rows: Vec<Reject> =
            scratch.parts::<Reject>(&saved).iter().flat_map(|part| part.rows(&[]).unwrap()).collect();
        assert_eq!(rows, (0..4).map(reject).collect::<Vec<_>>());
        let mut found = Vec::new();
        scratch
            .tensors(&saved, |tensor| {
                found.push(tensor);
                Ok(())
            })
            .unwrap();
        assert_eq!(found, [OwnedTensor { name: "w".to_owned(), shape: vec![2], values: vec![4.0, -0.5] }]);
    }

    #[test]
    fn the_last_n_are_kept_and_those_of_a_run_that_is_further() {
        let (_folder, _, scratch) = scratch();
        for done in [2, 4, 8] {
            save(&scratch, done, 3);
        }
        save(&scratch, 6, 2);
        let numbers: Vec<String> = names(&scratch).iter().map(|name| name[..8].to_owned()).collect();
        assert_eq!(numbers, ["00000004", "00000004", "00000006", "00000006", "00000008", "00000008"]);
    }

    /// Why the checkpoint of 4 is passed over for that of 2 after `damage` to its files whose names have `part`.
    fn passed_over(part: &str, damage: impl Fn(&[u8]) -> Option<Vec<u8>>) -> String {
        let (_folder, _, scratch) = scratch();
        save(&scratch, 2, 2);
        save(&scratch, 4, 2);
        let all = scratch.place().list().unwrap();
        let (name, _) = all.iter().find(|(name, _)| name.contains(part)).unwrap();
        let place = scratch.place().join(name);
        match damage(&place.get().unwrap()) {
            Some(bytes) => place.put(Bytes::from(bytes)).unwrap(),
            None => place.delete().unwrap(),
        }
        let (saved, said) = latest(&scratch);
        assert_eq!((saved.unwrap().done, said.len()), (2, 1), "{said:?}");
        said[0].clone()
    }

    #[test]
    fn a_checkpoint_that_is_not_whole_is_passed_over_by_name() {
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            Some(bytes)
        };
        let cut = |bytes: &[u8]| Some(bytes[..bytes.len() - 1].to_vec());
        assert!(passed_over("00000004-", flipped).ends_with("does not have the digest that its checkpoint states"));
        assert!(passed_over("00000004-", cut).ends_with("does not have the size that its checkpoint states"));
        assert!(passed_over("00000004-", |_| None).ends_with("not found"));
        assert!(passed_over("00000004.json", cut).contains("00000004.json: is not the record of a checkpoint"));
    }

    #[test]
    fn a_checkpoint_of_another_step_is_passed_over_by_name() {
        let said = passed_over("00000004.json", |bytes| {
            Some(String::from_utf8_lossy(bytes).replace("\"fingerprint\":\"f\"", "\"fingerprint\":\"g\"").into_bytes())
        });
        assert!(said.contains("is of pair 1, step g, 4 done, layout 1; expected pair 1, step f, 4 done"), "{said}");
    }

    #[test]
    fn a_checkpoint_that_cannot_be_reached_is_not_passed_over() {
        let place = Faulty::place(&[], &[Fate::Unknown]);
        let scratch = Draft::new(&place, header("f")).scratch().unwrap();
        save(&scratch, 2, 2);
        let error = scratch.latest(|error| panic!("{error}")).unwrap_err();
        assert!(error.to_string().contains("the disk is on fire"), "{error}");
    }

    #[test]
    fn a_checkpoint_whose_record_was_not_put_does_not_exist() {
        let (_folder, _, scratch) = scratch();
        save(&scratch, 2, 2);
        save(&scratch, 4, 2);
        scratch.record(4).delete().unwrap();
        assert_eq!(latest(&scratch).0.unwrap().done, 2);
    }
}
