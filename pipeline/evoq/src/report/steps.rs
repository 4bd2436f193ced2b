//! The steps of the run: what each took, what it was made from, and the drawing of all.

use evoq_schemas::RunStepRow;
use serde::Serialize;

use super::ask::Column;
use super::pictures::source;
use crate::graph::{Graph, duration, svg};
use crate::ledger::{PlanRecord, StepRecord};

/// Digits of a fingerprint that are shown.
const DIGITS: usize = 12;

/// The section.
#[derive(Debug, Serialize)]
pub(super) struct Steps {
    /// The drawing.
    graph: String,
    /// One row a step.
    table: Vec<Line>,
    /// What all steps took.
    total: String,
}

#[derive(Debug, Serialize)]
struct Line {
    anchor: String,
    step: String,
    column: String,
    stage: String,
    version: u32,
    outcome: String,
    time: String,
    fingerprint: String,
    inputs: Vec<Input>,
    parameters: String,
}

#[derive(Debug, Serialize)]
struct Input {
    name: String,
    source: String,
    anchor: Option<String>,
}

/// The section.
pub(super) fn steps(plan: &PlanRecord, done: &[RunStepRow]) -> Steps {
    let table = plan.steps.iter().map(|step| line(step, plan, done)).collect();
    let total = duration(done.iter().map(|row| row.seconds).sum());
    Steps { graph: svg(&Graph::new(plan, done)), table, total }
}

fn line(step: &StepRecord, plan: &PlanRecord, done: &[RunStepRow]) -> Line {
    let row = done
        .iter()
        .rev()
        .find(|row| row.workflow_step == step.step && row.round == step.round && row.fingerprint == step.fingerprint);
    let (outcome, time) = match row {
        None => ("not run".to_owned(), String::new()),
        Some(row) if row.cached => ("found".to_owned(), String::new()),
        Some(row) => (if row.outcome == "done" { "made" } else { &row.outcome }.to_owned(), duration(row.seconds)),
    };
    let inputs = step.inputs.iter().flat_map(|(name, marks)| {
        marks.iter().map(|mark| match source(plan, mark) {
            Some(source) => Input { name: name.clone(), source: title(source), anchor: Some(anchor(source)) },
            None => Input { name: name.clone(), source: short(mark), anchor: None },
        })
    });
    let parameters = step.parameters.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}: {value}")
    });
    Line {
        anchor: anchor(step),
        step: step.step.clone(),
        column: column(step),
        stage: step.stage.clone(),
        version: step.version,
        outcome,
        time,
        fingerprint: short(&step.fingerprint),
        inputs: inputs.collect(),
        parameters: parameters.collect::<Vec<_>>().join("\n"),
    }
}

fn column(step: &StepRecord) -> String {
    let column = Column { variant: step.variant.text(), round: step.round };
    if column == Column::default() { String::new() } else { column.title() }
}

fn title(step: &StepRecord) -> String {
    let column = column(step);
    if column.is_empty() { step.step.clone() } else { format!("{} ({column})", step.step) }
}

fn anchor(step: &StepRecord) -> String {
    format!("step-{}", short(&step.fingerprint))
}

fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(DIGITS).collect()
}
