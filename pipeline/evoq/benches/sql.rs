//! How fast two rounds of 640,000 votes each are asked for their position bias, beside DuckDB on the same files.
//!
//! `EVOQ_COMPATIBILITY_PYTHON=… cargo bench --workspace --bench sql -- FOLDER [ROUNDS]`. The tables are made in FOLDER unless they
//! are there. Both are timed as whole programs (DuckDB's is `benches/sql_duckdb.py`, a Python), and for one query more in a program that has
//! answered some. They take turns; the best of some rounds counts. DuckDB is left out, loudly, where no Python with it is named.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use evoq_artifacts::{Draft, Header, Location};
use evoq_schemas::{Finish, ImageId, Outcome, PairId, Presented, RunRow, RunStepRow, Table, Vote};
use parquet::arrow::ArrowWriter;

/// Queries more, to tell the time of one from that of the program around it.
const MORE: usize = 10;
const PAIRS: u64 = 20_000;
const VOTES: u16 = 32;
const RUN: &str = "20260101-000000-000";
const WORDS: [&str; 12] =
    ["blurred", "noisy", "dark", "bright", "vivid", "faded", "blocky", "sharp", "clean", "dotted", "striped", "grainy"];

/// The query; `{votes}` stands for the table with its column `round`.
const QUERY: &str = "SELECT round, count(*) AS valid, \
    avg(CASE WHEN (presented = 'ab') = (outcome = 'a') THEN 1.0 ELSE 0.0 END) AS first_rate \
    FROM {votes} WHERE outcome <> 'invalid' GROUP BY round ORDER BY round";

fn main() {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let Some(folder) = arguments.first() else {
        eprintln!("expected a folder for the tables: cargo bench --workspace --bench sql -- FOLDER [ROUNDS]");
        return;
    };
    let rounds = arguments.get(1).map_or(7, |it| it.parse().expect("ROUNDS is a number"));
    let root = Location::open(folder).expect("FOLDER is a path");
    if !root.join("ledger").join(RUN).join("plan.json").exists().expect("FOLDER can be read") {
        tables(&root);
    }
    let mut best = [f64::INFINITY; 4];
    for _ in 0..rounds {
        let whole = evoq(&root, 1);
        let query = (evoq(&root, 1 + MORE) - whole) / MORE as f64;
        let (their_query, their_whole) = duckdb(&root).unwrap_or((f64::INFINITY, f64::INFINITY));
        for (best, seconds) in best.iter_mut().zip([whole, query, their_whole, their_query]) {
            *best = best.min(seconds);
        }
    }
    let [whole, query, their_whole, their_query] = best;
    println!("the whole program: evoq sql {whole:.3} s, DuckDB {their_whole:.3} s: {:.2} times", whole / their_whole);
    println!("one query more:    evoq sql {query:.3} s, DuckDB {their_query:.3} s: {:.2} times", query / their_query);
}

/// Seconds that `evoq sql` takes to answer the query `times` times.
fn evoq(root: &Location, times: usize) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evoq"));
    command.args([
        "sql",
        "--root",
        root.uri(),
        "--format",
        "csv",
        "-c",
        &vec![QUERY.replace("{votes}", "votes"); times].join("; "),
    ]);
    let start = Instant::now();
    let output = command.output().expect("evoq can be started");
    let seconds = start.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 3 * times, "{text}");
    seconds
}

/// Seconds that DuckDB takes for one query more, and for the whole program with one.
fn duckdb(root: &Location) -> Option<(f64, f64)> {
    let Some(python) = std::env::var_os("EVOQ_COMPATIBILITY_PYTHON") else {
        eprintln!("SKIPPED: EVOQ_COMPATIBILITY_PYTHON names no Python with duckdb");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/sql_duckdb.py");
    let timed = |times: usize| {
        let mut command = Command::new(&python);
        command.arg(&script).arg(root.uri()).arg(QUERY).arg(times.to_string());
        let start = Instant::now();
        let output = command.output().expect("python can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        start.elapsed().as_secs_f64()
    };
    let whole = timed(1);
    Some(((timed(1 + MORE) - whole) / MORE as f64, whole))
}

/// Two rounds of votes and a ledger that knows them.
fn tables(root: &Location) {
    let mut steps = Vec::new();
    for round in 1..=2u32 {
        let fingerprint = format!("{round:064x}");
        let header = Header {
            stage: "vote".to_owned(),
            stage_version: 1,
            fingerprint: fingerprint.clone(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
        };
        let mut draft = Draft::new(&root.join("vote").join(&fingerprint), header);
        let mut writer = draft.table::<Vote>();
        let mut draw = u64::from(round);
        for pair in 0..PAIRS {
            for vote in votes(pair, &mut draw) {
                writer.push(vote).expect("a vote is written");
            }
        }
        draft.add(Vote::NAME, writer.finish().expect("the votes are written"));
        draft.commit().expect("the votes are committed");
        steps.push(RunStepRow {
            run: RUN.to_owned(),
            workflow_step: "votes".to_owned(),
            round: Some(round),
            variant: None,
            stage: "vote".to_owned(),
            fingerprint,
            cached: false,
            started_ms: 0,
            seconds: 0.0,
            outcome: "done".to_owned(),
            host: String::new(),
            executor: None,
            attempts: None,
        });
    }
    let run = RunRow {
        run: RUN.to_owned(),
        workflow: "bench".to_owned(),
        seed: 1,
        started_ms: 0,
        outcome: "done".to_owned(),
    };
    let place = root.join("ledger").join(RUN);
    place.join("runs.parquet").put(parquet(&[run])).expect("the ledger is written");
    place.join("run_steps.parquet").put(parquet(&steps)).expect("the ledger is written");
    let plan = serde_json::json!({ "evoq": 1, "workflow": "bench", "steps": [] });
    place.join("plan.json").put(plan.to_string().into()).expect("the ledger is written");
}

/// The votes about one pair: most pairs are clear, some are not, a hundredth of the replies is invalid.
fn votes(pair: u64, draw: &mut u64) -> Vec<Vote> {
    let mut next = |below: u64| {
        *draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*draw >> 33) % below
    };
    let (a, b) = (next(7000), 7000 + next(7000));
    let (image_a, image_b) =
        (ImageId::from(format!("koniq10k/{a:09}.jpg")), ImageId::from(format!("koniq10k/{b:09}.jpg")));
    let for_a = [2, 10, 30, 50, 70, 90, 98][(pair % 7) as usize];
    (0..VOTES)
        .map(|vote| {
            let presented = if next(2) == 0 { Presented::Ab } else { Presented::Ba };
            let outcome = match next(100) {
                99 => Outcome::Invalid,
                _ if next(100) < for_a => Outcome::A,
                _ => Outcome::B,
            };
            let mut word = || WORDS[next(WORDS.len() as u64) as usize];
            let thought =
                format!("<think>the first looks {}, quite {}; the second {} and {}", word(), word(), word(), word());
            let answer = u8::from((presented == Presented::Ab) != (outcome == Outcome::A));
            let is_invalid = outcome == Outcome::Invalid;
            let reply = if is_invalid { thought } else { format!("{thought}</think>\\boxed{{{answer}}}") };
            Vote {
                pair_id: PairId::of(&image_a, &image_b),
                image_a: image_a.clone(),
                image_b: image_b.clone(),
                vote,
                samples: Some(VOTES),
                presented,
                outcome: Some(outcome),
                invalid_reason: is_invalid.then(|| "no_answer".to_owned()),
                reply: Some(reply),
                answer_logprob: (!is_invalid).then(|| -(next(10_000) as f32) / 10_000.0),
                tokens: 20 + next(40) as u32,
                finish: Some(if is_invalid { Finish::Length } else { Finish::Stop }),
                probability_a: None,
                probability_b: None,
                prompt: "2267ce3e9708a637".to_owned(),
                policy: "4".repeat(64),
                min_pixels: Some(12_544),
                max_pixels: Some(1_003_520),
                seed: 1,
            }
        })
        .collect()
}

fn parquet<T: Table>(rows: &[T]) -> bytes::Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), T::schema(), None).expect("a schema of our own");
    writer.write(&T::batch(rows)).expect("rows are written to memory");
    writer.into_inner().expect("rows are written to memory").into()
}
