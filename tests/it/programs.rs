//! The programs under test, under their own names, and a place to run them in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

pub use evoq_test_support::servers::python;

/// Every program's name, sorted.
pub const PROGRAMS: [&str; 11] = [
    "evoq",
    "evoq-benchmark",
    "evoq-demonstrate",
    "evoq-distort",
    "evoq-grpo",
    "evoq-ingest",
    "evoq-label",
    "evoq-pair",
    "evoq-score",
    "evoq-sft",
    "evoq-vote",
];

/// The folder with all programs: links to the one binary that is all of them.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("programs");
        std::fs::create_dir_all(&folder).unwrap();
        for name in PROGRAMS {
            // By renaming: another test run may be making the same link, or calling through it.
            let new = folder.join(format!(".{name}-{}", std::process::id()));
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_all-of-evoq"), &new).unwrap();
            std::fs::rename(new, folder.join(name)).unwrap();
        }
        folder
    })
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A command of the program `name`.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(folder().join(name));
    for variable in ["EVOQ_ROOT", "EVOQ_LOG", "EVOQ_CACHE", "RAYON_NUM_THREADS"] {
        command.env_remove(variable);
    }
    command
}

/// Runs `command`, which must end with `code`, and gives its output.
#[track_caller]
pub fn ends_with(command: &mut Command, code: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}\nstdout: {}\nstderr: {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Starts `command` and kills it with SIGKILL as soon as `is_time`, which must be before its end.
#[track_caller]
pub fn killed_when(is_time: impl Fn() -> bool, command: &mut Command) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !is_time() {
        assert!(child.try_wait().unwrap().is_none(), "{command:?} ended before it was to be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

/// What `output` said on stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line of stderr that says what is wrong; there must be one, and no panic.
#[track_caller]
pub fn fault(output: &Output) -> String {
    let said = said(output);
    assert!(!said.contains("panicked"), "{said}");
    let faults: Vec<&str> = said.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(faults.len(), 1, "{said}");
    faults[0].to_owned()
}

/// What `output` printed on stdout.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `evoq run` of a workflow of `tests/workflows/`, with its sets.
pub fn run(workflow: &str, root: &str, sets: &[&str]) -> Command {
    let mut command = program("evoq");
    command.arg("run").arg(repository().join("tests/workflows").join(workflow)).args(["--root", root]);
    for set in sets {
        command.args(["--set", set]);
    }
    command
}

/// The answer to `sql` on the latest run at `root`, as CSV.
#[track_caller]
pub fn query(root: &str, sql: &str) -> String {
    printed(&ends_with(program("evoq").args(["sql", "--root", root, "--format", "csv", "-c", sql]), 0))
}

/// The artifacts' files below the local `root`: names with digests, without the ledger and scratch.
pub fn parts(root: &Path) -> BTreeMap<String, String> {
    let names = evoq_artifacts::list_files(root).unwrap();
    let kept = names.into_iter().filter(|name| !name.starts_with("ledger/") && !name.starts_with("scratch/"));
    kept.map(|name| {
        let digest = evoq_artifacts::content_digest(&root.join(&name)).unwrap();
        (name, digest)
    })
    .collect()
}
