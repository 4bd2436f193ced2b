//! What a run would do: every step with its fingerprint, whether it is in the store already, and why not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evoq_artifacts::{Artifact, Error as Fault, Location};
use evoq_schemas::RunStepRow;
use evoq_stage::{Description, content_parameters, fingerprint, input_fingerprint};
use serde_json::{Map, Value};

use crate::call::{self, Folders, step_seed};
use crate::error::{Error, Result};
use crate::expand::{From, Instance, expand};
use crate::foreign::{self, ForeignCall};
use crate::ledger::{PlanRecord, StepRecord, latest_plan, run_steps};
use crate::problem::{Place, Problem, Problems};
use crate::read::Reader;
use crate::stages::Stages;
use crate::step::Action;
use crate::workflow::Workflow;

/// A workflow worked out for one root.
#[derive(Debug)]
pub struct Plan {
    /// The steps, each after all that it reads.
    pub steps: Vec<PlannedStep>,
}

/// A step that is ready to run.
#[derive(Debug)]
pub struct PlannedStep {
    /// What it is made from.
    pub record: StepRecord,
    /// The URIs of its inputs, by input.
    pub inputs: Vec<(String, Vec<String>)>,
    /// Where its artifact is, or goes.
    pub location: Location,
    /// Whether it is there.
    pub found: bool,
    /// How it is made.
    pub work: Work,
}

/// How a step is made.
#[derive(Debug)]
pub enum Work {
    /// By a stage.
    Stage {
        /// The program.
        program: PathBuf,
        /// Its parameters' flags.
        flags: Vec<String>,
    },
    /// By a command.
    Command(ForeignCall),
}

impl PlannedStep {
    /// `votes` or `votes (round 1)`.
    pub fn title(&self) -> String {
        match self.record.round {
            Some(round) => format!("{} (round {round})", self.record.step),
            None => self.record.step.clone(),
        }
    }
}

/// Said where a path leads nowhere.
const PATHS: &str = "a relative path counts from the workflow file's folder, one of --set from the current folder";

/// What checking a step gave.
enum Checked {
    Stage { description: Description, flags: Vec<String> },
    Command { tables: BTreeMap<String, String> },
}

impl Plan {
    /// Works out `workflow` for `root`. Nothing is run; everything that can be checked before is.
    pub fn new(workflow: &Workflow, root: &Location, stages: &Stages) -> Result<Self> {
        let instances = expand(workflow)?;
        let folders = Folders {
            file: workflow.folder.clone(),
            current: std::path::absolute(".").unwrap_or_else(|_| PathBuf::from(".")),
        };
        let checked = check(workflow, &instances, stages, &folders)?;
        let mut steps: Vec<PlannedStep> = Vec::with_capacity(instances.len());
        for (instance, checked) in instances.iter().zip(checked) {
            let step = planned(workflow, instance, checked, &steps, root, stages, &folders)?;
            steps.push(step);
        }
        Ok(Self { steps })
    }

    /// What the ledger keeps of it.
    pub fn record(&self, workflow: &str) -> PlanRecord {
        let steps = self.steps.iter().map(|step| step.record.clone()).collect();
        PlanRecord { evoq: 1, workflow: workflow.to_owned(), steps }
    }
}

/// Checks every step against what its stage says of itself.
fn check(workflow: &Workflow, instances: &[Instance], stages: &Stages, folders: &Folders) -> Result<Vec<Checked>> {
    let mut reader = Reader::default();
    let mut descriptions: Vec<Option<Description>> = Vec::new();
    for instance in instances {
        descriptions.push(match &instance.step.action {
            Action::Uses(stage) => call::described(stage, stages, &mut reader)?,
            Action::Run(_) => None,
        });
    }
    let writes: Vec<Vec<String>> = instances
        .iter()
        .zip(&descriptions)
        .map(|(instance, description)| match &instance.step.action {
            Action::Run(command) => command.outputs.iter().map(|output| output.text.clone()).collect(),
            Action::Uses(_) => {
                let outputs = description.iter().flat_map(|it| &it.outputs);
                outputs.map(|output| output.table.clone().unwrap_or_else(|| output.name.clone())).collect()
            }
        })
        .collect();
    let mut checked = Vec::new();
    for (instance, description) in instances.iter().zip(descriptions) {
        match (&instance.step.action, description) {
            (Action::Run(command), _) => {
                let tables = foreign::check(instance, command, instances, &writes, &mut reader);
                checked.push(Checked::Command { tables });
            }
            (Action::Uses(_), Some(description)) => {
                call::check_inputs(instance, &description, instances, &writes, &mut reader);
                let flags = call::flags(instance, &description, workflow.seed, folders, &mut reader);
                checked.push(Checked::Stage { description, flags });
            }
            (Action::Uses(_), None) => {}
        }
    }
    if reader.problems.is_empty() { Ok(checked) } else { Err(Problems::new(&workflow.source, reader.problems).into()) }
}

fn planned(
    workflow: &Workflow,
    instance: &Instance,
    checked: Checked,
    before: &[PlannedStep],
    root: &Location,
    stages: &Stages,
    folders: &Folders,
) -> Result<PlannedStep> {
    let name = &instance.step.name;
    let at = |place: Place, error: &dyn std::fmt::Display| {
        Problem::new(place, format!("step {}: {error}", instance.title()))
    };
    let told = |problem: Problem| Error::from(Problems::new(&workflow.source, vec![problem]));

    let mut inputs = Vec::new();
    let mut marks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (input, feeds) in instance.step.inputs.iter().zip(&instance.feeds) {
        let mut uris = Vec::new();
        for feed in feeds {
            let (uri, mark) = match &feed.from {
                From::Step { instance: source, .. } => {
                    let source = &before[*source];
                    (source.location.uri().to_owned(), source.record.fingerprint.clone())
                }
                From::Outside { text, origin } => {
                    let uri = folders.absolute(text, *origin);
                    let mark = outside(&uri, &input.name.text, &checked)
                        .map_err(|error| told(at(feed.place, &error).help(PATHS)))?;
                    (uri, mark)
                }
            };
            uris.push(uri);
            marks.entry(input.name.text.clone()).or_default().push(mark);
        }
        inputs.push((input.name.text.clone(), uris));
    }
    let (stage, version, parameters, work) = match (checked, &instance.step.action) {
        (Checked::Command { tables }, Action::Run(command)) => {
            let seed = step_seed(workflow.seed, instance);
            let call = foreign::call(instance, command, tables, seed, folders)?;
            (name.text.clone(), command.version, call.parameters.clone(), Work::Command(call))
        }
        (Checked::Stage { description, flags }, _) => {
            let place = instance.step.with.first().map_or(name.place, |(key, _)| key.place);
            let valued = stages.describe(&description.stage, &flags).map_err(|error| told(at(place, &error)))?;
            let parameters = content_parameters(&valued, &valued.values()).map_err(|error| told(at(place, &error)))?;
            let program = stages.find(&description.stage).unwrap_or_default();
            (description.stage, description.version, parameters, Work::Stage { program, flags })
        }
        (Checked::Command { .. }, Action::Uses(_)) => unreachable!("a stage is checked as a stage"),
    };
    let fingerprint = fingerprint(&stage, version, &parameters, &marks);
    let location = root.join(&stage).join(&fingerprint);
    let found = match Artifact::at(&location) {
        Ok(_) => true,
        Err(Fault::NoArtifact { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let (step, round) = (name.text.clone(), instance.round);
    let record = StepRecord { step, round, stage, version, fingerprint, parameters, inputs: marks };
    Ok(PlannedStep { record, inputs, location, found, work })
}

/// The fingerprint of an input from outside the workflow.
fn outside(uri: &str, input: &str, checked: &Checked) -> evoq_artifacts::Result<String> {
    let is_policy = match checked {
        Checked::Stage { description, .. } => {
            description.inputs.iter().any(|known| known.name == input && known.table.is_none())
        }
        Checked::Command { tables } => tables.get(input).is_some_and(|table| table == "policy"),
    };
    input_fingerprint(uri, is_policy)
}

/// For each step that will run, why; none for a step that is found.
pub fn reasons(plan: &Plan, workflow: &str, root: &Location) -> Result<Vec<Option<String>>> {
    let last = latest_plan(root, workflow)?;
    let done = match &last {
        Some((run, _)) => run_steps(root, run)?,
        None => Vec::new(),
    };
    let reason = |step: &PlannedStep| {
        let same = |it: &&StepRecord| it.step == step.record.step && it.round == step.record.round;
        let old = last.as_ref().and_then(|(_, plan)| plan.steps.iter().find(same));
        (!step.found).then(|| old.map_or_else(|| "never made".to_owned(), |old| reason(old, &step.record, &done)))
    };
    Ok(plan.steps.iter().map(reason).collect())
}

/// What changed from `old` to `new`.
fn reason(old: &StepRecord, new: &StepRecord, done: &[RunStepRow]) -> String {
    if old.stage != new.stage {
        return format!("stage {} → {}", old.stage, new.stage);
    }
    let mut changes = Vec::new();
    if old.version != new.version {
        changes.push(format!("version {} → {}", old.version, new.version));
    }
    changes.extend(changed(&old.parameters, &new.parameters));
    let names: std::collections::BTreeSet<_> = old.inputs.keys().chain(new.inputs.keys()).collect();
    for name in names.into_iter().filter(|name| old.inputs.get(*name) != new.inputs.get(*name)) {
        changes.push(match (old.inputs.get(name), new.inputs.get(name)) {
            (None, _) => format!("input `{name}` is new"),
            (_, None) => format!("input `{name}` is gone"),
            _ => format!("input `{name}` changed"),
        });
    }
    if !changes.is_empty() {
        return changes.join("; ");
    }
    let ended = |row: &&RunStepRow| row.fingerprint == new.fingerprint && row.outcome == "done";
    if done.iter().any(|row| ended(&row)) {
        "its artifact is gone from the store".to_owned()
    } else {
        "not finished by the last run".to_owned()
    }
}

fn changed(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differ = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    differ
        .map(|name| match (old.get(name).map(shown), new.get(name).map(shown)) {
            (Some(old), Some(new)) if old == new => format!("the content of `{name}` changed"),
            (old, new) => {
                let none = || "unset".to_owned();
                format!("parameter `{name}` {} → {}", old.unwrap_or_else(none), new.unwrap_or_else(none))
            }
        })
        .collect()
}

/// A parameter's value for people: text without quotes, digests as what they are.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) if map.contains_key("content") => "content".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(parameters: &Value, pairs: &str, version: u32) -> StepRecord {
        StepRecord {
            step: "votes".to_owned(),
            round: Some(1),
            stage: "vote".to_owned(),
            version,
            fingerprint: "f".to_owned(),
            parameters: parameters.as_object().unwrap().clone(),
            inputs: BTreeMap::from([("pairs".to_owned(), vec![pairs.to_owned()])]),
        }
    }

    #[test]
    fn a_reason_names_what_changed_from_what_to_what() {
        let old = record(&json!({ "samples": 32, "seed": 1, "source": { "content": "a" } }), "p", 1);
        let new =
            record(&json!({ "samples": 16, "seed": 1, "order": "balanced", "source": { "content": "b" } }), "q", 2);
        assert_eq!(
            reason(&old, &new, &[]),
            "version 1 → 2; parameter `order` unset → balanced; parameter `samples` 32 → 16; \
             the content of `source` changed; input `pairs` changed"
        );
    }

    #[test]
    fn an_unchanged_step_was_not_finished_or_its_artifact_is_gone() {
        let same = record(&json!({}), "p", 1);
        assert_eq!(reason(&same, &same, &[]), "not finished by the last run");
        let row = RunStepRow {
            run: "r".to_owned(),
            workflow_step: "votes".to_owned(),
            round: Some(1),
            stage: "vote".to_owned(),
            fingerprint: "f".to_owned(),
            cached: false,
            started_ms: 0,
            seconds: 0.0,
            outcome: "done".to_owned(),
            host: "h".to_owned(),
        };
        assert_eq!(reason(&same, &same, &[row]), "its artifact is gone from the store");
    }

    /// A stage that reads `images` and a policy and writes `votes`, as far as a plan asks it.
    const FAKE: &str = r#"#!/bin/sh
samples=32 seed=1
for flag in "$@"; do case "$flag" in --samples=*) samples=${flag#*=};; --seed=*) seed=${flag#*=};; esac; done
if [ "$samples" -gt 99 ]; then echo "error: invalid value '$samples' for '--samples <N>'" >&2; exit 2; fi
cat <<END
{ "evoq": 1, "stage": "fake", "version": 3, "about": "", "divides": false,
  "inputs": [ { "name": "images", "table": "images", "required": true, "help": "what it looks at" },
              { "name": "policy", "required": false, "help": "" } ],
  "outputs": [ { "name": "images", "table": "images" }, { "name": "votes", "table": "votes" } ],
  "parameters": [ { "name": "samples", "type": "integer", "help": "", "value": $samples },
                  { "name": "order", "type": "text", "choices": ["per-vote", "balanced"], "help": "", "value": "per-vote" },
                  { "name": "exact", "type": "flag", "help": "", "value": false },
                  { "name": "seed", "type": "integer", "help": "", "value": $seed } ] }
END
"#;

    fn fake() -> (tempfile::TempDir, Stages) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("evoq-fake");
        evoq_artifacts::write_file(&program, FAKE.as_bytes()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let stages = Stages::within(vec![folder.path().to_path_buf()]);
        (folder, stages)
    }

    fn planned(text: &str, sets: &[&str]) -> Result<Plan> {
        let (folder, stages) = fake();
        let workflow = crate::workflow::tests::parsed(text, sets)?;
        Plan::new(&workflow, &Location::open(folder.path().join("root").to_str().unwrap())?, &stages)
    }

    const FLOW: &str = "\
evoq: 1
name: flow
params: { samples: 8 }
steps:
  photos: { run: [make, '{out.images}'], out: [images] }
rounds:
  count: 2
  steps:
    votes: { uses: fake, in: { images: photos }, with: { samples: \"${samples}\" } }
";

    #[test]
    fn every_fault_against_a_stages_description_is_told_before_anything_runs() {
        let text = "\
evoq: 1
name: flow
steps:
  photos: { run: [make, '{out.pairs}', '{in.x}'], out: [pairs, vots] }
  a: { uses: fake, in: { images: photos, policies: photos }, with: { samples: many, order: balance, exact: 1 } }
  b: { uses: fake, with: { sampels: 3 } }
  c: { uses: fakes }
";
        insta::assert_snapshot!(planned(text, &[]).unwrap_err().to_string());
    }

    #[test]
    fn what_a_stage_refuses_itself_is_told_at_its_step() {
        insta::assert_snapshot!(planned(FLOW, &["samples=100"]).unwrap_err().to_string());
    }

    #[test]
    fn each_step_of_each_round_has_a_seed_of_its_own_that_comes_from_the_workflows() {
        let seeds = |sets: &[&str]| -> Vec<String> {
            let plan = planned(FLOW, sets).unwrap();
            plan.steps[1..].iter().map(|step| step.record.parameters["seed"].to_string()).collect()
        };
        let (one, two) = (seeds(&[]), seeds(&["seed=2"]));
        assert_ne!(one[0], one[1]);
        assert!(one.iter().all(|seed| !two.contains(seed)));
    }

    #[test]
    fn a_parameter_changes_the_steps_that_have_it_and_no_other() {
        let prints = |sets: &[&str]| -> Vec<String> {
            planned(FLOW, sets).unwrap().steps.iter().map(|step| step.record.fingerprint.clone()).collect()
        };
        let (old, new) = (prints(&[]), prints(&["samples=9"]));
        assert_eq!(old[0], new[0]);
        assert!(old[1] != new[1] && old[2] != new[2] && new[1] != new[2]);
        assert_eq!(old, prints(&["samples=8"]));
    }
}
