//! The whole loop in small: run, found again, planned, and asked about in SQL.

use std::process::Stdio;

use crate::programs::{ends_with, parts, printed, program, query, repository, run, said};

/// The README's queries, each in one line, with the header of the answer and how many rows two rounds of 12 pairs give.
const QUERIES: [(&str, &str, Option<usize>); 3] = [
    (
        "SELECT round, presented, outcome, count(*) AS votes FROM votes WHERE workflow_step = 'votes' GROUP BY round, presented, outcome ORDER BY round, presented, outcome",
        "round,presented,outcome,votes",
        None,
    ),
    (
        "SELECT round, preference, count(*) AS pairs, sum(votes_a) AS votes_a, sum(votes_b) AS votes_b, sum(votes_invalid) AS invalid FROM labels WHERE workflow_step = 'labels' GROUP BY round, preference ORDER BY round, preference",
        "round,preference,pairs,votes_a,votes_b,invalid",
        None,
    ),
    (
        "SELECT round, update_index, image_id, round(avg(reward), 3) AS reward, round(stddev(reward), 3) AS spread FROM rollouts GROUP BY round, update_index, image_id ORDER BY round, update_index, image_id LIMIT 20",
        "round,update_index,image_id,reward,spread",
        Some(20),
    ),
];

/// Column `column` of a CSV of numbers, added up.
fn sum(csv: &str, column: usize) -> u32 {
    csv.lines().skip(1).map(|row| row.split(',').nth(column).unwrap().parse::<u32>().unwrap()).sum()
}

#[test]
fn the_loop_runs_and_the_second_run_finds_every_step() {
    let root = tempfile::tempdir().unwrap();
    let uri = root.path().to_str().unwrap();
    let first = ends_with(&mut run("small.yaml", uri, &[]), 0);
    // The start and both rounds, greedy and sampled.
    assert_eq!(
        printed(&first).lines().filter(|line| line.contains("| greedy ") || line.contains("| sampled ")).count(),
        6
    );

    let mut plan = program("evoq");
    plan.arg("plan").arg(repository().join("tests/workflows/small.yaml")).args(["--root", uri]);
    let planned = printed(&ends_with(&mut plan, 0));
    assert!(planned.contains("cached") && !planned.contains("will run"), "{planned}");
    let changed = printed(&ends_with(plan.args(["--set", "control=shuffled"]), 0));
    assert!(changed.contains("parameter `control` none → shuffled"), "{changed}");

    let before = parts(root.path());
    let second = ends_with(&mut run("small.yaml", uri, &[]), 0);
    assert!(said(&second).contains(", 0 to make"), "{}", said(&second));
    assert_eq!(printed(&first), printed(&second));
    assert_eq!(before, parts(root.path()));

    let answers = QUERIES.map(|(sql, header, rows)| {
        let answer = query(uri, sql);
        assert_eq!(answer.lines().next(), Some(header), "{sql}");
        assert!(rows.is_none_or(|rows| answer.lines().count() == 1 + rows), "{answer}");
        for format in ["table", "json"] {
            let output = ends_with(program("evoq").args(["sql", "--root", uri, "--format", format, "-c", sql]), 0);
            assert!(header.split(',').all(|column| printed(&output).contains(column)), "{}", printed(&output));
        }
        answer
    });
    // Two rounds of 12 pairs with 6 votes each, counted in the votes and in the labels.
    assert_eq!(sum(&answers[0], 3), 144, "{}", answers[0]);
    assert_eq!(sum(&answers[1], 2), 24, "{}", answers[1]);
    assert_eq!((3..6).map(|column| sum(&answers[1], column)).sum::<u32>(), 144, "{}", answers[1]);
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_says() {
    let root = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = run("swapped.yaml", root.path().to_str().unwrap(), &[]);
    let status = command.args(["--only", "photos"]).stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn the_queries_stand_in_the_readme() {
    let readme = evoq_artifacts::read_file(&repository().join("README.md")).unwrap();
    let readme = String::from_utf8(readme).unwrap();
    for (sql, ..) in QUERIES {
        assert!(readme.contains(sql), "the README lacks: {sql}");
    }
}
