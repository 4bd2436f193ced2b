//! A Slurm cluster on this machine: a controller and nodes of their own, without systemd, that end with the test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evoq_artifacts::{read_file, write_file};

use crate::servers::free_port;

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
        let has = |name: &str| Command::new(name).arg("-V").output().is_ok_and(|it| it.status.success());
        let is_root = done(Command::new("id").arg("-u")).trim() == "0";
        if !is_root || !["slurmctld", "slurmd", "sbatch"].into_iter().all(has) {
            eprintln!(
                "SKIPPED: Slurm is tested as root where it is installed: apt-get install --no-install-recommends slurm-wlm"
            );
            return None;
        }
        munge();
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

    /// Kills the daemon of `node`, and tells the controller, which would find out after minutes.
    pub fn kill(&self, node: &str) {
        self.signal("KILL", &format!("slurmd.{node}.pid"));
        self.ask("scontrol", &["update", &format!("nodename={node}"), "state=down", "reason=killed"]);
    }

    fn signal(&self, signal: &str, file: &str) {
        if let Ok(process) = read_file(&self.folder.join(file)) {
            let process = String::from_utf8_lossy(&process).into_owned();
            let _ = Command::new("kill").args(["-s", signal, process.trim()]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_suffix(".pid").is_some() {
                self.signal("TERM", &name);
            }
        }
    }
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

fn configuration(nodes: usize, folder: &Path) -> String {
    let host = done(Command::new("uname").arg("-n"));
    let (host, folder) = (host.trim(), folder.display());
    let host = host.split('.').next().unwrap_or(host);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser=root\nSlurmdUser=root\n\
         AuthType=auth/munge\nMpiDefault=none\nProctrackType=proctrack/pgid\nTaskPlugin=task/none\n\
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
