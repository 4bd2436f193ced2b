//! The JSON Schema of the workflow file (draft 2020-12), for editors. It says the shape of a file; what names mean is checked
//! when the file is read, which tests hold the two together for.

use evoq_stage::ParameterDescription;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::stages::Stages;

/// The schema, with the parameters of every stage that is found.
pub fn workflow(stages: &Stages) -> Result<Value> {
    let mut schema = grammar();
    let mut rules = Vec::new();
    for stage in stages.names() {
        let known = stages.describe(&stage)?;
        let description = &known.description;
        let names = |names: Vec<&str>| -> Map<String, Value> {
            names.into_iter().map(|name| (name.to_owned(), json!({ "$ref": "#/$defs/reference" }))).collect()
        };
        let inputs = names(description.inputs.iter().map(|input| input.name.as_str()).collect());
        let parameters: Map<String, Value> =
            description.parameters.iter().map(|it| (it.name.clone(), parameter(it))).collect();
        let closed =
            |properties: Map<String, Value>| json!({ "properties": properties, "additionalProperties": false });
        rules.push(json!({
            "if": { "properties": { "uses": { "const": stage } }, "required": ["uses"] },
            "then": { "properties": { "in": closed(inputs), "with": closed(parameters) } },
        }));
    }
    if !rules.is_empty() {
        schema["$defs"]["step"]["allOf"] = Value::Array(rules);
    }
    Ok(schema)
}

/// What a parameter may be: of its type, a list of that, nothing, or a text with `${…}` in it.
fn parameter(parameter: &ParameterDescription) -> Value {
    let one = match parameter.r#type.as_str() {
        "flag" => json!({ "type": "boolean" }),
        "integer" => json!({ "type": "integer" }),
        "number" => json!({ "type": "number" }),
        // A list may be written as one text with commas, which an enumeration would refuse.
        _ if !parameter.choices.is_empty() && !parameter.list => json!({ "enum": parameter.choices }),
        _ => json!({ "type": ["string", "number", "boolean"] }),
    };
    let mut forms = vec![one.clone(), json!({ "$ref": "#/$defs/filled" }), json!({ "type": "null" })];
    if parameter.list {
        forms.push(json!({ "type": "array", "items": { "anyOf": [one, { "$ref": "#/$defs/filled" }] } }));
    }
    let mut schema = json!({ "description": parameter.help, "anyOf": forms });
    if let Some(default) = &parameter.default {
        schema["description"] = json!(format!("{} [default: {default}]", parameter.help));
    }
    schema
}

/// The grammar without any stage.
#[expect(clippy::too_many_lines, reason = "one literal, which reads like the schema it is")]
fn grammar() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A workflow of evoq",
        "type": "object",
        "required": ["evoq", "name"],
        "additionalProperties": false,
        "properties": {
            "evoq": { "description": "The version of the grammar", "const": 1 },
            "name": { "description": "What the workflow is called in the ledger", "type": "string" },
            "seed": { "description": "Every step's seed comes from it, the step's name and the round", "type": "integer", "minimum": 0 },
            "params": {
                "description": "Values for `${NAME}`; `--set NAME=VALUE` takes their place",
                "type": ["object", "null"],
                "properties": { "seed": false },
                "additionalProperties": { "$ref": "#/$defs/value" },
            },
            "matrix": {
                "description": "Parameters that take several values: everything runs for each combination, what does not depend on them once",
                "type": ["object", "null"],
                "additionalProperties": {
                    "oneOf": [
                        {
                            "description": "The values of the parameter of this name",
                            "type": "array",
                            "minItems": 1,
                            "items": { "type": ["string", "number", "boolean"] },
                        },
                        {
                            "description": "Settings of several parameters, by name",
                            "type": "object",
                            "minProperties": 1,
                            "additionalProperties": {
                                "type": ["object", "null"],
                                "additionalProperties": { "$ref": "#/$defs/value" },
                            },
                        },
                    ],
                },
            },
            "steps": { "description": "Steps that run once, first", "$ref": "#/$defs/steps" },
            "rounds": {
                "description": "Steps that run once a round",
                "type": ["object", "null"],
                "required": ["count"],
                "additionalProperties": false,
                "properties": {
                    "count": {
                        "description": "How many rounds",
                        "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 10000 }, { "$ref": "#/$defs/filled" }],
                    },
                    "start": {
                        "description": "What `previous.NAME` means in round 1: a step of `steps`, a path or a URI",
                        "type": ["object", "null"],
                        "additionalProperties": { "type": "string" },
                    },
                    "steps": { "description": "The steps of a round", "$ref": "#/$defs/steps" },
                    "except": {
                        "description": "What differs in a round, by round and step; merged key by key, `~` takes a key away",
                        "type": ["object", "null"],
                        "propertyNames": { "pattern": "^[1-9][0-9]*$" },
                        "additionalProperties": {
                            "type": "object",
                            "additionalProperties": { "$ref": "#/$defs/change" },
                        },
                    },
                },
            },
            "then": { "description": "Steps that run once, last; once for the start and each round where they read `each-round.…`", "$ref": "#/$defs/steps" },
            "show": {
                "description": "Queries whose results a run prints at its end",
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["title", "sql"],
                    "additionalProperties": false,
                    "properties": { "title": { "type": "string" }, "sql": { "type": "string" } },
                },
            },
        },
        "$defs": {
            "filled": { "description": "A text with a parameter in it", "type": "string", "pattern": "\\$\\{.*\\}" },
            "value": {
                "oneOf": [
                    { "type": ["string", "number", "boolean", "null"] },
                    { "type": "array", "items": { "type": ["string", "number", "boolean", "null"] } },
                ],
            },
            "reference": {
                "description": "A step, `step.table`, `previous.step`, `start.step`, `each-round.step`, a path with a slash or a URI; a list reads as one",
                "oneOf": [{ "type": ["string", "null"] }, { "type": "array", "minItems": 1, "items": { "type": "string" } }],
            },
            "steps": {
                "type": ["object", "null"],
                "propertyNames": { "pattern": "^[A-Za-z0-9_-]+$", "not": { "enum": crate::workflow::WORDS } },
                "additionalProperties": { "$ref": "#/$defs/step" },
            },
            "step": {
                "oneOf": [
                    {
                        "required": ["uses"],
                        "properties": { "uses": { "type": "string" }, "run": { "type": "null" }, "out": { "type": "null" }, "version": { "type": "null" } },
                    },
                    {
                        "required": ["run", "out"],
                        "properties": {
                            "run": { "type": "array" },
                            "out": { "type": ["string", "array"] },
                            "uses": { "type": "null" },
                        },
                    },
                ],
                "$ref": "#/$defs/change",
            },
            "change": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "uses": { "description": "A stage: the program evoq-NAME", "type": ["string", "null"] },
                    "run": {
                        "description": "A command in place of a stage: program and arguments, with {in.NAME}, {out.NAME}, {with.NAME}, {seed}",
                        "type": ["array", "null"],
                        "minItems": 1,
                        "items": { "type": ["string", "number", "boolean"] },
                    },
                    "in": {
                        "description": "What it reads, by input",
                        "type": ["object", "null"],
                        "additionalProperties": { "$ref": "#/$defs/reference" },
                    },
                    "with": {
                        "description": "Its parameters",
                        "type": ["object", "null"],
                        "additionalProperties": { "$ref": "#/$defs/value" },
                    },
                    "out": {
                        "description": "The tables that a command writes, or `policy`",
                        "oneOf": [{ "type": ["string", "null"] }, { "type": "array", "items": { "type": "string" } }],
                    },
                    "version": {
                        "description": "The version of a command: raised when it changes in a way that its files do not show",
                        "anyOf": [{ "type": ["integer", "null"], "minimum": 0 }, { "$ref": "#/$defs/filled" }],
                    },
                    "resources": {
                        "description": "What it needs of a machine; results do not depend on it",
                        "type": ["object", "null"],
                        "additionalProperties": false,
                        "properties": {
                            "cpus": { "description": "Cores [default: all for stages that use them, else 1]", "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 4096 }, { "$ref": "#/$defs/filled" }] },
                            "gpus": { "description": "Accelerators [default: 1 with `device: cuda`, else 0]", "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 4096 }, { "$ref": "#/$defs/filled" }] },
                            "memory": { "description": "Bytes with their unit: 16GB, 512MiB", "anyOf": [{ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{0,3})? *([kMGT]B|[KMGT]iB|B)$" }, { "$ref": "#/$defs/filled" }] },
                        },
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::plan::tests::fake;
    use crate::resources;
    use crate::tree::{self, Node};
    use crate::{faults, step, workflow};

    /// What the reader sees of a file, as JSON.
    fn plain(node: &Node) -> Value {
        match &node.value {
            tree::Value::Scalar(value) => value.clone(),
            tree::Value::List(items) => items.iter().map(plain).collect(),
            tree::Value::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.text.clone(), plain(node))).collect())
            }
        }
    }

    /// Whether `value` is what `schema` (a part of `root`) describes. It knows the words that the schema uses, and no other.
    fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
        let Value::Object(words) = schema else { return schema.as_bool().expect("a schema is a map, true or false") };
        words.iter().all(|(word, rule)| match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "then" | "default" => true,
            "$ref" => fits(value, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), root),
            "type" => {
                let names = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                names.iter().any(|name| is_a(value, name.as_str().unwrap()))
            }
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= rule.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| matches(text, rule.as_str().unwrap())),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, rule, root))),
            "required" => value
                .as_object()
                .is_none_or(|map| rule.as_array().unwrap().iter().all(|it| map.contains_key(it.as_str().unwrap()))),
            "properties" => value.as_object().is_none_or(|map| {
                map.iter().all(|(key, value)| rule.get(key).is_none_or(|rule| fits(value, rule, root)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|map| {
                let named = words.get("properties");
                map.iter().all(|(key, value)| named.is_some_and(|it| it.get(key).is_some()) || fits(value, rule, root))
            }),
            "propertyNames" => value.as_object().is_none_or(|map| map.keys().all(|key| fits(&json!(key), rule, root))),
            "anyOf" => rule.as_array().unwrap().iter().any(|it| fits(value, it, root)),
            "oneOf" => rule.as_array().unwrap().iter().filter(|it| fits(value, it, root)).count() == 1,
            "allOf" => rule.as_array().unwrap().iter().all(|it| fits(value, it, root)),
            "not" => !fits(value, rule, root),
            "if" => !fits(value, rule, root) || fits(value, &words["then"], root),
            word => panic!("the schema uses `{word}`, which this test does not know"),
        })
    }

    fn is_a(value: &Value, name: &str) -> bool {
        match name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            name => panic!("there is no type `{name}`"),
        }
    }

    /// The few patterns of the schema.
    fn matches(text: &str, pattern: &str) -> bool {
        match pattern {
            "\\$\\{.*\\}" => text.split_once("${").is_some_and(|(_, rest)| rest.contains('}')),
            "^[1-9][0-9]*$" => text.parse::<u32>().is_ok_and(|number| number > 0),
            "^[A-Za-z0-9_-]+$" => {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            }
            "^[0-9]+(\\.[0-9]{0,3})? *([kMGT]B|[KMGT]iB|B)$" => resources::bytes(text).is_some(),
            pattern => panic!("the schema uses the pattern {pattern}, which this test does not know"),
        }
    }

    fn fits_whole(text: &str, schema: &Value) -> bool {
        tree::parse(text).is_ok_and(|tree| fits(&plain(&tree), schema, schema))
    }

    #[test]
    fn every_workflow_of_the_repository_fits_the_schema() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let schema = workflow(&Stages::default()).unwrap();
        let mut count = 0;
        for folder in ["workflows", "tests/workflows"] {
            for name in evoq_artifacts::list_files(&repository.join(folder)).unwrap() {
                let is_workflow = !name.contains('/') && Path::new(&name).extension().is_some_and(|it| it == "yaml");
                if is_workflow {
                    let bytes = evoq_artifacts::read_file(&repository.join(folder).join(&name)).unwrap();
                    assert!(fits_whole(&String::from_utf8(bytes).unwrap(), &schema), "{folder}/{name}");
                    count += 1;
                }
            }
        }
        assert!(count > 8, "only {count} workflows were found");
    }

    #[test]
    fn the_schema_takes_no_fault_of_shape_and_leaves_only_those_of_meaning_to_the_reader() {
        let (_folder, stages) = fake();
        let schema = workflow(&stages).unwrap();
        let taken: Vec<&str> =
            faults::cases().filter(|(_, text, _)| fits_whole(text, &schema)).map(|(title, _, _)| title).collect();
        insta::assert_snapshot!(taken.join("\n"));
    }

    #[test]
    fn the_schema_and_the_reader_know_the_same_keys() {
        let schema = workflow(&Stages::default()).unwrap();
        let keys = |place: &str| -> BTreeSet<String> {
            schema.pointer(place).unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let set = |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(|&key| key.to_owned()).collect() };
        assert_eq!(keys("/properties"), set(&workflow::KEYS));
        assert_eq!(keys("/properties/rounds/properties"), set(&workflow::ROUNDS_KEYS));
        assert_eq!(keys("/properties/show/items/properties"), set(&workflow::SHOW_KEYS));
        assert_eq!(keys("/$defs/change/properties"), set(&step::KEYS));
        assert_eq!(keys("/$defs/change/properties/resources/properties"), set(&resources::KEYS));
    }

    #[test]
    fn a_stages_own_parameters_and_inputs_are_in_the_schema() {
        let (_folder, stages) = fake();
        let schema = workflow(&stages).unwrap();
        let step = |with: &str| {
            format!("{{ evoq: 1, name: x, steps: {{ a: {{ uses: fake, in: {{ images: b }}, with: {with} }} }} }}")
        };
        assert!(fits_whole(&step("{ samples: 3, order: balanced, exact: true, list: [a, b] }"), &schema));
        assert!(fits_whole(&step("{ samples: \"${k}\", order: ~ }"), &schema));
        for wrong in ["{ sampels: 3 }", "{ samples: many }", "{ order: balance }", "{ exact: 1 }"] {
            assert!(!fits_whole(&step(wrong), &schema), "{wrong}");
        }
    }
}
