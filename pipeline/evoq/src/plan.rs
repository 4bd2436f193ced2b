//! What a run would do: every step with its fingerprint, what it needs, and whether it is in the store already.

mod outside;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use evoq_artifacts::{Artifact, Location};
use evoq_stage::fingerprint;

use crate::call::{Folders, step_seed};
use crate::check::{Checked, check};
use crate::error::Result;
use crate::expand::{From, Instance, expand};
use crate::foreign::{self, ForeignCall};
use crate::ledger::{PlanRecord, StepRecord};
use crate::problem::Problems;
use crate::read::Reader;
use crate::resources::Resources;
use crate::select::{Selection, State, states};
use crate::stages::Stages;
use crate::step::{Action, Target, When};
use crate::uses::Uses;
use crate::workflow::{Combination, Workflow};
use outside::{Mark, Outside};

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

/// One combination's steps, checked.
struct Part<'a> {
    combination: &'a Combination,
    instances: Vec<Instance>,
    checked: Vec<Option<Checked>>,
}

impl Plan {
    /// Works out `workflow` for `root`. Nothing is run; everything that can be checked before is, and all faults are told.
    pub fn new(workflow: &Workflow, root: &Location, stages: &Stages) -> Result<Self> {
        let mut plan = Self::worked_out(workflow, root, stages, Mark::Content)?;
        let locations: Vec<Location> = plan.steps.iter().map(|step| step.location.clone()).collect();
        for (step, found) in plan.steps.iter_mut().zip(Artifact::at_each(&locations)?) {
            step.found = found.is_some();
        }
        plan.select(&Selection::default())?;
        Ok(plan)
    }

    /// The steps of `workflow` and what reads what. What comes from outside need not be there: it stands by its name, and the
    /// fingerprints are those of no artifacts.
    pub fn sketch(workflow: &Workflow, stages: &Stages) -> Result<Self> {
        // Places are worked out and not looked at: the file's folder is as good as any.
        let root = Location::open(&workflow.folder.display().to_string())?;
        Self::worked_out(workflow, &root, stages, Mark::Name)
    }

    fn worked_out(workflow: &Workflow, root: &Location, stages: &Stages, by: Mark) -> Result<Self> {
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
        let outside = Outside::new(&steps(&parts), stages, &folders, by, &mut reader)?;
        if !reader.problems.is_empty() {
            return Err(Problems::new(&workflow.source, reader.problems).into());
        }
        let mut plan = Self { steps: Vec::new() };
        let mut places = BTreeMap::new();
        for part in parts {
            plan.add(part, workflow, &outside, root, &folders, &mut places)?;
        }
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
        workflow: &Workflow,
        outside: &Outside,
        root: &Location,
        folders: &Folders,
        places: &mut BTreeMap<(String, Option<u32>, String), usize>,
    ) -> Result<()> {
        // Where each instance stands in the plan, and the parameters of the workflow that it depends on.
        let mut at: Vec<usize> = Vec::with_capacity(part.instances.len());
        let mut names: Vec<BTreeSet<String>> = Vec::with_capacity(part.instances.len());
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
            names.push(depends_on(instance, &step.record, &names, &workflow.uses));
            let is_settable = |axis: &str, name: &String| workflow.axes.get(axis).is_some_and(|it| it.contains(name));
            let depends = |axis: &str| names.last().into_iter().flatten().any(|name| is_settable(axis, name));
            let variant = part.combination.variant.of_axes(depends);
            step.record.variant = variant.clone();
            let key = (step.record.step.clone(), step.record.round, step.record.fingerprint.clone());
            if let Some(&known) = places.get(&key) {
                let said = &mut self.steps[known].record.variant;
                *said = said.common(&variant);
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

/// The parameters of the workflow that decide what `instance` makes: those that it names, the seed where it draws with the
/// workflow's, and those of what it reads. `before` has them of the instances before it.
fn depends_on(instance: &Instance, record: &StepRecord, before: &[BTreeSet<String>], uses: &Uses) -> BTreeSet<String> {
    let step = &instance.step;
    let mut names = uses.of_step(&step.name.text, instance.round);
    if record.parameters.contains_key("seed") && !step.with.iter().any(|(key, _)| key.text == "seed") {
        names.insert("seed".to_owned());
    }
    for reference in step.inputs.iter().flat_map(|input| &input.references) {
        match reference.target() {
            Target::Outside | Target::Step { when: When::Here, .. } => {}
            Target::Step { step, .. } => names.extend(uses.of_start(step)),
        }
    }
    for feed in instance.feeds.iter().flatten() {
        if let From::Step { instance, .. } = feed.from {
            names.extend(before[instance].iter().cloned());
        }
    }
    names
}

/// The steps of all combinations that could be checked.
fn steps<'a>(parts: &'a [Part<'_>]) -> Vec<(&'a Instance, &'a Checked)> {
    let all = parts.iter().flat_map(|part| part.instances.iter().zip(&part.checked));
    all.filter_map(|(instance, checked)| Some((instance, checked.as_ref()?))).collect()
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
                    let uri = folders.absolute(text, *origin);
                    let mark = outside.mark(&uri, checked.is_policy(&input.name.text));
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
            let seed = step_seed(combination.seed, instance);
            let call = foreign::call(instance, command, tables, seed, folders)?;
            (name.text.clone(), command.version, call.parameters.clone(), Work::Command(call))
        }
        (Checked::Stage { known, flags }, _) => {
            let described = &known.description;
            let parameters = outside.parameters(&described.stage, &flags);
            let work = Work::Stage { program: known.program.clone(), flags, divides: described.divides };
            (described.stage.clone(), described.version, parameters, work)
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
