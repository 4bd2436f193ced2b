//! `--describe`: what a stage is, as JSON, for the workflow to be checked against before anything runs.

use std::any::TypeId;
use std::path::PathBuf;

use clap::ArgAction;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Kind, Source, Stage};

/// What a stage is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The version of this description.
    pub evoq: u32,
    /// The stage's name.
    pub stage: String,
    /// The version of its algorithm.
    pub version: u32,
    /// What it does.
    pub about: String,
    /// Whether its work divides into units that machines can share.
    pub divides: bool,
    /// Whether it answers `--describe-each`.
    #[serde(default)]
    pub describes_each: bool,
    /// What it reads.
    pub inputs: Vec<InputDescription>,
    /// What it writes.
    pub outputs: Vec<OutputDescription>,
    /// Its parameters.
    pub parameters: Vec<ParameterDescription>,
}

/// An input of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDescription {
    /// Its name, and the flag's.
    pub name: String,
    /// The table; absent for a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Whether the stage runs without it.
    pub required: bool,
    /// What the stage does with it.
    pub help: String,
}

/// An output of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDescription {
    /// Its name.
    pub name: String,
    /// The table; absent for a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The version of the table's schema; absent for a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// The table's columns: name, Arrow type, whether null is allowed, meaning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnDescription>,
}

/// A column of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub r#type: String,
    /// Whether null is allowed.
    pub nullable: bool,
    /// What it means.
    pub about: String,
}

/// A parameter of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParameterDescription {
    /// Its name, and the flag's.
    pub name: String,
    /// `integer`, `number`, `text`, `flag` (true or false), `path`, `source`.
    pub r#type: String,
    /// Whether several values may be given, separated by commas.
    #[serde(default)]
    pub list: bool,
    /// Whether it must be given.
    #[serde(default)]
    pub required: bool,
    /// The default, as it is written on a command line; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The values it may take; empty where they are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it does, with its range and source.
    pub help: String,
    /// The value after defaults, where the stage was described together with its flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

impl Description {
    /// The parameters' values after defaults, by name.
    pub fn values(&self) -> Map<String, Value> {
        self.parameters.iter().filter_map(|it| Some((it.name.clone(), it.value.clone()?))).collect()
    }
}

/// The description of the stage `S`, with the values of `stage` where it is given.
pub fn describe<S: Stage>(stage: Option<&S>) -> serde_json::Result<Description> {
    let values = stage.map(parameters).transpose()?.unwrap_or_default();
    let tables = evoq_schemas::tables();
    let table_name = |kind| match kind {
        Kind::Table(name) => Some(name.to_owned()),
        Kind::Policy => None,
    };
    let inputs = S::INPUTS.iter().map(|input| InputDescription {
        name: input.name.to_owned(),
        table: table_name(input.kind),
        required: input.required,
        help: input.help.to_owned(),
    });
    let outputs = S::OUTPUTS.iter().map(|output| {
        let table = tables.iter().find(|table| output.kind == Kind::Table(table.name));
        OutputDescription {
            name: output.name.to_owned(),
            table: table_name(output.kind),
            schema_version: table.map(|table| table.version),
            columns: table.map_or_else(Vec::new, |table| columns(&(table.schema)())),
        }
    });
    let command = S::augment_args(clap::Command::new("flags"));
    let parameters = command.get_arguments().filter_map(|arg| parameter(arg, &values)).collect();
    Ok(Description {
        evoq: 1,
        stage: S::NAME.to_owned(),
        version: S::VERSION,
        about: S::ABOUT.to_owned(),
        divides: S::DIVIDES,
        describes_each: true,
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        parameters,
    })
}

/// The answer to one line of `--describe-each`: what a list of flags makes of the parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Valued {
    /// Their values after defaults.
    Values(Map<String, Value>),
    /// Why the flags are refused.
    Error(String),
}

/// The parameters of `stage` by the flags' names; null counts as absent.
pub(crate) fn parameters<S: Stage>(stage: &S) -> serde_json::Result<Map<String, Value>> {
    let mut values = match serde_json::to_value(stage)? {
        Value::Object(values) => values,
        Value::Null => Map::new(),
        _ => unreachable!("a stage's flags serialise to an object"),
    };
    values.retain(|_, value| !value.is_null());
    values.sort_keys();
    Ok(values)
}

fn columns(schema: &evoq_schemas::Schema) -> Vec<ColumnDescription> {
    let column = |field: &evoq_schemas::Field| ColumnDescription {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        about: field.metadata().get("evoq.about").cloned().unwrap_or_default(),
    };
    schema.fields().iter().map(|field| column(field)).collect()
}

fn parameter(arg: &clap::Arg, values: &Map<String, Value>) -> Option<ParameterDescription> {
    let name = arg.get_long()?.to_owned();
    let parser = arg.get_value_parser().type_id();
    let is = |types: &[TypeId]| types.iter().any(|it| parser == *it);
    let integers = [
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<i64>(),
    ];
    let kind = if matches!(arg.get_action(), ArgAction::SetTrue) {
        "flag"
    } else if is(&integers) {
        "integer"
    } else if is(&[TypeId::of::<f64>(), TypeId::of::<f32>()]) {
        "number"
    } else if is(&[TypeId::of::<PathBuf>()]) {
        "path"
    } else if is(&[TypeId::of::<Source>()]) {
        "source"
    } else {
        "text"
    };
    let default: Vec<_> = arg.get_default_values().iter().map(|it| it.to_string_lossy()).collect();
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let choices = if kind == "flag" { Vec::new() } else { arg.get_possible_values() };
    Some(ParameterDescription {
        r#type: kind.to_owned(),
        list: arg.get_value_delimiter().is_some() || matches!(arg.get_action(), ArgAction::Append),
        required: arg.is_required_set(),
        default: (!default.is_empty() && kind != "flag").then(|| default.join(",")),
        choices: choices.iter().map(|it| it.get_name().to_owned()).collect(),
        help,
        value: values.get(&name).cloned(),
        name,
    })
}
