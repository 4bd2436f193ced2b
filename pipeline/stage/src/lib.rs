//! The contract every stage keeps: flags, `--describe`, inputs and outputs, progress, exit codes, a clean end on Ctrl-C.
//!
//! A stage is its flags (a clap [`clap::Args`] that serialises under the flags' own names) and a [`Stage::run`] over a
//! [`Job`]; everything else is here, once.

mod command;
mod describe;
mod fault;
mod fingerprint;
mod growing;
mod in_order;
mod job;
mod laps;
mod progress;
pub mod range;
mod source;
mod tensorboard;
mod training;
mod units;

use std::ffi::OsString;
use std::process::ExitCode;

pub use describe::{Description, InputDescription, OutputDescription, ParameterDescription, Valued, describe};
pub use fault::{BadInput, Interrupted, bad_input};
pub use fingerprint::{content_parameters, content_parameters_by, fingerprint, input_fingerprint};
pub use growing::{Growing, Grows};
pub use in_order::in_order;
pub use job::{Job, PolicyInput};
pub use laps::Laps;
pub use progress::Progress;
pub use source::Source;
pub use training::{Keeping, Resume, Taken, Trained, Training};
pub use units::{UnitEnd, Units};

/// What an input or an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table, by name.
    Table(&'static str),
    /// A checkpoint folder.
    Policy,
}

/// An input: the flag `--NAME URI`, which may be given several times (the artifacts then read as one).
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Its name, and the flag's.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whether the stage runs without it.
    pub required: bool,
    /// What the stage does with it.
    pub help: &'static str,
}

/// An output: a table below `--out`, or the checkpoint folder `policy/`.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// A stage: its flags, and what it does.
///
/// The type serialises to an object whose keys are the flags' names (`#[serde(rename_all = "kebab-case")]`); a key whose value
/// is null counts as absent.
pub trait Stage: clap::Args + serde::Serialize {
    /// Its name; the binary is `evoq-NAME`.
    const NAME: &'static str;
    /// The version of its algorithm: raised when equal parameters and inputs no longer give equal outputs.
    const VERSION: u32;
    /// What it does, for `--help`.
    const ABOUT: &'static str;
    /// Whether its work divides into units ([`Job::units`]), which machines can share with `--shard`.
    const DIVIDES: bool = false;
    /// What it reads.
    const INPUTS: &'static [Input];
    /// What it writes.
    const OUTPUTS: &'static [Output];

    /// Reads the job's inputs and writes its outputs; the contract commits them when this returns `Ok`.
    fn run(&self, job: &mut Job) -> anyhow::Result<()>;
}

/// Runs the stage `S` on this process's arguments.
pub fn main<S: Stage>() -> ExitCode {
    main_from::<S>(std::env::args_os())
}

/// Runs what a stage's program does by hand, beside the contract: `work` gives the text for stdout. Faults and exit codes are
/// those of the stage `name`.
pub fn by_hand(name: &str, work: impl FnOnce() -> anyhow::Result<String>) -> ExitCode {
    match work().and_then(|text| command::print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fault::report(name, &error),
    }
}

/// Runs the stage `S` on `arguments`, the first of which is the program's name.
///
/// Exit codes: 0 done, 1 failure, 2 bad input or flags, 130 after Ctrl-C.
pub fn main_from<S: Stage>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match command::run::<S>(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fault::report(S::NAME, &error),
    }
}
