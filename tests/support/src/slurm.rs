//! A Slurm cluster on this machine: a controller and nodes of their own, without systemd, that end with the test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use evoq_artifacts::{read_file, write_file};

use crate::servers::free_port;

/// Of tests that start clusters at once, one starts the daemon that all share.
static MUNGE: Once = Once::new();

/// A cluster, ended when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
}

/// Runs a command of the system, which must end well; gives what it prints.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Cluster {
    /// Starts one with `nodes` nodes `n1`, `n2`, … whose files are in `folder`; `None`, said loudly, where Slurm is not installed or
    /// this is not root, as whom its daemons run.
    pub fn start(nodes: usize, folder: &Path) -> Option<Self> {
        // `sbatch -V` fails where there is no cluster.
        let has = |name: &str| {
            let found = Command::new("sh").args(["-c", "command -v \"$0\"", name]).output();
            found.is_ok_and(|it| it.status.success())
        };
        let is_root = done(Command::new("id").arg("-u")).trim() == "0";
        if !is_root || !["slurmctld", "slurmd", "sbatch"].into_iter().all(has) {
            eprintln!(
                "SKIPPED: Slurm is tested as root where it is installed: apt-get install --no-install-recommends slurm-wlm"
            );
            return None;
        }
        MUNGE.call_once(munge);
        let cluster = Self { folder: folder.to_path_buf() };
        fs::create_dir_all(folder.join("state")).unwrap();
        write_file(&folder.join("cgroup.conf"), b"CgroupAutomount=no\n").unwrap();
        write_file(&cluster.configuration(), configuration(nodes, folder).as_bytes()).unwrap();
        done(cluster.known_to(&mut Command::new("slurmctld")));
        for node in 1..=nodes {
            fs::create_dir_all(folder.join(format!("spool.n{node}"))).unwrap();
            done(cluster.known_to(Command::new("slurmd").args(["-N", &format!("n{node}")])));
        }
        // Each question is a round trip to the controller, which answers once the nodes have told it of themselves.
        while cluster.ask("sinfo", &["-h", "-N", "-t", "idle", "-o", "%N"]).lines().count() < nodes {
            std::thread::yield_now();
        }
        Some(cluster)
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("slurm.conf")
    }

    /// Tells `command` which cluster is meant.
    pub fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("SLURM_CONF", self.configuration())
    }

    /// What one of Slurm's programs prints.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        done(self.known_to(Command::new(program).args(arguments)))
    }

    /// Kills the daemon of `node` and all that runs there, and tells the controller, which would find out after minutes.
    pub fn kill(&self, node: &str) {
        let daemon = format!("slurmd.{node}.pid");
        self.signal("KILL", &daemon);
        // Its number may be another process's by the time the cluster ends.
        let _ = fs::remove_file(self.folder.join(daemon));
        let is_there = [format!("SLURMD_NODENAME={node}"), format!("SLURM_CONF={}", self.configuration().display())];
        for process in processes_with(&is_there) {
            let _ = Command::new("kill").args(["-s", "KILL", &process]).stderr(Stdio::null()).status();
        }
        self.ask("scontrol", &["update", &format!("nodename={node}"), "state=down", "reason=killed"]);
    }

    /// Sends `signal` to the daemon whose process is named in `file`; gives the process.
    fn signal(&self, signal: &str, file: &str) -> Option<String> {
        let process = String::from_utf8_lossy(&read_file(&self.folder.join(file)).ok()?).trim().to_owned();
        let _ = Command::new("kill").args(["-s", signal, &process]).stderr(Stdio::null()).status();
        Some(process)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let files: Vec<String> = names.filter(|name| name.strip_suffix(".pid").is_some()).collect();
        let told: Vec<String> = files.iter().filter_map(|file| self.signal("TERM", file)).collect();
        for process in told {
            // While they end they still write into the folder, which the test removes.
            let _ = Command::new("timeout").args(["20", "tail", "-f", "/dev/null", "--pid", &process]).status();
        }
    }
}

/// The processes that have all these `variables` in their environments, as those of a job have their node's, and the processes that
/// started them, which keep a job's first.
fn processes_with(variables: &[String]) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let mut found = Vec::new();
    for entry in entries {
        let environment = read_file(&entry.path().join("environ")).unwrap_or_default();
        let has = |wanted: &String| environment.split(|&byte| byte == 0).any(|it| it == wanted.as_bytes());
        if variables.iter().all(has) {
            let status =
                String::from_utf8_lossy(&read_file(&entry.path().join("status")).unwrap_or_default()).into_owned();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            // The keeper goes first: it would tell the controller of the end.
            found.extend(parent.map(|it| it.trim().to_owned()).filter(|it| it != "1"));
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Starts the daemon by which Slurm's programs know each other, with a key of its own where the machine has none.
fn munge() {
    let runs = || Command::new("munge").arg("-n").stdin(Stdio::null()).output().is_ok_and(|it| it.status.success());
    if runs() {
        return;
    }
    let script = "umask 077; [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom > /etc/munge/munge.key; \
                  chown munge: /etc/munge/munge.key; \
                  install -d -o munge -g munge -m 755 /run/munge /var/log/munge /var/lib/munge; \
                  exec runuser -u munge -- /usr/sbin/munged";
    done(Command::new("sh").args(["-c", script]));
}

/// What is requeued begins again when its first credential has expired, which would be after two minutes.
fn configuration(nodes: usize, folder: &Path) -> String {
    let host = done(Command::new("uname").arg("-n"));
    let (host, folder) = (host.trim(), folder.display());
    let host = host.split('.').next().unwrap_or(host);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser=root\nSlurmdUser=root\n\
         AuthType=auth/munge\nAuthInfo=cred_expire=5\nMpiDefault=none\nProctrackType=proctrack/pgid\nTaskPlugin=task/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSlurmdParameters=config_overrides\n\
         SchedulerParameters=sched_interval=1,bf_interval=5\nReturnToService=2\nAccountingStorageType=accounting_storage/none\n\
         StateSaveLocation={folder}/state\nSlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd.%n.pid\n\
         SlurmdSpoolDir={folder}/spool.%n\nSlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd.%n.log\n",
        free_port()
    );
    for node in 1..=nodes {
        let port = free_port();
        let _ = writeln!(
            text,
            "NodeName=n{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} State=UNKNOWN"
        );
    }
    text + &format!("PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP\n")
}
