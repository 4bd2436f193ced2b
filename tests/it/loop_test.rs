//! The whole loop in small, found again on the second run, and asked about in SQL.

use crate::programs::{ends_with, printed, program, run, said};

/// The README's queries: each in one line.
const QUERIES: [(&str, &str); 3] = [
    (
        "SELECT round, presented, outcome, count(*) AS votes FROM votes GROUP BY round, presented, outcome ORDER BY round, presented, outcome",
        "presented",
    ),
    (
        "SELECT round, preference, count(*) AS pairs, sum(votes_a) AS votes_a, sum(votes_b) AS votes_b, sum(votes_invalid) AS invalid FROM labels GROUP BY round, preference ORDER BY round, preference",
        "preference",
    ),
    (
        "SELECT round, update_index, image_id, avg(reward) AS reward, stddev(reward) AS spread FROM rollouts GROUP BY round, update_index, image_id ORDER BY round, update_index, image_id LIMIT 20",
        "reward",
    ),
];

#[test]
fn the_loop_runs_and_the_second_run_finds_every_step() {
    let root = tempfile::tempdir().unwrap();
    let uri = root.path().to_str().unwrap();
    let first = ends_with(&mut run("small.yaml", uri, &[]), 0);
    assert!(printed(&first).contains("greedy"), "{}", printed(&first));

    let mut plan = program("evoq");
    plan.arg("plan").arg(crate::programs::repository().join("tests/workflows/small.yaml")).args(["--root", uri]);
    let planned = printed(&ends_with(&mut plan, 0));
    assert!(!planned.contains("will run"), "{planned}");
    let changed = printed(&ends_with(plan.args(["--set", "control=shuffled"]), 0));
    assert!(changed.contains("control") && changed.contains("none") && changed.contains("shuffled"), "{changed}");

    let before = crate::programs::parts(root.path());
    let second = ends_with(&mut run("small.yaml", uri, &[]), 0);
    assert_eq!(printed(&first), printed(&second));
    assert_eq!(before, crate::programs::parts(root.path()), "{}", said(&second));

    for (query, column) in QUERIES {
        for format in ["table", "csv", "json"] {
            let output = ends_with(program("evoq").args(["sql", "--root", uri, "--format", format, "-c", query]), 0);
            assert!(printed(&output).contains(column), "{format}: {}", printed(&output));
        }
        let readme = evoq_artifacts::read_file(&crate::programs::repository().join("README.md")).unwrap();
        assert!(String::from_utf8(readme).unwrap().contains(query), "the README lacks: {query}");
    }
    let counted = ends_with(
        program("evoq").args(["sql", "--root", uri, "--format", "csv", "-c", "SELECT count(*) AS votes FROM votes"]),
        0,
    );
    assert_eq!(printed(&counted).trim(), "votes\n72");
}
