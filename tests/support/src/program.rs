//! A stage's program, run as the workflow and people run it.

use std::process::{Command, Output};

use evoq_artifacts::Artifact;
use evoq_schemas::Table;

use crate::rows;

/// A program of the package under test, by its path: `Program(env!("CARGO_BIN_EXE_evoq-…"))`.
#[derive(Debug, Clone, Copy)]
pub struct Program(pub &'static str);

impl Program {
    /// The program with `arguments`, not started yet.
    pub fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        command.args(arguments);
        command
    }

    /// Runs it to its end, however that is.
    pub fn run(self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program was built for this test")
    }

    /// Runs it to a good end, and gives what it says on stderr.
    pub fn done(self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Runs it to a good end with `--out URI`, and gives the rows that it wrote there.
    pub fn rows<T: Table>(self, arguments: &[&str], out: &str) -> Vec<T> {
        self.done(&[arguments, &["--out", out]].concat());
        rows(out)
    }

    /// Runs what must be refused as bad input, and gives what it says on stderr.
    pub fn refused(self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        said
    }

    /// Runs what must be refused as bad input with `--out URI`, checks that nothing was committed there, and gives what it says.
    pub fn refused_at(self, arguments: &[&str], out: &str) -> String {
        let said = self.refused(&[arguments, &["--out", out]].concat());
        assert!(Artifact::open(out).is_err(), "{out} was committed");
        said
    }
}
