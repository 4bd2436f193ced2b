//! Same inputs, parameters and seed: the same bytes, whatever the threads, a crash, or where the root is.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use evoq_test_support::servers::{Kind, Server};

use crate::programs::{ends_with, parts, printed, run, said};

#[test]
fn threads_and_a_kill_change_nothing_and_a_seed_changes_all() {
    let folder = tempfile::tempdir().unwrap();
    let root = |name: &str| folder.path().join(name);
    let uri = |name: &str| root(name).to_str().unwrap().to_owned();

    ends_with(run("small.yaml", &uri("one"), &[]).args(["--threads", "1"]), 0);
    ends_with(run("small.yaml", &uri("two"), &[]).args(["--threads", "2"]), 0);
    assert_eq!(parts(&root("one")), parts(&root("two")));

    for step in ["votes", "policy"] {
        // What a killed program leaves in the folder for temporary files goes with the test's own.
        killed_at(step, run("small.yaml", &uri("killed"), &[]).env("TMPDIR", folder.path()));
    }
    let whole = ends_with(&mut run("small.yaml", &uri("killed"), &[]), 0);
    assert!(!said(&whole).contains(" 0 found"), "{}", said(&whole));
    assert_eq!(parts(&root("one")), parts(&root("killed")));

    ends_with(&mut run("small.yaml", &uri("seed"), &["seed=2"]), 0);
    // What has a seed of its own in the file, the pictures, stays; the rest differs.
    let other = parts(&root("seed"));
    for table in ["/pairs/", "/votes/", "/rollouts/", "/scores/", "model.safetensors"] {
        let of_table = |(name, digest): (String, String)| name.contains(table).then_some(digest);
        let one: BTreeSet<String> = parts(&root("one")).into_iter().filter_map(of_table).collect();
        let other: BTreeSet<String> = other.clone().into_iter().filter_map(of_table).collect();
        assert!(!one.is_empty(), "{table}");
        assert_eq!(one.intersection(&other).next(), None, "{table}");
    }
}

/// Starts a run, and when it says that `step` begins, kills it with SIGKILL. What it has started ends with it, or a moment later
/// beside the next run, which is to do no harm.
fn killed_at(step: &str, command: &mut Command) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let begins = |line: &str| line.contains(step) && line.ends_with("begins");
    assert!(lines.any(|line| begins(&line.unwrap())), "the run ended before `{step}` began");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_bucket_holds_the_same_bytes_as_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(Kind::MiniStack, folder.path()) else { return };
    let local = folder.path().join("local");
    let printed_locally = printed(&ends_with(&mut run("small.yaml", local.to_str().unwrap(), &[]), 0));

    let cache = folder.path().join("cache");
    let mut remote = run("small.yaml", "s3://evoq/root", &[]);
    let remote = server.known_to(&mut remote).env("EVOQ_CACHE", &cache).env("TMPDIR", folder.path());
    assert_eq!(printed(&ends_with(remote, 0)), printed_locally);
    let again = ends_with(remote, 0);
    assert!(said(&again).contains(", 0 to make"), "{}", said(&again));

    let mut objects = server.objects("root/");
    objects.retain(|name| !name.starts_with("ledger/"));
    let files: Vec<String> = parts(&local).into_keys().collect();
    assert_eq!(objects, files);
    for name in files {
        let object = server.ask("GET", &format!("/evoq/root/{name}"));
        assert!(object == evoq_artifacts::read_file(&local.join(&name)).unwrap(), "{name} differs");
    }
}
