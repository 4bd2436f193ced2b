//! Reading a tree as what it should be; what it is not becomes a problem at its place.

use serde_json::Value as Json;

use crate::problem::{Place, Problem, suggestion};
use crate::tree::{Key, Node, Value};

/// Collects problems while a tree is read.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was found wrong.
    pub problems: Vec<Problem>,
}

/// The entries of a map whose keys are known.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [(Key, Node)]);

impl<'a> Fields<'a> {
    /// The value of `key`; null counts as absent.
    pub fn get(self, key: &str) -> Option<&'a Node> {
        self.0.iter().find(|(name, value)| name.text == key && !value.is_null()).map(|(_, value)| value)
    }
}

impl Reader {
    /// Notes a problem. Always `None`, to end a reading function with.
    #[cfg_attr(test, track_caller)]
    pub fn fail<T>(&mut self, place: Place, message: impl Into<String>) -> Option<T> {
        self.problems.push(Problem::new(place, message));
        None
    }

    /// A map with known keys; others are problems.
    #[cfg_attr(test, track_caller)]
    pub fn fields<'a>(&mut self, node: &'a Node, what: &str, known: &[&str]) -> Option<Fields<'a>> {
        let entries = self.map(node, what)?;
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let near = suggestion(&key.text, known.iter().copied());
                self.problems.push(Problem::new(key.place, format!("{what}: unknown key `{}`{near}", key.text)));
            }
        }
        Some(Fields(entries))
    }

    /// A map with any keys.
    #[cfg_attr(test, track_caller)]
    pub fn map<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [(Key, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ => self.fail(node.place, format!("{what} is {}; expected a map (`key: value`)", node.found())),
        }
    }

    /// The map of `key`, empty where there is none.
    #[cfg_attr(test, track_caller)]
    pub fn map_of<'a>(&mut self, fields: Fields<'a>, key: &str) -> &'a [(Key, Node)] {
        match fields.get(key) {
            Some(node) => self.map(node, &format!("`{key}`")).unwrap_or_default(),
            None => &[],
        }
    }

    /// A list; a single value counts as a list of one.
    #[cfg_attr(test, track_caller)]
    pub fn list<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Scalar(_) => Some(std::slice::from_ref(node)),
            Value::Map(_) => self.fail(node.place, format!("{what} is a map; expected a value or a list")),
        }
    }

    /// A text.
    #[cfg_attr(test, track_caller)]
    pub fn text<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a str> {
        match node.text() {
            Some(text) => Some(text),
            None => self.fail(node.place, format!("{what} is {}; expected a text", node.found())),
        }
    }

    /// A scalar as it would be written on a command line.
    #[cfg_attr(test, track_caller)]
    pub fn word(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(Json::String(text)) => Some(text.clone()),
            Value::Scalar(value) if !value.is_null() => Some(value.to_string()),
            _ => self.fail(node.place, format!("{what} is {}; expected a text or a number", node.found())),
        }
    }

    /// A whole number within `range`.
    #[cfg_attr(test, track_caller)]
    pub fn integer(&mut self, node: &Node, what: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let number = match &node.value {
            Value::Scalar(value) => value.as_u64().filter(|number| range.contains(number)),
            _ => None,
        };
        if number.is_none() {
            let (low, high) = range.into_inner();
            let expected = match high {
                _ if low == high => low.to_string(),
                u64::MAX => format!("a whole number, {low} or more"),
                _ => format!("a whole number, {low} to {high}"),
            };
            return self.fail(node.place, format!("{what} is {}; expected {expected}", node.found()));
        }
        number
    }
}
