//! Programs as processes of this machine.

use std::process::Command;

use super::{Executor, Job};
use crate::child::{self, Ended};
use crate::error::{Error, Result};

/// Starts processes here.
#[derive(Debug)]
pub struct Local;

impl Executor for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn run(&self, job: &Job<'_>, said: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
        let (program, arguments) =
            job.words.split_first().ok_or_else(|| Error::BadInput("the step names no program".to_owned()))?;
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(folder) = &job.folder {
            command.current_dir(folder);
        }
        if !job.devices.is_empty() {
            // Two steps beside each other get different ones.
            command.env("CUDA_VISIBLE_DEVICES", job.devices.join(","));
        }
        // The ledger was entered: the store has answered.
        command.envs(job.place.answered());
        child::run(&mut command, &job.log, said)
    }
}
