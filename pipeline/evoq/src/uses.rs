//! Which parameters the steps of a workflow file name: on these, and on those of what it reads, a step depends.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::read::Fields;
use crate::tree::{Node, Value};

/// The names in `${…}`, by where they stand.
#[derive(Debug, Default)]
pub struct Uses {
    /// By step.
    steps: BTreeMap<String, BTreeSet<String>>,
    /// What a round has besides, by round and step.
    except: BTreeMap<(u32, String), BTreeSet<String>>,
    /// By entry of `start`.
    start: BTreeMap<String, BTreeSet<String>>,
}

impl Uses {
    /// Reads them from the file's tree, before parameters are filled in. What is not as it should be names nothing.
    pub fn new(fields: Fields<'_>) -> Self {
        let rounds = fields.get("rounds");
        let of_rounds = |key: &str| rounds.and_then(|rounds| entry(rounds, key));
        let mut uses = Self::default();
        for section in [fields.get("steps"), of_rounds("steps"), fields.get("then")].into_iter().flatten() {
            uses.steps.extend(by_entry(section));
        }
        uses.start.extend(of_rounds("start").map(by_entry).unwrap_or_default());
        for (round, steps) in of_rounds("except").map(entries).unwrap_or_default() {
            let Ok(round) = round.parse() else { continue };
            uses.except.extend(by_entry(steps).into_iter().map(|(step, names)| ((round, step), names)));
        }
        uses
    }

    /// The parameters that `step` names itself in `round`.
    pub fn of_step(&self, step: &str, round: Option<u32>) -> BTreeSet<String> {
        let always = self.steps.get(step).into_iter().flatten();
        let besides = round.and_then(|round| self.except.get(&(round, step.to_owned()))).into_iter().flatten();
        always.chain(besides).cloned().collect()
    }

    /// The parameters that the entry `name` of `start` names.
    pub fn of_start(&self, name: &str) -> BTreeSet<String> {
        self.start.get(name).cloned().unwrap_or_default()
    }
}

fn entries(node: &Node) -> Vec<(&str, &Node)> {
    match &node.value {
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.as_str(), node)).collect(),
        _ => Vec::new(),
    }
}

fn entry<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    entries(node).into_iter().find(|(key, _)| *key == name).map(|(_, node)| node)
}

fn by_entry(node: &Node) -> BTreeMap<String, BTreeSet<String>> {
    entries(node).into_iter().map(|(name, node)| (name.to_owned(), named(node))).collect()
}

/// The names in `${…}` anywhere in `node`.
fn named(node: &Node) -> BTreeSet<String> {
    match &node.value {
        Value::Scalar(Json::String(text)) => {
            let ends = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
            ends.map(|(name, _)| name.to_owned()).collect()
        }
        Value::Scalar(_) => BTreeSet::new(),
        Value::List(items) => items.iter().flat_map(named).collect(),
        Value::Map(entries) => entries.iter().flat_map(|(_, node)| named(node)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Reader;
    use crate::tree;

    #[test]
    fn a_step_names_what_stands_in_it_anywhere_and_in_its_exceptions_of_the_round() {
        let text = "\
steps: { a: { run: [x, 'k-${one}-${two}'], with: { n: \"${three}\" } } }
rounds:
  start: { policy: \"${four}\" }
  steps: { b: { uses: x, in: { images: [a, \"${five}\"] } } }
  except: { 2: { b: { with: { n: \"${six}\" } } } }
then: { c: { uses: x, with: { n: 1 } } }
";
        let tree = tree::parse(text).unwrap();
        let uses = Uses::new(Reader::default().fields(&tree, "it", &["steps", "rounds", "then"]).unwrap());
        let said = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(said(uses.of_step("a", None)), "one three two");
        assert_eq!(said(uses.of_step("b", Some(1))), "five");
        assert_eq!(said(uses.of_step("b", Some(2))), "five six");
        assert_eq!(said(uses.of_step("c", Some(2))), "");
        assert_eq!(said(uses.of_start("policy")), "four");
    }
}
