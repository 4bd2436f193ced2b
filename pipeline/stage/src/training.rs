//! Training that survives anything and can be watched: checkpoints, tables and timings while it runs, a live line.
//!
//! A stage that trains takes its optimizer steps one after another and tells [`Training`] of each. What it leaves in scratch
//! is all that a restart needs; nothing of it enters the artifact, whose bytes are those of a run that was never stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use evoq_artifacts::{Error, OwnedTensor, Saved, Scratch, TableParts, TensorView, now_ms, put_timings};
use evoq_schemas::{Table, Timing};

use crate::growing::{Growing, Grows};
use crate::laps::{Laps, peak_bytes};
use crate::range::count;
use crate::tensorboard::Events;
use crate::{Job, Progress};

/// What a run does with what an earlier one of the same step has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    /// Goes on from the last checkpoint that is whole, if there is one.
    Auto,
    /// Begins at the beginning.
    Never,
}

/// What training leaves while it runs. None of it changes the result, or counts in the fingerprint.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "While it trains (the result does not depend on these)")]
pub struct Keeping {
    /// Optimizer steps from checkpoint to checkpoint; there is one at the end as well
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = count)]
    pub checkpoint_every: usize,
    /// Checkpoints that are kept
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count)]
    pub keep_checkpoints: usize,
    /// Whether a step that was stopped or killed goes on from its last checkpoint
    #[arg(long, value_enum, default_value = "auto")]
    pub resume: Resume,
    /// Optimizer steps after which the tables so far can be read (`evoq sql --live`)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count)]
    pub live_every: usize,
    /// Folder for TensorBoard's event files
    #[arg(long, value_name = "FOLDER")]
    pub tensorboard: Option<PathBuf>,
}

/// All that an optimizer knows of one tensor, row by row.
#[derive(Debug)]
pub struct Trained<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Steps that it took.
    pub steps: i32,
    /// The master weights.
    pub master: &'a [f32],
    /// The first moment.
    pub first: &'a [f32],
    /// The second moment.
    pub second: &'a [f32],
}

/// What the file of a checkpoint calls the three, in this order.
const PARTS: [&str; 3] = ["master", "first", "second"];

/// What an optimizer step was like.
#[derive(Debug)]
pub struct Taken<'a> {
    /// How long its phases took.
    pub laps: Laps,
    /// What is drawn over the steps, by name.
    pub scalars: &'a [(&'a str, f64)],
    /// What the live line says of it.
    pub line: String,
}

/// A stage's training, from step to step.
pub struct Training {
    keeping: Keeping,
    scratch: Scratch,
    stage: &'static str,
    /// When this process began, milliseconds since 1970.
    started_ms: u64,
    total: u64,
    done: u64,
    /// Steps whose rows are in scratch.
    shown: u64,
    /// Steps that the last checkpoint covers.
    saved: u64,
    timings: Vec<Timing>,
    events: Option<Events>,
    progress: Option<Progress>,
}

impl Job {
    /// Starts training of `total` optimizer steps.
    pub fn training(&mut self, keeping: &Keeping, total: usize) -> anyhow::Result<Training> {
        let scratch = self.draft.scratch()?;
        self.scratch = Some(scratch.clone());
        let events = keeping.tensorboard.as_deref().map(Events::open).transpose()?;
        Ok(Training {
            keeping: keeping.clone(),
            scratch,
            stage: self.stage,
            started_ms: now_ms(),
            total: total as u64,
            done: 0,
            shown: 0,
            saved: 0,
            timings: Vec::new(),
            events,
            progress: None,
        })
    }

    /// An output table whose rows so far can be read. Give it back to [`Job::close_growing`].
    pub fn grow<T: Table>(&self) -> Growing<T> {
        Growing::new(self.write())
    }

    /// Takes the rows of `table` as the output table `T`.
    pub fn close_growing<T: Table>(&mut self, table: Growing<T>) -> anyhow::Result<()> {
        self.close(table.into_writer())
    }
}

impl Training {
    /// Puts back the last checkpoint that is whole: its rows into `tables`, which are empty, and its tensors, one at a time,
    /// through `restore`. Gives the steps that it covers; 0 where there is none.
    pub fn resume(
        &mut self,
        tables: &mut [&mut dyn Grows],
        mut restore: impl FnMut(&Trained<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        if self.keeping.resume == Resume::Auto
            && let Some(saved) = self.restored(&mut restore)?
        {
            for table in tables {
                table.take_up(&self.scratch, &saved)?;
            }
            (self.done, self.shown, self.saved) = (saved.done, saved.done, saved.done);
            tracing::info!("goes on from step {} of {}", saved.done, self.total);
        }
        self.progress = Some(Progress::from("updates", self.done, self.total));
        Ok(usize::try_from(self.done)?)
    }

    /// The last checkpoint that is whole, its tensors put back.
    fn restored(&self, restore: &mut impl FnMut(&Trained<'_>) -> anyhow::Result<()>) -> anyhow::Result<Option<Saved>> {
        let mut is_touched = false;
        loop {
            let passed_over = |error: &Error| tracing::warn!("a checkpoint is passed over: {error}");
            let Some(saved) = self.scratch.latest(passed_over)? else {
                anyhow::ensure!(!is_touched, "another run of this step has ended it meanwhile; run it again");
                return Ok(None);
            };
            is_touched = true;
            match self.put_back(&saved, restore) {
                Ok(()) => return Ok(Some(saved)),
                // Another run of this step is further, and has removed it: a later one is there.
                Err(error) if matches!(error.downcast_ref(), Some(Error::NotFound { .. })) => {}
                Err(error) => return Err(error.context(format!("going on from step {}", saved.done))),
            }
        }
    }

    fn put_back(
        &self,
        saved: &Saved,
        restore: &mut impl FnMut(&Trained<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let steps: BTreeMap<String, i32> = serde_json::from_value(saved.note.clone())?;
        let (mut waiting, mut fault, mut restored) = (Vec::with_capacity(PARTS.len()), Ok(()), 0);
        self.scratch.tensors(saved, |tensor| {
            waiting.push(tensor);
            if fault.is_ok() && waiting.len() == PARTS.len() {
                fault = whole(&waiting, &steps).and_then(|trained| restore(&trained));
                restored += 1;
                waiting.clear();
            }
            Ok(())
        })?;
        fault?;
        anyhow::ensure!(restored == steps.len(), "{restored} tensors were found; expected {}", steps.len());
        Ok(())
    }

    /// Notes a step that was taken, whose rows have been pushed.
    pub fn taken(&mut self, step: &Taken<'_>) -> anyhow::Result<()> {
        if let Some(events) = &mut self.events {
            events.scalars(self.done, step.scalars)?;
        }
        self.time(self.done, &step.laps)?;
        self.done += 1;
        if let Some(progress) = &self.progress {
            progress.say(&step.line);
            progress.add(1);
        }
        Ok(())
    }

    /// Whether a checkpoint is due.
    pub fn is_due(&self) -> bool {
        self.done == self.total || self.done - self.saved >= self.keeping.checkpoint_every as u64
    }

    /// Lets the rows so far be read, if that is due.
    pub fn show(&mut self, tables: &mut [&mut dyn Grows]) -> anyhow::Result<()> {
        if self.done - self.shown >= self.keeping.live_every as u64 {
            self.flush(tables)?;
            self.tell()?;
        }
        Ok(())
    }

    /// Saves a checkpoint, unless the last one covers as many steps. `state` is every tensor that is trained.
    pub fn save(&mut self, tables: &mut [&mut dyn Grows], state: &[Trained<'_>]) -> anyhow::Result<()> {
        if self.done == self.saved {
            return Ok(());
        }
        let mut laps = Laps::start();
        let parts = self.flush(tables)?;
        let steps: BTreeMap<&str, i32> = state.iter().map(|it| (it.name, it.steps)).collect();
        let views = state.iter().flat_map(|it| {
            let view = |part: &str, values| TensorView {
                name: format!("{part}/{}", it.name),
                shape: it.shape.to_vec(),
                values,
            };
            let [master, first, second] = PARTS;
            [view(master, it.master), view(first, it.first), view(second, it.second)]
        });
        let views: Vec<TensorView<'_>> = views.collect();
        let note = serde_json::to_value(steps)?;
        self.scratch.save((self.done, self.total), parts, note, &views, self.keeping.keep_checkpoints)?;
        self.saved = self.done;
        laps.lap("checkpoint", None);
        self.time(self.done - 1, &laps)?;
        self.tell()
    }

    /// What there is to go on from, for the line that says why training ended.
    pub fn last_checkpoint(&self) -> String {
        match self.saved {
            0 => "there is no checkpoint yet".to_owned(),
            saved => format!("the last checkpoint, of {saved} steps, stays in {}", self.scratch.place().uri()),
        }
    }

    fn flush(&mut self, tables: &mut [&mut dyn Grows]) -> anyhow::Result<BTreeMap<String, TableParts>> {
        let mut parts = BTreeMap::new();
        for table in tables {
            parts.insert(table.name().to_owned(), table.flush(&self.scratch, self.shown)?);
        }
        self.scratch.show(self.done, self.total, parts.clone())?;
        self.shown = self.done;
        Ok(parts)
    }

    /// Notes how long the phases of step `step`, from 0, took.
    fn time(&mut self, step: u64, laps: &Laps) -> anyhow::Result<()> {
        let update_index = u32::try_from(step)?;
        for (number, lap) in laps.laps().iter().enumerate() {
            let is_last = number + 1 == laps.laps().len();
            self.timings.push(Timing {
                fingerprint: self.scratch.fingerprint().to_owned(),
                stage: self.stage.to_owned(),
                started_ms: self.started_ms,
                update_index,
                phase: lap.phase.to_owned(),
                seconds: lap.seconds,
                tokens: lap.tokens,
                peak_bytes: if is_last { peak_bytes() } else { None },
            });
        }
        Ok(())
    }

    /// Puts the timings so far into the ledger.
    fn tell(&mut self) -> anyhow::Result<()> {
        if !self.timings.is_empty() {
            put_timings(self.scratch.root(), self.stage, self.timings.drain(..))?;
        }
        Ok(())
    }
}

/// The three tensors of a checkpoint that are of one name.
fn whole<'a>(tensors: &'a [OwnedTensor], steps: &BTreeMap<String, i32>) -> anyhow::Result<Trained<'a>> {
    let [master, first, second] = tensors else { anyhow::bail!("{} tensors; expected three", tensors.len()) };
    let named = |tensor: &'a OwnedTensor, part: &str| tensor.name.strip_prefix(part)?.strip_prefix('/');
    let [of_master, of_first, of_second] = PARTS;
    let names = [named(master, of_master), named(first, of_first), named(second, of_second)];
    let (Some(name), true) = (names[0], names[0] == names[1] && names[1] == names[2]) else {
        anyhow::bail!("found the tensors {}, {}, {}; expected {PARTS:?} of one", master.name, first.name, second.name);
    };
    let steps = *steps.get(name).with_context(|| format!("the steps of {name} are not told"))?;
    Ok(Trained {
        name,
        shape: &master.shape,
        steps,
        master: &master.values,
        first: &first.values,
        second: &second.values,
    })
}
