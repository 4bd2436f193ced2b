//! One step made: its program with all its flags, run as often as it takes, and what it wrote looked at.

use std::path::Path;
use std::time::Instant;

use evoq_artifacts::{Artifact, Draft, Header, Location, make_folder, now_ms};
use evoq_schemas::RunStepRow;

use super::machine::Share;
use super::screen::Screen;
use super::{How, log_name};
use crate::child::{self, Ended};
use crate::error::{Error, Result};
use crate::executor::{Executor, Job};
use crate::foreign::ForeignCall;
use crate::ledger::host;
use crate::plan::{PlannedStep, Work};
use crate::select::State;

/// What all steps of a run are made with.
#[derive(Clone, Copy)]
pub struct Shop<'a> {
    /// Runs their programs.
    pub executor: &'a dyn Executor,
    /// Where their logs go.
    pub logs: &'a Path,
    /// The folder that the executor's machines share; temporary folders of this machine do without it.
    pub jobs: Option<&'a Path>,
    /// What the user asked for.
    pub how: &'a How,
    /// Where it is shown.
    pub screen: &'a Screen,
}

/// How a step ended.
#[derive(Debug)]
pub struct End {
    /// Whether it was there already.
    pub is_found: bool,
    /// How often its program was run.
    pub attempts: u32,
    /// When it began.
    started_ms: u64,
    /// How long it took.
    pub seconds: f64,
    /// Whether it is there now.
    pub result: Result<()>,
}

impl End {
    /// The end of a step that the plan found.
    pub fn found() -> Self {
        Self { is_found: true, attempts: 0, started_ms: now_ms(), seconds: 0.0, result: Ok(()) }
    }

    /// The end of a step at which this program itself failed; what happened is on stderr.
    pub fn panicked(step: &PlannedStep) -> Self {
        let result = Err(Error::Program(format!("step {} failed: a fault of evoq itself, told above", step.title())));
        Self { attempts: 1, is_found: false, result, ..Self::found() }
    }

    /// `done`, `stopped` or `failed`.
    pub fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(()) => "done",
            Err(Error::Interrupted) => "stopped",
            Err(_) => "failed",
        }
    }

    /// Its row in the ledger; `executor` is the run's.
    pub fn row(&self, step: &PlannedStep, run: &str, executor: &str) -> RunStepRow {
        let record = &step.record;
        RunStepRow {
            run: run.to_owned(),
            workflow_step: record.step.clone(),
            round: record.round,
            variant: record.variant.text(),
            stage: record.stage.clone(),
            fingerprint: record.fingerprint.clone(),
            cached: self.is_found,
            started_ms: self.started_ms,
            seconds: self.seconds,
            outcome: self.outcome().to_owned(),
            host: host(),
            executor: (!self.is_found).then(|| executor.to_owned()),
            attempts: Some(self.attempts),
        }
    }
}

impl Shop<'_> {
    /// Makes the step at place `i` of the plan, unless it is there. What `is_known` was made by this run before.
    pub fn make(&self, i: usize, step: &PlannedStep, share: &Share, is_known: bool) -> End {
        let (started_ms, start) = (now_ms(), Instant::now());
        let (mut attempts, mut is_found) = (0, false);
        let result = loop {
            let result = found(step, is_known || attempts > 0).and_then(|found| {
                is_found = found;
                if found { Ok(()) } else { self.attempt(i, step, share) }
            });
            attempts += u32::from(!is_found);
            match result {
                Err(error) if attempts <= self.how.retries && error.exit_code() == 1 && !child::stopped() => {
                    self.screen
                        .line(step, &format!("failed, is tried again ({attempts} of {}): {error}", self.how.retries));
                }
                result => break result,
            }
        };
        // What another process has made while this one tried is this step's all the same.
        is_found &= attempts == 0;
        End { is_found, attempts, started_ms, seconds: start.elapsed().as_secs_f64(), result }
    }

    /// Runs the step's program once and takes what it wrote.
    fn attempt(&self, i: usize, step: &PlannedStep, share: &Share) -> Result<()> {
        let log = self.logs.join(log_name(&step.record));
        let unmade = |error: std::io::Error| Error::Program(format!("a temporary folder could not be made: {error}"));
        // Only a command leaves files on the way.
        let scratch = match &step.work {
            Work::Stage { .. } => None,
            Work::Command(_) => Some(match self.jobs {
                Some(folder) => {
                    make_folder(folder)?;
                    tempfile::tempdir_in(folder).map_err(unmade)?
                }
                None => tempfile::tempdir().map_err(unmade)?,
            }),
        };
        let words = self.words(step, scratch.as_ref().map(tempfile::TempDir::path), share)?;
        let is_stage = matches!(step.work, Work::Stage { .. });
        let job = Job {
            fingerprint: &step.record.fingerprint,
            place: &step.location,
            words,
            folder: if let Work::Command(call) = &step.work { Some(call.folder.clone()) } else { None },
            fills: match (&step.work, &scratch) {
                (Work::Command(call), Some(scratch)) => call.fills(scratch.path()),
                _ => Vec::new(),
            },
            divides: matches!(step.work, Work::Stage { divides: true, .. }),
            resumes: is_stage,
            cpus: share.cpus,
            gpus: step.resources.gpus,
            devices: share.devices.clone(),
            memory: step.resources.memory,
            log: log.clone(),
        };
        let ended = self.executor.run(&job, &|line| self.screen.progress(i, step, line))?;
        if child::stopped() && ended.code != Some(0) {
            return Err(Error::Interrupted);
        }
        let failed = |line, code| Error::Step { step: step.title(), line, log: log.display().to_string(), code };
        if ended.code != Some(0) {
            return Err(failed(line_of(&ended), if ended.code == Some(2) { 2 } else { 1 }));
        }
        if let (Work::Command(call), Some(scratch)) = (&step.work, &scratch) {
            return commit(step, call, scratch.path()).map_err(|error| failed(error.to_string(), error.exit_code()));
        }
        match Artifact::at(&step.location) {
            Ok(made) if made.fingerprint() == step.record.fingerprint => Ok(()),
            Ok(made) => {
                let line = format!(
                    "it wrote an artifact with the fingerprint {}; its plan has {}: the stage counts other parameters or inputs",
                    made.fingerprint(),
                    step.record.fingerprint
                );
                Err(failed(line, 1))
            }
            Err(error) => Err(failed(format!("it ended without an artifact: {error}"), 1)),
        }
    }

    /// The program of a step with all its flags.
    fn words(&self, step: &PlannedStep, scratch: Option<&Path>, share: &Share) -> Result<Vec<String>> {
        match (&step.work, scratch) {
            (Work::Command(call), Some(scratch)) => call.prepare(&step.inputs, scratch),
            (Work::Command(_), None) => unreachable!("a command is given a folder"),
            (Work::Stage { program, flags, .. }, _) => {
                let mut words = vec![program.display().to_string()];
                for (name, uris) in &step.inputs {
                    words.extend(uris.iter().map(|uri| format!("--{name}={uri}")));
                }
                words.extend(flags.iter().cloned());
                words.push(format!("--out={}", step.location.uri()));
                let threads = [self.how.threads, share.cpus].into_iter().flatten().min();
                words.extend(threads.map(|threads| format!("--threads={threads}")));
                words.extend(self.how.single_writer.then(|| "--single-writer".to_owned()));
                Ok(words)
            }
        }
    }
}

/// Whether the step is in the store. One that is to be made again is removed, unless this run `is_known` to have made it.
fn found(step: &PlannedStep, is_known: bool) -> Result<bool> {
    let old = at(&step.location)?;
    if step.state != State::Again || is_known {
        return Ok(old.is_some());
    }
    // Another run may have removed it, or not yet made it.
    old.map_or(Ok(()), Artifact::remove)?;
    Ok(false)
}

fn at(location: &Location) -> Result<Option<Artifact>> {
    match Artifact::at(location) {
        Ok(artifact) => Ok(Some(artifact)),
        Err(evoq_artifacts::Error::NoArtifact { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn line_of(ended: &Ended) -> String {
    match ended.code {
        // A stage says its own name in front, which the message says already.
        Some(_) => ended.line.split_once(": error: ").map_or(ended.line.as_str(), |(_, rest)| rest).to_owned(),
        // What the signal was is in the line.
        None => ended.line.clone(),
    }
}

/// Takes what a command wrote into the store.
fn commit(step: &PlannedStep, call: &ForeignCall, scratch: &Path) -> Result<()> {
    let record = &step.record;
    let header = Header {
        stage: record.stage.clone(),
        stage_version: record.version,
        fingerprint: record.fingerprint.clone(),
        parameters: record.parameters.clone(),
        inputs: record.inputs.clone(),
    };
    let mut draft = Draft::new(&step.location, header);
    call.collect(&mut draft, scratch)?;
    draft.commit()?;
    Ok(())
}
