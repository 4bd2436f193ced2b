//! Every parameter and input that the stages describe, one by one: does it change the fingerprint of a step?
#![expect(clippy::disallowed_methods, reason = "tests make files as a user would")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::programs::{PROGRAMS, ends_with, program};

/// The parameters that decide nothing of what a step makes: how a server is reached, what training leaves while it runs, and when
/// it gives up.
const IDLE: [(&str, &[&str]); 4] = [
    ("vote", &["url", "key-env", "concurrency", "request-timeout", "tries"]),
    ("score", &["url", "key-env", "concurrency", "request-timeout", "tries"]),
    ("sft", &["checkpoint-every", "keep-checkpoints", "resume", "live-every", "tensorboard"]),
    (
        "grpo",
        &[
            "checkpoint-every",
            "keep-checkpoints",
            "resume",
            "live-every",
            "tensorboard",
            "min-valid-rate",
            "max-vote-entropy",
        ],
    ),
];

/// Flags of the contract, which are no parameters: no workflow can set them, and no fingerprint has them.
const CONTRACT: [&str; 6] = ["threads", "log", "shard", "single-writer", "out", "describe"];

/// Values where the next number, or a word, is none.
const OTHERS: [(&str, &str); 7] = [
    ("ddof", "0"),
    ("range", "0..10"),
    ("severities", "2-3"),
    ("short-side", "64"),
    ("source", "procedural:6"),
    ("subset", "some=blur_lens"),
    ("types", "blur_lens"),
];

/// Parameters that can only be given beside another one, with a value of that: of a path a file in the workflow's folder.
const BESIDE: [(&str, &str, &str); 7] = [
    ("crop", "short-side", "64"),
    ("image-column", "scores", FILE),
    ("mos-column", "scores", FILE),
    ("std-column", "scores", FILE),
    ("range", "scores", FILE),
    ("lower-better", "scores", FILE),
    ("lower-better", "import", FILE),
];

/// A file beside the workflow.
const FILE: &str = "./file.csv";

/// Tables that steps read.
const TABLES: [&str; 8] = ["images", "pairs", "votes", "labels", "targets", "scores", "demonstrations", "ratings"];

/// What a stage says of itself, and its steps in the workflow.
struct Stage {
    name: String,
    description: Value,
}

impl Stage {
    fn list(&self, key: &str) -> Vec<&Value> {
        self.description[key].as_array().unwrap().iter().collect()
    }

    fn is_idle(&self, parameter: &str) -> bool {
        IDLE.iter().any(|(stage, names)| *stage == self.name && names.contains(&parameter))
    }

    /// The inputs and parameters without which the stage does not run, and a seed of the step's own: else its name would decide it.
    fn base(&self) -> Value {
        let required = self.list("inputs").into_iter().filter(|input| input["required"] == true);
        let inputs: Map<String, Value> = required.map(|input| (text(input, "name"), json!("made"))).collect();
        let given =
            self.list("parameters").into_iter().filter_map(|parameter| match text(parameter, "name").as_str() {
                "seed" => Some(("seed".to_owned(), json!(1))),
                "source" => Some(("source".to_owned(), json!("procedural:5"))),
                _ => None,
            });
        json!({ "uses": self.name, "in": inputs, "with": given.collect::<Map<_, _>>() })
    }

    /// The base, with what has to stand beside `parameter`.
    fn base_of(&self, parameter: &str) -> Value {
        let mut step = self.base();
        let known = self.list("parameters");
        for (_, other, value) in BESIDE.iter().filter(|(name, ..)| *name == parameter) {
            if let Some(other) = known.iter().find(|it| it["name"] == **other) {
                step["with"][text(other, "name")] = typed(other, value);
            }
        }
        step
    }

    fn with(&self, parameter: &str, value: &Value) -> Value {
        let mut step = self.base_of(parameter);
        step["with"][parameter] = value.clone();
        step
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn stages() -> Vec<Stage> {
    let names = PROGRAMS.iter().filter_map(|program| program.strip_prefix("evoq-"));
    let described = |name: &str| {
        let output = ends_with(program(&format!("evoq-{name}")).arg("--describe"), 0);
        Stage { name: name.to_owned(), description: serde_json::from_slice(&output.stdout).unwrap() }
    };
    names.map(described).collect()
}

/// `text` as a value of the parameter's type.
fn typed(parameter: &Value, text: &str) -> Value {
    match parameter["type"].as_str() {
        Some("integer" | "number") => serde_json::from_str(text).unwrap(),
        _ => json!(text),
    }
}

/// A value that is not the default.
fn other(parameter: &Value) -> Value {
    let (name, default) = (text(parameter, "name"), text(parameter, "default"));
    if let Some((_, value)) = OTHERS.iter().find(|(known, _)| *known == name) {
        return typed(parameter, value);
    }
    let mut choices = parameter["choices"].as_array().into_iter().flatten();
    if let Some(choice) = choices.find(|choice| choice.as_str() != Some(&default)) {
        return choice.clone();
    }
    match parameter["type"].as_str() {
        Some("flag") => json!(true),
        Some("integer") => json!(default.parse::<u64>().unwrap_or(2) + 1),
        Some("number") => match default.parse::<f64>().unwrap_or_default() {
            0.0 => json!(0.5),
            default => json!(default * 0.9),
        },
        _ => json!("another"),
    }
}

/// The fingerprints of `steps`, by name.
fn fingerprints(folder: &Path, steps: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let mut all = steps.clone();
    all.extend(["made", "again"].map(|name| (name.to_owned(), made(name))));
    let (file, flow) = (folder.join("flow.yaml"), json!({ "evoq": 1, "name": "all", "steps": all }));
    std::fs::write(&file, serde_json::to_string_pretty(&flow).unwrap()).unwrap();
    std::fs::write(folder.join(FILE), "a,b\n").unwrap();
    let mut command = program("evoq");
    command.arg("plan").arg(&file).args(["--format", "json", "--root"]).arg(folder.join("root"));
    let planned: Vec<Value> = serde_json::from_slice(&ends_with(&mut command, 0).stdout).unwrap();
    planned.iter().map(|step| (text(step, "step"), text(step, "fingerprint"))).collect()
}

/// A command that makes a policy and every table; `word` tells it from others.
fn made(word: &str) -> Value {
    let outputs: Vec<&str> = TABLES.into_iter().chain(["policy"]).collect();
    let places = outputs.iter().map(|output| format!("{{out.{output}}}"));
    let words: Vec<String> = ["make", word].map(str::to_owned).into_iter().chain(places).collect();
    json!({ "run": words, "out": outputs })
}

#[test]
fn a_parameter_changes_the_fingerprint_unless_it_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stages = stages();
    let mut steps = BTreeMap::new();
    for stage in &stages {
        for parameter in stage.list("parameters") {
            let name = text(parameter, "name");
            assert!(!CONTRACT.contains(&name.as_str()), "{}: {name}", stage.name);
            if parameter["type"] == "path" {
                continue;
            }
            steps.insert(format!("{}-{name}", stage.name), stage.with(&name, &other(parameter)));
            steps.insert(format!("{}-{name}-without", stage.name), stage.base_of(&name));
            if let Some(default) = parameter["default"].as_str() {
                let same = stage.with(&name, &typed(parameter, default));
                steps.insert(format!("{}-{name}-default", stage.name), same);
            }
        }
    }
    let prints = fingerprints(folder.path(), &steps);
    for stage in &stages {
        for parameter in stage.list("parameters").into_iter().filter(|parameter| parameter["type"] != "path") {
            let name = text(parameter, "name");
            let base = &prints[&format!("{}-{name}-without", stage.name)];
            let changed = &prints[&format!("{}-{name}", stage.name)];
            assert_eq!(changed == base, stage.is_idle(&name), "{} {name}: {}", stage.name, other(parameter));
            if let Some(same) = prints.get(&format!("{}-{name}-default", stage.name)) {
                assert_eq!(same, base, "{} {name} at its default", stage.name);
            }
        }
    }
    for (stage, names) in IDLE {
        let stage = stages.iter().find(|it| it.name == stage).unwrap();
        for name in names {
            assert!(stage.list("parameters").iter().any(|it| it["name"] == **name), "{}: {name} is gone", stage.name);
        }
    }
}

#[test]
fn a_file_counts_by_what_it_holds_and_not_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        json!(path)
    };
    let [one, same, other] = [file("one", "x"), file("same", "x"), file("other", "y")];
    let stages = stages();
    let mut steps = BTreeMap::new();
    let mut asked = Vec::new();
    for stage in &stages {
        steps.insert(stage.name.clone(), stage.base());
        for parameter in stage.list("parameters").into_iter().filter(|parameter| parameter["type"] == "path") {
            let name = text(parameter, "name");
            asked.push((stage, name.clone()));
            for (kind, value) in [("one", &one), ("same", &same), ("other", &other)] {
                steps.insert(format!("{}-{name}-{kind}", stage.name), stage.with(&name, value));
            }
        }
    }
    let prints = fingerprints(folder.path(), &steps);
    assert!(asked.len() > 5);
    for (stage, name) in asked {
        let [one, same, other] = ["one", "same", "other"].map(|kind| &prints[&format!("{}-{name}-{kind}", stage.name)]);
        let is_idle = stage.is_idle(&name);
        assert_eq!(one, same, "{} {name}", stage.name);
        assert_eq!(one == other, is_idle, "{} {name}", stage.name);
        assert_eq!(*one == prints[&stage.name], is_idle, "{} {name}", stage.name);
    }
}

#[test]
fn every_input_changes_the_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let stages = stages();
    let mut steps = BTreeMap::new();
    for stage in &stages {
        for input in stage.list("inputs") {
            let name = text(input, "name");
            for source in ["made", "again"] {
                let mut step = stage.base();
                step["in"][&name] = json!(source);
                steps.insert(format!("{}-{name}-{source}", stage.name), step);
            }
        }
        steps.insert(stage.name.clone(), stage.base());
    }
    let prints = fingerprints(folder.path(), &steps);
    for stage in &stages {
        for input in stage.list("inputs") {
            let name = text(input, "name");
            let [made, again] = ["made", "again"].map(|source| &prints[&format!("{}-{name}-{source}", stage.name)]);
            assert_ne!(made, again, "{} {name}", stage.name);
            assert_eq!(*made == prints[&stage.name], input["required"] == true, "{} {name}", stage.name);
        }
    }
}
