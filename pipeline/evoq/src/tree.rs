//! YAML as a tree in which every key and value knows its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::problem::{Place, Problem};

/// Where a value's text was written, which decides what its relative paths are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// At its place in the workflow file.
    Place,
    /// In `params` of the workflow file.
    Params,
    /// In a `--set` of the command line.
    Set,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// Where its text was written.
    pub origin: Origin,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Null, true or false, a number or a text.
    Scalar(Json),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key, or another name, and its place.
#[derive(Debug, Clone)]
pub struct Key {
    /// Where it stands.
    pub place: Place,
    /// The text.
    pub text: String,
}

impl Node {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether it is null (or nothing was written).
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Json::Null))
    }

    /// What it is, for a message: `text "x"`, `a list`.
    pub fn found(&self) -> String {
        match &self.value {
            Value::Scalar(Json::String(text)) => format!("text \"{text}\""),
            Value::Scalar(Json::Null) => "nothing".to_owned(),
            Value::Scalar(value) => value.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Parses one YAML document.
pub fn parse(text: &str) -> Result<Node, Problem> {
    // YAML 1.2's booleans: `off` and `no` are words.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let place = error.location().map(Place::from).unwrap_or_default();
        let message = error.render_with_formatter(&UserMessageFormatter);
        Problem::new(place, format!("this is not YAML: {message}"))
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: spanned.referenced.into(), origin: Origin::Place, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Scalar(Json::Null))
    }
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Scalar(text.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push((Key { place: key.referenced.into(), text: key.value }, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let tree = parse("a: 1\nsteps:\n  votes: { with: { samples: 32, order: off } }\n").unwrap();
        let Value::Map(top) = &tree.value else { panic!("a map") };
        let Value::Map(steps) = &top[1].1.value else { panic!("a map") };
        assert_eq!(steps[0].0.place, Place { line: 3, column: 3, length: 5 });
        let Value::Map(step) = &steps[0].1.value else { panic!("a map") };
        let Value::Map(with) = &step[0].1.value else { panic!("a map") };
        assert_eq!((with[0].0.text.as_str(), with[0].0.place.column), ("samples", 20));
        assert_eq!((with[0].1.found().as_str(), with[0].1.place.column), ("32", 29));
        assert_eq!(with[1].1.text(), Some("off"));
    }

    #[test]
    fn numbers_keep_their_type_and_quotes_make_text() {
        let tree = parse("[3e-4, 7, -2, '7', 0-5, null]").unwrap();
        let Value::List(items) = &tree.value else { panic!("a list") };
        let found: Vec<_> = items.iter().map(Node::found).collect();
        assert_eq!(found, ["0.0003", "7", "-2", "text \"7\"", "text \"0-5\"", "nothing"]);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_its_place() {
        let problem = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(problem.place.line, 2);
        assert!(problem.message.contains("duplicate"), "{}", problem.message);
    }
}
