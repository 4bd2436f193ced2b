//! The `grpo` step swapped for TRL: the workflow, the reward in Python, and the run itself where a Python has TRL.

use std::f64::consts::FRAC_1_SQRT_2;
use std::path::{Path, PathBuf};
use std::process::Command;

use evoq_artifacts::Artifact;
use evoq_schemas::Reward;
use serde_json::{Value, json};

use crate::programs::{ends_with, program, python, query, repository};

fn folder() -> PathBuf {
    repository().join("workflows/trl")
}

/// What `source` prints in the Python at `python`, with the programs of `workflows/trl` to import, as JSON.
fn told(python: &Path, source: &str, argument: &Value) -> Value {
    let mut command = Command::new(python);
    // No caches beside the programs.
    command.env("PYTHONPATH", folder()).args(["-B", "-c", source, &argument.to_string()]);
    serde_json::from_slice(&ends_with(&mut command, 0).stdout).unwrap()
}

#[test]
fn the_swapped_step_is_planned_without_a_python() {
    let root = tempfile::tempdir().unwrap();
    let mut plan = program("evoq");
    plan.arg("plan").arg(repository().join("workflows/trl-grpo.yaml")).args(["--format", "json", "--root"]);
    plan.arg(root.path()).args(["--set", "python=/no/such/python"]);
    let steps: Vec<Value> = serde_json::from_slice(&ends_with(&mut plan, 0).stdout).unwrap();
    let called: Vec<&str> = steps.iter().filter_map(|it| it["step"].as_str()).collect();
    assert_eq!(called.iter().filter(|name| **name == "policy").count(), 1, "{called:?}");
    assert!(steps.iter().all(|step| step["stage"] != "grpo"), "{called:?}");
}

/// Replies of policies, good and hostile: `stages/policy/src/reply/hostile.rs` holds them to the same readings.
const REPLIES: [(&str, Option<f64>, Option<&str>); 22] = [
    (r"<think>Good, 4 of 5.</think>\boxed{3.52}", Some(3.52), None),
    ("\\boxed{\n1\t}", Some(1.0), None),
    ("", None, Some("no_answer")),
    ("3.5", None, Some("no_answer")),
    ("<answer>3</answer>", None, Some("no_answer")),
    (r"\boxed{ }", None, Some("not_a_number")),
    (r"\boxed{+1}", Some(1.0), None),
    (r"\boxed{1.}", Some(1.0), None),
    (r"\boxed{1_0}", None, Some("not_a_number")),
    (r"\boxed{4,5}", None, Some("not_a_number")),
    (r"\boxed{NaN}", None, Some("not_a_number")),
    (r"\boxed{-infinity}", None, Some("not_a_number")),
    (r"\boxed{1e999}", None, Some("not_a_number")),
    (r"\boxed{1e2}", None, Some("out_of_range")),
    (r"\boxed{5.0000001}", None, Some("out_of_range")),
    (r"\boxed{0.99}", None, Some("out_of_range")),
    ("\\boxed{\u{ff11}}", None, Some("not_a_number")),
    (r"\boxed{1} then \boxed{maybe}", None, Some("not_a_number")),
    (r"\boxed{1} or \boxed{", Some(1.0), None),
    (r"\boxed{\boxed{1} 0}", Some(1.0), None),
    (r"} } \boxed{1} }", Some(1.0), None),
    (r"\boxed {1}", None, Some("no_answer")),
];

#[test]
fn a_reply_says_in_python_what_it_says_in_rust() {
    let Some(python) = python("json") else { return };
    let source = "import json, reward, sys; print(json.dumps([reward.score(it) for it in json.loads(sys.argv[1])]))";
    let replies: Vec<&str> = REPLIES.iter().map(|row| row.0).collect();
    let found = told(&python, source, &json!(replies));
    for (i, (reply, score, reason)) in REPLIES.into_iter().enumerate() {
        assert_eq!(found[i], json!([score, reason]), "{reply:?}");
    }
}

/// The rewards of scores 3, 3.5, 4, 2.5 against 2, 2.5, 3, 2.5, worked out apart from both implementations.
#[test]
fn a_rating_earns_in_python_what_eq_3_says() {
    let Some(python) = python("json") else { return };
    let source = "import json, reward, sys; own, other, p = json.loads(sys.argv[1]); \
                  print(json.dumps([r for _, r in reward.earned(own, other, p)]))";
    let earned = |own: Value, preference: f64| -> Vec<f64> {
        let found = told(&python, source, &json!([own, [2.0, 2.5, 3.0, 2.5], preference]));
        found.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
    };
    let all = earned(json!([3.0, 3.5, 4.0, 2.5]), 1.0);
    for (found, expected) in all.iter().zip([0.862_354, 0.951_202, 0.987_539, FRAC_1_SQRT_2]) {
        assert!((found - expected).abs() < 1e-6, "{all:?}");
    }
    // An invalid rating earns nothing and moves nobody else's; with one valid rating there is no variance to compare with.
    assert_eq!(earned(json!([3.0, null, 3.5, 4.0, 2.5]), 1.0), [&all[..1], &[0.0], &all[1..]].concat());
    assert_eq!(earned(json!([3.0, null]), 1.0), [0.0, 0.0]);
}

/// The Python that has TRL; `None` is said loudly.
fn trl() -> Option<PathBuf> {
    let found = std::env::var_os("EVOQ_TEST_TRL_PYTHON").map(PathBuf::from);
    if found.is_none() {
        eprintln!(
            "SKIPPED: no Python with TRL: pip install -r workflows/trl/requirements.txt, and name the Python that has it by \
             EVOQ_TEST_TRL_PYTHON"
        );
    }
    found
}

#[test]
fn what_trl_learnt_is_a_policy_with_the_rewards_that_the_grpo_stage_finds() {
    let Some(python) = trl() else { return };
    let root = tempfile::tempdir().unwrap();
    let uri = root.path().to_str().unwrap();
    let mut run = program("evoq");
    run.arg("run").arg(repository().join("workflows/trl-grpo.yaml")).args(["--root", uri]);
    let python = format!("python={}", python.display());
    for set in [python.as_str(), "updates=2", "pairs-per-update=1", "photos=procedural:330"] {
        run.args(["--set", set]);
    }
    ends_with(&mut run, 0);
    // Both rounds were scored: the policy that TRL wrote is read like any.
    assert_eq!(query(uri, "SELECT DISTINCT round FROM scores ORDER BY round"), "round\n0\n1\n");
    assert_eq!(
        query(uri, "SELECT update_index, groups, completions, clip_share FROM updates ORDER BY update_index"),
        "update_index,groups,completions,clip_share\n0,2,64,0.0\n1,2,64,0.0\n"
    );

    // Eq. 2 to 4 of its scores, by the stage's own code: TRL's advantages are in f32.
    let again = root.path().join("again");
    let mut rewards = program("evoq-grpo");
    rewards
        .args(["rewards", "--rollouts", &made(uri, "policy"), "--labels", &made(uri, "labels"), "--out"])
        .arg(&again);
    ends_with(&mut rewards, 0);
    let rows: Vec<Reward> = Artifact::open(again.to_str().unwrap()).unwrap().rows().unwrap();
    assert_eq!(rows.len(), 128);
    for row in rows {
        assert!((row.reward - row.trained_reward).abs() < 1e-12, "{row:?}");
        assert!((row.advantage - row.trained_advantage).abs() < 1e-5, "{row:?}");
    }
}

/// Where the artifact of the workflow's step is.
fn made(root: &str, step: &str) -> String {
    let sql = format!("SELECT stage, fingerprint FROM run_steps WHERE workflow_step = '{step}'");
    let row = query(root, &sql).lines().nth(1).unwrap().replace(',', "/");
    format!("{root}/{row}")
}
