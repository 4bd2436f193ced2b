//! A stage's program, run as the workflow and people run it.

use std::process::{Command, Output, Stdio};

use evoq_artifacts::Artifact;
use evoq_schemas::Table;

use crate::{Folder, rows};

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

    /// Runs it to a good end though nobody is left to read what it says.
    pub fn unheard(self, arguments: &[&str]) {
        let (reader, writer) = std::io::pipe().expect("there is room for a pipe");
        drop(reader);
        let status = self.command(arguments).stdout(Stdio::null()).stderr(writer).status();
        let status = status.expect("the program was built for this test");
        assert!(status.success(), "{status}");
    }

    /// Runs it where no file can grow past two KiB, as on a full disk; it must fail, and gives the one line that says why.
    pub fn starved(self, arguments: &[&str]) -> String {
        // A file that would grow too large is a signal; ignored, it is an error of writing.
        let full = "trap '' XFSZ; ulimit -f 4; exec \"$@\"";
        let output = Command::new("sh").args(["-c", full, "sh", self.0]).args(arguments).output();
        let output = output.expect("a shell is on every machine that tests run on");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let faults: Vec<&str> = said.lines().filter(|line| line.contains(": error: ")).collect();
        assert!(faults.len() == 1 && !said.contains("panicked"), "{said}");
        faults[0].to_owned()
    }

    /// Checks in `folder` that what it writes with `arguments` is whole or not there: a full disk is told in one line that names the
    /// place, and the next run goes on from it; two runs at once both end well. All write the same bytes.
    pub fn stays_whole(self, arguments: &[&str], folder: &Folder) {
        let run = |out: &str| {
            self.done(&[arguments, &["--out", out]].concat());
            Artifact::open(out).expect("it was committed").manifest
        };
        let whole = run(&folder.at("whole"));

        let starved = folder.at("starved");
        let fault = self.starved(&[arguments, &["--out", &starved]].concat());
        assert!(fault.contains(&starved), "{fault}");
        assert!(Artifact::open(&starved).is_err(), "{starved} was committed");
        assert_eq!(run(&starved), whole);

        let both = folder.at("both");
        let start = || {
            let mut command = self.command(&[arguments, &["--out", &both]].concat());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program was built for this test")
        };
        for child in [start(), start()] {
            let output = child.wait_with_output().expect("it was started");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(Artifact::open(&both).expect("it was committed").manifest, whole);
    }
}
