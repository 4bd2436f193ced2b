//! The ledger of runs, `<root>/ledger/<run>/`: what differs from run to run, outside the artifacts.
//!
//! `runs.parquet` and `run_steps.parquet` hold the rows of one run; `plan.json` what each step was made from, so that a later
//! plan can say what changed; `logs/` what the steps said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::Schema;
use bytes::Bytes;
use evoq_artifacts::{Created, Location, now_ms, read_file};
use evoq_schemas::{RunRow, RunStepRow, Table, Timing};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::matrix::Variant;
use crate::problem::suggestion;

/// Steps are written no more often than that.
const PAUSE: Duration = Duration::from_secs(1);

/// What a run set out to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The version of this layout.
    pub evoq: u32,
    /// The workflow's name.
    pub workflow: String,
    /// Its steps, in order.
    pub steps: Vec<StepRecord>,
}

/// What a step was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step.
    pub step: String,
    /// Its round.
    pub round: Option<u32>,
    /// Its combination of the matrix.
    #[serde(default, skip_serializing_if = "Variant::is_empty")]
    pub variant: Variant,
    /// The stage, or for a command the step's name.
    pub stage: String,
    /// The version of its algorithm.
    pub version: u32,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its parameters after defaults.
    pub parameters: Map<String, Value>,
    /// The fingerprints of its inputs.
    pub inputs: BTreeMap<String, Vec<String>>,
}

/// A run's place in the ledger.
#[derive(Debug)]
pub struct Ledger {
    /// Where its files are.
    pub place: Location,
    /// Its row.
    pub row: RunRow,
    steps: Vec<RunStepRow>,
    /// Whether steps that were made are not written yet.
    is_behind: bool,
    written: Instant,
}

impl Ledger {
    /// Enters a new run. Its id is its time; two runs of one millisecond get two ids, as the entry is create-only.
    pub fn start(root: &Location, plan: &PlanRecord, seed: u64) -> Result<Self> {
        let text = serde_json::to_string_pretty(plan).expect("a plan is plain data");
        let started_ms = now_ms();
        for later in 0.. {
            let run = run_id(started_ms + later);
            let place = root.join("ledger").join(&run);
            if place.join("plan.json").create(Bytes::from(text.clone()))? == Created::New {
                let workflow = plan.workflow.clone();
                let outcome = "running".to_owned();
                let row = RunRow { run, workflow, seed, started_ms, outcome };
                let ledger = Self { place, row, steps: Vec::new(), is_behind: false, written: Instant::now() };
                ledger.write()?;
                return Ok(ledger);
            }
        }
        unreachable!("the loop ends with a free id")
    }

    /// Enters a step that has ended. It is written at once, or with the next one or [`Ledger::flush`] a moment later: a file for each
    /// of many short steps would cost more than the steps.
    pub fn step(&mut self, step: RunStepRow) -> Result<()> {
        self.is_behind |= !step.cached;
        self.steps.push(step);
        if self.written.elapsed() >= PAUSE { self.flush() } else { Ok(()) }
    }

    /// Writes the steps that were made since the last time.
    pub fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_behind) {
            self.written = Instant::now();
            return self.write_steps();
        }
        Ok(())
    }

    /// Enters how the run ended.
    pub fn end(&mut self, outcome: &str) -> Result<()> {
        outcome.clone_into(&mut self.row.outcome);
        self.write()
    }

    fn write(&self) -> Result<()> {
        self.place.join("runs.parquet").put(parquet(std::slice::from_ref(&self.row)))?;
        self.write_steps()
    }

    fn write_steps(&self) -> Result<()> {
        Ok(self.place.join("run_steps.parquet").put(parquet(&self.steps))?)
    }
}

/// The ids of the runs, the latest last.
pub fn runs(root: &Location) -> Result<Vec<String>> {
    // What a run starts with is its plan: a folder is a run, but for that of the stages' timings.
    let mut names = root.join("ledger").folders()?;
    names.retain(|name| name != Timing::NAME);
    Ok(names)
}

/// The latest run of the workflow `name`, and its plan.
pub fn latest_plan(root: &Location, name: &str) -> Result<Option<(String, PlanRecord)>> {
    for run in runs(root)?.into_iter().rev() {
        let plan = plan(root, &run)?;
        if plan.workflow == name {
            return Ok(Some((run, plan)));
        }
    }
    Ok(None)
}

/// What a run set out to do.
pub fn plan(root: &Location, run: &str) -> Result<PlanRecord> {
    let place = root.join("ledger").join(run).join("plan.json");
    let corrupt = |error| {
        let what = format!("is not a plan: {error}");
        Error::Artifacts(evoq_artifacts::Error::Corrupt { uri: place.uri().to_owned(), what })
    };
    serde_json::from_slice(&place.get()?).map_err(corrupt)
}

/// The run `asked` for, or the latest at `root`.
pub fn chosen(root: &Location, asked: Option<&str>) -> Result<String> {
    let all = runs(root)?;
    match (asked, all.last()) {
        (Some(run), _) if all.iter().any(|known| known == run) => Ok(run.to_owned()),
        (Some(run), _) => {
            let near = suggestion(run, all.iter().map(String::as_str));
            Err(Error::BadInput(format!("there is no run {run} at {}{near}", root.uri())))
        }
        (None, Some(latest)) => Ok(latest.clone()),
        (None, None) => Err(Error::BadInput(format!(
            "{}: no run has been entered here; `evoq run FILE --root …` makes one",
            root.uri()
        ))),
    }
}

/// The row of a run.
pub fn run_row(root: &Location, run: &str) -> Result<Vec<RunRow>> {
    rows(&root.join("ledger").join(run).join("runs.parquet"))
}

/// The rows of a run's steps.
pub fn run_steps(root: &Location, run: &str) -> Result<Vec<RunStepRow>> {
    rows(&root.join("ledger").join(run).join("run_steps.parquet"))
}

/// The machine's name.
pub fn host() -> String {
    let name = read_file("/proc/sys/kernel/hostname".as_ref()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn parquet<T: Table>(rows: &[T]) -> Bytes {
    let write = || {
        let mut writer = ArrowWriter::try_new(Vec::new(), T::schema(), None)?;
        writer.write(&T::batch(rows))?;
        writer.into_inner()
    };
    Bytes::from(write().expect("rows in memory of a schema of our own are written to memory"))
}

/// The rows of one Parquet file; none where there is no file: a run that was killed at its very start. A column that may be
/// null and is not there came into the table after the run.
fn rows<T: Table>(place: &Location) -> Result<Vec<T>> {
    let corrupt = |what: String| Error::Artifacts(evoq_artifacts::Error::Corrupt { uri: place.uri().to_owned(), what });
    let bytes = match place.get() {
        Err(evoq_artifacts::Error::NotFound { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
    let mut all = Vec::new();
    for batch in reader.map_err(|error| corrupt(error.to_string()))? {
        let batch = batch.map_err(|error| corrupt(error.to_string()))?;
        all.extend(T::rows(&completed::<T>(&batch)).map_err(|error| corrupt(error.to_string()))?);
    }
    Ok(all)
}

fn completed<T: Table>(batch: &RecordBatch) -> RecordBatch {
    let schema = T::schema();
    let missing: Vec<_> = schema.fields().iter().filter(|it| batch.column_by_name(it.name()).is_none()).collect();
    let (mut fields, mut columns) = (batch.schema().fields().to_vec(), batch.columns().to_vec());
    for field in missing.into_iter().filter(|field| field.is_nullable()) {
        fields.push(field.clone());
        columns.push(new_null_array(field.data_type(), batch.num_rows()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap_or_else(|_| batch.clone())
}

/// A run's id from its time: `20251121-024800-123` in UTC, so that ids sort by time.
fn run_id(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{:03}", rest % 1000)
}

/// Year, month and day of the day `days` after 1970-01-01, in the Gregorian calendar (Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The row of `step`, made in a second.
    pub(crate) fn made(step: &StepRecord) -> RunStepRow {
        RunStepRow {
            run: "r".to_owned(),
            workflow_step: step.step.clone(),
            round: step.round,
            variant: step.variant.text(),
            stage: step.stage.clone(),
            fingerprint: step.fingerprint.clone(),
            cached: false,
            started_ms: 0,
            seconds: 1.0,
            outcome: "done".to_owned(),
            host: "h".to_owned(),
            executor: None,
            attempts: None,
        }
    }

    fn root() -> (tempfile::TempDir, Location) {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        (folder, root)
    }

    #[test]
    fn ids_are_dates_that_sort_by_time() {
        assert_eq!(run_id(0), "19700101-000000-000");
        assert_eq!(run_id(951_782_399_999), "20000228-235959-999");
        assert_eq!(run_id(951_782_400_000), "20000229-000000-000");
        assert_eq!(run_id(1_763_693_280_123), "20251121-024800-123");
    }

    #[test]
    fn runs_of_one_moment_get_ids_of_their_own_and_the_latest_is_found_by_workflow() {
        let (_folder, root) = root();
        let plan = |workflow: &str| PlanRecord { evoq: 1, workflow: workflow.to_owned(), steps: Vec::new() };
        let ids: Vec<String> = (0..5).map(|_| Ledger::start(&root, &plan("a"), 1).unwrap().row.run).collect();
        Ledger::start(&root, &plan("b"), 1).unwrap();
        assert_eq!(runs(&root).unwrap().len(), 6);
        assert_eq!(latest_plan(&root, "a").unwrap().unwrap().0, ids[4]);
        assert_eq!(latest_plan(&root, "c").unwrap(), None);
    }

    #[test]
    fn what_stages_told_of_their_pace_is_no_run() {
        let (_folder, root) = root();
        let plan = PlanRecord { evoq: 1, workflow: "a".to_owned(), steps: Vec::new() };
        let run = Ledger::start(&root, &plan, 1).unwrap().row.run;
        let timing = Timing {
            fingerprint: "f".to_owned(),
            stage: "grpo".to_owned(),
            started_ms: 1,
            update_index: 0,
            phase: "sampling".to_owned(),
            seconds: 0.5,
            tokens: None,
            peak_bytes: None,
        };
        evoq_artifacts::put_timings(&root, "grpo", [timing]).unwrap();
        assert_eq!(runs(&root).unwrap(), [run]);
    }

    #[test]
    fn what_was_entered_is_read_again() {
        let (_folder, root) = root();
        let plan = PlanRecord { evoq: 1, workflow: "a".to_owned(), steps: Vec::new() };
        let mut ledger = Ledger::start(&root, &plan, 7).unwrap();
        ledger.end("done").unwrap();
        let rows = run_row(&root, &ledger.row.run).unwrap();
        assert_eq!((rows[0].outcome.as_str(), rows[0].seed), ("done", 7));
        assert_eq!(run_steps(&root, &ledger.row.run).unwrap(), []);
    }
}
