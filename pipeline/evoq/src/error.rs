//! What can go wrong in `evoq`, named by cause, and the exit code of each.

use crate::problem::Problems;

/// A failure of the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The workflow file is wrong.
    #[error(transparent)]
    Workflow(#[from] Problems),
    /// The workflow file is not text.
    #[error("{path}: this is not UTF-8 text; expected a workflow file (YAML)")]
    NotText {
        /// The file.
        path: String,
    },
    /// What was asked for cannot be done as it was said.
    #[error("{0}")]
    BadInput(String),
    /// Storage, or what was found in it.
    #[error(transparent)]
    Artifacts(#[from] evoq_artifacts::Error),
    /// A step ended badly.
    #[error("step {step} failed: {line}\n  its log is {log}")]
    Step {
        /// The step and its round.
        step: String,
        /// What it said last.
        line: String,
        /// Where its log is.
        log: String,
        /// 2 where the fault lies in what it was given, else 1.
        code: u8,
    },
    /// Several steps ended badly.
    #[error("{count} steps failed:\n{lines}")]
    Steps {
        /// How many.
        count: usize,
        /// What each of them is told as, line by line.
        lines: String,
        /// 2 where one of them has 2, else 1.
        code: u8,
    },
    /// The root cannot be read or written.
    #[error("--root {root} cannot be used: {source}; give a folder or a bucket that can be read and written")]
    Root {
        /// The root.
        root: String,
        /// What failed.
        source: Box<evoq_artifacts::Error>,
    },
    /// A program could not be run, or broke the contract.
    #[error("{0}")]
    Program(String),
    /// A query failed while it ran.
    #[error("{0}")]
    Query(String),
    /// Artifacts are not what their manifests state.
    #[error("{0}")]
    Damaged(String),
    /// The user asked to stop.
    #[error("stopped; the steps that were done stay done. Run the same command again to go on")]
    Interrupted,
    /// stdout could not be written.
    #[error("writing the output failed: {0}")]
    Output(#[from] std::io::Error),
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// 1 failure, 2 bad input, 130 after Ctrl-C.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Workflow(_) | Self::NotText { .. } | Self::BadInput(_) => 2,
            Self::Artifacts(error) if error.is_bad_input() => 2,
            Self::Step { code, .. } | Self::Steps { code, .. } => *code,
            Self::Artifacts(_)
            | Self::Root { .. }
            | Self::Program(_)
            | Self::Query(_)
            | Self::Damaged(_)
            | Self::Output(_) => 1,
            Self::Interrupted => 130,
        }
    }
}
