//! What a step needs of a machine. It decides where and beside what a step runs, never what it makes: no fingerprint has it.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::problem::Problem;
use crate::read::Reader;
use crate::tree::Node;

/// What the file says a step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    cpus: Option<u32>,
    gpus: Option<u32>,
    memory: Option<u64>,
}

/// What a step needs, after defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Cores, and the threads a stage is told to use; none means all of the machine.
    pub cpus: Option<u32>,
    /// Accelerators.
    pub gpus: u32,
    /// Bytes of memory; none where nobody said.
    pub memory: Option<u64>,
}

/// Stages that use every core they get; the others, and commands, are taken to use one.
const WIDE: [&str; 7] = ["ingest", "distort", "vote", "score", "sft", "grpo", "benchmark"];

/// The keys of `resources`.
pub const KEYS: [&str; 3] = ["cpus", "gpus", "memory"];

/// The units of memory, longer names first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl Asked {
    /// Reads the `resources` of the step that is called `what`.
    pub fn read(node: Option<&Node>, what: &str, reader: &mut Reader) -> Self {
        let Some(node) = node else { return Self::default() };
        let Some(fields) = reader.fields(node, &format!("{what}: `resources`"), &KEYS) else {
            return Self::default();
        };
        let mut count = |key: &str, least: u64| {
            let node = fields.get(key)?;
            let number = reader.integer(node, &format!("{what}: `{key}`"), least..=4096)?;
            u32::try_from(number).ok()
        };
        let (cpus, gpus) = (count("cpus", 1), count("gpus", 0));
        let memory = fields.get("memory").and_then(|node| {
            let word = reader.word(node, &format!("{what}: `memory`"))?;
            let bytes = bytes(&word);
            if bytes.is_none() {
                let message = format!("{what}: `memory` is {}; expected a size with its unit", node.found());
                reader
                    .problems
                    .push(Problem::new(node.place, message).help("write `16GB`, or `16GiB` for powers of 1024"));
            }
            bytes
        });
        Self { cpus, gpus, memory }
    }

    /// What a step of `stage` with `parameters` after defaults needs; none for a command.
    pub fn or_default(self, stage: Option<&str>, parameters: &Map<String, Json>) -> Resources {
        let is_wide = stage.is_some_and(|stage| WIDE.contains(&stage));
        let on_gpu = parameters.get("device").and_then(Json::as_str).is_some_and(|device| device != "cpu");
        Resources {
            cpus: self.cpus.or(if is_wide { None } else { Some(1) }),
            gpus: self.gpus.unwrap_or(u32::from(on_gpu)),
            memory: self.memory,
        }
    }
}

/// `16GB` in bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number =
        !whole.is_empty() && whole.chars().chain(part.chars()).all(|c| c.is_ascii_digit()) && part.len() < 4;
    let thousandths = is_number.then(|| format!("{whole}{part:0<3}")).and_then(|digits| digits.parse::<u64>().ok())?;
    let bytes = u64::try_from(u128::from(thousandths) * u128::from(unit) / 1000).ok()?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_size_has_a_number_and_a_unit() {
        let sizes = ["16GB", "1.5 GiB", "512MiB", "0.25kB", "7B"].map(bytes);
        assert_eq!(sizes, [Some(16_000_000_000), Some(1_610_612_736), Some(536_870_912), Some(250), Some(7)]);
        for wrong in ["16", "GB", "-1GB", "1e3GB", "0GB", "1.GiB.", "99999999999TB", "1.2345GB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_the_file_does_not_say_comes_from_the_stage() {
        let of = |stage: Option<&str>, parameters: Json| {
            let needs = Asked::default().or_default(stage, parameters.as_object().unwrap());
            (needs.cpus, needs.gpus)
        };
        assert_eq!(of(Some("vote"), json!({ "device": "cuda" })), (None, 1));
        assert_eq!(of(Some("vote"), json!({ "device": "cpu" })), (None, 0));
        assert_eq!(of(Some("label"), json!({})), (Some(1), 0));
        assert_eq!(of(None, json!({})), (Some(1), 0));
    }
}
