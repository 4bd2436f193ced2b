use std::collections::BTreeMap;

use evoq_schemas::RunStepRow;

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
        let run = run(&workflow, &plan, &self.root(), &How::default())?;
        run_steps(&self.root(), &run)
    }

    /// How running it as `how` says ended, and what became of each step, by name.
    fn ends(&self, how: &How) -> (Result<String>, BTreeMap<String, String>) {
        let (workflow, plan) = self.planned(&[]).unwrap();
        let result = run(&workflow, &plan, &self.root(), how);
        let latest = crate::ledger::runs(&self.root()).unwrap().pop().unwrap();
        let rows = run_steps(&self.root(), &latest).unwrap();
        (result, rows.into_iter().map(|row| (row.workflow_step, row.outcome)).collect())
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

#[test]
fn steps_that_do_not_need_each_other_run_at_once() {
    // Each waits for a word of the other.
    let flow = Flow::new(
        "\
evoq: 1
name: flow
steps:
  a: { run: [timeout, '60', sh, -c, 'echo x > one; read x < two; cp pairs.parquet {out.pairs}'], out: [pairs] }
  b: { run: [timeout, '60', sh, -c, 'read x < one; echo x > two; cp pairs.parquet {out.pairs}'], out: [pairs] }
",
    );
    let pipes = ["one", "two"].map(|name| flow.0.path().join(name));
    assert!(std::process::Command::new("mkfifo").args(pipes).status().unwrap().success());
    let (result, ends) = flow.ends(&How { cpus: Some(2), ..How::default() });
    result.unwrap();
    assert_eq!(ends.len(), 2);
}

/// `bad` fails, `reader` reads it, and `other` has nothing to do with it.
const FAILS: &str = "\
evoq: 1
name: flow
steps:
  bad: { run: [sh, -c, 'echo no luck >&2; exit 1; : {out.pairs}'], out: [pairs] }
  reader: { run: [cp, -r, '{in.pairs}/.', '{out.pairs}'], in: { pairs: bad }, out: [pairs] }
  other: { run: [cp, ./pairs.parquet, '{out.pairs}'], out: [pairs] }
";

#[test]
fn after_a_failure_nothing_new_begins_unless_the_run_keeps_going() {
    let one = How { cpus: Some(1), ..How::default() };
    let ends = |how: &How| {
        let (result, ends) = Flow::new(FAILS).ends(how);
        assert!(result.unwrap_err().to_string().starts_with("step bad failed: no luck"));
        ends.into_iter().map(|(step, outcome)| format!("{step} {outcome}")).collect::<Vec<_>>()
    };
    assert_eq!(ends(&one), ["bad failed"]);
    assert_eq!(ends(&How { keep_going: true, ..one }), ["bad failed", "other done"]);
}

#[test]
fn several_failures_are_all_told_and_bad_input_decides_the_exit_code() {
    let flow = Flow::new(&FAILS.replace("[cp, ./pairs.parquet, '{out.pairs}']", "[sh, -c, 'exit 2; : {out.pairs}']"));
    let error = flow.ends(&How { keep_going: true, ..How::default() }).0.unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("2 steps failed") && told.contains("step bad failed") && told.contains("step other"),
        "{told}"
    );
    assert_eq!(error.exit_code(), 2);
}

/// How often the command of a step that ends with `code` until `times` runs were had is run when two more attempts are allowed,
/// and whether it ends well.
fn attempts(code: u32, times: usize) -> (usize, bool) {
    let script =
        format!("echo x >> tries; [ $(wc -l < tries) -gt {times} ] || exit {code}; cp pairs.parquet {{out.pairs}}");
    let flow = Flow::new(&format!("evoq: 1\nname: flow\nsteps:\n  a: {{ run: [sh, -c, '{script}'], out: [pairs] }}\n"));
    let (result, _) = flow.ends(&How { retries: 2, ..How::default() });
    let tries = evoq_artifacts::read_file(&flow.0.path().join("tries")).unwrap();
    (tries.len() / 2, result.is_ok())
}

#[test]
fn a_failure_is_tried_again_as_often_as_asked_and_bad_input_never() {
    assert_eq!(attempts(1, 2), (3, true));
    assert_eq!(attempts(1, 3), (3, false));
    assert_eq!(attempts(2, 1), (1, false));
}
