//! One step of a workflow, as the file says it.
//!
//! ```yaml
//! votes:
//!   uses: vote                        # a stage: the program evoq-vote
//!   in: { images: [photos, variants], pairs: pairs, policy: previous.policy }
//!   with: { samples: 32 }             # the stage's flags
//!   resources: { cpus: 8, gpus: 1, memory: 32GB }   # what it needs of a machine; results do not depend on it
//! my-votes:
//!   run: [python, my_vote.py, "{in.pairs}", "{out.votes}", "{seed}"]   # any command in place of a stage
//!   in: { pairs: pairs }
//!   out: [votes]
//!   version: 2                        # to be raised when the command changes in a way its files do not show
//! ```
//! An input is a step (the table named like the input), `step.table`, `previous.step`, `start.step`, `each-round.step`, or
//! something outside the store: a path with a slash, or a URI. In `then`, `start.step` is a step of `then` in round 0, and what
//! says so runs from round 1 on: `scores: [start.scores, scores]` compares each round with the start.

use crate::problem::{Place, Problem};
use crate::read::{Fields, Reader};
use crate::resources::Asked;
use crate::tree::{Key, Node, Origin, Value};

/// A step, in one round.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name.
    pub name: Key,
    /// What it runs.
    pub action: Action,
    /// What it reads.
    pub inputs: Vec<StepInput>,
    /// The stage's parameters.
    pub with: Vec<(Key, Node)>,
    /// What it needs of a machine.
    pub resources: Asked,
}

/// The keys of a step.
pub const KEYS: [&str; 7] = ["uses", "run", "in", "with", "out", "version", "resources"];

/// What a step runs.
#[derive(Debug, Clone)]
pub enum Action {
    /// The stage of this name.
    Uses(Key),
    /// A command.
    Run(Command),
}

/// A command in place of a stage.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program and its arguments, in which `{in.NAME}`, `{out.NAME}`, `{with.NAME}` and `{seed}` stand for what they name.
    pub arguments: Vec<Node>,
    /// What it writes: names of tables, or `policy`.
    pub outputs: Vec<Key>,
    /// The version of its algorithm.
    pub version: u32,
}

/// An input of a step and where it comes from.
#[derive(Debug, Clone)]
pub struct StepInput {
    /// Its name.
    pub name: Key,
    /// Its sources, read as one.
    pub references: Vec<Reference>,
}

/// Where an input comes from.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Where it is written.
    pub place: Place,
    /// By whom.
    pub origin: Origin,
    /// Its text.
    pub text: String,
}

/// What a [`Reference`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// A step, and which of its tables.
    Step {
        /// In which round.
        when: When,
        /// The step, or the name in `start`.
        step: &'a str,
        /// The table, where it is not named like the input.
        table: Option<&'a str>,
    },
    /// A path or a URI.
    Outside,
}

/// Which round a reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The step's own round, or a step outside the rounds.
    Here,
    /// The round before; in round 1, `start`.
    Previous,
    /// Before round 1.
    Start,
    /// The start and every round, one after another.
    EachRound,
}

impl Reference {
    /// What the text means by its form.
    pub fn target(&self) -> Target<'_> {
        let text = self.text.as_str();
        if text.contains('/') || text.starts_with('.') {
            return Target::Outside;
        }
        let (when, rest) = match text.split_once('.') {
            Some(("previous", rest)) => (When::Previous, rest),
            Some(("start", rest)) => (When::Start, rest),
            Some(("each-round", rest)) => (When::EachRound, rest),
            _ => (When::Here, text),
        };
        match rest.split_once('.') {
            Some((step, table)) => Target::Step { when, step, table: Some(table) },
            None => Target::Step { when, step: rest, table: None },
        }
    }
}

impl Step {
    /// Reads the step `name`.
    pub fn read(name: &Key, node: &Node, reader: &mut Reader) -> Option<Self> {
        let what = format!("step `{}`", name.text);
        let fields = reader.fields(node, &what, &KEYS)?;
        let resources = Asked::read(fields.get("resources"), &what, reader);
        let action = match (fields.get("uses"), fields.get("run")) {
            (Some(_), Some(run)) => {
                reader.problems.push(
                    Problem::new(run.place, format!("{what} has both `uses` and `run`"))
                        .help("in `except`, `uses: ~` takes the stage away"),
                );
                return None;
            }
            (None, None) => {
                let message = format!("{what} says neither `uses` (a stage) nor `run` (a command)");
                return reader.fail(name.place, message);
            }
            (Some(uses), None) => uses_stage(&what, uses, fields, reader)?,
            (None, Some(run)) => Action::Run(command(&what, run, fields, reader)?),
        };
        let inputs = match fields.get("in") {
            Some(node) => reader.map(node, &format!("{what}: `in`"))?,
            None => &[],
        };
        let inputs = inputs.iter().filter(|(_, node)| !node.is_null());
        let inputs: Vec<StepInput> =
            inputs.map(|(name, node)| StepInput { name: name.clone(), references: references(node, reader) }).collect();
        let with = match fields.get("with") {
            Some(node) => reader.map(node, &format!("{what}: `with`"))?,
            None => &[],
        };
        let with = with.iter().filter(|(_, node)| !node.is_null()).cloned().collect();
        Some(Self { name: name.clone(), action, inputs, with, resources })
    }
}

fn uses_stage(what: &str, uses: &Node, fields: Fields<'_>, reader: &mut Reader) -> Option<Action> {
    for (key, meaning) in [("out", "a stage says itself what it writes"), ("version", "a stage has its own version")] {
        if let Some(node) = fields.get(key) {
            let message = format!("{what}: `{key}` goes with `run`; {meaning}");
            reader.problems.push(Problem::new(node.place, message));
        }
    }
    let stage = reader.text(uses, &format!("{what}: `uses`"))?;
    Some(Action::Uses(Key { place: uses.place, text: stage.to_owned() }))
}

fn command(what: &str, run: &Node, fields: Fields<'_>, reader: &mut Reader) -> Option<Command> {
    let Value::List(arguments) = &run.value else {
        let message = format!("{what}: `run` is {}; expected a list, `[program, argument, …]`", run.found());
        return reader.fail(run.place, message);
    };
    if arguments.is_empty() {
        return reader.fail(run.place, format!("{what}: `run` is an empty list; expected `[program, argument, …]`"));
    }
    let Some(out) = fields.get("out") else {
        return reader.fail(run.place, format!("{what} has `run` and no `out`; write `out: [votes]`, say"));
    };
    let mut outputs = Vec::new();
    for node in reader.list(out, &format!("{what}: `out`"))? {
        let text = reader.text(node, &format!("{what}: an output"))?;
        outputs.push(Key { place: node.place, text: text.to_owned() });
    }
    let version = match fields.get("version") {
        Some(version) => reader.integer(version, &format!("{what}: `version`"), 0..=u64::from(u32::MAX))?,
        None => 1,
    };
    Some(Command { arguments: arguments.clone(), outputs, version: u32::try_from(version).unwrap_or(u32::MAX) })
}

/// The references that an input's value holds.
pub fn references(node: &Node, reader: &mut Reader) -> Vec<Reference> {
    let Some(items) = reader.list(node, "an input") else { return Vec::new() };
    if items.is_empty() {
        let message = "an input is an empty list; expected a step, a path or a URI";
        reader.problems.push(Problem::new(node.place, message).help("leave the input away, or in `except` write `~`"));
    }
    let mut list = Vec::new();
    for item in items {
        if let Some(text) = reader.text(item, "an input") {
            list.push(Reference { place: item.place, origin: item.origin, text: text.to_owned() });
        }
    }
    list
}

/// `base` with `over` laid on it: maps are merged key by key, anything else is replaced. Null takes a key away.
pub fn merge(base: &Node, over: &Node) -> Node {
    let (Value::Map(base), Value::Map(entries)) = (&base.value, &over.value) else { return over.clone() };
    let mut merged = base.clone();
    for (key, value) in entries {
        match merged.iter_mut().find(|(known, _)| known.text == key.text) {
            Some((_, place)) => *place = merge(place, value),
            None => merged.push((key.clone(), value.clone())),
        }
    }
    Node { place: over.place, origin: over.origin, value: Value::Map(merged) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn reference(text: &str) -> Reference {
        Reference { place: Place::default(), origin: Origin::Place, text: text.to_owned() }
    }

    #[test]
    fn a_reference_is_a_step_unless_it_looks_like_a_path() {
        for (text, when, step, table) in [
            ("photos", When::Here, "photos", None),
            ("test.ratings", When::Here, "test", Some("ratings")),
            ("previous.policy", When::Previous, "policy", None),
            ("start.policy", When::Start, "policy", None),
            ("each-round.grpo.policy", When::EachRound, "grpo", Some("policy")),
        ] {
            assert_eq!(reference(text).target(), Target::Step { when, step, table });
        }
        for text in ["./policy", "../policy", "/data/policy", "s3://bucket/policy", "models/tiny"] {
            assert_eq!(reference(text).target(), Target::Outside);
        }
    }

    #[test]
    fn an_exception_replaces_the_keys_it_names_and_leaves_the_others() {
        let base = tree::parse("{ uses: vote, in: { images: photos, pairs: pairs }, with: { samples: 32, order: x } }");
        let over = tree::parse("{ in: { images: [a, b] }, with: { samples: 8, order: ~ } }").unwrap();
        let merged = merge(&base.unwrap(), &over);
        let mut reader = Reader::default();
        let name = Key { place: Place::default(), text: "votes".to_owned() };
        let step = Step::read(&name, &merged, &mut reader).unwrap();
        assert_eq!(reader.problems, []);
        let inputs: Vec<_> = step.inputs.iter().map(|it| (it.name.text.as_str(), it.references.len())).collect();
        assert_eq!(inputs, [("images", 2), ("pairs", 1)]);
        let with: Vec<_> = step.with.iter().map(|(key, value)| (key.text.as_str(), value.found())).collect();
        assert_eq!(with, [("samples", "8".to_owned())]);
    }
}
