//! Programs as jobs of Slurm: a batch script for each step, an array of tasks where the work divides into units.
//!
//! A job's folder is shared by all nodes and named by the step's fingerprint, as is the job. What a task ended with stands in a
//! file there that appears whole, as Slurm forgets jobs that have ended. A runner that was killed leaves its jobs in the queue;
//! the next finds them by their name and their script, which says below which root they work, and waits for them. A step is
//! submitted when all that it reads is there, so a job never depends on another one and a failed step leaves nothing in the queue
//! that cannot run.

mod queue;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use evoq_artifacts::{Artifact, make_folder, read_file, remove_folder, write_file};

use super::{Executor, Job};
use crate::child::{Ended, Words, open_log, stopped, stops};
use crate::error::{Error, Result};
use queue::{LOOK, ask, cancel, patiently, queue};

/// How often the job's folder is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// Submits to the cluster of this machine.
#[derive(Debug)]
pub struct Slurm {
    /// Where the jobs' folders are: a folder that all nodes share.
    pub folder: PathBuf,
    /// The partition; the cluster's own choice without it.
    pub partition: Option<String>,
    /// Tasks of a step whose work divides.
    pub shards: u32,
}

impl Executor for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn run(&self, job: &Job<'_>, said: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
        let folder = self.folder.join(job.fingerprint);
        let name = format!("evoq-{}", job.fingerprint);
        let script = folder.join("job.sh");
        let asked = patiently(said, || {
            let queued = queue(&name, &script)?;
            match tasks_of(&folder) {
                Some(tasks) if job.resumes && !queued.is_empty() => {
                    said("a job of an earlier run is waited for");
                    Ok(tasks)
                }
                _ => {
                    cancel(&queued)?;
                    self.submit(job, &folder, &name)
                }
            }
        });
        let tasks = match asked {
            Ok(tasks) => tasks,
            Err(Error::Program(told)) => return Ok(failed(job, told)),
            Err(error) => return Err(error),
        };
        let flags = self.flags(job);
        let ended = Waiting { job, folder: &folder, name: &name, script: &script, tasks, flags: &flags }.wait(said)?;
        // A task that was requeued when its node fell silent, and ended there all the same, would run again for nothing.
        let _ = queue(&name, &script).and_then(|left| cancel(&left));
        remove_folder(&folder)?;
        Ok(ended)
    }
}

impl Slurm {
    /// Submits `job`; gives the number of its tasks.
    fn submit(&self, job: &Job<'_>, folder: &Path, name: &str) -> Result<u32> {
        let tasks = if job.divides { self.shards } else { 1 };
        remove_folder(folder)?;
        make_folder(folder)?;
        write_file(&folder.join("tasks"), tasks.to_string().as_bytes())?;
        let script = folder.join("job.sh");
        write_file(&script, script_of(job, folder, tasks).as_bytes())?;
        let mut command = Command::new("sbatch");
        command.args(["--parsable", "--requeue", "--open-mode=append"]);
        command.arg(format!("--job-name={name}")).arg(format!("--array=0-{}", tasks - 1));
        command.arg(format!("--output={}/log-%a", folder.display()));
        let flags = self.flags(job);
        command.args(&flags);
        // The ledger was entered: the store has answered. Slurm gives a job the environment that it was submitted in.
        command.envs(job.place.answered());
        match ask(command.arg(script)) {
            Ok(_) => Ok(tasks),
            Err(Error::Program(told)) => Err(Error::Program(format!("{told}; {}", asked_for(&flags)))),
            Err(error) => Err(error),
        }
    }

    /// What is asked of a node.
    fn flags(&self, job: &Job<'_>) -> Vec<String> {
        let mut flags: Vec<String> =
            self.partition.iter().map(|partition| format!("--partition={partition}")).collect();
        flags.push(job.cpus.map_or_else(|| "--exclusive".to_owned(), |cpus| format!("--cpus-per-task={cpus}")));
        flags.extend(job.memory.map(|bytes| format!("--mem={}M", bytes.div_ceil(1 << 20))));
        flags.extend((job.gpus > 0).then(|| format!("--gres=gpu:{}", job.gpus)));
        flags
    }
}

/// What a job was asked for and where that is said, for a cluster that cannot give it.
fn asked_for(flags: &[String]) -> String {
    format!("the step asked for {}: see its `resources`, and --cpus and --partition of the run", flags.join(" "))
}

/// The end of a job that never ran, with its reason in the log too.
fn failed(job: &Job<'_>, line: String) -> Ended {
    // The line is told in any case.
    let _ = open_log(&job.log).and_then(|mut log| writeln!(log, "error: {line}"));
    Ended { code: Some(1), line }
}

/// The script of a task. A signal is passed on; a task that was stopped by one has no status, and runs again where Slurm requeues it.
fn script_of(job: &Job<'_>, folder: &Path, tasks: u32) -> String {
    let mut words: Vec<String> = job.words.iter().map(|word| quoted(word)).collect();
    if tasks > 1 {
        words.push(format!("\"--shard=$task/{tasks}\""));
    }
    let go = job
        .folder
        .as_ref()
        .map_or_else(String::new, |it| format!("cd {} || exit 1\n", quoted(&it.display().to_string())));
    // Only a job that was requeued finds something there.
    let empty: Vec<String> = job.fills.iter().map(|it| quoted(&it.display().to_string())).collect();
    let empty =
        if empty.is_empty() { String::new() } else { format!("rm -rf {0} && mkdir {0} || exit 1\n", empty.join(" ")) };
    format!(
        "#!/bin/sh\n\
         task=$SLURM_ARRAY_TASK_ID\n\
         folder={}\n\
         {go}{empty}\
         trap 'stopped=1; kill -TERM \"$program\" 2>/dev/null' TERM INT\n\
         {} &\n\
         program=$!\n\
         wait \"$program\"; code=$?\n\
         while [ -n \"$stopped\" ] && kill -0 \"$program\" 2>/dev/null; do wait \"$program\"; code=$?; done\n\
         if [ -n \"$stopped\" ]; then exit \"$code\"; fi\n\
         echo \"$code\" > \"$folder/.status-$task\" && mv \"$folder/.status-$task\" \"$folder/status-$task\"\n",
        quoted(&folder.display().to_string()),
        words.join(" ")
    )
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// How many tasks the job has whose folder this is; none where there is none.
fn tasks_of(folder: &Path) -> Option<u32> {
    String::from_utf8(read_file(&folder.join("tasks")).ok()?).ok()?.trim().parse().ok()
}

/// A job that is waited for.
struct Waiting<'a> {
    job: &'a Job<'a>,
    folder: &'a Path,
    name: &'a str,
    script: &'a Path,
    tasks: u32,
    /// What was asked of a node.
    flags: &'a [String],
}

impl Waiting<'_> {
    fn wait(&self, said: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
        let writing = |error: std::io::Error| {
            Error::Program(format!("{}: writing the log failed: {error}", self.job.log.display()))
        };
        let mut log = open_log(&self.job.log).map_err(writing)?;
        let mut read = vec![0; self.tasks as usize];
        let mut words = Words::default();
        // When the queue was asked last, how often in a row the job was not there, and whether it was told to stop.
        let (mut looked, mut missed, mut is_cancelled) = (Instant::now(), 0, false);
        loop {
            let codes: Option<Vec<i32>> = (0..self.tasks).map(|task| self.status(task)).collect();
            self.follow(&mut read, &mut log, &mut words, said);
            if let Some(codes) = codes {
                return Ok(ended(&codes, words));
            }
            if stopped() && !is_cancelled {
                match queue(self.name, self.script).and_then(|queued| cancel(&queued)) {
                    Ok(()) => is_cancelled = true,
                    Err(error) => said(&error.to_string()),
                }
            }
            if stops() > 1 {
                return Err(Error::Interrupted);
            }
            let pace = if is_cancelled || missed > 0 { LOOK / 5 } else { LOOK };
            if looked.elapsed() >= pace {
                looked = Instant::now();
                match queue(self.name, self.script) {
                    Ok(queued) if queued.is_empty() => missed += 1,
                    Ok(queued) => {
                        missed = 0;
                        if let Some(waits) = queued.iter().find(|it| it.is_hopeless()) {
                            cancel(&queued)?;
                            let what = format!("job {} was {} and would have waited for ever", waits.id, waits.shown());
                            let line = format!("{what}; {}", asked_for(self.flags));
                            return Ok(failed(self.job, line));
                        }
                        if let Some(waits) = queued.iter().find(|it| !it.runs()) {
                            said(&format!("job {} is {}", waits.id, waits.shown()));
                        }
                    }
                    // A controller that is away for a moment has not lost the job.
                    Err(error) => said(&error.to_string()),
                }
            }
            if is_cancelled && missed > 0 {
                return Err(Error::Interrupted);
            }
            // Files of another machine may come into sight later than the queue tells.
            if missed > 2 {
                return self.lost(words);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The exit code of a task that has ended.
    fn status(&self, task: u32) -> Option<i32> {
        let bytes = read_file(&self.folder.join(format!("status-{task}"))).ok()?;
        String::from_utf8(bytes).ok()?.trim().parse().ok()
    }

    /// The job is not in the queue and has left no status: another run may have taken it in; else it was ended from outside.
    fn lost(&self, words: Words) -> Result<Ended> {
        match Artifact::at(self.job.place) {
            Ok(_) => Ok(Ended { code: Some(0), line: String::new() }),
            Err(evoq_artifacts::Error::NoArtifact { .. }) => {
                let said = words.telling();
                let said = if said.is_empty() { said } else { format!("; it said last: {said}") };
                let line = format!(
                    "its job is gone from Slurm's queue and left no status: cancelled, out of time or lost{said}"
                );
                Ok(Ended { code: Some(1), line })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what the tasks have said since, whole lines, into the log and to `said`.
    fn follow(&self, read: &mut [usize], log: &mut File, words: &mut Words, said: &(dyn Fn(&str) + Sync)) {
        for (task, read) in read.iter_mut().enumerate() {
            let bytes = read_file(&self.folder.join(format!("log-{task}"))).unwrap_or_default();
            let new = bytes.get(*read..).unwrap_or_default();
            let whole = new.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let new = &new[..whole];
            *read += whole;
            // A full disk must not stop the step.
            let _ = log.write_all(new);
            for line in String::from_utf8_lossy(new).lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                said(line);
                words.hear(line);
            }
        }
    }
}

/// What the tasks' codes mean for the job: 2 where one was given what it cannot use, else the first failure.
fn ended(codes: &[i32], words: Words) -> Ended {
    let worst = codes.iter().find(|&&code| code == 2).or_else(|| codes.iter().find(|&&code| code != 0));
    // A shell says 128 and the signal's number.
    let code = worst.map_or(Some(0), |&code| (code <= 128).then_some(code));
    let line = words.telling();
    let line = if line.is_empty() { "it said nothing".to_owned() } else { line };
    Ended { code, line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_fails_as_the_worst_of_its_tasks() {
        let code = |codes: &[i32]| ended(codes, Words::default()).code;
        assert_eq!([code(&[0, 0]), code(&[1, 0, 2]), code(&[0, 1]), code(&[137])], [Some(0), Some(2), Some(1), None]);
    }

    #[test]
    fn a_word_of_a_script_is_what_it_was() {
        let words = ["it's", "a b", "$x `y` \"z\"", ""];
        let script = format!("printf '%s|' {}", words.map(quoted).join(" "));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's|a b|$x `y` \"z\"||");
    }
}
