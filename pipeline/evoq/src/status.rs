//! `evoq status`: how far a run has come; and `evoq log`: what its steps said.

use std::fmt::Write;

use clap::Args;
use evoq_artifacts::{Location, read_file};
use evoq_schemas::RunStepRow;

use crate::error::{Error, Result};
use crate::graph::duration;
use crate::ledger::{self, PlanRecord, StepRecord};
use crate::print::{columns, say};
use crate::problem::suggestion;
use crate::run::{log_folder, log_name};

/// Lines of a failed step's log that `evoq log` shows without being asked for the step.
const TAIL: usize = 3;

/// What `evoq status` is given.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
    /// The run to look at [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// What `evoq log` is given.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// The step whose logs to print: `votes`, or `votes@2` for one round [default: how each step ended, and the last words of
    /// those that failed]
    step: Option<String>,
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
    /// The run to look at [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Prints how far a run has come.
pub fn status(args: &StatusArgs) -> Result<()> {
    let root = Location::open(&args.root)?;
    let run = ledger::chosen(&root, args.run.as_deref())?;
    let plan = ledger::plan(&root, &run)?;
    let outcome = ledger::run_row(&root, &run)?.pop().map_or_else(|| "running".to_owned(), |row| row.outcome);
    // Nobody enters the end of a run that was killed.
    let outcome = if outcome == "running" { "running, or killed".to_owned() } else { outcome };
    say(&status_text(&run, &plan, &outcome, &ledger::run_steps(&root, &run)?))
}

fn status_text(run: &str, plan: &PlanRecord, outcome: &str, done: &[RunStepRow]) -> String {
    let mut rows = vec![["round", "step", "stage", "state", "time"].map(str::to_owned).to_vec()];
    for step in &plan.steps {
        let row = row_of(step, done);
        let state = match row {
            None => "not yet",
            Some(row) if row.outcome != "done" => &row.outcome,
            Some(row) if row.cached => "found",
            Some(_) => "made",
        };
        let time = row.filter(|row| !row.cached).map(|row| duration(row.seconds)).unwrap_or_default();
        rows.push(vec![round(step), name(step), step.stage.clone(), state.to_owned(), time]);
    }
    let count = |wanted: fn(&RunStepRow) -> bool| done.iter().filter(|row| wanted(row)).count();
    let made = count(|row| row.outcome == "done" && !row.cached);
    let found = count(|row| row.outcome == "done" && row.cached);
    let seconds = done.iter().map(|row| row.seconds).sum();
    let head = format!(
        "run {run} of {}: {outcome}; of {} steps {made} made, {found} found, in {}\n",
        plan.workflow,
        plan.steps.len(),
        duration(seconds)
    );
    head + &columns(&rows)
}

/// Prints what the steps of a run said.
pub fn log(args: &LogArgs) -> Result<()> {
    let root = Location::open(&args.root)?;
    let run = ledger::chosen(&root, args.run.as_deref())?;
    let plan = ledger::plan(&root, &run)?;
    let folder = log_folder(&root.join("ledger").join(&run), &run);
    let words = |step: &StepRecord| -> Option<String> {
        let bytes = read_file(&folder.join(log_name(step))).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    match &args.step {
        Some(asked) => {
            for step in asked_for(asked, &plan)? {
                let text = words(step).unwrap_or_else(|| {
                    "(no log here: the step was found, or has not run on this machine)\n".to_owned()
                });
                say(&format!("── {}\n{text}", title(step)))?;
            }
            Ok(())
        }
        None => say(&log_text(&plan, &ledger::run_steps(&root, &run)?, words)),
    }
}

fn log_text(plan: &PlanRecord, done: &[RunStepRow], words: impl Fn(&StepRecord) -> Option<String>) -> String {
    let mut text = String::new();
    let first = done.iter().map(|row| row.started_ms).min().unwrap_or(0);
    let mut ended: Vec<(&StepRecord, &RunStepRow)> =
        plan.steps.iter().filter_map(|step| Some((step, row_of(step, done)?))).collect();
    ended.sort_by_key(|(_, row)| row.started_ms);
    for (step, row) in ended {
        let after = duration((row.started_ms - first) as f64 / 1000.0);
        let end = match row.outcome.as_str() {
            "done" if row.cached => "found".to_owned(),
            "done" => format!("made in {} {}", duration(row.seconds), circumstances(row)),
            outcome => format!("{outcome} after {} {}", duration(row.seconds), circumstances(row)),
        };
        let _ = writeln!(text, "{after:>12}  {}: {end}", title(step));
        if row.outcome != "done" {
            let said = words(step).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                let _ = writeln!(text, "{:>12}    {line}", "");
            }
        }
    }
    text
}

/// `on HOST`, or `on Slurm`, and at which attempt, where it was not the first.
fn circumstances(row: &RunStepRow) -> String {
    let place = if row.executor.as_deref() == Some("slurm") { "Slurm" } else { &row.host };
    match row.attempts {
        Some(attempts @ 2..) => format!("on {place}, at attempt {attempts}"),
        _ => format!("on {place}"),
    }
}

/// The steps that `asked` names: `votes`, or `votes@2` for one round.
pub(crate) fn asked_for<'a>(asked: &str, plan: &'a PlanRecord) -> Result<Vec<&'a StepRecord>> {
    let (name, round) = match asked.split_once('@') {
        Some((name, round)) => (name, Some(round)),
        None => (asked, None),
    };
    let is_asked = |step: &&StepRecord| {
        step.step == name && round.is_none_or(|round| step.round.is_some_and(|it| it.to_string() == round))
    };
    let found: Vec<&StepRecord> = plan.steps.iter().filter(is_asked).collect();
    if found.is_empty() {
        let near = suggestion(name, plan.steps.iter().map(|step| step.step.as_str()));
        let near =
            if plan.steps.iter().any(|step| step.step == name) { "; it has no such round".to_owned() } else { near };
        return Err(Error::BadInput(format!("the run has no step `{asked}`{near}")));
    }
    Ok(found)
}

fn row_of<'a>(step: &StepRecord, done: &'a [RunStepRow]) -> Option<&'a RunStepRow> {
    done.iter()
        .rev()
        .find(|row| row.workflow_step == step.step && row.round == step.round && row.fingerprint == step.fingerprint)
}

/// The round as a cell of a table.
pub(crate) fn round(step: &StepRecord) -> String {
    step.round.map_or_else(|| "-".to_owned(), |round| round.to_string())
}

/// The step's name, with its combination of a matrix.
pub(crate) fn name(step: &StepRecord) -> String {
    step.variant.text().map_or_else(|| step.step.clone(), |variant| format!("{} [{variant}]", step.step))
}

/// `votes (round 1)`.
pub(crate) fn title(step: &StepRecord) -> String {
    step.round.map_or_else(|| name(step), |round| format!("{} (round {round})", name(step)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::plan;
    use crate::ledger::tests::made;

    fn done() -> Vec<RunStepRow> {
        let steps = plan().steps;
        let failed = "failed".to_owned();
        vec![
            RunStepRow { cached: true, seconds: 0.0, ..made(&steps[0]) },
            RunStepRow { started_ms: 10, seconds: 0.25, ..made(&steps[1]) },
            RunStepRow { started_ms: 300, seconds: 75.0, outcome: failed, ..made(&steps[2]) },
        ]
    }

    #[test]
    fn status_tells_each_step_and_the_whole() {
        insta::assert_snapshot!(status_text("r", &plan(), "failed", &done()));
    }

    #[test]
    fn the_log_tells_in_order_how_steps_ended_and_the_last_words_of_a_failed_one() {
        let words = |_: &StepRecord| Some("one\ntwo\nthree\nerror: no luck\n".to_owned());
        insta::assert_snapshot!(log_text(&plan(), &done(), words));
    }

    #[test]
    fn a_step_is_asked_for_by_name_and_round() {
        let plan = plan();
        assert_eq!(asked_for("votes@1", &plan).unwrap().len(), 1);
        let told = |asked: &str| asked_for(asked, &plan).unwrap_err().to_string();
        assert_eq!(told("votes@2"), "the run has no step `votes@2`; it has no such round");
        assert_eq!(told("vots"), "the run has no step `vots`; did you mean `votes`?");
    }
}
