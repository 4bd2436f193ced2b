//! What a run would do: every step with its fingerprint, what it needs, and whether it is in the store already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use evoq_artifacts::{Artifact, Location, content_digest};
use evoq_stage::{Valued, content_parameters_by, fingerprint, input_fingerprint};
use serde_json::{Map, Value};

use crate::call::{Folders, step_seed};
use crate::check::{Checked, check};
use crate::error::Result;
use crate::expand::{From, Instance, expand};
use crate::foreign::{self, ForeignCall};
use crate::ledger::{PlanRecord, StepRecord};
use crate::problem::{Problem, Problems};
use crate::read::Reader;
use crate::resources::Resources;
use crate::select::{Selection, State, states};
use crate::stages::Stages;
use crate::step::Action;
use crate::workflow::{Combination, Workflow};

/// A workflow worked out for one root.
#[derive(Debug)]
pub struct Plan {
    /// The steps, each after all that it reads. A step that several combinations of a matrix make alike is there once.
    pub steps: Vec<PlannedStep>,
}

/// A step that is ready to run.
#[derive(Debug)]
pub struct PlannedStep {
    /// What it is made from.
    pub record: StepRecord,
    /// The URIs of its inputs, by input.
    pub inputs: Vec<(String, Vec<String>)>,
    /// The steps it reads, by their places in the plan: all come before it.
    pub needs: Vec<usize>,
    /// What it needs of a machine.
    pub resources: Resources,
    /// Where its artifact is, or goes.
    pub location: Location,
    /// Whether it is there.
    pub found: bool,
    /// What a run does with it.
    pub state: State,
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
        /// Whether its work divides into units that machines can share.
        divides: bool,
    },
    /// By a command.
    Command(ForeignCall),
}

impl PlannedStep {
    /// `votes`, `votes (round 1)` or `votes (round 1, seed=2)`.
    pub fn title(&self) -> String {
        let round = self.record.round.map(|round| format!("round {round}"));
        let parts: Vec<String> = round.into_iter().chain(self.record.variant.text()).collect();
        if parts.is_empty() {
            return self.record.step.clone();
        }
        format!("{} ({})", self.record.step, parts.join(", "))
    }
}

/// Said where a path leads nowhere.
const PATHS: &str = "a relative path counts from the workflow file's folder, one of --set from the current folder";

/// One combination's steps, checked.
struct Part<'a> {
    combination: &'a Combination,
    instances: Vec<Instance>,
    checked: Vec<Option<Checked>>,
}

impl Plan {
    /// Works out `workflow` for `root`. Nothing is run; everything that can be checked before is, and all faults are told.
    pub fn new(workflow: &Workflow, root: &Location, stages: &Stages) -> Result<Self> {
        let folders = Folders {
            file: workflow.folder.clone(),
            current: std::path::absolute(".").unwrap_or_else(|_| PathBuf::from(".")),
        };
        let mut reader = Reader { problems: workflow.problems.clone() };
        let mut parts = Vec::new();
        for combination in &workflow.combinations {
            let instances = expand(combination, &mut reader);
            let checked = check(combination, &instances, stages, &folders, &mut reader)?;
            parts.push(Part { combination, instances, checked });
        }
        let outside = Outside::new(&parts, stages, &folders, &mut reader)?;
        if !reader.problems.is_empty() {
            return Err(Problems::new(&workflow.source, reader.problems).into());
        }
        let mut plan = Self { steps: Vec::new() };
        let mut places = BTreeMap::new();
        for part in parts {
            plan.add(part, &outside, root, &folders, &mut places)?;
        }
        let locations: Vec<Location> = plan.steps.iter().map(|step| step.location.clone()).collect();
        for (step, found) in plan.steps.iter_mut().zip(Artifact::at_each(&locations)?) {
            step.found = found.is_some();
        }
        plan.select(&Selection::default())?;
        Ok(plan)
    }

    /// Sets what a run does with each step.
    pub fn select(&mut self, selection: &Selection) -> Result<()> {
        let states = states(&self.steps, selection)?;
        for (step, state) in self.steps.iter_mut().zip(states) {
            step.state = state;
        }
        Ok(())
    }

    /// What the ledger keeps of it.
    pub fn record(&self, workflow: &str) -> PlanRecord {
        let steps = self.steps.iter().map(|step| step.record.clone()).collect();
        PlanRecord { evoq: 1, workflow: workflow.to_owned(), steps }
    }

    /// Adds the steps of one combination; `places` knows those that are there already by name, round and fingerprint.
    fn add(
        &mut self,
        part: Part<'_>,
        outside: &Outside,
        root: &Location,
        folders: &Folders,
        places: &mut BTreeMap<(String, Option<u32>, String), usize>,
    ) -> Result<()> {
        // Where each instance stands in the plan.
        let mut at: Vec<usize> = Vec::with_capacity(part.instances.len());
        for (instance, checked) in part.instances.iter().zip(part.checked) {
            let Some(checked) = checked else { unreachable!("without problems every step is checked") };
            let sources = |i: usize| &self.steps[at[i]];
            let mut step = planned(part.combination, instance, checked, &sources, outside, root, folders)?;
            let mut needs: BTreeSet<usize> = BTreeSet::new();
            for feed in instance.feeds.iter().flatten() {
                if let From::Step { instance, .. } = feed.from {
                    needs.insert(at[instance]);
                }
            }
            step.needs = needs.into_iter().collect();
            let key = (step.record.step.clone(), step.record.round, step.record.fingerprint.clone());
            if let Some(&known) = places.get(&key) {
                let variant = &mut self.steps[known].record.variant;
                *variant = variant.common(&part.combination.variant);
                at.push(known);
            } else {
                places.insert(key, self.steps.len());
                at.push(self.steps.len());
                self.steps.push(step);
            }
        }
        Ok(())
    }
}

/// What steps read and take from outside the workflow: values after defaults, digests of files. Each is found out once.
struct Outside {
    /// The parameters that count in a fingerprint, by stage and flags.
    parameters: BTreeMap<(String, Vec<String>), Map<String, Value>>,
    /// The fingerprints of artifacts and checkpoints, by URI and whether it is a policy.
    marks: BTreeMap<(String, bool), String>,
}

impl Outside {
    fn new(parts: &[Part<'_>], stages: &Stages, folders: &Folders, reader: &mut Reader) -> Result<Self> {
        let mut outside = Self { parameters: BTreeMap::new(), marks: BTreeMap::new() };
        let valued = values(parts, stages)?;
        let mut digests: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (instance, checked) in parts.iter().flat_map(|part| part.instances.iter().zip(&part.checked)) {
            let Some(checked) = checked else { continue };
            outside.mark_inputs(instance, checked, folders, reader);
            let Checked::Stage { known, flags } = checked else { continue };
            let key = (known.description.stage.clone(), flags.clone());
            if outside.parameters.contains_key(&key) {
                continue;
            }
            let digest = |path: &Path| {
                if let Some(known) = digests.get(path) {
                    return Ok(known.clone());
                }
                let digest = content_digest(path)?;
                digests.insert(path.to_path_buf(), digest.clone());
                Ok(digest)
            };
            let told = match valued.get(&key) {
                Some(Valued::Values(values)) => {
                    let counted = content_parameters_by(&known.description, values, digest);
                    match counted {
                        Ok(parameters) => {
                            outside.parameters.insert(key, parameters);
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Some(Valued::Error(line)) => line.clone(),
                None => continue,
            };
            let step = &instance.step;
            let place = step.with.first().map_or(step.name.place, |(key, _)| key.place);
            reader.problems.push(Problem::new(place, format!("step {}: {told}", instance.title())));
        }
        Ok(outside)
    }

    /// Finds out the fingerprints of what `instance` reads from outside the workflow.
    fn mark_inputs(&mut self, instance: &Instance, checked: &Checked, folders: &Folders, reader: &mut Reader) {
        for (input, feeds) in instance.step.inputs.iter().zip(&instance.feeds) {
            for feed in feeds {
                let From::Outside { text, origin } = &feed.from else { continue };
                let key = (folders.absolute(text, *origin), checked.is_policy(&input.name.text));
                if self.marks.contains_key(&key) {
                    continue;
                }
                match input_fingerprint(&key.0, key.1) {
                    Ok(mark) => drop(self.marks.insert(key, mark)),
                    Err(error) => {
                        let message = format!("step {}: {error}", instance.title());
                        reader.problems.push(Problem::new(feed.place, message).help(PATHS));
                    }
                }
            }
        }
    }
}

/// What each stage makes of each list of flags. Stages are asked side by side.
fn values(parts: &[Part<'_>], stages: &Stages) -> Result<BTreeMap<(String, Vec<String>), Valued>> {
    let mut asked: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for checked in parts.iter().flat_map(|part| part.checked.iter().flatten()) {
        if let Checked::Stage { known, flags } = checked {
            asked.entry(known.description.stage.clone()).or_default().insert(flags.clone());
        }
    }
    let mut all = BTreeMap::new();
    for (stage, lists) in asked {
        let values = stages.values(&stage, &lists)?;
        all.extend(values.into_iter().map(|(flags, valued)| ((stage.clone(), flags), valued)));
    }
    Ok(all)
}

/// One step of a combination; `source` gives the planned step of an instance before it.
fn planned<'a>(
    combination: &Combination,
    instance: &Instance,
    checked: Checked,
    source: &dyn Fn(usize) -> &'a PlannedStep,
    outside: &Outside,
    root: &Location,
    folders: &Folders,
) -> Result<PlannedStep> {
    let name = &instance.step.name;
    let mut inputs = Vec::new();
    let mut marks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (input, feeds) in instance.step.inputs.iter().zip(&instance.feeds) {
        let mut uris = Vec::new();
        for feed in feeds {
            let (uri, mark) = match &feed.from {
                From::Step { instance, .. } => {
                    let source = source(*instance);
                    (source.location.uri().to_owned(), source.record.fingerprint.clone())
                }
                From::Outside { text, origin } => {
                    let key = (folders.absolute(text, *origin), checked.is_policy(&input.name.text));
                    let mark = outside.marks.get(&key).cloned().unwrap_or_default();
                    (key.0, mark)
                }
            };
            uris.push(uri);
            marks.entry(input.name.text.clone()).or_default().push(mark);
        }
        inputs.push((input.name.text.clone(), uris));
    }
    let (stage, version, parameters, work) = match (checked, &instance.step.action) {
        (Checked::Command { tables }, Action::Run(command)) => {
            let seed = step_seed(combination.seed, instance);
            let call = foreign::call(instance, command, tables, seed, folders)?;
            (name.text.clone(), command.version, call.parameters.clone(), Work::Command(call))
        }
        (Checked::Stage { known, flags }, _) => {
            let described = &known.description;
            let key = (described.stage.clone(), flags);
            let parameters = outside.parameters.get(&key).cloned().unwrap_or_default();
            let work = Work::Stage { program: known.program.clone(), flags: key.1, divides: described.divides };
            (key.0, described.version, parameters, work)
        }
        (Checked::Command { .. }, Action::Uses(_)) => unreachable!("a stage is checked as a stage"),
    };
    let is_stage = matches!(work, Work::Stage { .. });
    let resources = instance.step.resources.or_default(is_stage.then_some(stage.as_str()), &parameters);
    let fingerprint = fingerprint(&stage, version, &parameters, &marks);
    let location = root.join(&stage).join(&fingerprint);
    let (step, round, variant) = (name.text.clone(), instance.round, combination.variant.clone());
    let record = StepRecord { step, round, variant, stage, version, fingerprint, parameters, inputs: marks };
    Ok(PlannedStep { record, inputs, needs: Vec::new(), resources, location, found: false, state: State::Run, work })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::matrix::Variant;

    /// A planned step of this name, made by a command from nothing.
    pub(crate) fn step(name: &str, round: Option<u32>) -> PlannedStep {
        let record = StepRecord {
            step: name.to_owned(),
            round,
            variant: Variant::default(),
            stage: name.to_owned(),
            version: 1,
            fingerprint: format!("{name}{round:?}"),
            parameters: Map::new(),
            inputs: BTreeMap::new(),
        };
        PlannedStep {
            record,
            inputs: Vec::new(),
            needs: Vec::new(),
            resources: Resources::default(),
            location: Location::open("/nowhere").unwrap(),
            found: false,
            state: State::Run,
            work: Work::Stage { program: PathBuf::new(), flags: Vec::new(), divides: false },
        }
    }

    /// A stage that reads `images` and a policy and writes `votes`, as far as a plan asks it.
    const FAKE: &str = r#"#!/bin/sh
samples=32 seed=1 source=null order=per-vote
for flag in "$@"; do case "$flag" in
  --samples=*) samples=${flag#*=};; --order=*) order=${flag#*=};; --seed=*) seed=${flag#*=};; --source=*) source="\"${flag#*=}\"";;
esac; done
if [ "$samples" -gt 99 ]; then echo "error: invalid value '$samples' for '--samples <N>'" >&2; exit 2; fi
cat <<END
{ "evoq": 1, "stage": "fake", "version": 3, "about": "", "divides": false,
  "inputs": [ { "name": "images", "table": "images", "required": false, "help": "what it looks at" },
              { "name": "policy", "required": false, "help": "" } ],
  "outputs": [ { "name": "images", "table": "images" }, { "name": "votes", "table": "votes" } ],
  "parameters": [ { "name": "samples", "type": "integer", "help": "", "value": $samples },
                  { "name": "order", "type": "text", "choices": ["per-vote", "balanced"], "help": "", "value": "$order" },
                  { "name": "exact", "type": "flag", "help": "", "value": false },
                  { "name": "list", "type": "text", "list": true, "help": "" },
                  { "name": "source", "type": "path", "help": "", "value": $source },
                  { "name": "seed", "type": "integer", "help": "", "value": $seed } ] }
END
"#;

    /// A folder with the stages `fake` and `strict`.
    pub(crate) fn fake() -> (tempfile::TempDir, Stages) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        // `strict` is like `fake` and must be given `images` and its `kind`.
        let strict = FAKE
            .replace("fake", "strict")
            .replace("false, \"help\": \"what", "true, \"help\": \"what")
            .replace("\"name\": \"list\"", "\"name\": \"kind\", \"required\": true");
        for (name, text) in [("evoq-fake", FAKE), ("evoq-strict", &strict)] {
            let program = folder.path().join(name);
            evoq_artifacts::write_file(&program, text.as_bytes()).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let stages = Stages::within(vec![folder.path().to_path_buf()]);
        (folder, stages)
    }

    /// The plan of a workflow's text with the stage `fake`.
    pub(crate) fn planned(text: &str, sets: &[&str]) -> Result<Plan> {
        let (folder, stages) = fake();
        let workflow = crate::workflow::tests::read(text, sets)?;
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
  b: { uses: strict, with: { sampels: 3 } }
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

    /// A command's file, a stage that reads it, and a stage with every kind of parameter.
    const FULL: &str = "\
evoq: 1
name: full
seed: 1
params: { k: 8 }
steps:
  a: { run: [sh, FILE, '{out.images}', '{with.n}'], with: { n: 3 }, out: [images] }
  b: { uses: fake, in: { images: a }, with: { samples: \"${k}\", order: balanced, source: FILE } }
";

    /// The fingerprints of `a` and `b` of a text in which FILE stands for a file with `content`.
    fn full(text: &str, content: &str, sets: &[&str]) -> [String; 2] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        evoq_artifacts::write_file(&file, content.as_bytes()).unwrap();
        let plan = planned(&text.replace("FILE", file.to_str().unwrap()), sets).unwrap();
        let print =
            |name: &str| plan.steps.iter().find(|it| it.record.step == name).unwrap().record.fingerprint.clone();
        ["a", "b"].map(print)
    }

    #[test]
    fn what_decides_what_a_step_makes_changes_its_fingerprint_and_that_of_what_reads_it() {
        let base = full(FULL, "x", &[]);
        for (from, to) in [
            ("samples: \"${k}\"", "samples: 9"),
            ("order: balanced", "order: per-vote"),
            (", source: FILE }", " }"),
            ("seed: 1", "seed: 2"),
            ("in: { images: a }", "in: { images: [a, a] }"),
            ("uses: fake", "uses: strict"),
        ] {
            let text = FULL
                .replace(from, to)
                .replace("strict, in: { images: a }, with: {", "strict, in: { images: a }, with: { kind: x,");
            let changed = full(&text, "x", &[]);
            assert_eq!(changed[0], base[0], "{to}");
            assert_ne!(changed[1], base[1], "{to}");
        }
        for (from, to) in [
            ("[sh, FILE,", "[bash, FILE,"),
            ("n: 3", "n: 4"),
            ("out: [images] }", "out: [images], version: 2 }"),
            ("'{with.n}']", "'{with.n}', '{seed}']"),
            (
                "'{with.n}'], with: { n: 3 }, out: [images]",
                "'{with.n}', '{out.votes}'], with: { n: 3 }, out: [images, votes]",
            ),
        ] {
            let changed = full(&FULL.replace(from, to), "x", &[]);
            assert!(changed[0] != base[0] && changed[1] != base[1], "{to}");
        }
        let other_content = full(FULL, "y", &[]);
        assert!(other_content[0] != base[0] && other_content[1] != base[1]);
        assert_ne!(full(FULL, "x", &["k=9"])[1], base[1]);
    }

    #[test]
    fn what_does_not_decide_what_a_step_makes_changes_no_fingerprint() {
        let base = full(FULL, "x", &[]);
        for (from, to) in [
            ("name: full", "name: other"),
            ("steps:", "# a comment\nsteps:  # and another"),
            ("k: 8", "\"k\": 8, unused: 3"),
            ("samples: \"${k}\", order: balanced", "order: balanced, samples: 8"),
            ("out: [images] }", "out: images, resources: { cpus: 3, gpus: 1, memory: 2GB } }"),
            ("with: { samples", "resources: { cpus: 2 }, with: { exact: ~, samples"),
            ("steps:", "show: [{ title: t, sql: SELECT 1 }]\nmatrix: { k: [8] }\nsteps:"),
            ("  b:", "  z: { uses: fake }\n  b:"),
        ] {
            assert_eq!(full(&FULL.replace(from, to), "x", &[]), base, "{to}");
        }
        assert_eq!(full(FULL, "x", &["k=8", "seed=1"]), base);
    }

    const MATRIX: &str = "\
evoq: 1
name: flow
params: { samples: 8, order: balanced }
matrix: { samples: [8, 9], order: [balanced, per-vote] }
steps:
  photos: { run: [make, '{out.images}'], out: [images] }
  few: { uses: fake, in: { images: photos }, with: { samples: \"${samples}\" } }
  all: { uses: fake, in: { images: few }, with: { order: \"${order}\" } }
";

    #[test]
    fn a_step_is_planned_once_for_all_combinations_that_make_it_alike_and_says_on_what_it_depends() {
        let plan = planned(MATRIX, &[]).unwrap();
        let line = |step: &PlannedStep| {
            let needs: Vec<String> = step.needs.iter().map(|&need| plan.steps[need].title()).collect();
            format!("{}: {}", step.title(), needs.join(", "))
        };
        let lines: Vec<String> = plan.steps.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "photos: ",
                "few (samples=8): photos",
                "all (samples=8 order=balanced): few (samples=8)",
                "all (samples=8 order=per-vote): few (samples=8)",
                "few (samples=9): photos",
                "all (samples=9 order=balanced): few (samples=9)",
                "all (samples=9 order=per-vote): few (samples=9)",
            ]
        );
        // Narrowed, it is the same artifacts.
        let one = planned(MATRIX, &["samples=9", "order=per-vote"]).unwrap();
        let prints =
            |plan: &Plan| -> BTreeSet<String> { plan.steps.iter().map(|it| it.record.fingerprint.clone()).collect() };
        assert_eq!(one.steps.len(), 3);
        assert!(prints(&one).is_subset(&prints(&plan)));
    }

    #[test]
    fn a_fault_of_every_combination_is_told_once() {
        let told = planned(&MATRIX.replace("order: \"${order}\"", "ordre: 1"), &[]).unwrap_err().to_string();
        assert_eq!(told.matches("no parameter `ordre`").count(), 1, "{told}");
    }
}
