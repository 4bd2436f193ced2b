//! A matrix: parameters that take several values. The workflow is worked out once for each combination of them, and a step
//! that two combinations make alike is one step.
//!
//! ```yaml
//! matrix:
//!   votes: [1, 8, 16, 32]                 # an axis: a parameter (or `seed`) and its values
//!   arm:                                  # or a name of its own, under which several parameters change together
//!     paper: {}
//!     shuffled: { control: shuffled }
//!     hasty: { control: none, votes: 1 }
//! ```
//! `--set votes=8`, `--set arm=shuffled` or `--set arm=[paper, hasty]` leave those values of an axis.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::params::{Params, set_value, with_origin};
use crate::problem::{Place, Problem, suggestion};
use crate::read::Reader;
use crate::tree::{Key, Node, Origin, Value};

/// More combinations than these are a slip of the pen.
const MOST: usize = 10_000;

/// A combination of a matrix, or what several have in common: axes and the labels of their values, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant(Vec<(String, String)>);

impl Variant {
    /// Whether no axis is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What both say.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|pair| other.0.contains(pair)).cloned().collect())
    }

    /// What it says of the axes that are `kept`.
    #[must_use]
    pub fn of_axes(&self, kept: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(axis, _)| kept(axis)).cloned().collect())
    }

    /// How many axes both name with one value; none where they differ on an axis.
    pub fn likeness(&self, other: &Self) -> Option<usize> {
        let differ = |(axis, value): &(String, String)| other.0.iter().any(|(a, v)| a == axis && v != value);
        (!self.0.iter().any(differ)).then(|| self.common(other).0.len())
    }

    /// The text, if an axis is named.
    pub fn text(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }
}

impl fmt::Display for Variant {
    /// `arm=shuffled seed=2`; a value with a blank is quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (axis, value)) in self.0.iter().enumerate() {
            let blank = if i == 0 { "" } else { " " };
            let is_plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '=' || c == '"');
            if is_plain {
                write!(f, "{blank}{axis}={value}")?;
            } else {
                write!(f, "{blank}{axis}={value:?}")?;
            }
        }
        Ok(())
    }
}

/// The axes of a workflow's matrix; none where there is no matrix.
#[derive(Debug, Default)]
pub struct Matrix(Vec<Axis>);

#[derive(Debug)]
struct Axis {
    name: Key,
    /// Whether the axis is a parameter; else it has a name of its own.
    is_parameter: bool,
    choices: Vec<Choice>,
}

/// One value of an axis: what it is called, and the parameters it sets.
#[derive(Debug, Clone)]
struct Choice {
    label: String,
    settings: Vec<(Key, Node)>,
}

impl Matrix {
    /// Reads `matrix`.
    pub fn read(node: Option<&Node>, reader: &mut Reader) -> Self {
        let Some(node) = node else { return Self::default() };
        let entries = reader.map(node, "`matrix`").unwrap_or_default();
        Self(entries.iter().filter_map(|(name, node)| axis(name, node, reader)).collect())
    }

    /// The names of the axes.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|axis| axis.name.text.clone()).collect()
    }

    /// The parameters that each axis can set, by axis.
    pub fn parameters(&self) -> BTreeMap<String, BTreeSet<String>> {
        let of = |axis: &Axis| {
            let settings = axis.choices.iter().flat_map(|choice| &choice.settings);
            settings.map(|(key, _)| key.text.clone()).collect()
        };
        self.0.iter().map(|axis| (axis.name.text.clone(), of(axis))).collect()
    }

    /// Leaves of each axis what a `--set` in `sets` says of it; gives the sets that name no axis.
    pub fn narrowed(&mut self, sets: &[String], reader: &mut Reader) -> Vec<String> {
        let mut others = Vec::new();
        for set in sets {
            let axis = set.split_once('=').and_then(|(name, text)| {
                self.0.iter_mut().find(|axis| axis.name.text == name).map(|axis| (axis, text))
            });
            match axis {
                Some((axis, text)) => axis.narrow(set, text, reader),
                None => others.push(set.clone()),
            }
        }
        others
    }

    /// Checks the axes against the parameters that there are.
    pub fn check(&self, params: &Params, reader: &mut Reader) {
        let mut set_by: BTreeMap<&str, &str> = BTreeMap::new();
        for axis in &self.0 {
            let name = axis.name.text.as_str();
            match (axis.is_parameter, params.get(name).is_some()) {
                (true, false) => {
                    let near = suggestion(name, params.names());
                    let message = format!("`matrix`: this workflow has no parameter `{name}`{near}");
                    let help = "an axis with a name of its own is a map: `arm: { one: { votes: 1 }, all: {} }`";
                    reader.problems.push(Problem::new(axis.name.place, message).help(help));
                }
                (false, true) => {
                    let message = format!("`matrix`: `{name}` is a parameter; expected a list of its values");
                    let help = "an axis that sets several parameters has a name of its own";
                    reader.problems.push(Problem::new(axis.name.place, message).help(help));
                }
                _ => {}
            }
            for (key, _) in axis.choices.iter().flat_map(|choice| &choice.settings) {
                if !axis.is_parameter && params.get(&key.text).is_none() {
                    let near = suggestion(&key.text, params.names());
                    let message = format!("`matrix`: this workflow has no parameter `{}`{near}", key.text);
                    reader.problems.push(Problem::new(key.place, message));
                }
                let first = *set_by.entry(&key.text).or_insert(name);
                if first != name {
                    let message =
                        format!("`matrix`: the parameter `{}` is set by the axis `{first}` already", key.text);
                    reader.problems.push(Problem::new(key.place, message));
                }
            }
        }
    }

    /// Every combination and the parameters it sets, the last axis changing fastest. One without a setting where there is no
    /// matrix.
    pub fn combinations(&self, reader: &mut Reader) -> Vec<(Variant, Vec<(Key, Node)>)> {
        let count = self.0.iter().fold(1_usize, |count, axis| count.saturating_mul(axis.choices.len()));
        if count > MOST {
            let place = self.0.first().map_or(Place::default(), |axis| axis.name.place);
            let message = format!("`matrix` has {count} combinations; expected {MOST} at most");
            reader.problems.push(Problem::new(place, message).help("take values away, or split the workflow"));
            return Vec::new();
        }
        let mut all = vec![(Variant::default(), Vec::new())];
        for axis in &self.0 {
            let longer = |(variant, settings): &(Variant, Vec<(Key, Node)>), choice: &Choice| {
                let (mut variant, mut settings) = (variant.clone(), settings.clone());
                variant.0.push((axis.name.text.clone(), choice.label.clone()));
                settings.extend(choice.settings.iter().cloned());
                (variant, settings)
            };
            all = all.iter().flat_map(|one| axis.choices.iter().map(move |choice| longer(one, choice))).collect();
        }
        all
    }
}

fn axis(name: &Key, node: &Node, reader: &mut Reader) -> Option<Axis> {
    let what = format!("the axis `{}`", name.text);
    let is_parameter = matches!(node.value, Value::List(_));
    let choices = match &node.value {
        Value::List(items) => items.iter().filter_map(|item| value_of(name, item, &what, reader)).collect(),
        Value::Map(entries) => entries.iter().map(|(label, node)| named(label, node, &what, reader)).collect(),
        Value::Scalar(_) => {
            let message = format!("{what} is {}; expected a list of values, or settings by name", node.found());
            return reader.fail(node.place, message);
        }
    };
    if matches!(&node.value, Value::List(items) if items.is_empty())
        || matches!(&node.value, Value::Map(entries) if entries.is_empty())
    {
        return reader.fail(node.place, format!("{what} has no values; expected one at least"));
    }
    let axis = Axis { name: name.clone(), is_parameter, choices };
    for (i, choice) in axis.choices.iter().enumerate() {
        if axis.choices[..i].iter().any(|other| other.label == choice.label) {
            let place = choice.settings.first().map_or(node.place, |(_, value)| value.place);
            reader.problems.push(Problem::new(place, format!("{what} has the value `{}` twice", choice.label)));
        }
    }
    Some(axis)
}

/// A value in the list of a parameter's axis.
fn value_of(name: &Key, item: &Node, what: &str, reader: &mut Reader) -> Option<Choice> {
    let label = reader.word(item, &format!("a value of {what}"))?;
    let origin = if item.origin == Origin::Set { Origin::Set } else { Origin::Params };
    let value = with_origin(item, origin);
    Some(Choice { label, settings: vec![(Key { place: name.place, text: name.text.clone() }, value)] })
}

/// An entry of an axis with a name of its own.
fn named(label: &Key, node: &Node, what: &str, reader: &mut Reader) -> Choice {
    let entries = if node.is_null() {
        &[][..]
    } else {
        reader.map(node, &format!("`{}` of {what}", label.text)).unwrap_or_default()
    };
    let mut settings = Vec::new();
    for (key, value) in entries {
        if matches!(value.value, Value::Map(_)) {
            let message = format!("the parameter `{}` is a map; expected a value or a list", key.text);
            reader.problems.push(Problem::new(value.place, message));
        }
        settings.push((key.clone(), with_origin(value, Origin::Params)));
    }
    Choice { label: label.text.clone(), settings }
}

impl Axis {
    /// Leaves the values that `text` of `--set {set}` names.
    fn narrow(&mut self, set: &str, text: &str, reader: &mut Reader) {
        let given = set_value(text);
        let items = match &given.value {
            Value::List(items) => items.clone(),
            _ => vec![given],
        };
        if self.is_parameter {
            let what = format!("--set {set}: the axis `{}`", self.name.text);
            let name = self.name.clone();
            self.choices = items.iter().filter_map(|item| value_of(&name, item, &what, reader)).collect();
            return;
        }
        let mut left = Vec::new();
        for item in items {
            let Some(label) = reader.word(&item, &format!("--set {set}: a value")) else { continue };
            if let Some(choice) = self.choices.iter().find(|choice| choice.label == label) {
                left.push(choice.clone());
                continue;
            }
            let near = suggestion(&label, self.choices.iter().map(|choice| choice.label.as_str()));
            let message = format!("--set {set}: the axis `{}` has no value `{label}`{near}", self.name.text);
            reader.problems.push(Problem::new(Place::default(), message));
        }
        self.choices = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    const TWO: &str = "{ votes: [1, 8], arm: { plain: {}, wild: { control: shuffled } } }";

    /// The combinations of `matrix` under `sets`, as text, with what each sets, and the problems.
    fn worked_out(matrix: &str, sets: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut reader = Reader::default();
        let mut matrix = Matrix::read(Some(&tree::parse(matrix).unwrap()), &mut reader);
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let sets = matrix.narrowed(&sets, &mut reader);
        let tree = tree::parse("{ votes: 32, control: none }").unwrap();
        let Value::Map(given) = &tree.value else { panic!("a map") };
        let params = Params::new(given, None, &sets, &matrix.names(), &mut reader);
        matrix.check(&params, &mut reader);
        let shown = |(variant, settings): (Variant, Vec<(Key, Node)>)| {
            let settings: Vec<String> =
                settings.iter().map(|(key, value)| format!("{}={}", key.text, value.found())).collect();
            format!("{variant}: {}", settings.join(" "))
        };
        let all = matrix.combinations(&mut reader).into_iter().map(shown).collect();
        (all, reader.problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn every_value_of_an_axis_meets_every_value_of_the_others_the_last_changing_fastest() {
        let (all, problems) = worked_out(TWO, &[]);
        assert_eq!(
            all,
            [
                "votes=1 arm=plain: votes=1",
                "votes=1 arm=wild: votes=1 control=text \"shuffled\"",
                "votes=8 arm=plain: votes=8",
                "votes=8 arm=wild: votes=8 control=text \"shuffled\"",
            ]
        );
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn a_set_leaves_of_an_axis_what_it_names_and_may_name_values_that_a_parameters_list_has_not() {
        assert_eq!(
            worked_out(TWO, &["votes=4", "arm=wild"]).0,
            ["votes=4 arm=wild: votes=4 control=text \"shuffled\""]
        );
        assert_eq!(worked_out(TWO, &["votes=[8, 1]", "arm=plain"]).0.len(), 2);
        let (_, problems) = worked_out(TWO, &["arm=wld"]);
        assert_eq!(problems, ["--set arm=wld: the axis `arm` has no value `wld`; did you mean `wild`?"]);
    }

    #[test]
    fn what_variants_have_in_common_is_what_both_say() {
        let variant = |text: &[(&str, &str)]| {
            Variant(text.iter().map(|&(axis, value)| (axis.to_owned(), value.to_owned())).collect())
        };
        let (one, two) = (variant(&[("arm", "a b"), ("seed", "1")]), variant(&[("arm", "a b"), ("seed", "2")]));
        assert_eq!(one.common(&two).to_string(), "arm=\"a b\"");
        assert_eq!(one.likeness(&two), None);
        assert_eq!(one.likeness(&variant(&[("seed", "1")])), Some(1));
        assert_eq!(variant(&[]).text(), None);
    }
}
