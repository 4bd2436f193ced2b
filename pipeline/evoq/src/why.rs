//! Why a step runs: what has changed since the last run of the workflow.

use std::collections::{BTreeMap, BTreeSet};

use evoq_artifacts::Location;
use evoq_schemas::RunStepRow;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::ledger::{StepRecord, latest_plan, run_steps};
use crate::plan::{Plan, PlannedStep};
use crate::select::State;

/// For each step that runs or was left out, why; none for a step that is found.
pub fn reasons(plan: &Plan, workflow: &str, root: &Location) -> Result<Vec<Option<String>>> {
    if plan.steps.iter().all(|step| step.state == State::Cached) {
        return Ok(vec![None; plan.steps.len()]);
    }
    let last = latest_plan(root, workflow)?;
    let done = match &last {
        Some((run, _)) => run_steps(root, run)?,
        None => Vec::new(),
    };
    let old: Vec<StepRecord> = last.map(|(_, plan)| plan.steps).unwrap_or_default();
    let mut known: BTreeMap<(&str, Option<u32>), Vec<&StepRecord>> = BTreeMap::new();
    for record in &old {
        known.entry((&record.step, record.round)).or_default().push(record);
    }
    let reason = |step: &PlannedStep| match step.state {
        State::Cached => None,
        State::Left => Some("not asked for".to_owned()),
        State::Again if step.needs.iter().any(|&need| plan.steps[need].state == State::Again) => {
            Some("what it reads is made again".to_owned())
        }
        State::Again => Some("--force".to_owned()),
        State::Run => {
            let same = known.get(&(step.record.step.as_str(), step.record.round));
            let like = |old: &&&StepRecord| old.variant.likeness(&step.record.variant);
            let old = same.into_iter().flatten().filter(|old| like(old).is_some()).max_by_key(|old| like(old));
            Some(old.map_or_else(|| "never made".to_owned(), |old| reason(old, &step.record, &done)))
        }
    };
    Ok(plan.steps.iter().map(reason).collect())
}

/// What changed from `old` to `new`.
fn reason(old: &StepRecord, new: &StepRecord, done: &[RunStepRow]) -> String {
    let changes = difference(old, new);
    if !changes.is_empty() {
        return changes;
    }
    let ended = |row: &&RunStepRow| row.fingerprint == new.fingerprint && row.outcome == "done";
    if done.iter().any(|row| ended(&row)) {
        "its artifact is gone from the store".to_owned()
    } else {
        "not finished by the last run".to_owned()
    }
}

/// What differs between two steps; nothing where they are made from the same.
pub fn difference(old: &StepRecord, new: &StepRecord) -> String {
    if old.stage != new.stage {
        return format!("stage {} → {}", old.stage, new.stage);
    }
    let mut changes = Vec::new();
    if old.version != new.version {
        changes.push(format!("version {} → {}", old.version, new.version));
    }
    changes.extend(changed(&old.parameters, &new.parameters));
    let names: BTreeSet<_> = old.inputs.keys().chain(new.inputs.keys()).collect();
    for name in names.into_iter().filter(|name| old.inputs.get(*name) != new.inputs.get(*name)) {
        changes.push(match (old.inputs.get(name), new.inputs.get(name)) {
            (None, _) => format!("input `{name}` is new"),
            (_, None) => format!("input `{name}` is gone"),
            _ => format!("input `{name}` changed"),
        });
    }
    changes.join("; ")
}

fn changed(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
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
    use crate::ledger::tests::made;
    use crate::matrix::Variant;
    use serde_json::json;

    fn record(parameters: &Value, pairs: &str, version: u32) -> StepRecord {
        StepRecord {
            step: "votes".to_owned(),
            round: Some(1),
            variant: Variant::default(),
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
        assert_eq!(reason(&same, &same, &[made(&same)]), "its artifact is gone from the store");
    }
}
