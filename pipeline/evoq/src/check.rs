//! Every step checked against what its stage says of itself, before anything runs.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::call::{self, Folders};
use crate::error::Result;
use crate::expand::Instance;
use crate::foreign;
use crate::read::Reader;
use crate::stages::{Known, Stages};
use crate::step::Action;
use crate::workflow::Combination;

/// What checking a step gave.
#[derive(Debug)]
pub enum Checked {
    /// A stage and the flags of its parameters.
    Stage {
        /// The stage.
        known: Rc<Known>,
        /// The flags.
        flags: Vec<String>,
    },
    /// A command and the tables of its inputs.
    Command {
        /// The table (or `policy`), by input.
        tables: BTreeMap<String, String>,
    },
}

impl Checked {
    /// Whether the input of this name is a policy.
    pub fn is_policy(&self, input: &str) -> bool {
        match self {
            Self::Stage { known, .. } => {
                known.description.inputs.iter().any(|known| known.name == input && known.table.is_none())
            }
            Self::Command { tables } => tables.get(input).is_some_and(|table| table == "policy"),
        }
    }
}

/// Checks the steps of `combination`; none for a step of a stage that there is not. Faults become problems.
pub fn check(
    combination: &Combination,
    instances: &[Instance],
    stages: &Stages,
    folders: &Folders,
    reader: &mut Reader,
) -> Result<Vec<Option<Checked>>> {
    let mut known: Vec<Option<Rc<Known>>> = Vec::new();
    for instance in instances {
        known.push(match &instance.step.action {
            Action::Uses(stage) => call::described(stage, stages, reader)?,
            Action::Run(_) => None,
        });
    }
    let writes: Vec<Vec<String>> =
        instances.iter().zip(&known).map(|(instance, known)| writes(instance, known.as_deref())).collect();
    let mut checked = Vec::new();
    for (instance, known) in instances.iter().zip(known) {
        checked.push(match (&instance.step.action, known) {
            (Action::Run(command), _) => {
                let tables = foreign::check(instance, command, instances, &writes, reader);
                Some(Checked::Command { tables })
            }
            (Action::Uses(_), Some(known)) => {
                call::check_inputs(instance, &known.description, instances, &writes, reader);
                let before = reader.problems.len();
                let flags = call::flags(instance, &known.description, combination.seed, folders, reader);
                // Flags with faults are not asked about: the stage would say the same once more.
                (reader.problems.len() == before).then_some(Checked::Stage { known, flags })
            }
            (Action::Uses(_), None) => None,
        });
    }
    Ok(checked)
}

/// What a step writes: its tables, `policy` among them. Nothing is known of a stage that there is not.
fn writes(instance: &Instance, known: Option<&Known>) -> Vec<String> {
    match &instance.step.action {
        Action::Run(command) => command.outputs.iter().map(|output| output.text.clone()).collect(),
        Action::Uses(_) => {
            let outputs = known.iter().flat_map(|known| &known.description.outputs);
            outputs.map(|output| output.table.clone().unwrap_or_else(|| output.name.clone())).collect()
        }
    }
}
