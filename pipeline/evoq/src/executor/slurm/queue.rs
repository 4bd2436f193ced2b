//! What Slurm's programs are asked, and what they answer: the queue, and why a job waits in it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::stopped;
use crate::error::{Error, Result};

/// How often the queue is asked.
pub const LOOK: Duration = Duration::from_secs(5);
/// How long a controller that does not answer is waited for.
const PATIENCE: Duration = Duration::from_mins(4);
/// What Slurm's programs say where it does not.
const AWAY: [&str; 3] = ["Unable to contact slurm controller", "Socket timed out", "Connection refused"];
/// Why Slurm keeps a job that it will never start as it was submitted: no node, or no rule of the cluster, allows what it asks for.
const HOPELESS: [&str; 7] = [
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "AccountNotAllowed",
];

/// A task in the queue: whose it is, its state, and why it waits; empty where Slurm gives no reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Queued {
    /// The job's id, without the task.
    pub id: String,
    state: String,
    reason: String,
}

impl Queued {
    /// `PENDING (Resources)`.
    pub fn shown(&self) -> String {
        if self.reason.is_empty() { self.state.clone() } else { format!("{} ({})", self.state, self.reason) }
    }

    /// Whether it runs now.
    pub fn runs(&self) -> bool {
        self.state == "RUNNING"
    }

    /// Whether it waits for ever.
    pub fn is_hopeless(&self) -> bool {
        self.state == "PENDING" && HOPELESS.contains(&self.reason.as_str())
    }
}

/// Runs one of Slurm's commands; gives what it prints.
pub fn ask(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::BadInput(format!(
            "--executor slurm: there is no `{name}` on this machine; run where Slurm's commands are"
        )),
        _ => Error::Program(format!("{name} could not be started: {error}")),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Slurm's programs put their name before each line.
    let said: Vec<&str> = said.lines().map(|line| line.trim_start_matches(&format!("{name}: error: "))).collect();
    let said = if said.is_empty() { "it says nothing".to_owned() } else { said.join("; ") };
    Err(Error::Program(format!("{name} failed: {said}")))
}

/// Does what `ask` asks of the controller; one that is away, as when it is restarted, is waited for.
pub fn patiently<T>(said: &(dyn Fn(&str) + Sync), ask: impl Fn() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Err(Error::Program(told))
                if AWAY.iter().any(|words| told.contains(words)) && start.elapsed() < PATIENCE && !stopped() =>
            {
                said(&told);
                std::thread::sleep(LOOK);
            }
            answer => return answer,
        }
    }
}

/// The tasks of the jobs called `name` that run `script` and have not ended.
pub fn queue(name: &str, script: &Path) -> Result<Vec<Queued>> {
    let format = "--format=%i|%T|%r|%o";
    let told = ask(Command::new("squeue").args(["--noheader", "--me", format]).arg(format!("--name={name}")))?;
    Ok(told.lines().filter_map(|line| queued(line, script)).collect())
}

/// A line of squeue; none where it is of another script: another root has a folder of its own for the same work.
fn queued(line: &str, script: &Path) -> Option<Queued> {
    let mut words = line.trim().splitn(4, '|');
    let (id, state, reason) = (words.next()?, words.next()?.to_owned(), words.next()?);
    if Path::new(words.next()?) != script {
        return None;
    }
    let id = id.split('_').next()?.to_owned();
    let reason = if reason == "None" { String::new() } else { reason.to_owned() };
    (!id.is_empty()).then_some(Queued { id, state, reason })
}

/// Takes jobs out of the queue.
pub fn cancel(queued: &[Queued]) -> Result<()> {
    let ids: BTreeSet<&str> = queued.iter().map(|it| it.id.as_str()).collect();
    if ids.is_empty() { Ok(()) } else { ask(Command::new("scancel").args(ids)).map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_queue_names_the_job_and_why_it_waits() {
        let line = |text| queued(text, "/one/job.sh".as_ref()).map(|it| (it.shown(), it.id));
        let first = line("12_[0-3]|PENDING|Resources|/one/job.sh");
        assert_eq!(first, Some(("PENDING (Resources)".to_owned(), "12".to_owned())));
        assert_eq!(line("13|RUNNING|None|/one/job.sh"), Some(("RUNNING".to_owned(), "13".to_owned())));
        assert_eq!(line(""), None);
    }

    #[test]
    fn the_same_work_for_another_root_is_another_job() {
        assert_eq!(queued("12|RUNNING|None|/other/job.sh", "/one/job.sh".as_ref()), None);
    }

    #[test]
    fn a_job_waits_for_ever_where_its_reason_never_goes_away() {
        let hopeless = |line| queued(line, "/job.sh".as_ref()).unwrap().is_hopeless();
        assert!(hopeless("12|PENDING|PartitionConfig|/job.sh"));
        assert!(!hopeless("12|PENDING|Resources|/job.sh"));
        assert!(!hopeless("12|PENDING|BeginTime|/job.sh"));
    }
}
