//! `params`, `--set` and `${…}`: values that a workflow is given, put where it names them.

use serde_json::Value as Json;

use crate::problem::{Place, Problem, suggestion};
use crate::read::Reader;
use crate::tree::{self, Key, Node, Origin, Value};

/// The parameters by name. `seed` is always one of them.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, Node)>);

impl Params {
    /// The parameters in `params` (of the file) and `seed`, with `sets` (`name=value`, of the command line) in their place;
    /// `axes` are the names of the matrix that can be set as well.
    pub fn new(
        entries: &[(Key, Node)],
        seed: Option<&Node>,
        sets: &[String],
        axes: &[String],
        reader: &mut Reader,
    ) -> Self {
        let mut values: Vec<(String, Node)> = Vec::new();
        let one = Node { place: Place::default(), origin: Origin::Params, value: Value::Scalar(1.into()) };
        values.push(("seed".to_owned(), seed.cloned().unwrap_or(one)));
        for (key, value) in entries {
            if key.text == "seed" {
                reader.problems.push(
                    Problem::new(key.place, "`seed` is a key of the workflow itself, not of its `params`")
                        .help("write `seed: 1` at the top level; `${seed}` and `--set seed=2` work"),
                );
                continue;
            }
            if matches!(value.value, Value::Map(_)) {
                let message = format!("the parameter `{}` is a map; expected a value or a list", key.text);
                reader.problems.push(Problem::new(value.place, message));
            }
            values.push((key.text.clone(), with_origin(value, Origin::Params)));
        }
        let mut params = Self(values);
        for set in sets {
            params.set(set, axes, reader);
        }
        params
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The names of the parameters.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The same with other values for some.
    #[must_use]
    pub fn with(&self, settings: &[(Key, Node)]) -> Self {
        let other = |name: &str| settings.iter().rev().find(|(key, _)| key.text == name).map(|(_, value)| value);
        let value = |(name, value): &(String, Node)| (name.clone(), other(name).unwrap_or(value).clone());
        Self(self.0.iter().map(value).collect())
    }

    fn set(&mut self, set: &str, axes: &[String], reader: &mut Reader) {
        let nowhere = Place::default();
        let Some((name, text)) = set.split_once('=') else {
            let message = format!("--set {set}: expected NAME=VALUE");
            reader.problems.push(Problem::new(nowhere, message));
            return;
        };
        let near = suggestion(name, self.names().chain(axes.iter().map(String::as_str)));
        let Some((_, value)) = self.0.iter_mut().find(|(known, _)| known == name) else {
            let message = format!("--set {set}: this workflow has no parameter `{name}`{near}");
            reader.problems.push(Problem::new(nowhere, message));
            return;
        };
        *value = set_value(text);
    }

    /// `node` with every `${name}` replaced. Where the whole text is one `${name}`, the parameter's type stays.
    pub fn fill(&self, node: &Node, reader: &mut Reader) -> Node {
        let value = match &node.value {
            Value::Scalar(Json::String(text)) if text.contains("${") => return self.fill_text(node, text, reader),
            Value::Scalar(value) => Value::Scalar(value.clone()),
            Value::List(items) => Value::List(items.iter().map(|item| self.fill(item, reader)).collect()),
            Value::Map(entries) => {
                Value::Map(entries.iter().map(|(key, value)| (key.clone(), self.fill(value, reader))).collect())
            }
        };
        Node { place: node.place, origin: node.origin, value }
    }

    fn fill_text(&self, node: &Node, text: &str, reader: &mut Reader) -> Node {
        let mut filled = String::new();
        let mut origin = node.origin;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            filled.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                reader.problems.push(Problem::new(node.place, "`${` without its `}`").cause());
                return node.clone();
            };
            let Some(value) = self.get(name) else {
                let near = suggestion(name, self.names());
                let message = format!("unknown parameter `${{{name}}}`{near}");
                reader.problems.push(Problem::new(node.place, message).cause());
                return node.clone();
            };
            if text.len() == name.len() + 3 {
                let mut value = value.clone();
                move_to(&mut value, node.place);
                return value;
            }
            match &value.value {
                Value::Scalar(Json::String(text)) => filled.push_str(text),
                Value::Scalar(Json::Null) => {}
                Value::Scalar(value) => filled.push_str(&value.to_string()),
                Value::List(_) | Value::Map(_) => {
                    let message =
                        format!("the parameter `{name}` is a list: it can only stand alone, `\"${{{name}}}\"`");
                    reader.problems.push(Problem::new(node.place, message).cause());
                }
            }
            if before.is_empty() && rest.len() == text.len() {
                origin = value.origin;
            }
            rest = after;
        }
        filled.push_str(rest);
        Node { place: node.place, origin, value: Value::Scalar(filled.into()) }
    }
}

/// The value of a `--set`: a YAML value or list where it reads as one, else the text as it is.
pub fn set_value(text: &str) -> Node {
    match tree::parse(text) {
        Ok(mut node) if !node.is_null() && !matches!(node.value, Value::Map(_)) => {
            // It stands on the command line, not in the file.
            move_to(&mut node, Place::default());
            with_origin(&node, Origin::Set)
        }
        _ => Node { place: Place::default(), origin: Origin::Set, value: Value::Scalar(text.into()) },
    }
}

/// `node` and, where it is a list, its items, as written in a place of kind `origin`.
pub fn with_origin(node: &Node, origin: Origin) -> Node {
    let mut node = node.clone();
    node.origin = origin;
    if let Value::List(items) = &mut node.value {
        for item in items {
            item.origin = origin;
        }
    }
    node
}

/// A parameter's value stands, for messages, where the parameter is named.
fn move_to(node: &mut Node, place: Place) {
    node.place = place;
    if let Value::List(items) = &mut node.value {
        for item in items {
            item.place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(params: &str, sets: &[&str], text: &str) -> (String, Origin, Vec<Problem>) {
        let mut reader = Reader::default();
        let tree = tree::parse(params).unwrap();
        let Value::Map(entries) = &tree.value else { panic!("a map") };
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let params = Params::new(entries, None, &sets, &[], &mut reader);
        let node = params.fill(&tree::parse(&format!("'{text}'")).unwrap(), &mut reader);
        (node.found(), node.origin, reader.problems)
    }

    #[test]
    fn a_lone_parameter_keeps_its_type_and_one_inside_a_text_becomes_text() {
        assert_eq!(filled("{ votes: 32 }", &[], "${votes}").0, "32");
        assert_eq!(filled("{ votes: 32 }", &[], "k-${votes}-${seed}").0, "text \"k-32-1\"");
        assert_eq!(filled("{ types: [a, b] }", &[], "${types}").0, "a list");
    }

    #[test]
    fn a_set_takes_the_place_of_the_files_value_and_is_known_as_one() {
        assert_eq!(filled("{ photos: ./a }", &["photos=../b"], "${photos}").1, Origin::Set);
        assert_eq!(
            filled("{ photos: ./a }", &["photos=../b"], "${photos}/c"),
            ("text \"../b/c\"".into(), Origin::Set, vec![])
        );
        assert_eq!(filled("{ votes: 32 }", &["votes=8"], "${votes}").0, "8");
        assert_eq!(filled("{ votes: 32 }", &["seed=2"], "${seed}").0, "2");
        assert_eq!(filled("{ photos: a }", &["photos=x: [y"], "${photos}").0, "text \"x: [y\"");
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_nearest() {
        let messages = |(_, _, problems): (String, Origin, Vec<Problem>)| problems[0].message.clone();
        let unknown = messages(filled("{ votes: 32 }", &[], "${vote}"));
        assert_eq!(unknown, "unknown parameter `${vote}`; did you mean `votes`?");
        let set = messages(filled("{ votes: 32 }", &["sed=2"], "x"));
        assert_eq!(set, "--set sed=2: this workflow has no parameter `sed`; did you mean `seed`?");
    }
}
