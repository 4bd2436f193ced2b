//! Where a step's program runs: here, or on the nodes of a cluster.

mod local;
mod slurm;

use std::path::PathBuf;

use evoq_artifacts::Location;

pub use local::Local;
pub use slurm::Slurm;

use crate::child::Ended;
use crate::error::Result;

/// A program to run for a step.
#[derive(Debug)]
pub struct Job<'a> {
    /// The fingerprint of what it makes: two runs that make the same find each other's jobs by it.
    pub fingerprint: &'a str,
    /// Where it is made.
    pub place: &'a Location,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The folder it runs in, where that matters.
    pub folder: Option<PathBuf>,
    /// Folders that a command fills: emptied where it begins again, as what was there is of no use to it.
    pub fills: Vec<PathBuf>,
    /// Whether the work divides into units that several processes can share (`--shard`).
    pub divides: bool,
    /// Whether a job of an earlier run can be taken over: a stage puts its artifact itself, a command leaves files to be taken.
    pub resumes: bool,
    /// Cores; none means all of a machine.
    pub cpus: Option<usize>,
    /// Accelerators.
    pub gpus: u32,
    /// Which of this machine's accelerators, where it is known which there are.
    pub devices: Vec<String>,
    /// Bytes of memory, where it was said.
    pub memory: Option<u64>,
    /// Where what it says goes.
    pub log: PathBuf,
}

/// Runs programs.
pub trait Executor: Sync {
    /// Its name in the ledger.
    fn name(&self) -> &'static str;

    /// Runs `job` to its end; `said` gets each line of its output.
    fn run(&self, job: &Job<'_>, said: &(dyn Fn(&str) + Sync)) -> Result<Ended>;
}
