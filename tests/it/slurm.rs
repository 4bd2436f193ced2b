//! Runs on a Slurm cluster that the test starts: the same bytes as on this machine, also when a node dies, jobs that end with
//! their run or are requeued, and what the cluster cannot give.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use evoq_artifacts::{list_files, write_file};
use evoq_test_support::servers::{Kind, Server};
use evoq_test_support::slurm::Cluster;

use crate::held::{Held, interrupt};
use crate::programs::{ends_with, parts, program, query, run, said};

/// A run on the cluster, two tasks to a step that divides.
fn on_slurm(workflow: &str, root: &str) -> Command {
    let mut command = run(workflow, root, &[]);
    command.args(["--executor", "slurm", "--shards", "2"]);
    command
}

/// Runs `workflow` here, on two nodes, and on two nodes of which one is killed while it votes: all make the same files.
fn makes_the_same_bytes(workflow: &str) {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(2, &folder.path().join("cluster")) else { return };
    let uri = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    ends_with(&mut run(workflow, &uri("local"), &[]), 0);
    let local = parts(&folder.path().join("local"));
    ends_with(cluster.known_to(&mut on_slurm(workflow, &uri("whole"))), 0);
    assert_eq!(local, parts(&folder.path().join("whole")));

    let mut command = on_slurm(workflow, &uri("killed"));
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
    assert_eq!(local, parts(&folder.path().join("killed")));
    println!("{workflow}: {} files are the same in all three", local.len());
}

#[test]
fn two_nodes_of_slurm_make_the_same_bytes_as_this_machine_also_when_one_is_killed() {
    makes_the_same_bytes("small.yaml");
}

#[test]
#[ignore = "the quickstart three times: ten minutes on two cores"]
fn two_nodes_of_slurm_make_the_quickstart_as_this_machine_does_also_when_one_is_killed() {
    makes_the_same_bytes("../../workflows/quickstart.yaml");
}

/// Starts the held workflow on the cluster, and comes back when its command has begun there.
fn held_on(cluster: &Cluster, held: &Held) -> Child {
    let mut command = held.run(held.path("root").to_str().unwrap());
    let child = cluster.known_to(command.args(["--executor", "slurm"])).spawn().unwrap();
    held.begins();
    child
}

fn steps(held: &Held, columns: &str) -> String {
    query(held.path("root").to_str().unwrap(), &format!("SELECT {columns} FROM run_steps ORDER BY run, started_ms"))
}

#[test]
fn ctrl_c_takes_a_commands_job_from_the_queue_and_the_next_run_goes_on() {
    let held = Held::new();
    let Some(cluster) = Cluster::start(1, &held.path("cluster")) else { return };
    let stopped = held_on(&cluster, &held);
    interrupt(&stopped);
    let stopped = stopped.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{}", said(&stopped));
    assert_eq!(cluster.ask("squeue", &["-h"]), "");

    let again = held_on(&cluster, &held);
    held.goes_on();
    let again = again.wait_with_output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    let rows = "workflow_step,outcome,cached,executor,attempts\n\
                photos,done,false,slurm,1\nheld,stopped,false,slurm,1\nphotos,done,true,,0\nheld,done,false,slurm,1\n";
    assert_eq!(steps(&held, "workflow_step, outcome, cached, executor, attempts"), rows);
}

#[test]
fn a_job_that_is_requeued_begins_again_and_the_run_waits_for_it() {
    let held = Held::new();
    let Some(cluster) = Cluster::start(1, &held.path("cluster")) else { return };
    let run = held_on(&cluster, &held);
    let job = cluster.ask("squeue", &["-h", "-t", "R", "-o", "%i"]);
    cluster.ask("scontrol", &["requeue", job.trim()]);
    held.begins();
    held.goes_on();
    let run = run.wait_with_output().unwrap();
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(steps(&held, "workflow_step, outcome"), "workflow_step,outcome\nphotos,done\nheld,done\n");
    // What the command wrote the first time is not there twice.
    let root = held.path("root");
    let pictures = query(root.to_str().unwrap(), "SELECT count(*) AS n FROM images WHERE workflow_step = 'held'");
    assert_eq!(pictures, "n\n4\n");
}

#[test]
fn runs_of_the_same_work_below_two_roots_leave_each_other_their_jobs() {
    let both = [Held::new(), Held::new()];
    let Some(cluster) = Cluster::start(2, &both[0].path("cluster")) else { return };
    let runs = [held_on(&cluster, &both[0]), held_on(&cluster, &both[1])];
    for (held, run) in both.iter().zip(runs) {
        held.goes_on();
        let run = run.wait_with_output().unwrap();
        assert!(run.status.success(), "{}", said(&run));
    }
    let artifacts = both.each_ref().map(|held| parts(&held.path("root")));
    assert_eq!(artifacts[0].keys().collect::<Vec<_>>(), artifacts[1].keys().collect::<Vec<_>>());
}

/// Two steps that no node of the cluster has room for.
const GREEDY: &str = "\
evoq: 1
name: greedy
steps:
  wide: { uses: ingest, with: { source: 'procedural:4', size: 32 }, resources: { cpus: 4096 } }
  deep: { uses: ingest, with: { source: 'procedural:5', size: 32 }, resources: { cpus: 1, memory: 900TB } }
";

#[test]
fn what_no_node_can_give_is_told_with_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(1, &folder.path().join("cluster")) else { return };
    write_file(&folder.path().join("flow.yaml"), GREEDY.as_bytes()).unwrap();
    let mut command = program("evoq");
    command.arg("run").arg(folder.path().join("flow.yaml")).arg("--root").arg(folder.path().join("root"));
    command.args(["--executor", "slurm", "--keep-going"]);
    let told = said(&ends_with(cluster.known_to(&mut command), 1));
    for words in [
        "step deep failed: sbatch failed: Memory specification can not be satisfied",
        "the step asked for --cpus-per-task=1 --mem=858306885M: see its `resources`",
        "was PENDING (PartitionConfig) and would have waited for ever; the step asked for --cpus-per-task=4096",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(cluster.ask("squeue", &["-h"]), "");
}

#[test]
fn with_a_bucket_the_jobs_have_a_folder_that_the_user_names_and_nothing_is_left_in_it() {
    let held = Held::new();
    let store = held.path("store");
    std::fs::create_dir(&store).unwrap();
    let Some(server) = Server::start(Kind::MiniStack, &store) else { return };
    let Some(cluster) = Cluster::start(1, &held.path("cluster")) else { return };
    let run = |more: &[&Path]| {
        let mut command = held.run("s3://evoq/root");
        command.args(["--executor", "slurm"]).args(more);
        cluster.known_to(server.known_to(&mut command)).spawn().unwrap()
    };
    let refused = run(&[]).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("name a folder that all nodes share by --jobs FOLDER"), "{}", said(&refused));

    let jobs = held.path("jobs");
    let whole = run(&["--jobs".as_ref(), &jobs]);
    held.begins();
    held.goes_on();
    let whole = whole.wait_with_output().unwrap();
    assert!(whole.status.success(), "{}", said(&whole));
    let made = server.objects("root/");
    for step in ["ingest/", "held/"] {
        assert!(made.iter().any(|name| name.starts_with(step) && name.ends_with("manifest.json")), "{made:?}");
    }
    assert_eq!(list_files(&jobs).unwrap(), Vec::<String>::new());
}
