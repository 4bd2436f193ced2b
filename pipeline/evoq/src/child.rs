//! One program run for a step: its output to a log and, its last line, to the screen; Ctrl-C passed on.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use evoq_artifacts::make_folder;

use crate::error::{Error, Result};

/// Set by the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);
/// The program that runs now; 0 for none.
static CHILD: AtomicU32 = AtomicU32::new(0);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The line that says why it failed: its last line with `error` in it, else its last.
    pub line: String,
}

/// Passes Ctrl-C (and SIGTERM) on to the program that runs, and remembers it.
pub fn watch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        STOP.store(true, Ordering::SeqCst);
        interrupt(CHILD.load(Ordering::SeqCst));
    })
    .map_err(|error| Error::Program(format!("Ctrl-C cannot be watched: {error}")))
}

/// Whether the user has asked to stop.
pub fn stopped() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Sends SIGINT to the group of `child`. The standard library sends no signals; every POSIX shell can.
fn interrupt(child: u32) {
    if child != 0 {
        // A program that has just ended is no fault.
        let _ = Command::new("sh").args(["-c", &format!("kill -INT -- -{child} 2>/dev/null")]).status();
    }
}

/// Runs `command`, its output into `log`; `said` gets each line of it.
pub fn run(command: &mut Command, log: &Path, said: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
    let writing = |error: std::io::Error| Error::Program(format!("{}: writing the log failed: {error}", log.display()));
    let file = Mutex::new(open_log(log).map_err(writing)?);
    // A group of its own: Ctrl-C on the terminal reaches `evoq` alone, which passes it on once.
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
    let name = command.get_program().display().to_string();
    let mut child = spawned.map_err(|error| Error::BadInput(format!("{name} could not be started: {error}")))?;
    CHILD.store(child.id(), Ordering::SeqCst);
    if stopped() {
        interrupt(child.id());
    }
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let line = std::thread::scope(|scope| {
        let out = stdout.map(|pipe| scope.spawn(|| copy(pipe, &file, said)));
        let err = stderr.map(|pipe| scope.spawn(|| copy(pipe, &file, said)));
        let [out, err] = [out, err].map(|it| it.and_then(|it| it.join().ok()).unwrap_or_default());
        if err.is_empty() { out } else { err }
    });
    let status = child.wait();
    CHILD.store(0, Ordering::SeqCst);
    let status = status.map_err(|error| Error::Program(format!("{name}: waiting for it failed: {error}")))?;
    let line = if line.is_empty() { format!("{name} ended with {status} and said nothing") } else { line };
    Ok(Ended { code: status.code(), line })
}

/// Opens a log to append to. A log is written while a step runs and read by people: it is no object of the store.
fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(std::io::Error::other)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Copies lines to the log and to `said`; gives the line that says most about a failure.
fn copy(pipe: impl Read, log: &Mutex<File>, said: &(dyn Fn(&str) + Sync)) -> String {
    let (mut last, mut fault) = (String::new(), None);
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // A line that is not UTF-8 is still a line; an unreadable pipe is a closed one.
    while pipe.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        // A full disk must not stop the step.
        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if !line.is_empty() {
            said(line);
            if line.to_lowercase().contains("error") {
                fault = Some(line.to_owned());
            }
            line.clone_into(&mut last);
        }
        bytes.clear();
    }
    fault.unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Ended, String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/step.log");
        let lines = Mutex::new(Vec::new());
        let said = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let ended = run(Command::new("sh").args(["-c", script]), &log, &said).unwrap();
        let text = String::from_utf8(evoq_artifacts::read_file(&log).unwrap()).unwrap();
        (ended, text, lines.into_inner().unwrap())
    }

    #[test]
    fn everything_a_program_says_is_in_its_log_and_the_error_is_picked_out() {
        let (ended, log, lines) = shell("echo begun; echo 'error: no pairs' >&2; echo bye >&2; exit 3");
        assert_eq!((ended.code, ended.line.as_str()), (Some(3), "error: no pairs"));
        for line in ["begun", "error: no pairs", "bye"] {
            assert!(log.contains(line) && lines.iter().any(|it| it == line), "{log}");
        }
    }

    #[test]
    fn a_program_that_says_nothing_is_named() {
        assert!(shell("exit 4").0.line.contains("exit status: 4"));
    }
}
