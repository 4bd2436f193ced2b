//! Plans with the real stages: every workflow of the repository, and what does and does not make a step anew.
#![expect(clippy::disallowed_methods, reason = "tests make files as a user would")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::programs::{ends_with, program, repository, said};

/// The plan of the workflow at `path` with `sets`, for a root in which nothing is made.
fn plan(path: &Path, sets: &[String]) -> Vec<Value> {
    let root = tempfile::tempdir().unwrap();
    let mut command = program("evoq");
    command.arg("plan").arg(path).args(["--format", "json", "--root"]).arg(root.path());
    for set in sets {
        command.args(["--set", set]);
    }
    serde_json::from_slice(&ends_with(&mut command, 0).stdout).unwrap()
}

fn text<'a>(step: &'a Value, key: &str) -> &'a str {
    step[key].as_str().unwrap_or_default()
}

#[test]
fn every_workflow_of_the_repository_plans() {
    let photos = tempfile::tempdir().unwrap();
    std::fs::write(photos.path().join("a.png"), b"a plan does not look into pictures").unwrap();
    let policy = repository().join("tests/fixtures/policy/checkpoint");
    // What the files expect beside them is the user's to bring.
    let brought = [("photos", photos.path()), ("test", photos.path()), ("policy", policy.as_path())];
    let mut planned = 0;
    for entry in std::fs::read_dir(repository().join("workflows")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let file = std::fs::read_to_string(&path).unwrap();
        let expected = brought.iter().filter(|(name, _)| file.contains(&format!("\n  {name}: ./")));
        let sets: Vec<String> = expected.map(|(name, place)| format!("{name}={}", place.display())).collect();
        let steps = plan(&path, &sets);
        assert!(steps.len() > 5, "{}", path.display());
        assert!(steps.iter().all(|step| text(step, "state") == "run"), "{}", path.display());
        planned += 1;
    }
    assert!(planned > 7, "only {planned} workflows were found");
}

#[test]
fn the_steps_of_learns_in_its_first_arm_are_the_quickstarts() {
    let flows = repository().join("workflows");
    let prints = |steps: &[Value]| -> BTreeMap<(String, u64), BTreeSet<String>> {
        let mut prints: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for step in steps {
            let key = (text(step, "step").to_owned(), step["round"].as_u64().unwrap_or(99));
            prints.entry(key).or_default().insert(text(step, "fingerprint").to_owned());
        }
        prints
    };
    let learns = prints(&plan(&flows.join("learns.yaml"), &["seed=1".to_owned(), "arm=evoquality".to_owned()]));
    for (key, print) in prints(&plan(&flows.join("quickstart.yaml"), &[])) {
        assert_eq!(learns.get(&key), Some(&print), "{key:?}");
    }
}

#[test]
fn a_matrix_makes_once_what_does_not_depend_on_it() {
    let steps = plan(&repository().join("workflows/learns.yaml"), &["seed=[1, 2]".to_owned()]);
    let of = |name: &str, round: u64| -> Vec<&str> {
        let is = |step: &&Value| text(step, "step") == name && step["round"].as_u64() == Some(round);
        steps.iter().filter(is).map(|step| text(step, "variant")).collect()
    };
    assert_eq!(steps.iter().filter(|step| text(step, "step") == "photos").count(), 1);
    assert_eq!(of("pairs", 1), ["seed=1", "seed=2"]);
    // Shuffling is told to the labels: until then the arm has the votes of the paper's.
    assert_eq!(of("votes", 1), ["seed=1", "seed=2", "arm=one-vote seed=1", "arm=one-vote seed=2"]);
    assert_eq!(of("labels", 1).len(), 6);
    assert_eq!(of("estimate", 2), ["seed=1", "seed=2"]);
}

const SMALL: &str = "\
evoq: 1
name: small
steps:
  photos: { uses: ingest, with: { source: \"procedural:4\", size: 32 } }
  variants: { uses: distort, in: { images: photos }, with: { variants: 2 } }
";

/// Runs `flow` below `root` and gives what was counted: `2 steps, 2 found, 0 to make`.
fn counted(root: &Path, flow: &str, flags: &[&str], log: &str) -> String {
    let file = root.join("flow.yaml");
    std::fs::write(&file, flow).unwrap();
    let mut command = program("evoq");
    command.arg("run").arg(&file).arg("--root").arg(root.join("root")).args(flags).env("EVOQ_LOG", log);
    let said = said(&ends_with(&mut command, 0));
    let line = said.lines().find(|line| line.starts_with("run ") && line.contains(" steps, ")).unwrap_or_default();
    line.split_once(": ").map_or("", |(_, counted)| counted).to_owned()
}

#[test]
fn threads_log_levels_resources_comments_and_shards_make_nothing_anew() {
    let folder = tempfile::tempdir().unwrap();
    let made = counted(folder.path(), SMALL, &["--threads", "1"], "info");
    assert_eq!(made, "2 steps, 0 found, 2 to make");
    let found = "2 steps, 2 found, 0 to make";
    assert_eq!(counted(folder.path(), SMALL, &["--threads", "2"], "debug"), found);
    let other = SMALL
        .replace("variants: 2 }", "variants: 2 }, resources: { cpus: 1, memory: 1GB }")
        .replace("name:", "# a word\nname:");
    assert_eq!(counted(folder.path(), &other, &[], "info"), found);

    // The same artifact, made by hand in two shards.
    let twin = tempfile::tempdir().unwrap();
    counted(twin.path(), SMALL, &["--only", "photos"], "info");
    let steps = plan_below(twin.path());
    for shard in ["0/2", "1/2"] {
        let mut command = program("evoq-distort");
        command.args([
            "--images",
            text(&steps[0], "artifact"),
            "--out",
            text(&steps[1], "artifact"),
            "--variants",
            "2",
        ]);
        let seed = steps[1]["parameters"]["seed"].to_string();
        ends_with(command.args(["--seed", &seed, "--shard", shard]), 0);
    }
    assert_eq!(counted(twin.path(), SMALL, &[], "info"), found);
}

fn plan_below(folder: &Path) -> Vec<Value> {
    let mut command = program("evoq");
    command.arg("plan").arg(folder.join("flow.yaml")).args(["--format", "json", "--root"]).arg(folder.join("root"));
    serde_json::from_slice(&ends_with(&mut command, 0).stdout).unwrap()
}

#[test]
fn a_forced_step_and_what_read_it_are_made_again_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    counted(folder.path(), SMALL, &[], "info");
    let parts = |steps: &[Value]| -> Vec<Vec<u8>> {
        let manifest = |step: &Value| std::fs::read(Path::new(text(step, "artifact")).join("manifest.json")).unwrap();
        steps.iter().map(manifest).collect()
    };
    let before = parts(&plan_below(folder.path()));
    let forced = counted(folder.path(), SMALL, &["--force", "photos"], "info");
    assert_eq!(forced, "2 steps, 0 found, 2 to make");
    assert_eq!(parts(&plan_below(folder.path())), before);
}
