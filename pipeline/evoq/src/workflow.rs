//! The workflow file: its sections, read with parameters in place.
//!
//! ```yaml
//! evoq: 1                      # the version of this grammar
//! name: evoquality
//! seed: 1                      # every step's seed comes from it, the step's name and the round
//! params: { photos: ./photos } # `${photos}`; `--set photos=FOLDER` takes its place
//! matrix: { seed: [1, 2, 3] }  # parameters that take several values: all that follows, once for each combination
//! steps: { … }                 # run once
//! rounds:
//!   count: 2
//!   start: { policy: ./policy }  # what `previous.policy` means in round 1
//!   steps: { … }                 # run once a round
//!   except: { 2: { … } }         # what differs in a round, merged key by key
//! then: { … }                  # run once, or once for the start and each round where a step reads `each-round.…`
//! show: [{ title: …, sql: … }] # printed at the end of a run
//! ```
//! What one step says is in `step.rs`, what a matrix says in `matrix.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use evoq_artifacts::read_file;

use crate::error::Error;
use crate::matrix::{Matrix, Variant};
use crate::params::Params;
use crate::problem::{Problem, Problems, Source, suggestion};
use crate::read::{Fields, Reader};
use crate::sql::syntax_fault;
use crate::tree::{self, Key, Node, Value};
use crate::uses::Uses;

/// A workflow, its steps not yet read.
#[derive(Debug)]
pub struct Workflow {
    /// The file.
    pub source: Source,
    /// The file's folder, absolute: what relative paths in the file are relative to.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// Its seed; the first, where a matrix has several.
    pub seed: u64,
    /// What runs: once, or once for each combination of the matrix.
    pub combinations: Vec<Combination>,
    /// The parameters that each axis of the matrix can set, by axis.
    pub axes: BTreeMap<String, BTreeSet<String>>,
    /// The parameters that its steps name.
    pub uses: Uses,
    /// Queries whose results a run prints.
    pub show: Vec<Show>,
    /// What was found wrong so far. Reading goes on as far as it can, so that all faults are told at once.
    pub problems: Vec<Problem>,
}

/// The workflow with one value for each parameter.
#[derive(Debug)]
pub struct Combination {
    /// Which values of the matrix; no axis without a matrix.
    pub variant: Variant,
    /// The seed.
    pub seed: u64,
    /// The steps that run once, first.
    pub steps: Vec<(Key, Node)>,
    /// The rounds.
    pub rounds: Rounds,
    /// The steps that run once, last, or once for the start and each round.
    pub then: Vec<(Key, Node)>,
}

/// The keys of a workflow.
pub const KEYS: [&str; 9] = ["evoq", "name", "seed", "params", "matrix", "steps", "rounds", "then", "show"];
/// The keys of `rounds`.
pub const ROUNDS_KEYS: [&str; 4] = ["count", "start", "steps", "except"];
/// The keys of an entry of `show`.
pub const SHOW_KEYS: [&str; 2] = ["title", "sql"];
/// What cannot name a step: words of the references.
pub const WORDS: [&str; 3] = ["previous", "start", "each-round"];

/// The rounds; `count` is 0 where there are none.
#[derive(Debug, Default)]
pub struct Rounds {
    /// How many.
    pub count: u32,
    /// What `previous.NAME` means in round 1.
    pub start: Vec<(Key, Node)>,
    /// The steps of a round.
    pub steps: Vec<(Key, Node)>,
    /// What differs in a round, by round and step.
    pub except: BTreeMap<u32, Vec<(Key, Node)>>,
}

/// A query whose result is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show {
    /// Said above it.
    pub title: String,
    /// The query.
    pub sql: String,
}

impl Workflow {
    /// Reads the file at `path`; `sets` are `name=value`.
    pub fn open(path: &Path, sets: &[String]) -> Result<Self, Error> {
        let bytes = read_file(path)?;
        let name = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|_| Error::NotText { path: name.clone() })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
        Ok(Self::parse(&Source { name, text: text.into() }, folder, sets)?)
    }

    /// Reads a workflow from its text. An error is text that cannot be read at all; other faults are in `problems`.
    pub fn parse(source: &Source, folder: PathBuf, sets: &[String]) -> Result<Self, Problems> {
        let tree = tree::parse(&source.text).map_err(|problem| Problems::new(source, vec![problem]))?;
        let mut reader = Reader::default();
        match read(source, folder, &tree, sets, &mut reader) {
            Some(workflow) => Ok(Self { problems: reader.problems, ..workflow }),
            None => Err(Problems::new(source, reader.problems)),
        }
    }
}

fn read(source: &Source, folder: PathBuf, tree: &Node, sets: &[String], reader: &mut Reader) -> Option<Workflow> {
    let fields = reader.fields(tree, "the workflow", &KEYS)?;
    let mut matrix = Matrix::read(fields.get("matrix"), reader);
    // Before it is narrowed: what a step depends on is the same whichever values are left.
    let axes = matrix.parameters();
    let sets = matrix.narrowed(sets, reader);
    let given = reader.map_of(fields, "params");
    let params = Params::new(given, fields.get("seed"), &sets, &matrix.names(), reader);
    matrix.check(&params, reader);
    let mut combinations = Vec::new();
    let all = matrix.combinations(reader);
    // The name and the queries are said once, with the first values of a matrix.
    let first = all.first().map_or(&[][..], |(_, settings)| settings);
    let once = params.with(first);
    for (variant, settings) in &all {
        combinations.push(combination(fields, variant.clone(), &params.with(settings), reader));
    }
    if let Some(first) = combinations.first() {
        names(first, reader);
    }
    match fields.get("evoq") {
        Some(version) => {
            let _ = reader.integer(version, "`evoq`, the version of the workflow grammar,", 1..=1);
        }
        None => reader.problems.push(
            Problem::new(tree.place, "the workflow does not say which grammar it is written in")
                .help("write `evoq: 1` as its first line"),
        ),
    }
    let name = match fields.get("name").map(|name| once.fill(name, reader)) {
        Some(name) => reader.text(&name, "`name`").map(str::to_owned),
        None => reader.fail(tree.place, "the workflow has no `name`"),
    };
    let show = fields.get("show").map(|node| once.fill(node, reader));
    Some(Workflow {
        source: source.clone(),
        folder,
        name: name.unwrap_or_default(),
        seed: combinations.first().map_or(1, |first| first.seed),
        combinations,
        axes,
        uses: Uses::new(fields),
        show: show.map_or_else(Vec::new, |node| shows(&node, reader)),
        problems: Vec::new(),
    })
}

/// What runs with the values of `params`.
fn combination(fields: Fields<'_>, variant: Variant, params: &Params, reader: &mut Reader) -> Combination {
    let mut steps = |key: &str| {
        let node = params.fill(fields.get(key)?, reader);
        reader.map(&node, &format!("`{key}`")).map(<[_]>::to_vec)
    };
    let (first, last) = (steps("steps"), steps("then"));
    let rounds = fields.get("rounds").map(|node| params.fill(node, reader));
    let seed = params.get("seed").and_then(|seed| reader.integer(seed, "`seed`", 0..=u64::MAX));
    Combination {
        variant,
        seed: seed.unwrap_or_default(),
        steps: first.unwrap_or_default(),
        rounds: rounds.and_then(|node| rounds_of(&node, reader)).unwrap_or_default(),
        then: last.unwrap_or_default(),
    }
}

fn rounds_of(node: &Node, reader: &mut Reader) -> Option<Rounds> {
    let fields = reader.fields(node, "`rounds`", &ROUNDS_KEYS)?;
    let count = match fields.get("count") {
        Some(count) => reader.integer(count, "`count`, the number of rounds,", 1..=10_000),
        None => reader.fail(node.place, "`rounds` has no `count`"),
    };
    // Without a count any round may be meant.
    let last = count.unwrap_or(u64::from(u32::MAX));
    let mut except = BTreeMap::new();
    for (key, node) in reader.map_of(fields, "except") {
        match key.text.parse::<u32>() {
            Ok(round) if (1..=last).contains(&u64::from(round)) => {
                except.insert(round, reader.map(node, &format!("round {round}")).unwrap_or_default().to_vec());
            }
            _ => {
                let message = format!("`{}` is not one of the rounds; expected 1 to {last}", key.text);
                reader.problems.push(Problem::new(key.place, message));
            }
        }
    }
    Some(Rounds {
        count: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
        start: reader.map_of(fields, "start").to_vec(),
        steps: reader.map_of(fields, "steps").to_vec(),
        except,
    })
}

fn shows(node: &Node, reader: &mut Reader) -> Vec<Show> {
    let Value::List(items) = &node.value else {
        let message = format!("`show` is {}; expected a list, `- {{ title: …, sql: … }}`", node.found());
        reader.problems.push(Problem::new(node.place, message));
        return Vec::new();
    };
    let mut list = Vec::new();
    for item in items {
        let Some(fields) = reader.fields(item, "an entry of `show`", &SHOW_KEYS) else { continue };
        let mut text = |key: &str| match fields.get(key) {
            Some(node) => reader.text(node, &format!("`{key}`")).map(str::to_owned),
            None => reader.fail(item.place, format!("this entry of `show` has no `{key}`")),
        };
        if let (Some(title), Some(sql)) = (text("title"), text("sql")) {
            // Told now rather than at the end of a run of hours.
            if let Some(fault) = syntax_fault(&sql) {
                reader.problems.push(Problem::new(fields.get("sql").map_or(item.place, |node| node.place), fault));
            }
            list.push(Show { title, sql });
        }
    }
    list
}

/// Names are one space: a step is known by its name in SQL, in the ledger and in its seed.
fn names(combination: &Combination, reader: &mut Reader) {
    let mut seen: BTreeMap<&str, &Key> = BTreeMap::new();
    for (key, _) in combination.steps.iter().chain(&combination.rounds.steps).chain(&combination.then) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if key.text.is_empty() || !key.text.chars().all(plain) {
            let message = format!("`{}` cannot name a step; expected letters, digits, `-` and `_`", key.text);
            reader.problems.push(Problem::new(key.place, message));
        } else if WORDS.contains(&key.text.as_str()) {
            let message = format!("`{}` cannot name a step: it is a word of the grammar", key.text);
            reader.problems.push(Problem::new(key.place, message));
        } else if let Some(first) = seen.insert(&key.text, key) {
            let message = format!("there is another step `{}`, in line {}", key.text, first.place.line);
            reader.problems.push(Problem::new(key.place, message));
        }
    }
    for (round, steps) in &combination.rounds.except {
        for (key, _) in steps {
            if !combination.rounds.steps.iter().any(|(name, _)| name.text == key.text) {
                let known = combination.rounds.steps.iter().map(|(name, _)| name.text.as_str());
                let near = suggestion(&key.text, known);
                let message = format!("round {round}: the rounds have no step `{}`{near}", key.text);
                reader.problems.push(Problem::new(key.place, message));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The workflow of a text, with the problems it may have.
    pub(crate) fn read(text: &str, sets: &[&str]) -> Result<Workflow, Problems> {
        let source = Source { name: "w.yaml".to_owned(), text: text.into() };
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Workflow::parse(&source, PathBuf::from("/flows"), &sets)
    }

    /// The workflow of a text without faults.
    pub(crate) fn parsed(text: &str, sets: &[&str]) -> Result<Workflow, Problems> {
        let workflow = read(text, sets)?;
        if workflow.problems.is_empty() {
            Ok(workflow)
        } else {
            Err(Problems::new(&workflow.source, workflow.problems))
        }
    }

    #[test]
    fn a_set_seed_is_the_workflows_seed() {
        assert_eq!(parsed("{ evoq: 1, name: x, seed: 1 }", &["seed=2"]).unwrap().seed, 2);
    }

    #[test]
    fn every_fault_of_a_file_is_told_at_once() {
        let text = "\
name: x
sed: 3
steps:
  photos: { uses: ingest }
  previous: { uses: pair }
rounds:
  steps:
    photos: { uses: pair }
  except:
    3: { votes: { with: { samples: 8 } } }
show:
  - { title: t, sq: select }
  - { title: t, sql: SELEC 1 }
";
        let problems = parsed(text, &["phots=x"]).unwrap_err();
        insta::assert_snapshot!(problems.to_string());
    }

    #[test]
    fn text_that_is_not_yaml_is_told_with_its_place() {
        insta::assert_snapshot!(parsed("evoq: 1\nsteps: { a: [1, 2\n", &[]).unwrap_err().to_string());
    }
}
