//! Units of work: the grain of resume, retry and distribution alike.
//!
//! A step's rows are cut into units by position. A unit that is done has a receipt, so a restart skips it; `--shard i/n` does
//! the units `i mod n`; whoever finds all receipts there commits the artifact.

use std::ops::Range;
use std::panic::resume_unwind;
use std::str::FromStr;
use std::thread::{self, ScopedJoinHandle};

use evoq_artifacts::{Error, Receipt, Unit};
use evoq_schemas::Table;
use rayon::prelude::*;

use crate::{Job, Progress};

/// Which units a process does: those whose number leaves `index` when it is divided by `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// All units.
    pub(crate) const ALL: Self = Self { index: 0, count: 1 };
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err("expected i/n with i from 0 to n - 1, such as 0/4"),
        }
    }
}

/// What became of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitEnd {
    /// Its rows can be kept.
    Done,
    /// Its input is not fit to be used: the step will fail, and nothing of it is to stay.
    Refused,
}

/// All units of a step.
#[derive(Debug)]
pub struct Units(Vec<Receipt>);

impl Units {
    /// The notes of the units, in their order.
    pub fn notes<N: serde::de::DeserializeOwned>(&self) -> anyhow::Result<Vec<N>> {
        self.0.iter().map(|receipt| Ok(serde_json::from_value(receipt.note.clone())?)).collect()
    }
}

impl Job {
    /// Does the work on `rows` rows in units of `unit_rows`, one unit after the other; those that have receipts are skipped.
    ///
    /// `work` is given the unit to write into, the positions of its rows, and the progress to add them to as they are done.
    /// Gives the units once all are done, to be taken with [`Job::close_units`]; nothing where units are left to other shards,
    /// or where one was refused, whose reason the stage tells.
    pub fn units(
        &mut self,
        what: &str,
        rows: usize,
        unit_rows: usize,
        mut work: impl FnMut(&mut Unit, Range<usize>, &Progress) -> anyhow::Result<UnitEnd>,
    ) -> anyhow::Result<Option<Units>> {
        let count = rows.div_ceil(unit_rows) as u32;
        let range = |unit: u32| unit as usize * unit_rows..rows.min((unit as usize + 1) * unit_rows);
        let done = self.draft.done_units()?;
        if !done.is_empty() {
            tracing::info!("{} of {count} units are done already", done.len());
        }
        let left = |unit: &u32| unit % self.shard.count == self.shard.index && !done.contains(unit);
        let left: Vec<u32> = (0..count).filter(left).collect();
        let progress = self.progress(what, left.iter().map(|unit| range(*unit).len() as u64).sum());
        let is_refused = self.work_on(&left, |number| {
            let mut unit = self.draft.unit(number, count);
            let end = work(&mut unit, range(number), &progress)?;
            Ok((unit, end))
        })?;
        drop(progress);
        if is_refused {
            self.draft.remove_receipts(true)?;
            return Ok(None);
        }
        let receipts: Result<Vec<_>, _> =
            (0..count).into_par_iter().map(|unit| self.draft.receipt(unit, count)).collect();
        match receipts {
            Ok(receipts) => {
                self.divided = true;
                Ok(Some(Units(receipts)))
            }
            // Another shard has it yet to do, or has committed and removed it.
            Err(Error::NotFound { .. }) => {
                self.unfinished = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Does the work on the units `left`; gives whether one was refused. While a unit is closed, which takes the disk or the
    /// network more than the processor, the next is worked on.
    fn work_on(
        &self,
        left: &[u32],
        mut work: impl FnMut(u32) -> anyhow::Result<(Unit, UnitEnd)>,
    ) -> anyhow::Result<bool> {
        let mut is_refused = false;
        thread::scope(|scope| {
            let mut closing: Option<ScopedJoinHandle<Result<(), Error>>> = None;
            for number in left {
                self.check()?;
                match work(*number)? {
                    // Nothing will be committed: the others are only looked at.
                    (_, UnitEnd::Done) if is_refused => {}
                    (unit, UnitEnd::Done) => {
                        closed(closing.take())?;
                        closing = Some(scope.spawn(|| self.draft.close_unit(unit)));
                    }
                    (_, UnitEnd::Refused) => is_refused = true,
                }
            }
            closed(closing)
        })?;
        Ok(is_refused)
    }

    /// Takes what the units wrote as the output table `T`.
    pub fn close_units<T: Table>(&mut self, units: &Units) -> anyhow::Result<()> {
        Ok(self.draft.add_units::<T>(&units.0)?)
    }
}

/// Waits until a unit is closed.
fn closed(closing: Option<ScopedJoinHandle<Result<(), Error>>>) -> anyhow::Result<()> {
    let Some(closing) = closing else { return Ok(()) };
    Ok(closing.join().unwrap_or_else(|panic| resume_unwind(panic))?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use evoq_artifacts::{Draft, Header, Location};
    use evoq_schemas::Reject;

    use super::*;

    /// A job that writes into `folder`, on the units of a shard.
    fn job(folder: &tempfile::TempDir, shard: &str) -> Job {
        let header = Header {
            stage: "test".to_owned(),
            stage_version: 1,
            fingerprint: "f".to_owned(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
        };
        Job {
            tables: BTreeMap::new(),
            policies: BTreeMap::new(),
            draft: Draft::new(&Location::open(folder.path().to_str().unwrap()).unwrap(), header),
            stage: "test",
            scratch: None,
            shard: shard.parse().unwrap(),
            unfinished: false,
            divided: false,
        }
    }

    /// Writes 35 rows in units of ten. Fails at the row `fails`, and refuses its unit at the row `refused`. Gives the positions
    /// with which the units begin that were ended, and what the job gave.
    fn work(
        job: &mut Job,
        fails: Option<usize>,
        refused: Option<usize>,
    ) -> (Vec<usize>, anyhow::Result<Option<Units>>) {
        let mut ended = Vec::new();
        let units = job.units("rows", 35, 10, |unit, rows, _| {
            for row in rows.clone() {
                anyhow::ensure!(fails != Some(row), "row {row}");
                unit.push(Reject {
                    source: "source".to_owned(),
                    line: Some(row as u64),
                    name: row.to_string(),
                    reason: "missing".to_owned(),
                    detail: String::new(),
                })?;
            }
            unit.note(rows.len());
            ended.push(rows.start);
            Ok(if refused.is_some_and(|row| rows.contains(&row)) { UnitEnd::Refused } else { UnitEnd::Done })
        });
        (ended, units)
    }

    fn commit(mut job: Job, units: &Units) -> Vec<Reject> {
        job.close_units::<Reject>(units).unwrap();
        job.draft.commit().unwrap().rows().unwrap()
    }

    #[test]
    fn a_restart_goes_on_with_the_unit_that_was_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let (ended, units) = work(&mut job(&folder, "0/1"), Some(25), None);
        assert_eq!((ended, units.is_err()), (vec![0, 10], true));
        let mut job = job(&folder, "0/1");
        let (ended, units) = work(&mut job, None, None);
        assert_eq!(ended, [20, 30]);
        let units = units.unwrap().unwrap();
        assert_eq!(units.notes::<usize>().unwrap(), [10, 10, 10, 5]);
        let lines: Vec<_> = commit(job, &units).iter().map(|row| row.line).collect();
        assert_eq!(lines, (0..35).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_shard_has_all_units() {
        let folder = tempfile::tempdir().unwrap();
        let mut second = job(&folder, "1/2");
        let (ended, units) = work(&mut second, None, None);
        assert_eq!(ended, [10, 30]);
        assert!(units.unwrap().is_none() && second.unfinished);
        let mut first = job(&folder, "0/2");
        let (ended, units) = work(&mut first, None, None);
        assert_eq!(ended, [0, 20]);
        assert_eq!(commit(first, &units.unwrap().unwrap()).len(), 35);
    }

    #[test]
    fn a_refused_unit_leaves_nothing_and_the_others_are_looked_at_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(&folder, "0/1");
        let (ended, units) = work(&mut job, None, Some(12));
        assert_eq!(ended, [0, 10, 20, 30]);
        assert!(units.unwrap().is_none() && !job.unfinished);
        assert_eq!(job.draft.location().list().unwrap(), []);
    }

    #[test]
    fn a_table_without_rows_is_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(&folder, "0/1");
        let units = job.units("rows", 0, 10, |_, _, _| Ok(UnitEnd::Done)).unwrap().unwrap();
        assert!(commit(job, &units).is_empty());
    }

    #[test]
    fn a_shard_is_one_of_n() {
        assert_eq!("0/1".parse(), Ok(Shard::ALL));
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        for text in ["", "1", "4/4", "0/0", "-1/2", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
