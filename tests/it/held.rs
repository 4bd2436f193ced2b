//! A workflow with a command that says when it has begun and then waits for a word: runs are met in the middle, without sleeping.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use evoq_artifacts::write_file;

use crate::programs::program;

/// `held` copies the pictures that `photos` makes, into a file that is called otherwise each time, and ends when it is told to.
const FLOW: &str = "\
evoq: 1
name: held
steps:
  photos: { uses: ingest, with: { source: 'procedural:4', size: 32 } }
  held:
    run: [sh, -c, 'cat {in.images}/* > {out.images}/$$.parquet; echo begun > begun; read word < word']
    in: { images: photos }
    out: [images]
";

/// The workflow in a folder of its own, which has room for more.
pub struct Held(pub tempfile::TempDir);

impl Held {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_file(&folder.path().join("flow.yaml"), FLOW.as_bytes()).unwrap();
        let pipes = ["begun", "word"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").args(pipes).status().unwrap().success());
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `evoq run` of it.
    pub fn run(&self, root: &str) -> Command {
        let mut command = program("evoq");
        command.arg("run").arg(self.path("flow.yaml")).args(["--root", root]).env("TMPDIR", self.0.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Waits until the command has begun.
    pub fn begins(&self) {
        self.pipe("cat begun");
    }

    /// Tells the command to go on.
    pub fn goes_on(&self) {
        self.pipe("echo go > word");
    }

    /// A run that fails before it comes to the pipe is not waited for.
    fn pipe(&self, script: &str) {
        let done = Command::new("timeout").args(["180", "sh", "-c", script]).current_dir(self.0.path()).output();
        assert!(done.unwrap().status.success(), "{script}: nobody came to the other end");
    }
}

/// Sends Ctrl-C to a run.
pub fn interrupt(run: &Child) {
    assert!(Command::new("kill").args(["-s", "INT", &run.id().to_string()]).status().unwrap().success());
}
