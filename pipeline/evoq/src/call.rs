//! A stage's step checked against what the stage says of itself, and the flags that its parameters become.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use evoq_schemas::draws;
use evoq_stage::{Description, ParameterDescription};
use serde_json::Value as Json;

use crate::error::Error;
use crate::expand::{From, Instance};
use crate::problem::{Problem, suggestion};
use crate::read::Reader;
use crate::stages::{Known, Stages};
use crate::tree::{Key, Node, Origin, Value};

/// What relative paths are relative to.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The workflow file's folder: for what the file says.
    pub file: PathBuf,
    /// The current folder: for what the command line says.
    pub current: PathBuf,
}

impl Folders {
    /// `text`, written in a place of kind `origin`, as an absolute path; a URI stays.
    pub fn absolute(&self, text: &str, origin: Origin) -> String {
        if text.contains("://") {
            return text.to_owned();
        }
        let folder = if origin == Origin::Set { &self.current } else { &self.file };
        let path = folder.join(text);
        // Without `..` and `.` where that is safe, for shorter messages; else as it is.
        std::path::absolute(&path).unwrap_or(path).display().to_string()
    }
}

/// The seed of a step, from the workflow's, the step's name and the round.
pub fn step_seed(seed: u64, instance: &Instance) -> u64 {
    let round = instance.round.map_or_else(|| "-".to_owned(), |round| round.to_string());
    draws::seed(seed, "step", &[&instance.step.name.text, &round])
}

/// What `uses` names, described; a problem where there is no such program.
pub fn described(stage: &Key, stages: &Stages, reader: &mut Reader) -> Result<Option<Rc<Known>>, Error> {
    if stages.find(&stage.text).is_none() {
        let names = stages.names();
        let near = suggestion(&stage.text, names.iter().map(String::as_str));
        let message = format!("there is no stage `{}` (no program `evoq-{}`){near}", stage.text, stage.text);
        reader.problems.push(
            Problem::new(stage.place, message)
                .help("stages are looked for beside `evoq`, then on the PATH; build them all"),
        );
        return Ok(None);
    }
    stages.describe(&stage.text).map(Some)
}

/// Checks the inputs of a stage's step. `writes` says what each instance writes: its tables, `policy` among them.
pub fn check_inputs(
    instance: &Instance,
    description: &Description,
    instances: &[Instance],
    writes: &[Vec<String>],
    reader: &mut Reader,
) {
    let step = &instance.step;
    let what = format!("step `{}`", step.name.text);
    for (input, feeds) in step.inputs.iter().zip(&instance.feeds) {
        let Some(known) = description.inputs.iter().find(|known| known.name == input.name.text) else {
            let names = description.inputs.iter().map(|known| known.name.as_str());
            let near = suggestion(&input.name.text, names);
            let message = format!("{what}: {} has no input `{}`{near}", description.stage, input.name.text);
            reader.problems.push(Problem::new(input.name.place, message));
            continue;
        };
        let table = known.table.as_deref().unwrap_or("policy");
        if table == "policy" && feeds.len() > 1 {
            let message = format!("{what}: `{}` is a list; expected one policy", known.name);
            reader.problems.push(Problem::new(input.name.place, message));
        }
        for feed in feeds {
            let From::Step { instance: source, table: chosen } = &feed.from else { continue };
            check_table(table, chosen.as_deref(), &instances[*source], &writes[*source], feed.place, reader);
        }
    }
    for known in description.inputs.iter().filter(|known| known.required) {
        if !step.inputs.iter().any(|input| input.name.text == known.name) {
            let message = format!("{what}: the input `{}` is missing", known.name);
            reader
                .problems
                .push(Problem::new(step.name.place, message).help(format!("{}: {}", known.name, known.help)));
        }
    }
}

/// Checks that `source` writes the `table` that is wanted of it.
pub fn check_table(
    table: &str,
    chosen: Option<&str>,
    source: &Instance,
    writes: &[String],
    place: crate::problem::Place,
    reader: &mut Reader,
) {
    let name = &source.step.name.text;
    let list = || writes.join(", ");
    if let Some(chosen) = chosen.filter(|chosen| *chosen != table) {
        let message = format!("`{name}.{chosen}` is given where the table `{table}` is read");
        reader.problems.push(Problem::new(place, message).help(format!("step `{name}` writes {}", list())));
    } else if !writes.is_empty() && !writes.iter().any(|it| it == table) {
        let message = format!("step `{name}` does not write `{table}`; it writes {}", list());
        reader.problems.push(Problem::new(place, message));
    }
}

/// The flags of a stage's step: one for each parameter in `with`, and `--seed` where the stage has one that is not set.
pub fn flags(
    instance: &Instance,
    description: &Description,
    seed: u64,
    folders: &Folders,
    reader: &mut Reader,
) -> Vec<String> {
    let step = &instance.step;
    let what = format!("step `{}`", step.name.text);
    let mut flags = Vec::new();
    for (key, node) in &step.with {
        let Some(parameter) = description.parameters.iter().find(|known| known.name == key.text) else {
            let names = description.parameters.iter().map(|known| known.name.as_str());
            let near = suggestion(&key.text, names);
            let message = format!("{what}: {} has no parameter `{}`{near}", description.stage, key.text);
            reader.problems.push(Problem::new(key.place, message));
            continue;
        };
        flag(parameter, node, &what, folders, reader, &mut flags);
    }
    for parameter in &description.parameters {
        let given = step.with.iter().any(|(key, _)| key.text == parameter.name);
        if parameter.name == "seed" && !given {
            flags.push(format!("--seed={}", step_seed(seed, instance)));
        } else if parameter.required && !given {
            let message = format!("{what}: the parameter `{}` is missing", parameter.name);
            let help = format!("{}: {}", parameter.name, parameter.help);
            reader.problems.push(Problem::new(step.name.place, message).help(help));
        }
    }
    flags
}

/// Adds the flag of one parameter to `flags`; a switch that is off has none. `None` where the value is a problem.
fn flag(
    parameter: &ParameterDescription,
    node: &Node,
    what: &str,
    folders: &Folders,
    reader: &mut Reader,
    flags: &mut Vec<String>,
) -> Option<()> {
    let name = &parameter.name;
    let wrong = |expected: &str, node: &Node, reader: &mut Reader| {
        reader.fail(node.place, format!("{what}: `{name}` is {}; expected {expected}", node.found()))
    };
    if parameter.r#type == "flag" {
        return match &node.value {
            Value::Scalar(Json::Bool(on)) => {
                flags.extend(on.then(|| format!("--{name}")));
                Some(())
            }
            _ => wrong("true or false", node, reader),
        };
    }
    let items = match &node.value {
        Value::List(items) if parameter.list => items.as_slice(),
        Value::Scalar(_) => std::slice::from_ref(node),
        _ => return wrong("one value", node, reader),
    };
    let mut words = Vec::new();
    for item in items {
        let word = match (parameter.r#type.as_str(), &item.value) {
            ("integer", Value::Scalar(Json::Number(number))) if !number.is_f64() => number.to_string(),
            ("integer", _) => return wrong("a whole number", item, reader),
            ("number", Value::Scalar(Json::Number(number))) => number.to_string(),
            ("number", _) => return wrong("a number", item, reader),
            _ => reader.word(item, &format!("{what}: `{name}`"))?,
        };
        let parts = word.split(if parameter.list { "," } else { "\n" });
        if let Some(word) =
            parts.filter(|_| !parameter.choices.is_empty()).find(|it| !parameter.choices.iter().any(|c| c == it))
        {
            let near = suggestion(word, parameter.choices.iter().map(String::as_str));
            return reader.fail(item.place, format!("{what}: `{name}` cannot be `{word}`{near}"));
        }
        words.push(match parameter.r#type.as_str() {
            "path" => folders.absolute(&word, item.origin),
            "source" => source(&word, item.origin, folders),
            _ => word,
        });
    }
    flags.push(format!("--{name}={}", words.join(",")));
    Some(())
}

/// A `source` is a path or a `scheme:…`: what exists as a path is one.
fn source(word: &str, origin: Origin, folders: &Folders) -> String {
    let path = folders.absolute(word, origin);
    let has_scheme = word.split_once(':').is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()));
    if has_scheme && !Path::new(&path).exists() { word.to_owned() } else { path }
}
