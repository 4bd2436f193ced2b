//! Queries over a root in which one run made votes in two rounds.

use super::*;
use crate::graph::tests::step;
use crate::ledger::tests::made;
use crate::ledger::{Ledger, PlanRecord};
use evoq_artifacts::{Draft, Header};
use evoq_schemas::{Finish, ImageId, Outcome, PairId, Presented, Vote};

/// One of four votes on `image_a` and `image_b`, the first of them shown first.
pub(crate) fn vote_on((image_a, image_b): (ImageId, ImageId), k: u16, outcome: Outcome) -> Vote {
    Vote {
        pair_id: PairId::of(&image_a, &image_b),
        image_a,
        image_b,
        vote: k,
        samples: Some(4),
        presented: Presented::Ab,
        outcome: Some(outcome),
        invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
        reply: Some(String::new()),
        answer_logprob: None,
        tokens: 1,
        finish: Some(Finish::Stop),
        probability_a: None,
        probability_b: None,
        prompt: String::new(),
        policy: String::new(),
        min_pixels: None,
        max_pixels: None,
        seed: 1,
    }
}

fn vote(k: u16, outcome: Outcome) -> Vote {
    vote_on((ImageId::from("s/a"), ImageId::from("s/b")), k, outcome)
}

/// A root in which one run made votes in two rounds.
fn root() -> (tempfile::TempDir, Location) {
    let folder = tempfile::tempdir().unwrap();
    let root = Location::open(folder.path().join("a [b] c").to_str().unwrap()).unwrap();
    let plan = PlanRecord { evoq: 1, workflow: "w".to_owned(), steps: Vec::new() };
    let mut ledger = Ledger::start(&root, &plan, 1).unwrap();
    for round in 1..=2 {
        let fingerprint = format!("f{round}");
        let header = Header {
            stage: "vote".to_owned(),
            stage_version: 1,
            fingerprint: fingerprint.clone(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
        };
        let mut draft = Draft::new(&root.join("vote").join(&fingerprint), header);
        let mut writer = draft.table::<Vote>();
        for k in 0..4 {
            let outcome = if k < round { Outcome::A } else { Outcome::Invalid };
            writer.push(vote(k, outcome)).unwrap();
        }
        draft.add("votes", writer.finish().unwrap());
        draft.commit().unwrap();
        let record = step("votes", Some(u32::from(round)), "vote", &[]);
        ledger.step(RunStepRow { run: ledger.row.run.clone(), fingerprint, ..made(&record) }).unwrap();
        ledger.flush().unwrap();
    }
    (folder, root)
}

fn csv(root: &Location, sql: &str) -> Result<String> {
    let answers = Database::open(root, &[])?.query(sql)?;
    answers.iter().map(|answer| answer.text(Format::Csv)).collect()
}

#[test]
fn a_table_is_read_across_rounds_and_its_enumerations_compare_with_text() {
    let (_folder, root) = root();
    let sql = "SELECT round, workflow_step, count(*) AS votes FROM votes WHERE outcome = 'a' AND presented IN ('ab') \
               GROUP BY round, workflow_step ORDER BY round";
    assert_eq!(csv(&root, sql).unwrap(), "round,workflow_step,votes\n1,votes,1\n2,votes,2\n");
}

#[test]
fn the_ledger_is_a_table_and_a_table_is_described() {
    let (_folder, root) = root();
    assert_eq!(csv(&root, "SELECT count(*) AS n FROM run_steps WHERE stage = 'vote'").unwrap(), "n\n2\n");
    assert!(csv(&root, "DESCRIBE votes").unwrap().contains("answer_logprob,float32,yes,\"The log-probability"));
}

#[test]
fn a_query_that_cannot_be_is_refused_with_what_there_is() {
    let (_folder, root) = root();
    let told = |sql: &str| csv(&root, sql).unwrap_err();
    assert!(told("SELECT * FROM vote").to_string().ends_with("has no table `vote`; did you mean `votes`?"));
    let missing = told("SELECT * FROM rewards").to_string();
    assert!(missing.contains("has no table `rewards` (--live adds"), "{missing}");
    assert!(
        missing.ends_with("; there are votes, runs, run_steps, timings, pair_agreement, position_bias"),
        "{missing}"
    );
    assert_eq!(told("SELEC 1").exit_code(), 2);
    assert_eq!(told("SELECT nothing FROM votes").exit_code(), 2);
    assert_eq!(told("DROP TABLE votes").exit_code(), 2);
}

#[test]
fn a_round_that_is_not_asked_for_is_not_read() {
    let (_folder, root) = root();
    let parts = root.join("vote/f1/votes").list().unwrap();
    root.join("vote/f1/votes").join(&parts[0].0).delete().unwrap();
    let sql = "SELECT vote FROM votes WHERE round = 2 AND outcome = 'a' ORDER BY vote";
    assert_eq!(csv(&root, sql).unwrap(), "vote\n0\n1\n");
    assert_eq!(csv(&root, "SELECT vote FROM votes WHERE round = 1").unwrap_err().exit_code(), 1);
}

#[test]
fn rows_are_counted_without_reading_and_columns_that_nobody_asks_for_stay_in_their_files() {
    let (_folder, root) = root();
    let plan = csv(&root, "EXPLAIN SELECT count(*) AS n FROM votes").unwrap();
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec"), "{plan}");
    let plan = csv(&root, "EXPLAIN SELECT tokens FROM votes WHERE outcome = 'a'").unwrap();
    assert!(plan.contains("projection=[tokens]") && plan.contains("predicate=outcome"), "{plan}");
}

#[test]
fn a_round_that_has_no_number_is_null() {
    let (_folder, root) = root();
    let sql =
        "SELECT count(*) AS n, count(round) AS numbered, count(variant) AS varied FROM votes WHERE variant IS NULL";
    assert_eq!(csv(&root, sql).unwrap(), "n,numbered,varied\n8,8,0\n");
}

#[test]
fn what_an_unfinished_step_has_written_is_read_on_request() {
    let (_folder, root) = root();
    let steps = vec![step("late", Some(3), "vote", &[])];
    let plan = PlanRecord { evoq: 1, workflow: "w".to_owned(), steps };
    Ledger::start(&root, &plan, 1).unwrap();
    let header = Header {
        stage: "vote".to_owned(),
        stage_version: 1,
        fingerprint: "late3".to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let scratch = Draft::new(&root.join("vote/late3"), header).scratch().unwrap();
    let mut writer = scratch.table::<Vote>(0);
    writer.push(vote(0, Outcome::B)).unwrap();
    scratch.show(1, 2, BTreeMap::from([("votes".to_owned(), writer.finish().unwrap())])).unwrap();
    let sql = "SELECT round, workflow_step, count(*) AS n FROM votes GROUP BY round, workflow_step";
    let answer = &Database::live(&root, &[]).unwrap().query(sql).unwrap()[0];
    assert_eq!(answer.text(Format::Csv).unwrap(), "round,workflow_step,n\n3,late,1\n");
    assert!(csv(&root, sql).unwrap_err().to_string().contains("has no table `votes`"));
}

#[test]
fn every_column_of_every_table_and_view_has_a_meaning() {
    let (_folder, root) = root();
    let database = Database::open(&root, &[]).unwrap();
    for known in &database.known {
        let answer = &database.query(&format!("DESCRIBE {}", known.name)).unwrap()[0];
        let text = answer.text(Format::Csv).unwrap();
        let without: Vec<&str> = text.lines().filter(|line| line.ends_with(',')).collect();
        assert_eq!(without, Vec::<&str>::new(), "{}", known.name);
    }
    for view in &VIEWS {
        assert!(!view.about.is_empty() && !view.columns.is_empty(), "{}", view.name);
    }
}

#[test]
fn the_views_say_how_far_votes_agree_and_lean() {
    let (_folder, root) = root();
    let sql = "SELECT round, votes, valid, first, first_rate, share_a_second FROM position_bias ORDER BY round";
    let said = "round,votes,valid,first,first_rate,share_a_second\n1,4,1,1,1.0,\n2,4,2,2,1.0,\n";
    assert_eq!(csv(&root, sql).unwrap(), said);
    let sql = "SELECT round, votes_a, votes_b, votes_invalid, agreement FROM pair_agreement ORDER BY round";
    assert_eq!(csv(&root, sql).unwrap(), "round,votes_a,votes_b,votes_invalid,agreement\n1,1,0,3,1.0\n2,2,0,2,1.0\n");
    let told = csv(&root, "SELECT * FROM reward_spread").unwrap_err().to_string();
    assert!(told.ends_with("has no table `rollouts`, which the view `reward_spread` is made of"), "{told}");
}

#[test]
fn a_root_without_runs_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = Location::open(folder.path().to_str().unwrap()).unwrap();
    assert!(csv(&root, "SELECT 1").unwrap_err().to_string().contains("evoq run FILE"));
}
