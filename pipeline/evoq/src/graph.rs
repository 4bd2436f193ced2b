//! The steps of a run and what feeds what, as text for tools (Mermaid, Graphviz) and as a drawing (SVG).

mod args;
mod layout;
mod svg;
mod text;

use std::collections::BTreeMap;

use evoq_schemas::RunStepRow;

use crate::ledger::PlanRecord;

pub use args::{GraphArgs, run};
pub use svg::svg;
pub use text::{dot, mermaid};

/// Steps and what they read. A node stands after all that it reads.
#[derive(Debug)]
pub struct Graph {
    /// The steps, and before them what comes from outside the workflow.
    pub nodes: Vec<Node>,
    /// What reads what.
    pub edges: Vec<Edge>,
}

/// A step, or something from outside.
#[derive(Debug)]
pub struct Node {
    /// The step's name; of something from outside the input's.
    pub name: String,
    /// Round, variant and stage, as far as there are such.
    pub detail: String,
    /// How the step ended in the run; none for what has not run, and for what comes from outside.
    pub end: Option<End>,
}

/// How a step ended.
#[derive(Debug)]
pub struct End {
    /// `done`, `failed` or `stopped`.
    pub outcome: String,
    /// Whether it was found rather than made.
    pub cached: bool,
    /// How long it took.
    pub seconds: f64,
}

/// `to` reads `from`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The node that is read.
    pub from: usize,
    /// The node that reads it.
    pub to: usize,
    /// The input.
    pub input: String,
}

impl Graph {
    /// The graph of a plan; `done` are the steps that ended.
    pub fn new(plan: &PlanRecord, done: &[RunStepRow]) -> Self {
        let steps: BTreeMap<&str, usize> =
            plan.steps.iter().enumerate().rev().map(|(i, step)| (step.fingerprint.as_str(), i)).collect();
        let mut outside: Vec<(&str, &str)> = Vec::new();
        for step in &plan.steps {
            for (input, marks) in &step.inputs {
                for mark in marks.iter().filter(|mark| !steps.contains_key(mark.as_str())) {
                    if !outside.iter().any(|(_, known)| known == mark) {
                        outside.push((input, mark));
                    }
                }
            }
        }
        let mut nodes: Vec<Node> = outside
            .iter()
            .map(|(input, _)| Node { name: (*input).to_owned(), detail: "from outside".to_owned(), end: None })
            .collect();
        let mut edges = Vec::new();
        for (i, step) in plan.steps.iter().enumerate() {
            let round = step.round.map(|round| if round == 0 { "start".to_owned() } else { format!("round {round}") });
            let parts = [round, step.variant.text(), Some(step.stage.clone()).filter(|stage| *stage != step.step)];
            let row = done.iter().rev().find(|row| {
                (row.workflow_step == step.step && row.round == step.round) && row.fingerprint == step.fingerprint
            });
            nodes.push(Node {
                name: step.step.clone(),
                detail: parts.into_iter().flatten().collect::<Vec<_>>().join(" · "),
                end: row.map(|row| End { outcome: row.outcome.clone(), cached: row.cached, seconds: row.seconds }),
            });
            for (input, marks) in &step.inputs {
                for mark in marks {
                    let from = match steps.get(mark.as_str()) {
                        Some(source) => outside.len() + source,
                        None => outside.iter().position(|(_, known)| known == mark).unwrap_or_default(),
                    };
                    edges.push(Edge { from, to: outside.len() + i, input: input.clone() });
                }
            }
        }
        // A step that is the same as a later one is read where it first stands.
        edges.retain(|edge| edge.from < edge.to);
        edges.sort();
        Self { nodes, edges }
    }

    /// The edges, but for those whose ends are joined by a longer way as well, and each pair of nodes once.
    fn without_detours(&self) -> Vec<&Edge> {
        let count = self.nodes.len();
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); count];
        for edge in &self.edges {
            if !next[edge.from].contains(&edge.to) {
                next[edge.from].push(edge.to);
            }
        }
        let mut shown: Vec<&Edge> = Vec::new();
        for from in 0..count {
            // What is reached in two steps or more: nodes stand after all that they read, so one sweep finds it.
            let mut is_far = vec![false; count];
            for middle in from + 1..count {
                if is_far[middle] || next[from].contains(&middle) {
                    next[middle].iter().for_each(|&to| is_far[to] = true);
                }
            }
            let of_node = self.edges.iter().filter(|edge| edge.from == from && !is_far[edge.to]);
            for edge in of_node {
                if shown.last().is_none_or(|last| (last.from, last.to) != (edge.from, edge.to)) {
                    shown.push(edge);
                }
            }
        }
        shown
    }
}

/// A time for people: `0.2 s`, `13 s`, `1 min 54 s`, `2 h 3 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ledger::StepRecord;
    use crate::ledger::tests::made;
    use crate::matrix::Variant;

    /// A step that reads the steps of these fingerprints.
    pub(crate) fn step(name: &str, round: Option<u32>, stage: &str, reads: &[(&str, &str)]) -> StepRecord {
        let mut inputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (input, mark) in reads {
            inputs.entry((*input).to_owned()).or_default().push((*mark).to_owned());
        }
        let fingerprint = round.map_or_else(|| name.to_owned(), |round| format!("{name}{round}"));
        let parameters = serde_json::Map::new();
        StepRecord {
            step: name.to_owned(),
            round,
            variant: Variant::default(),
            stage: stage.to_owned(),
            version: 1,
            fingerprint,
            parameters,
            inputs,
        }
    }

    /// One round of the loop.
    pub(crate) fn plan() -> PlanRecord {
        let steps = vec![
            step("photos", None, "ingest", &[]),
            step("pairs", Some(1), "pair", &[("images", "photos")]),
            step("votes", Some(1), "vote", &[("images", "photos"), ("pairs", "pairs1"), ("policy", "start")]),
            step("labels", Some(1), "label", &[("votes", "votes1")]),
            step("policy", Some(1), "grpo", &[("images", "photos"), ("labels", "labels1"), ("policy", "start")]),
        ];
        PlanRecord { evoq: 1, workflow: "loop".to_owned(), steps }
    }

    fn graph() -> Graph {
        let steps = plan().steps;
        let failed = "failed".to_owned();
        let done = [
            RunStepRow { cached: true, seconds: 0.0, ..made(&steps[0]) },
            RunStepRow { seconds: 0.25, ..made(&steps[1]) },
            RunStepRow { seconds: 75.0, outcome: failed, ..made(&steps[2]) },
        ];
        Graph::new(&plan(), &done)
    }

    #[test]
    fn a_graph_is_told_to_mermaid_and_graphviz() {
        insta::assert_snapshot!(format!("{}\n{}", mermaid(&graph()), dot(&graph())));
    }

    #[test]
    fn a_drawing_has_a_box_for_each_step_and_a_line_where_no_longer_way_joins_two() {
        let drawn = svg(&graph());
        assert_eq!(drawn.matches("<rect").count(), 6);
        // photos → pairs → votes → labels → policy, and the start policy → votes.
        assert_eq!(drawn.matches("<path class=\"edge").count(), 5);
        assert!(drawn.contains("1 min 15 s") && drawn.contains("class=\"node failed\""), "{drawn}");
        insta::assert_snapshot!(drawn);
    }

    #[test]
    fn a_time_is_as_long_as_people_say_it() {
        let said = [0.04, 9.94, 12.6, 59.6, 7384.0].map(duration);
        assert_eq!(said, ["0.0 s", "9.9 s", "13 s", "1 min 0 s", "2 h 3 min"]);
    }
}
