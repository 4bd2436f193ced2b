//! Plans of small workflows with a stage that is a script.

use serde_json::Map;

use super::*;
use crate::matrix::Variant;

/// A planned step of this name, made by a command from nothing.
pub(crate) fn step(name: &str, round: Option<u32>) -> PlannedStep {
    let record = StepRecord {
        step: name.to_owned(),
        round,
        variant: Variant::default(),
        stage: name.to_owned(),
        version: 1,
        fingerprint: format!("{name}{round:?}"),
        parameters: Map::new(),
        inputs: BTreeMap::new(),
    };
    PlannedStep {
        record,
        inputs: Vec::new(),
        needs: Vec::new(),
        resources: Resources::default(),
        location: Location::open("/nowhere").unwrap(),
        found: false,
        state: State::Run,
        work: Work::Stage { program: PathBuf::new(), flags: Vec::new(), divides: false },
    }
}

/// A stage that reads `images` and a policy and writes `votes`, as far as a plan asks it.
const FAKE: &str = r#"#!/bin/sh
samples=32 seed=1 source=null order=per-vote
for flag in "$@"; do case "$flag" in
  --samples=*) samples=${flag#*=};; --order=*) order=${flag#*=};; --seed=*) seed=${flag#*=};; --source=*) source="\"${flag#*=}\"";;
esac; done
if [ "$samples" -gt 99 ]; then echo "error: invalid value '$samples' for '--samples <N>'" >&2; exit 2; fi
cat <<END
{ "evoq": 1, "stage": "fake", "version": 3, "about": "", "divides": false,
  "inputs": [ { "name": "images", "table": "images", "required": false, "help": "what it looks at" },
              { "name": "policy", "required": false, "help": "" } ],
  "outputs": [ { "name": "images", "table": "images" }, { "name": "votes", "table": "votes" } ],
  "parameters": [ { "name": "samples", "type": "integer", "help": "", "value": $samples },
                  { "name": "order", "type": "text", "choices": ["per-vote", "balanced"], "help": "", "value": "$order" },
                  { "name": "exact", "type": "flag", "help": "", "value": false },
                  { "name": "list", "type": "text", "list": true, "help": "" },
                  { "name": "source", "type": "path", "help": "", "value": $source },
                  { "name": "seed", "type": "integer", "help": "", "value": $seed } ] }
END
"#;

/// A folder with the stages `fake` and `strict`.
pub(crate) fn fake() -> (tempfile::TempDir, Stages) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    // `strict` is like `fake` and must be given `images` and its `kind`.
    let strict = FAKE
        .replace("fake", "strict")
        .replace("false, \"help\": \"what", "true, \"help\": \"what")
        .replace("\"name\": \"list\"", "\"name\": \"kind\", \"required\": true");
    for (name, text) in [("evoq-fake", FAKE), ("evoq-strict", &strict)] {
        let program = folder.path().join(name);
        evoq_artifacts::write_file(&program, text.as_bytes()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let stages = Stages::within(vec![folder.path().to_path_buf()]);
    (folder, stages)
}

/// The plan of a workflow's text with the stage `fake`.
pub(crate) fn planned(text: &str, sets: &[&str]) -> Result<Plan> {
    let (folder, stages) = fake();
    let workflow = crate::workflow::tests::read(text, sets)?;
    Plan::new(&workflow, &Location::open(folder.path().join("root").to_str().unwrap())?, &stages)
}

const FLOW: &str = "\
evoq: 1
name: flow
params: { samples: 8 }
steps:
  photos: { run: [make, '{out.images}'], out: [images] }
rounds:
  count: 2
  steps:
    votes: { uses: fake, in: { images: photos }, with: { samples: \"${samples}\" } }
";

#[test]
fn every_fault_against_a_stages_description_is_told_before_anything_runs() {
    let text = "\
evoq: 1
name: flow
steps:
  photos: { run: [make, '{out.pairs}', '{in.x}'], out: [pairs, vots] }
  a: { uses: fake, in: { images: photos, policies: photos }, with: { samples: many, order: balance, exact: 1 } }
  b: { uses: strict, with: { sampels: 3 } }
  c: { uses: fakes }
";
    insta::assert_snapshot!(planned(text, &[]).unwrap_err().to_string());
}

#[test]
fn what_a_stage_refuses_itself_is_told_at_its_step() {
    insta::assert_snapshot!(planned(FLOW, &["samples=100"]).unwrap_err().to_string());
}

#[test]
fn each_step_of_each_round_has_a_seed_of_its_own_that_comes_from_the_workflows() {
    let seeds = |sets: &[&str]| -> Vec<String> {
        let plan = planned(FLOW, sets).unwrap();
        plan.steps[1..].iter().map(|step| step.record.parameters["seed"].to_string()).collect()
    };
    let (one, two) = (seeds(&[]), seeds(&["seed=2"]));
    assert_ne!(one[0], one[1]);
    assert!(one.iter().all(|seed| !two.contains(seed)));
}

#[test]
fn a_parameter_changes_the_steps_that_have_it_and_no_other() {
    let prints = |sets: &[&str]| -> Vec<String> {
        planned(FLOW, sets).unwrap().steps.iter().map(|step| step.record.fingerprint.clone()).collect()
    };
    let (old, new) = (prints(&[]), prints(&["samples=9"]));
    assert_eq!(old[0], new[0]);
    assert!(old[1] != new[1] && old[2] != new[2] && new[1] != new[2]);
    assert_eq!(old, prints(&["samples=8"]));
}

/// A command's file, a stage that reads it, and a stage with every kind of parameter.
const FULL: &str = "\
evoq: 1
name: full
seed: 1
params: { k: 8 }
steps:
  a: { run: [sh, FILE, '{out.images}', '{with.n}'], with: { n: 3 }, out: [images] }
  b: { uses: fake, in: { images: a }, with: { samples: \"${k}\", order: balanced, source: FILE } }
";

/// The fingerprints of `a` and `b` of a text in which FILE stands for a file with `content`.
fn full(text: &str, content: &str, sets: &[&str]) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    evoq_artifacts::write_file(&file, content.as_bytes()).unwrap();
    let plan = planned(&text.replace("FILE", file.to_str().unwrap()), sets).unwrap();
    let print = |name: &str| plan.steps.iter().find(|it| it.record.step == name).unwrap().record.fingerprint.clone();
    ["a", "b"].map(print)
}

#[test]
fn what_decides_what_a_step_makes_changes_its_fingerprint_and_that_of_what_reads_it() {
    let base = full(FULL, "x", &[]);
    for (from, to) in [
        ("samples: \"${k}\"", "samples: 9"),
        ("order: balanced", "order: per-vote"),
        (", source: FILE }", " }"),
        ("seed: 1", "seed: 2"),
        ("in: { images: a }", "in: { images: [a, a] }"),
        ("uses: fake", "uses: strict"),
    ] {
        let text = FULL
            .replace(from, to)
            .replace("strict, in: { images: a }, with: {", "strict, in: { images: a }, with: { kind: x,");
        let changed = full(&text, "x", &[]);
        assert_eq!(changed[0], base[0], "{to}");
        assert_ne!(changed[1], base[1], "{to}");
    }
    for (from, to) in [
        ("[sh, FILE,", "[bash, FILE,"),
        ("n: 3", "n: 4"),
        ("out: [images] }", "out: [images], version: 2 }"),
        ("'{with.n}']", "'{with.n}', '{seed}']"),
        (
            "'{with.n}'], with: { n: 3 }, out: [images]",
            "'{with.n}', '{out.votes}'], with: { n: 3 }, out: [images, votes]",
        ),
    ] {
        let changed = full(&FULL.replace(from, to), "x", &[]);
        assert!(changed[0] != base[0] && changed[1] != base[1], "{to}");
    }
    let other_content = full(FULL, "y", &[]);
    assert!(other_content[0] != base[0] && other_content[1] != base[1]);
    assert_ne!(full(FULL, "x", &["k=9"])[1], base[1]);
}

#[test]
fn what_does_not_decide_what_a_step_makes_changes_no_fingerprint() {
    let base = full(FULL, "x", &[]);
    for (from, to) in [
        ("name: full", "name: other"),
        ("steps:", "# a comment\nsteps:  # and another"),
        ("k: 8", "\"k\": 8, unused: 3"),
        ("samples: \"${k}\", order: balanced", "order: balanced, samples: 8"),
        ("out: [images] }", "out: images, resources: { cpus: 3, gpus: 1, memory: 2GB } }"),
        ("with: { samples", "resources: { cpus: 2 }, with: { exact: ~, samples"),
        ("steps:", "show: [{ title: t, sql: SELECT 1 }]\nmatrix: { k: [8] }\nsteps:"),
        ("  b:", "  z: { uses: fake }\n  b:"),
    ] {
        assert_eq!(full(&FULL.replace(from, to), "x", &[]), base, "{to}");
    }
    assert_eq!(full(FULL, "x", &["k=8", "seed=1"]), base);
}

const MATRIX: &str = "\
evoq: 1
name: flow
params: { samples: 8, order: balanced }
matrix: { samples: [8, 9], order: [balanced, per-vote] }
steps:
  photos: { run: [make, '{out.images}'], out: [images] }
  few: { uses: fake, in: { images: photos }, with: { samples: \"${samples}\" } }
  all: { uses: fake, in: { images: few }, with: { order: \"${order}\" } }
";

#[test]
fn a_step_is_planned_once_for_all_combinations_that_make_it_alike_and_says_on_what_it_depends() {
    let plan = planned(MATRIX, &[]).unwrap();
    let line = |step: &PlannedStep| {
        let needs: Vec<String> = step.needs.iter().map(|&need| plan.steps[need].title()).collect();
        format!("{}: {}", step.title(), needs.join(", "))
    };
    let lines: Vec<String> = plan.steps.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "photos: ",
            "few (samples=8): photos",
            "all (samples=8 order=balanced): few (samples=8)",
            "all (samples=8 order=per-vote): few (samples=8)",
            "few (samples=9): photos",
            "all (samples=9 order=balanced): few (samples=9)",
            "all (samples=9 order=per-vote): few (samples=9)",
        ]
    );
    // Narrowed, it is the same artifacts under the same names.
    let one = planned(MATRIX, &["samples=9", "order=per-vote"]).unwrap();
    let prints =
        |plan: &Plan| -> BTreeSet<String> { plan.steps.iter().map(|it| it.record.fingerprint.clone()).collect() };
    assert!(prints(&one).is_subset(&prints(&plan)));
    let titles: Vec<String> = one.steps.iter().map(PlannedStep::title).collect();
    assert_eq!(titles, ["photos", "few (samples=9)", "all (samples=9 order=per-vote)"]);
}

#[test]
fn a_fault_of_every_combination_is_told_once() {
    let told = planned(&MATRIX.replace("order: \"${order}\"", "ordre: 1"), &[]).unwrap_err().to_string();
    assert_eq!(told.matches("no parameter `ordre`").count(), 1, "{told}");
}

#[test]
fn an_axis_with_one_value_left_is_named_by_the_steps_that_depend_on_it_and_by_no_other() {
    let text = "\
evoq: 1
name: flow
params: { samples: 8, order: balanced }
matrix:
  seed: [1]
  samples: [8]
  start: [./a, ./b]
  arm: { plain: {}, ordered: { order: per-vote } }
steps:
  made: { run: [make, '{out.images}'], out: [images] }
  drawn: { run: [make, '{out.images}', '{seed}'], out: [images] }
rounds:
  count: 2
  start: { policy: \"${start}\" }
  steps:
    votes: { uses: fake, in: { images: made, policy: previous.policy }, with: { seed: 7 } }
    policy: { run: [make, '{in.votes}', '{out.policy}'], in: { votes: votes }, out: [policy] }
  except: { 2: { votes: { with: { order: \"${order}\", samples: \"${samples}\" } } } }
"
    .replace("samples: 8, order: balanced }", "samples: 8, order: balanced, start: ./c }");
    let workflow = crate::workflow::tests::read(&text, &["start=./b", "arm=plain"]).unwrap();
    let (_folder, stages) = fake();
    let plan = Plan::sketch(&workflow, &stages).unwrap();
    let titles: Vec<String> = plan.steps.iter().map(PlannedStep::title).collect();
    assert_eq!(
        titles,
        [
            "made",
            "drawn (seed=1)",
            "votes (round 1, start=./b)",
            "policy (round 1, start=./b)",
            "votes (round 2, samples=8 start=./b arm=plain)",
            "policy (round 2, samples=8 start=./b arm=plain)",
        ]
    );
}
