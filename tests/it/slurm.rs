//! The small workflow on a Slurm cluster that the test starts: the same bytes as on this machine, also when a node dies.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use evoq_test_support::slurm::Cluster;

use crate::programs::{ends_with, parts, run};

/// A run of the small workflow on the cluster, two tasks to a step that divides.
fn on_slurm(root: &str) -> Command {
    let mut command = run("small.yaml", root, &[]);
    command.args(["--executor", "slurm", "--shards", "2"]);
    command
}

#[test]
fn two_nodes_of_slurm_make_the_same_bytes_as_this_machine_also_when_one_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(2, &folder.path().join("cluster")) else { return };
    let uri = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    ends_with(&mut run("small.yaml", &uri("local"), &[]), 0);
    ends_with(cluster.known_to(&mut on_slurm(&uri("whole"))), 0);
    assert_eq!(parts(&folder.path().join("local")), parts(&folder.path().join("whole")));

    let mut command = on_slurm(&uri("killed"));
    let mut child = cluster.known_to(&mut command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("votes") && line.ends_with("begins")));
    // A node that runs something now; while a step ends and the next begins there is none for a moment.
    let node = loop {
        let running = cluster.ask("squeue", &["-h", "-t", "R", "-o", "%N"]);
        if let Some(node) = running.lines().next() {
            break node.to_owned();
        }
    };
    cluster.kill(&node);
    let said: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    assert_eq!(parts(&folder.path().join("local")), parts(&folder.path().join("killed")));
}
