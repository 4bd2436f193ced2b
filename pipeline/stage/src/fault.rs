//! How a stage fails: one line for people, and an exit code.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// A fault of what the user gave: exit code 2.
#[derive(Debug)]
pub struct BadInput(String);

impl Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// The user asked to stop: exit code 130.
#[derive(Debug)]
pub struct Interrupted;

impl Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped; nothing was committed. Run the same command again to go on")
    }
}

impl std::error::Error for Interrupted {}

/// An error that lies in what the user gave. The message names the file or flag, what was found, what was expected, the remedy.
pub fn bad_input(message: impl Display) -> anyhow::Error {
    anyhow::Error::new(BadInput(message.to_string()))
}

/// Prints the error in one line on stderr and gives its exit code.
pub(crate) fn report(stage: &str, error: &anyhow::Error) -> ExitCode {
    if let Some(clap) = error.downcast_ref::<clap::Error>() {
        // clap writes help to stdout and faults to stderr itself; a closed pipe is no fault.
        let _ = clap.print();
        return ExitCode::from(u8::try_from(clap.exit_code()).unwrap_or(2));
    }
    tell(&format!("evoq-{stage}: error: {}", one_line(error)));
    ExitCode::from(exit_code(error))
}

/// Says a line on stderr. Hours of work do not end because the reader of their words has: `evoq-grpo … 2>&1 | head`.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Interrupted>() {
            return 130;
        }
        if cause.is::<BadInput>() {
            return 2;
        }
        if let Some(error) = cause.downcast_ref::<evoq_artifacts::Error>() {
            return if error.is_bad_input() { 2 } else { 1 };
        }
    }
    1
}

/// The chain of causes, each said once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_first_cause_that_is_known_gives_the_exit_code() {
        let storage = evoq_artifacts::Error::Storage { uri: "x".into(), what: "reading", source: "disk".into() };
        assert_eq!(exit_code(&anyhow::anyhow!("plain")), 1);
        assert_eq!(exit_code(&bad_input("no such type").context("reading flags")), 2);
        assert_eq!(exit_code(&anyhow::Error::new(storage)), 1);
        assert_eq!(exit_code(&anyhow::Error::new(Interrupted)), 130);
    }

    #[test]
    fn a_cause_that_its_parent_says_already_is_not_said_again() {
        let error = Err::<(), _>(bad_input("row 3 is torn")).context("votes.parquet: row 3 is torn").unwrap_err();
        assert_eq!(one_line(&error), "votes.parquet: row 3 is torn");
    }
}
