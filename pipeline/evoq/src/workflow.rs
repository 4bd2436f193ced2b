//! The workflow file: its sections, read with parameters in place.
//!
//! ```yaml
//! evoq: 1                      # the version of this grammar
//! name: evoquality
//! seed: 1                      # every step's seed comes from it, the step's name and the round
//! params: { photos: ./photos } # `${photos}`; `--set photos=FOLDER` takes its place
//! steps: { … }                 # run once
//! rounds:
//!   count: 2
//!   start: { policy: ./policy }  # what `previous.policy` means in round 1
//!   steps: { … }                 # run once a round
//!   except: { 2: { … } }         # what differs in a round, merged key by key
//! then: { … }                  # run once, or once for the start and each round where a step reads `each-round.…`
//! show: [{ title: …, sql: … }] # printed at the end of a run
//! ```
//! What one step says is in `step.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evoq_artifacts::read_file;

use crate::error::Error;
use crate::params::Params;
use crate::problem::{Problem, Problems, Source};
use crate::read::{Fields, Reader};
use crate::sql::syntax_fault;
use crate::tree::{self, Key, Node, Value};

/// A workflow, its steps not yet read.
#[derive(Debug)]
pub struct Workflow {
    /// The file.
    pub source: Source,
    /// The file's folder, absolute: what relative paths in the file are relative to.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// The steps that run once, first.
    pub steps: Vec<(Key, Node)>,
    /// The rounds.
    pub rounds: Rounds,
    /// The steps that run once, last, or once for the start and each round.
    pub then: Vec<(Key, Node)>,
    /// Queries whose results a run prints.
    pub show: Vec<Show>,
}

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

    /// Reads a workflow from its text.
    pub fn parse(source: &Source, folder: PathBuf, sets: &[String]) -> Result<Self, Problems> {
        let tree = tree::parse(&source.text).map_err(|problem| Problems::new(source, vec![problem]))?;
        let mut reader = Reader::default();
        let workflow = read(source, folder, &tree, sets, &mut reader);
        match workflow {
            Some(workflow) if reader.problems.is_empty() => Ok(workflow),
            _ => Err(Problems::new(source, reader.problems)),
        }
    }
}

fn read(source: &Source, folder: PathBuf, tree: &Node, sets: &[String], reader: &mut Reader) -> Option<Workflow> {
    let known = ["evoq", "name", "seed", "params", "steps", "rounds", "then", "show"];
    let raw = reader.fields(tree, "the workflow", &known)?;
    let given = reader.map_of(raw, "params");
    let params = Params::new(given, raw.get("seed"), sets, reader);
    let filled = params.fill(&without_params(tree), reader);
    let fields = reader.fields(&filled, "the workflow", &known)?;
    match fields.get("evoq") {
        Some(version) => {
            let _ = reader.integer(version, "`evoq`, the version of the workflow grammar,", 1..=1);
        }
        None => reader.problems.push(
            Problem::new(tree.place, "the workflow does not say which grammar it is written in")
                .help("write `evoq: 1` as its first line"),
        ),
    }
    let name = match fields.get("name") {
        Some(name) => reader.text(name, "`name`").map(str::to_owned),
        None => reader.fail(tree.place, "the workflow has no `name`"),
    };
    let seed = params.get("seed").and_then(|seed| reader.integer(seed, "`seed`", 0..=u64::MAX));
    let workflow = Workflow {
        source: source.clone(),
        folder,
        name: name.unwrap_or_default(),
        seed: seed.unwrap_or_default(),
        steps: reader.map_of(fields, "steps").to_vec(),
        rounds: rounds(fields, reader),
        then: reader.map_of(fields, "then").to_vec(),
        show: show(fields, reader),
    };
    names(&workflow, reader);
    Some(workflow)
}

/// The tree without `params`, whose values are not themselves filled.
fn without_params(tree: &Node) -> Node {
    let mut tree = tree.clone();
    if let Value::Map(entries) = &mut tree.value {
        entries.retain(|(key, _)| key.text != "params");
    }
    tree
}

fn rounds(fields: Fields<'_>, reader: &mut Reader) -> Rounds {
    let Some(node) = fields.get("rounds") else { return Rounds::default() };
    let Some(fields) = reader.fields(node, "`rounds`", &["count", "start", "steps", "except"]) else {
        return Rounds::default();
    };
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
    Rounds {
        count: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
        start: reader.map_of(fields, "start").to_vec(),
        steps: reader.map_of(fields, "steps").to_vec(),
        except,
    }
}

fn show(fields: Fields<'_>, reader: &mut Reader) -> Vec<Show> {
    let Some(node) = fields.get("show") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        reader.problems.push(Problem::new(node.place, "`show` is not a list; expected `- { title: …, sql: … }`"));
        return Vec::new();
    };
    let mut list = Vec::new();
    for item in items {
        let Some(fields) = reader.fields(item, "an entry of `show`", &["title", "sql"]) else { continue };
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
fn names(workflow: &Workflow, reader: &mut Reader) {
    let mut seen: BTreeMap<&str, &Key> = BTreeMap::new();
    for (key, _) in workflow.steps.iter().chain(&workflow.rounds.steps).chain(&workflow.then) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if key.text.is_empty() || !key.text.chars().all(plain) {
            let message = format!("`{}` cannot name a step; expected letters, digits, `-` and `_`", key.text);
            reader.problems.push(Problem::new(key.place, message));
        } else if ["previous", "start", "each-round"].contains(&key.text.as_str()) {
            let message = format!("`{}` cannot name a step: it is a word of the grammar", key.text);
            reader.problems.push(Problem::new(key.place, message));
        } else if let Some(first) = seen.insert(&key.text, key) {
            let message = format!("there is another step `{}`, in line {}", key.text, first.place.line);
            reader.problems.push(Problem::new(key.place, message));
        }
    }
    for (round, steps) in &workflow.rounds.except {
        for (key, _) in steps {
            if !workflow.rounds.steps.iter().any(|(name, _)| name.text == key.text) {
                let known = workflow.rounds.steps.iter().map(|(name, _)| name.text.as_str());
                let near = crate::problem::suggestion(&key.text, known);
                let message = format!("round {round}: the rounds have no step `{}`{near}", key.text);
                reader.problems.push(Problem::new(key.place, message));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn parsed(text: &str, sets: &[&str]) -> Result<Workflow, Problems> {
        let source = Source { name: "w.yaml".to_owned(), text: text.into() };
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Workflow::parse(&source, PathBuf::from("/flows"), &sets)
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
