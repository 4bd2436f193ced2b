//! How long the rest of a run will take: from what steps of the same work took before, or what those that run say themselves.
//!
//! Work is the same where stage, version, parameters but for the seed, and what is read are the same, on the same machine by the
//! same executor; of a policy counts what it was trained from, as training changes no sizes. Where the time of one step that is
//! left is known from nowhere, nothing is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use evoq_artifacts::Location;
use evoq_schemas::RunStepRow;
use serde_json::json;

use super::machine::Machine;
use super::make::End;
use crate::error::Result;
use crate::ledger::{self, StepRecord, host};
use crate::plan::{Plan, PlannedStep};

/// How many of the latest runs are looked at.
const RUNS: usize = 12;

/// The steps of a run, how far each is, and what is known of their times.
#[derive(Debug)]
pub struct Pace {
    steps: Vec<Pending>,
    /// Seconds that a piece of work took the last time.
    took: BTreeMap<Work, f64>,
    /// Whether a step has failed: what comes of the rest is open.
    is_broken: bool,
}

#[derive(Debug)]
struct Pending {
    work: Work,
    needs: Vec<usize>,
    /// How much of the machine it takes, from 0 to 1.
    part: f64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Waits,
    /// Since when, and the seconds that it said were left, with when it said so.
    Runs(Instant, Option<(Instant, f64)>),
    Over,
}

/// A number for what a step does, the same for the same work.
type Work = usize;

impl Pace {
    /// The pace of a run of `plan` on `machine`; what earlier runs at `root` tell is read while it runs.
    pub fn watched(
        plan: &Plan,
        machine: &Machine,
        root: &Location,
        workflow: &str,
        executor: &'static str,
    ) -> Arc<Mutex<Self>> {
        let mut works = Works::default();
        let pace = Arc::new(Mutex::new(Self::new(&plan.steps, machine, &mut works)));
        let (told, root, workflow) = (pace.clone(), root.clone(), workflow.to_owned());
        // A bucket takes its time to answer. Without an answer nothing is known.
        thread::spawn(move || {
            let took = history(&root, &workflow, executor, &mut works).unwrap_or_default();
            let mut pace = told.lock().unwrap_or_else(PoisonError::into_inner);
            for (work, seconds) in took {
                pace.took.entry(work).or_insert(seconds);
            }
        });
        pace
    }

    fn new(steps: &[PlannedStep], machine: &Machine, works: &mut Works) -> Self {
        let pending = |(step, work): (&PlannedStep, Work)| Pending {
            work,
            needs: step.needs.clone(),
            part: machine.part(&step.resources),
            fate: if step.state.runs() { Fate::Waits } else { Fate::Over },
        };
        let numbers = works.of(steps.iter().map(|step| &step.record));
        let steps = steps.iter().zip(numbers).map(pending).collect();
        Self { steps, took: BTreeMap::new(), is_broken: false }
    }

    /// The step at place `i` begins.
    pub fn started(&mut self, i: usize, now: Instant) {
        self.steps[i].fate = Fate::Runs(now, None);
    }

    /// The step at place `i` has said `line`.
    pub fn said(&mut self, i: usize, line: &str, now: Instant) {
        if let (Fate::Runs(_, said), Some(left)) = (&mut self.steps[i].fate, left_of(line)) {
            *said = Some((now, left));
        }
    }

    /// The step at place `i` has ended.
    pub fn ended(&mut self, i: usize, end: &End) {
        let step = &mut self.steps[i];
        step.fate = Fate::Over;
        self.is_broken |= end.result.is_err();
        if end.attempts == 1 && end.result.is_ok() {
            self.took.insert(step.work, end.seconds);
        }
    }

    /// The seconds that are left, if they are known. No run is shorter than its longest chain of steps, nor than all of their work
    /// spread over the machine; one that starts what it can is hardly longer than both.
    pub fn left(&self, now: Instant) -> Option<f64> {
        if self.is_broken {
            return None;
        }
        let mut ends: Vec<f64> = Vec::with_capacity(self.steps.len());
        let mut work = 0.0;
        for step in &self.steps {
            let seconds = self.left_of_step(step, now)?;
            work += seconds * step.part;
            let begins = step.needs.iter().map(|&need| ends[need]).fold(0.0, f64::max);
            ends.push(begins + seconds);
        }
        Some(ends.into_iter().fold(work, f64::max))
    }

    fn left_of_step(&self, step: &Pending, now: Instant) -> Option<f64> {
        let took = self.took.get(&step.work).copied();
        let since = |then: Instant| now.saturating_duration_since(then).as_secs_f64();
        match step.fate {
            Fate::Over => Some(0.0),
            Fate::Waits => took,
            Fate::Runs(begun, said) => match (took, said) {
                (Some(took), _) => Some((took - since(begun)).max(0.0)),
                (None, Some((then, left))) => Some((left - since(then)).max(0.0)),
                (None, None) => None,
            },
        }
    }
}

/// What a stage says of the time that is left: `progress: updates 3/40, 6 s, 72 s left; reward 0.7`.
fn left_of(line: &str) -> Option<f64> {
    let (before, _) = line.split_once(" s left")?;
    before.rsplit(' ').next()?.parse().ok().filter(|left: &f64| left.is_finite())
}

/// Numbers of works, given in the order in which they are met.
#[derive(Debug, Default)]
struct Works(BTreeMap<String, Work>);

impl Works {
    /// The work of each of a plan's steps, which come after what they read.
    fn of<'a>(&mut self, steps: impl Iterator<Item = &'a StepRecord>) -> Vec<Work> {
        // What a reader of a fingerprint's table reads, and what a user of its policy.
        let mut known: BTreeMap<&str, (String, String)> = BTreeMap::new();
        let mut works = Vec::new();
        for record in steps {
            let mut inputs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (name, marks) in &record.inputs {
                let read = |mark: &String| match known.get(mark.as_str()) {
                    Some((_, policy)) if name == "policy" => policy.clone(),
                    Some((work, _)) => work.clone(),
                    None => mark.clone(),
                };
                inputs.insert(name, marks.iter().map(read).collect());
            }
            let policy = inputs.get("policy").and_then(|marks| marks.first()).cloned();
            let mut parameters = record.parameters.clone();
            parameters.remove("seed");
            let text = json!([record.stage, record.version, parameters, inputs]).to_string();
            let next = self.0.len();
            let work = *self.0.entry(text).or_insert(next);
            let name = format!("work {work}");
            known.insert(&record.fingerprint, (name.clone(), policy.unwrap_or(name)));
            works.push(work);
        }
        works
    }
}

/// The seconds that works took in the latest runs of `workflow` on this machine by `executor`.
fn history(root: &Location, workflow: &str, executor: &str, works: &mut Works) -> Result<BTreeMap<Work, f64>> {
    let runs = ledger::runs(root)?;
    let mut took = BTreeMap::new();
    // Fingerprints of which a part was made by a run that did not end: the time of the next is that of the rest.
    let mut parts: BTreeSet<String> = BTreeSet::new();
    let host = host();
    for run in &runs[runs.len().saturating_sub(RUNS)..] {
        let plan = ledger::plan(root, run)?;
        if plan.workflow != workflow {
            continue;
        }
        let rows = ledger::run_steps(root, run)?;
        let rows: BTreeMap<&str, &RunStepRow> = rows.iter().map(|row| (row.fingerprint.as_str(), row)).collect();
        let was_killed = ledger::run_row(root, run)?.iter().all(|row| row.outcome == "running");
        for (step, work) in plan.steps.iter().zip(works.of(plan.steps.iter())) {
            match rows.get(step.fingerprint.as_str()) {
                Some(row) if row.cached => {}
                Some(row) if row.outcome == "done" => {
                    let is_alike = row.host == host && row.executor.as_deref() == Some(executor);
                    if !parts.remove(&step.fingerprint) && is_alike && row.attempts == Some(1) {
                        took.insert(work, row.seconds);
                    }
                }
                None if !was_killed => {}
                Some(_) | None => drop(parts.insert(step.fingerprint.clone())),
            }
        }
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::tests::made;
    use crate::ledger::{Ledger, PlanRecord};
    use crate::matrix::Variant;

    /// A step that reads the steps before it that `reads` names, or what lies outside.
    fn record(step: &str, fingerprint: &str, parameters: &serde_json::Value, reads: &[(&str, &str)]) -> StepRecord {
        let mut inputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, mark) in reads {
            inputs.entry((*name).to_owned()).or_default().push((*mark).to_owned());
        }
        StepRecord {
            step: step.to_owned(),
            round: None,
            variant: Variant::default(),
            stage: step.to_owned(),
            version: 1,
            fingerprint: fingerprint.to_owned(),
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            inputs,
        }
    }

    /// Steps with their needs, parts of the machine and fates, each a work of its own.
    fn pace(steps: &[(&[usize], f64, Fate)], took: &[f64]) -> Pace {
        let pending = |(work, &(needs, part, fate)): (usize, &(&[usize], f64, Fate))| Pending {
            work,
            needs: needs.to_vec(),
            part,
            fate,
        };
        let steps = steps.iter().enumerate().map(pending).collect();
        Pace { steps, took: took.iter().copied().enumerate().collect(), is_broken: false }
    }

    #[test]
    fn a_run_takes_its_longest_chain_or_all_its_work_over_the_machine() {
        let now = Instant::now();
        let chain: &[(&[usize], f64, Fate)] =
            &[(&[], 0.5, Fate::Waits), (&[0], 0.5, Fate::Waits), (&[], 0.5, Fate::Waits)];
        assert_eq!(pace(chain, &[10.0, 20.0, 5.0]).left(now), Some(30.0));
        let wide: &[(&[usize], f64, Fate)] = &[(&[], 1.0, Fate::Waits), (&[], 1.0, Fate::Waits)];
        assert_eq!(pace(wide, &[10.0, 20.0]).left(now), Some(30.0));
        let half_done: &[(&[usize], f64, Fate)] = &[(&[], 1.0, Fate::Over), (&[0], 1.0, Fate::Waits)];
        assert_eq!(pace(half_done, &[10.0, 20.0]).left(now), Some(20.0));
    }

    #[test]
    fn of_a_step_that_runs_the_rest_of_its_time_is_left_and_where_that_is_unknown_what_it_says() {
        let begun = Instant::now();
        let now = begun + Duration::from_secs(4);
        let runs: &[(&[usize], f64, Fate)] = &[(&[], 1.0, Fate::Runs(begun, None))];
        assert_eq!(pace(runs, &[10.0]).left(now), Some(6.0));
        assert_eq!(pace(runs, &[1.0]).left(now), Some(0.0));
        let mut unknown = pace(runs, &[]);
        assert_eq!(unknown.left(now), None);
        unknown.said(0, "progress: pairs 80/256, 5 s, 12 s left; 3 valid", now);
        assert_eq!(unknown.left(now + Duration::from_secs(2)), Some(10.0));
    }

    #[test]
    fn nothing_is_said_where_a_step_that_waits_is_unknown_or_one_has_failed() {
        let two: &[(&[usize], f64, Fate)] = &[(&[], 1.0, Fate::Waits), (&[], 1.0, Fate::Waits)];
        assert_eq!(pace(two, &[10.0]).left(Instant::now()), None);
        let mut broken = pace(two, &[10.0, 10.0]);
        assert!(broken.left(Instant::now()).is_some());
        broken.is_broken = true;
        assert_eq!(broken.left(Instant::now()), None);
    }

    #[test]
    fn a_line_without_a_time_says_nothing_of_it() {
        assert_eq!(left_of("progress: updates 3/40, 6 s, 72 s left; reward 0.7"), Some(72.0));
        for line in ["INFO 2 of 3 units are done already", "nobody has left", "x s left", "inf s left"] {
            assert_eq!(left_of(line), None, "{line}");
        }
    }

    #[test]
    fn work_is_the_same_under_another_seed_and_by_a_policy_trained_on_and_another_with_other_parameters_or_inputs() {
        let plan = |seed: u32, count: u32, photos: &str| {
            let named = |name: &str| format!("{name} {seed} {count} {photos}");
            [
                record("pair", &named("pairs"), &json!({ "seed": seed, "count": count }), &[("images", photos)]),
                record("vote", &named("votes"), &json!({}), &[("pairs", &named("pairs")), ("policy", "start")]),
                record("grpo", &named("policy"), &json!({}), &[("labels", &named("votes")), ("policy", "start")]),
                record("vote", &named("more"), &json!({}), &[("pairs", &named("pairs")), ("policy", &named("policy"))]),
            ]
        };
        let mut works = Works::default();
        let mut of = |seed, count, photos| works.of(plan(seed, count, photos).iter());
        let first = of(1, 10, "photos");
        assert_eq!(first[1], first[3]);
        assert_eq!(of(2, 10, "photos"), first);
        for other in [of(1, 20, "photos"), of(1, 10, "others")] {
            assert!(other.iter().zip(&first).all(|(other, first)| other != first), "{other:?} {first:?}");
        }
    }

    #[test]
    fn the_time_of_a_step_is_its_latest_but_not_of_one_that_went_on_where_another_run_was_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        let step = |fingerprint: &str| record("vote", fingerprint, &json!({}), &[("pairs", fingerprint)]);
        let plan =
            PlanRecord { evoq: 1, workflow: "flow".to_owned(), steps: vec![step("whole"), step("torn"), step("far")] };
        let run = |outcomes: [(&str, f64, &str); 3]| {
            let mut ledger = Ledger::start(&root, &plan, 1).unwrap();
            for (fingerprint, (outcome, seconds, executor)) in ["whole", "torn", "far"].into_iter().zip(outcomes) {
                let row = RunStepRow {
                    seconds,
                    outcome: outcome.to_owned(),
                    host: host(),
                    executor: Some(executor.to_owned()),
                    attempts: Some(1),
                    ..made(&step(fingerprint))
                };
                ledger.step(row).unwrap();
            }
            ledger.end("done").unwrap();
        };
        run([("done", 9.0, "local"), ("stopped", 9.0, "local"), ("done", 9.0, "slurm")]);
        run([("done", 7.0, "local"), ("done", 2.0, "local"), ("done", 9.0, "slurm")]);
        let mut works = Works::default();
        let of = works.of(plan.steps.iter());
        let took = history(&root, "flow", "local", &mut works).unwrap();
        assert_eq!(took, BTreeMap::from([(of[0], 7.0)]));
        assert_eq!(history(&root, "other", "local", &mut works).unwrap(), BTreeMap::new());
    }
}
