//! Runs a plan: each step that is not in the store is made as soon as all it reads is there and the machine has room for it.

mod machine;
mod make;
mod pace;
mod screen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use evoq_artifacts::Location;

use crate::child;
use crate::error::{Error, Result};
use crate::executor::{Executor, Local, Slurm};
use crate::ledger::{Ledger, StepRecord};
use crate::plan::{Plan, PlannedStep};
use crate::select::State;
use crate::workflow::Workflow;
use machine::{Machine, Share};
use make::{End, Shop};
use pace::Pace;
use screen::Screen;

/// How long steps that have ended may be missing in the ledger.
const FLUSH: Duration = Duration::from_secs(1);
/// Steps that run at once, at most: each has a thread here.
const MOST: usize = 256;

/// How steps are run; results do not depend on it.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Threads a stage may use; all cores that are there without it.
    pub threads: Option<usize>,
    /// Cores for all steps together; the machine's without it.
    pub cpus: Option<usize>,
    /// Bytes of memory for all steps together; the machine's without it.
    pub memory: Option<u64>,
    /// Trust that no other process writes below the root.
    pub single_writer: bool,
    /// After a failure, still start what does not depend on it.
    pub keep_going: bool,
    /// How often a step that failed is tried again.
    pub retries: u32,
    /// The cluster to run on; this machine without it.
    pub slurm: Option<SlurmHow>,
}

/// How steps are run on Slurm.
#[derive(Debug, Clone)]
pub struct SlurmHow {
    /// The partition; the cluster's own choice without it.
    pub partition: Option<String>,
    /// Tasks of a step whose work divides.
    pub shards: u32,
    /// Where the jobs' folders are, shared by all nodes; below the root without it.
    pub folder: Option<PathBuf>,
}

/// Runs `plan`; gives the run's id.
pub fn run(workflow: &Workflow, plan: &Plan, root: &Location, how: &How) -> Result<String> {
    if !how.single_writer && plan.steps.iter().any(|step| step.state.runs()) {
        root.probe()?;
    }
    let (executor, jobs) = executor(how, root)?;
    let mut ledger = Ledger::start(root, &plan.record(&workflow.name), workflow.seed)?;
    let machine = if how.slurm.is_some() { Machine::boundless(how.cpus) } else { Machine::new(how) };
    let pace = || Pace::watched(plan, &machine, root, &workflow.name, executor.name());
    let screen = Screen::new(plan, pace);
    screen.say(&format!("run {} of {}: {}", ledger.row.run, workflow.name, counts(plan)));
    let logs = log_folder(&ledger.place, &ledger.row.run);
    let shop = Shop { executor: executor.as_ref(), logs: &logs, jobs: jobs.as_deref(), how, screen: &screen };
    let start = Instant::now();
    let mut tour = Tour::new(plan, machine, how.keep_going);
    let result = tour.go(&shop, &mut ledger);
    screen.clear();
    let result = result.and_then(|()| tour.outcome());
    let outcome = match &result {
        Ok(()) => "done",
        Err(Error::Interrupted) => "stopped",
        Err(_) => "failed",
    };
    ledger.end(outcome)?;
    if result.is_err() {
        tour.tell(&screen);
    }
    let end = if result.is_ok() { "is done" } else { outcome };
    screen.say(&format!("run {} {end} in {}{}", ledger.row.run, spent(start.elapsed()), tour.summary(result.is_ok())));
    result.map(|()| ledger.row.run)
}

/// What runs programs, and the folder that its machines share, where there are several.
fn executor(how: &How, root: &Location) -> Result<(Box<dyn Executor>, Option<PathBuf>)> {
    let Some(slurm) = &how.slurm else { return Ok((Box::new(Local), None)) };
    let below = root.join("scratch").join("slurm");
    let folder = slurm.folder.clone().or_else(|| below.local().map(Path::to_path_buf)).ok_or_else(|| {
        let root = root.uri();
        Error::BadInput(format!(
            "--executor slurm with --root {root}: name a folder that all nodes share by --jobs FOLDER"
        ))
    })?;
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let (partition, shards) = (slurm.partition.clone(), slurm.shards);
    Ok((Box::new(Slurm { folder: folder.clone(), partition, shards }), Some(folder)))
}

fn counts(plan: &Plan) -> String {
    let count = |is: fn(State) -> bool| plan.steps.iter().filter(|step| is(step.state)).count();
    let left = match count(|state| state == State::Left) {
        0 => String::new(),
        left => format!(", {left} left out"),
    };
    let (found, to_make) = (count(|state| state == State::Cached), count(State::runs));
    format!("{} steps, {found} found, {to_make} to make{left}", plan.steps.len())
}

/// The folder of the logs of `run`, whose entries in the ledger are at `place`: there, or where that is no folder on this
/// machine.
pub fn log_folder(place: &Location, run: &str) -> PathBuf {
    place.join("logs").local().map_or_else(|| std::env::temp_dir().join("evoq").join(run), Path::to_path_buf)
}

/// The name of a step's log: `votes.log`, `1-votes.log`; in a matrix with the start of the fingerprint, as there are several.
pub fn log_name(record: &StepRecord) -> String {
    let round = record.round.map_or_else(String::new, |round| format!("{round}-"));
    let variant = record.variant.text().map_or_else(String::new, |_| format!("-{}", &record.fingerprint[..8]));
    format!("{round}{}{variant}.log", record.step)
}

/// `35 s`, `3 min 20 s`.
fn spent(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// How far a step of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has not begun.
    Waits,
    /// It is being made.
    Runs,
    /// It was made.
    Made,
    /// It was there.
    Found,
    /// It failed, or was stopped.
    Failed,
    /// It reads, over however many steps, this one, which failed.
    Barred(usize),
    /// It was not asked for.
    Left,
}

/// A step that has ended, and what it held of the machine.
type Ended = (usize, Share, End);

/// A run on its way through the plan.
struct Tour<'a> {
    plan: &'a Plan,
    fates: Vec<Fate>,
    /// The steps that are being made.
    running: Vec<usize>,
    machine: Machine,
    /// Artifacts that this run makes or has made: two steps of a plan can be one artifact.
    places: BTreeSet<&'a str>,
    keep_going: bool,
    /// The steps that failed, in the order in which they did.
    failures: Vec<(usize, Error)>,
}

impl<'a> Tour<'a> {
    fn new(plan: &'a Plan, machine: Machine, keep_going: bool) -> Self {
        let fate = |step: &PlannedStep| if step.state == State::Left { Fate::Left } else { Fate::Waits };
        let fates = plan.steps.iter().map(fate).collect();
        let running = Vec::new();
        Self { plan, fates, running, machine, places: BTreeSet::new(), keep_going, failures: Vec::new() }
    }

    /// Makes every step that can be made. Fails where the ledger does; failures of steps are kept.
    fn go(&mut self, shop: &Shop<'a>, ledger: &mut Ledger) -> Result<()> {
        for (i, step) in self.plan.steps.iter().enumerate().filter(|(_, step)| step.state == State::Cached) {
            self.fates[i] = Fate::Found;
            let end = End::found();
            shop.screen.ended(i, step, &end);
            ledger.step(end.row(step, &ledger.row.run, shop.executor.name()))?;
        }
        let (tell, told) = channel();
        thread::scope(|scope| {
            let mut written = Ok(());
            loop {
                // A ledger that cannot be written ends the run; what runs ends by itself.
                if written.is_ok() {
                    self.start(scope, shop, &tell);
                }
                if self.running.is_empty() {
                    return written;
                }
                match next(&told) {
                    Some(ended) => {
                        let entered = self.enter(ended, shop, ledger);
                        written = written.and(entered);
                    }
                    None => written = written.and_then(|()| ledger.flush()),
                }
                shop.screen.tell_left();
            }
        })
    }

    /// Starts the steps that are ready, in the plan's order, as far as there is room for them.
    fn start<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, shop: &Shop<'a>, tell: &Sender<Ended>)
    where
        'a: 'scope,
    {
        let plan = self.plan;
        for (i, step) in plan.steps.iter().enumerate() {
            if child::stopped() || (!self.failures.is_empty() && !self.keep_going) {
                return;
            }
            if self.running.len() == MOST || self.machine.is_full() {
                return;
            }
            if !self.is_ready(i) {
                continue;
            }
            let Some(share) = self.machine.take(&step.resources) else { continue };
            self.fates[i] = Fate::Runs;
            self.running.push(i);
            // What this run has made is found the second time, also where it is to be made again.
            let is_known = !self.places.insert(step.location.uri());
            shop.screen.started(i, step);
            let (shop, tell) = (*shop, tell.clone());
            scope.spawn(move || {
                let make = || shop.make(i, step, &share, is_known);
                // A fault of ours fails the step; without an end the run would wait for ever.
                let end = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| End::panicked(step));
                // The run waits for every step that it has started.
                let _ = tell.send((i, share, end));
            });
        }
    }

    /// Whether all that a waiting step reads is there, and nothing else makes the same artifact now.
    fn is_ready(&mut self, i: usize) -> bool {
        if self.fates[i] != Fate::Waits {
            return false;
        }
        let step = &self.plan.steps[i];
        for &need in &step.needs {
            match self.fates[need] {
                Fate::Failed => self.fates[i] = Fate::Barred(need),
                Fate::Barred(root) => self.fates[i] = Fate::Barred(root),
                _ => {}
            }
        }
        let is_there = |&need: &usize| matches!(self.fates[need], Fate::Made | Fate::Found);
        let is_same = |&k: &usize| self.plan.steps[k].location.uri() == step.location.uri();
        self.fates[i] == Fate::Waits && step.needs.iter().all(is_there) && !self.running.iter().any(is_same)
    }

    fn enter(&mut self, (i, share, end): Ended, shop: &Shop<'a>, ledger: &mut Ledger) -> Result<()> {
        let step = &self.plan.steps[i];
        self.machine.give_back(share);
        self.running.retain(|&running| running != i);
        shop.screen.ended(i, step, &end);
        let entered = ledger.step(end.row(step, &ledger.row.run, shop.executor.name()));
        self.fates[i] = match &end.result {
            Ok(()) if end.is_found => Fate::Found,
            Ok(()) => Fate::Made,
            Err(_) => Fate::Failed,
        };
        if let Err(error) = end.result {
            self.failures.push((i, error));
        }
        entered
    }

    /// How the run ended: Ctrl-C before all, else the failure, or all of them.
    fn outcome(&mut self) -> Result<()> {
        let is_over = |fate: &Fate| matches!(fate, Fate::Made | Fate::Found | Fate::Left);
        if self.fates.iter().all(is_over) {
            return Ok(());
        }
        if child::stopped() {
            return Err(Error::Interrupted);
        }
        let mut errors: Vec<Error> = std::mem::take(&mut self.failures).into_iter().map(|(_, error)| error).collect();
        if errors.len() == 1 {
            return errors.pop().map_or(Ok(()), Err);
        }
        let code = if errors.iter().any(|error| error.exit_code() == 2) { 2 } else { 1 };
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(Error::Steps { count: lines.len(), lines: lines.join("\n"), code })
    }

    /// Says which steps were not begun for the sake of another.
    fn tell(&mut self, screen: &Screen) {
        for i in 0..self.plan.steps.len() {
            // Each knows by those before it.
            self.is_ready(i);
            if let Fate::Barred(failed) = self.fates[i] {
                let title = self.plan.steps[failed].title();
                screen.line(&self.plan.steps[i], &format!("not run: it needs {title}, which did not end well"));
            }
        }
    }

    fn summary(&self, is_done: bool) -> String {
        let count = |is: fn(&Fate) -> bool| self.fates.iter().filter(|fate| is(fate)).count();
        let made = count(|fate| *fate == Fate::Made);
        let found = count(|fate| *fate == Fate::Found);
        let ended = format!(": {made} made, {found} found");
        if is_done {
            return ended;
        }
        let failed = count(|fate| *fate == Fate::Failed);
        let not_run = count(|fate| matches!(fate, Fate::Waits | Fate::Barred(_)));
        format!("{ended}, {failed} failed or stopped, {not_run} not run")
    }
}

/// The next step to end; none when it is time to write the ledger.
fn next(told: &Receiver<Ended>) -> Option<Ended> {
    match told.recv_timeout(FLUSH) {
        Ok(ended) => Some(ended),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => unreachable!("the run keeps a sender of its own"),
    }
}
