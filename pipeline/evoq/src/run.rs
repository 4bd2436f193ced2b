//! Runs a plan: each step that is not in the store is made, one after another, and entered in the ledger.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use evoq_artifacts::{Artifact, Draft, Header, Location, now_ms};
use evoq_schemas::RunStepRow;
use indicatif::{ProgressBar, ProgressStyle};

use crate::child::{self, Ended};
use crate::error::{Error, Result};
use crate::foreign::ForeignCall;
use crate::ledger::{Ledger, StepRecord, host};
use crate::plan::{Plan, PlannedStep, Work};
use crate::select::State;
use crate::workflow::Workflow;

/// How often a log gets a line of a step's progress.
const EVERY: Duration = Duration::from_secs(10);

/// How steps are run; results do not depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Threads a stage may use; all cores without it.
    pub threads: Option<usize>,
    /// Trust that no other process writes below the root.
    pub single_writer: bool,
}

/// Runs `plan`; gives the run's id.
pub fn run(workflow: &Workflow, plan: &Plan, root: &Location, how: How) -> Result<String> {
    if !how.single_writer && plan.steps.iter().any(|step| step.state.runs()) {
        root.probe()?;
    }
    let mut ledger = Ledger::start(root, &plan.record(&workflow.name), workflow.seed)?;
    let screen = Screen::new(plan);
    screen.say(&format!("run {} of {}: {}", ledger.row.run, workflow.name, counts(plan)));
    let logs = log_folder(&ledger.place, &ledger.row.run);
    let start = Instant::now();
    let result = plan
        .steps
        .iter()
        .filter(|step| step.state != State::Left)
        .try_for_each(|step| one(step, &mut ledger, &logs, how, &screen));
    screen.clear();
    let outcome = match &result {
        Ok(()) => "done",
        Err(Error::Interrupted) => "stopped",
        Err(_) => "failed",
    };
    ledger.end(outcome)?;
    result?;
    screen.say(&format!("run {} is done in {}", ledger.row.run, spent(start.elapsed())));
    Ok(ledger.row.run)
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

/// Makes one step, unless it is there.
fn one(step: &PlannedStep, ledger: &mut Ledger, logs: &Path, how: How, screen: &Screen) -> Result<()> {
    let (started_ms, start) = (now_ms(), Instant::now());
    // Two steps of one plan can be one artifact; another run may have made it meanwhile.
    let found = match step.state {
        State::Again => {
            // Another run may have removed it, or not yet made it.
            if let Some(old) = at(&step.location)? {
                old.remove()?;
            }
            false
        }
        state => state == State::Cached || at(&step.location)?.is_some(),
    };
    let result = if found { Ok(()) } else { make(step, logs, how, screen) };
    let record = &step.record;
    let outcome = match &result {
        Ok(()) => "done",
        Err(Error::Interrupted) => "stopped",
        Err(_) => "failed",
    };
    ledger.step(RunStepRow {
        run: ledger.row.run.clone(),
        workflow_step: record.step.clone(),
        round: record.round,
        variant: record.variant.text(),
        stage: record.stage.clone(),
        fingerprint: record.fingerprint.clone(),
        cached: found,
        started_ms,
        seconds: start.elapsed().as_secs_f64(),
        outcome: outcome.to_owned(),
        host: host(),
    })?;
    let said = match outcome {
        "done" if found => "found".to_owned(),
        "done" => format!("made in {}", spent(start.elapsed())),
        other => other.to_owned(),
    };
    screen.ended(step, &said);
    result
}

fn at(location: &Location) -> Result<Option<Artifact>> {
    match Artifact::at(location) {
        Ok(artifact) => Ok(Some(artifact)),
        Err(evoq_artifacts::Error::NoArtifact { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
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

fn make(step: &PlannedStep, logs: &Path, how: How, screen: &Screen) -> Result<()> {
    if child::stopped() {
        return Err(Error::Interrupted);
    }
    screen.started(step);
    let log = logs.join(log_name(&step.record));
    let scratch = tempfile::tempdir()
        .map_err(|error| Error::Program(format!("a temporary folder could not be made: {error}")))?;
    let mut command = command(step, scratch.path(), how)?;
    let ended = child::run(&mut command, &log, &|line| screen.progress(step, line))?;
    if child::stopped() && ended.code != Some(0) {
        return Err(Error::Interrupted);
    }
    let failed = |line, code| Error::Step { step: step.title(), line, log: log.display().to_string(), code };
    if ended.code != Some(0) {
        return Err(failed(line_of(&ended), if ended.code == Some(2) { 2 } else { 1 }));
    }
    if let Work::Command(call) = &step.work {
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

fn line_of(ended: &Ended) -> String {
    match ended.code {
        // A stage says its own name in front, which the message says already.
        Some(_) => ended.line.split_once(": error: ").map_or(ended.line.as_str(), |(_, rest)| rest).to_owned(),
        None => format!("a signal ended it; before, it said: {}", ended.line),
    }
}

/// The program of a step with all its flags.
fn command(step: &PlannedStep, scratch: &Path, how: How) -> Result<Command> {
    match &step.work {
        Work::Stage { program, flags, .. } => {
            let mut command = Command::new(program);
            for (name, uris) in &step.inputs {
                command.args(uris.iter().map(|uri| format!("--{name}={uri}")));
            }
            command.args(flags).arg(format!("--out={}", step.location.uri()));
            let cpus = step.resources.cpus.and_then(|cpus| usize::try_from(cpus).ok());
            let threads = [how.threads, cpus].into_iter().flatten().min();
            command.args(threads.map(|threads| format!("--threads={threads}")));
            command.args(how.single_writer.then_some("--single-writer"));
            Ok(command)
        }
        Work::Command(call) => {
            let mut arguments = call.prepare(&step.inputs, scratch)?.into_iter();
            let mut command = Command::new(PathBuf::from(arguments.next().unwrap_or_default()));
            command.args(arguments).current_dir(&call.folder);
            Ok(command)
        }
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

/// `35 s`, `3 min 20 s`.
fn spent(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// What is shown while steps run: a live line on a terminal, plain lines elsewhere. All on stderr.
struct Screen {
    bar: Option<ProgressBar>,
    names: usize,
    stages: usize,
    variants: usize,
    last: Mutex<Instant>,
}

impl Screen {
    fn new(plan: &Plan) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let widest = |name: fn(&PlannedStep) -> &str| plan.steps.iter().map(|it| name(it).len()).max().unwrap_or(0);
        let (names, stages) = (widest(|it| &it.record.step), widest(|it| &it.record.stage));
        let variants = plan.steps.iter().map(|it| it.record.variant.to_string().len()).max().unwrap_or(0);
        Self { bar, names, stages, variants, last: Mutex::new(Instant::now()) }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.println(line),
            _ => eprintln!("{line}"),
        }
    }

    fn head(&self, step: &PlannedStep) -> String {
        let round = step.record.round.map_or_else(|| "-".to_owned(), |round| round.to_string());
        let (names, stages, variants) = (self.names, self.stages, self.variants);
        let head = format!("{round:>3}  {:names$}  {:stages$}", step.record.step, step.record.stage);
        if variants == 0 { head } else { format!("{head}  {:variants$}", step.record.variant.to_string()) }
    }

    fn started(&self, step: &PlannedStep) {
        match &self.bar {
            Some(bar) => {
                bar.reset_elapsed();
                bar.set_message(self.head(step));
            }
            None => self.say(&format!("{}  begins", self.head(step))),
        }
    }

    fn progress(&self, step: &PlannedStep, line: &str) {
        let line = line.strip_prefix("progress: ").unwrap_or(line);
        let Some(bar) = &self.bar else {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= EVERY {
                *last = Instant::now();
                self.say(&format!("{}  {line}", self.head(step)));
            }
            return;
        };
        bar.set_message(format!("{}  {line}", self.head(step)));
    }

    fn ended(&self, step: &PlannedStep, said: &str) {
        self.say(&format!("{}  {said}", self.head(step)));
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::tests::{pairs_file, place};
    use crate::ledger::run_steps;
    use crate::stages::Stages;
    use crate::why::reasons;

    /// A folder with a workflow and a table, and what running it with `sets` gives.
    struct Flow(tempfile::TempDir);

    impl Flow {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            evoq_artifacts::write_file(&folder.path().join("flow.yaml"), text.as_bytes()).unwrap();
            pairs_file(&folder.path().join("pairs.parquet"), 3, false);
            Self(folder)
        }

        fn root(&self) -> Location {
            place(&self.0.path().join("root"))
        }

        fn planned(&self, sets: &[&str]) -> Result<(Workflow, Plan)> {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let workflow = Workflow::open(&self.0.path().join("flow.yaml"), &sets)?;
            let plan = Plan::new(&workflow, &self.root(), &Stages::default())?;
            Ok((workflow, plan))
        }

        fn run(&self, sets: &[&str]) -> Result<Vec<RunStepRow>> {
            let (workflow, plan) = self.planned(sets)?;
            let run = run(&workflow, &plan, &self.root(), How::default())?;
            run_steps(&self.root(), &run)
        }

        fn why(&self, sets: &[&str]) -> Vec<Option<String>> {
            let (workflow, plan) = self.planned(sets).unwrap();
            reasons(&plan, &workflow.name, &self.root()).unwrap()
        }
    }

    const FLOW: &str = "\
evoq: 1
name: flow
params: { word: one }
steps:
  made: { run: [cp, ./pairs.parquet, '{out.pairs}'], out: [pairs] }
  copied:
    run: [sh, -c, 'echo ${word}; cp {in.pairs}/* {out.pairs}']
    in: { pairs: made }
    out: [pairs]
";

    #[test]
    fn a_step_is_made_once_and_then_found() {
        let flow = Flow::new(FLOW);
        assert_eq!(flow.why(&[]), [Some("never made".to_owned()), Some("never made".to_owned())]);
        let cached = |steps: Vec<RunStepRow>| steps.iter().map(|step| step.cached).collect::<Vec<_>>();
        assert_eq!(cached(flow.run(&[]).unwrap()), [false, false]);
        assert_eq!(cached(flow.run(&[]).unwrap()), [true, true]);
        assert_eq!(flow.why(&[]), [None, None]);
        let why = flow.why(&["word=two"]);
        assert!(why[1].as_ref().unwrap().starts_with("parameter `run` sh,-c,echo one"), "{why:?}");
        assert_eq!(cached(flow.run(&["word=two"]).unwrap()), [true, false]);
    }

    #[test]
    fn a_changed_file_is_a_changed_step_and_so_is_what_reads_it() {
        let flow = Flow::new(FLOW);
        flow.run(&[]).unwrap();
        pairs_file(&flow.0.path().join("pairs.parquet"), 4, false);
        let why = flow.why(&[]);
        assert_eq!(why[1].as_deref(), Some("input `pairs` changed"));
        assert_eq!(why[0].as_deref(), Some("the content of `run` changed"));
    }

    #[test]
    fn a_failed_step_is_told_with_its_own_words_and_its_log_and_is_not_in_the_store() {
        let flow = Flow::new(&FLOW.replace("cp {in.pairs}/* {out.pairs}", "echo no luck >&2; exit 3; : {out.pairs}"));
        let error = flow.run(&[]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let told = error.to_string();
        assert!(
            told.starts_with("step copied failed: no luck\n  its log is ") && told.ends_with("/logs/copied.log"),
            "{told}"
        );
        assert_eq!(flow.why(&[]), [None, Some("not finished by the last run".to_owned())]);
    }

    #[test]
    fn a_table_that_breaks_its_schema_is_refused_by_table_and_column() {
        let flow = Flow::new(FLOW);
        pairs_file(&flow.0.path().join("pairs.parquet"), 3, true);
        let told = flow.run(&[]).unwrap_err().to_string();
        assert!(told.contains("table `pairs`: column `pair_id` has type Int64; expected Utf8"), "{told}");
        assert!(!flow.planned(&[]).unwrap().1.steps[0].found);
    }

    #[test]
    fn times_are_short() {
        let shown = |ms| spent(Duration::from_millis(ms));
        assert_eq!([shown(1234), shown(35_900), shown(200_000)], ["1.2 s", "35 s", "3 min 20 s"]);
    }
}
