//! One program run for a step: its output to a log and line by line to the screen, Ctrl-C passed on, and its end when this
//! process is killed.
//!
//! The standard library sends no signals; a POSIX shell can. One shell, the keeper, is told by a pipe which process groups run
//! and what to send them. When this process ends, however it ends, the pipe closes, and the keeper kills the groups that are left:
//! a runner that was killed leaves nothing behind that goes on writing.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evoq_artifacts::make_folder;

use crate::error::{Error, Result};

/// How long a run that was told twice to stop may still enter that in its ledger: a store that is away would be waited for for
/// minutes.
const GRACE: Duration = Duration::from_secs(2);

/// How often the user has asked to stop.
static STOPS: AtomicU32 = AtomicU32::new(0);
/// The programs that run now.
static RUNNING: Mutex<Running> = Mutex::new(Running { keeper: None, groups: BTreeSet::new() });

/// What the keeper does. It is in a group of its own and deaf to what a terminal sends.
const KEEPER: &str = r#"
trap '' INT TERM HUP QUIT
groups=' '
while read -r what group; do
    case $what in
    start) groups="$groups$group " ;;
    end) groups="${groups%% $group *} ${groups#* $group }" ;;
    *) kill -s "$what" -- "-$group" 2>/dev/null ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// Process groups of programs, and the pipe to the shell that keeps them.
struct Running {
    keeper: Option<ChildStdin>,
    groups: BTreeSet<u32>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The line that says why it failed: its last line with `error` in it, else its last.
    pub line: String,
}

/// Passes Ctrl-C (and SIGTERM) on to the programs that run, and remembers it; at the second they are killed, and a moment later
/// this process ends, whatever it waits for.
pub fn watch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        let is_first = STOPS.fetch_add(1, Ordering::SeqCst) == 0;
        let mut running = running();
        for group in running.groups.clone() {
            // Without a keeper nothing can be passed on; the programs end with the terminal.
            let _ = running.tell(if is_first { "INT" } else { "KILL" }, group);
        }
        drop(running);
        if !is_first {
            std::thread::sleep(GRACE);
            let error = Error::Interrupted;
            // A terminal that is gone is told nothing.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            std::process::exit(error.exit_code().into());
        }
    })
    .map_err(|error| Error::Program(format!("Ctrl-C cannot be watched: {error}")))
}

/// Whether the user has asked to stop.
pub fn stopped() -> bool {
    stops() > 0
}

/// How often the user has asked to stop.
pub fn stops() -> u32 {
    STOPS.load(Ordering::SeqCst)
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Tells the keeper, which is started with the first word.
    fn tell(&mut self, what: &str, group: u32) -> std::io::Result<()> {
        let keeper = if let Some(keeper) = &mut self.keeper {
            keeper
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", KEEPER]).process_group(0);
            let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let pipe = child.stdin.ok_or_else(|| std::io::Error::other("it has no pipe"))?;
            self.keeper.insert(pipe)
        };
        keeper.write_all(format!("{what} {group}\n").as_bytes())
    }

    fn start(&mut self, command: &mut Command) -> Result<Child> {
        if stopped() {
            return Err(Error::Interrupted);
        }
        // A group of its own: Ctrl-C on the terminal reaches `evoq` alone, which passes it on once.
        let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
        let name = command.get_program().display();
        let mut child = spawned.map_err(|error| Error::BadInput(format!("{name} could not be started: {error}")))?;
        self.groups.insert(child.id());
        if let Err(error) = self.tell("start", child.id()) {
            // Nothing runs that would not be stopped with this process.
            let _ = child.kill();
            return Err(Error::Program(format!("the shell that stops programs cannot be used: {error}")));
        }
        Ok(child)
    }
}

/// Runs `command`, its output into `log`; `said` gets each line of it.
pub fn run(command: &mut Command, log: &Path, said: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
    let writing = |error: std::io::Error| Error::Program(format!("{}: writing the log failed: {error}", log.display()));
    let mut file = open_log(log).map_err(writing)?;
    let unmade = |error: std::io::Error| Error::Program(format!("a pipe could not be made: {error}"));
    // One pipe for both: lines come in the order in which they are said, and one reader does.
    let (output, input) = std::io::pipe().map_err(unmade)?;
    command.stdout(input.try_clone().map_err(unmade)?).stderr(input);
    // The lock is held while it starts: a Ctrl-C comes before, and it does not start, or after, and reaches it.
    let started = running().start(command);
    // The program has its own ends; with these open the pipe would not close with it.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = started?;
    let line = copy(output, &mut file, said);
    let status = child.wait();
    let mut running = running();
    running.groups.remove(&child.id());
    // A keeper that is gone keeps nothing.
    let _ = running.tell("end", child.id());
    drop(running);
    let name = command.get_program().display();
    let status = status.map_err(|error| Error::Program(format!("{name}: waiting for it failed: {error}")))?;
    let line = match (line.is_empty(), status.code()) {
        (true, _) => format!("{name} ended with {status} and said nothing"),
        (false, None) => format!("it ended with {status}; before, it said: {line}"),
        (false, Some(_)) => line,
    };
    Ok(Ended { code: status.code(), line })
}

/// Opens a log to append to. A log is written while a step runs and read by people: it is no object of the store.
pub fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(std::io::Error::other)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// What a program has said, as far as it is told when it fails.
#[derive(Debug, Default)]
pub struct Words {
    last: String,
    fault: Option<String>,
}

impl Words {
    /// Takes the next line, without its end.
    pub fn hear(&mut self, line: &str) {
        if line.to_lowercase().contains("error") {
            self.fault = Some(line.to_owned());
        }
        line.clone_into(&mut self.last);
    }

    /// The line that says most about a failure.
    pub fn telling(self) -> String {
        self.fault.unwrap_or(self.last)
    }
}

/// Copies lines to the log and to `said`; gives the line that says most about a failure.
fn copy(pipe: impl Read, log: &mut File, said: &(dyn Fn(&str) + Sync)) -> String {
    let mut words = Words::default();
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // A line that is not UTF-8 is still a line; an unreadable pipe is a closed one.
    while pipe.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        // A full disk must not stop the step.
        let _ = log.write_all(&bytes);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if !line.is_empty() {
            said(line);
            words.hear(line);
        }
        bytes.clear();
    }
    words.telling()
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

    #[test]
    fn of_a_program_that_a_signal_ended_the_signal_and_its_last_words_are_told() {
        let (ended, ..) = shell("echo pair 7 >&2; kill -KILL $$");
        assert_eq!(ended.code, None);
        assert_eq!(ended.line, "it ended with signal: 9 (SIGKILL); before, it said: pair 7");
        assert!(shell("kill -KILL $$").0.line.ends_with("sh ended with signal: 9 (SIGKILL) and said nothing"));
    }

    #[test]
    fn the_keeper_passes_a_signal_to_one_group_and_kills_those_that_are_left_when_its_pipe_closes() {
        // Not INT: what a shell starts in the background is deaf to it, and so is all that it starts.
        let sleeper = || Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let mut three = [sleeper(), sleeper(), sleeper()];
        let mut running = Running { keeper: None, groups: BTreeSet::new() };
        for child in &three {
            running.tell("start", child.id()).unwrap();
        }
        running.tell("TERM", three[1].id()).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&three[1].wait().unwrap()), Some(15));
        running.tell("end", three[1].id()).unwrap();
        running.tell("end", three[2].id()).unwrap();
        drop(running);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&three[0].wait().unwrap()), Some(9));
        assert!(three[2].try_wait().unwrap().is_none());
        three[2].kill().unwrap();
        three[2].wait().unwrap();
    }
}
