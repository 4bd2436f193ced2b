//! `--engine openai`: against a small server that fails as it is told, and against `transformers serve`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use evoq_artifacts::Artifact;
use evoq_schemas::{Decoding, Image, Score};
use evoq_test_support::Transformers;
use evoq_test_support::faulty::{Act, Faulty, replies};
use serde_json::Value;

use super::{picture, policy, score, table};

/// Scores by the server at `url`, with a picture at a time.
fn ask(images: &str, out: &str, url: &str, model: &str, more: &[&str]) -> Output {
    let fixed =
        ["--images", images, "--out", out, "--engine", "openai", "--url", url, "--model", model, "--concurrency", "1"];
    score(&[&fixed[..], more].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line that tells what went wrong.
fn fault(output: &Output) -> String {
    said(output).lines().find(|line| line.starts_with("evoq-score: error")).unwrap_or_default().to_owned()
}

fn rows(out: &str) -> Vec<Score> {
    Artifact::open(out).unwrap().rows().unwrap()
}

/// Whether a request shows a picture.
fn shows(body: &Value) -> bool {
    body["messages"][0]["content"].as_array().unwrap().len() > 1
}

/// Ratings that differ with the seed, as many as are asked for; a greedy one is 4.
fn ratings(body: &Value) -> Act {
    let count = body["n"].as_u64().unwrap_or(1);
    replies((0..count).map(|index| match body["seed"].as_u64() {
        Some(seed) => format!("\\boxed{{{:.2}}}", 1.0 + (seed + index) as f64 % 100.0 / 25.0),
        None => "\\boxed{4}".to_owned(),
    }))
}

#[test]
fn a_server_that_fails_loses_nothing_that_was_done() {
    let folder = tempfile::tempdir().unwrap();
    // Two units.
    let pictures: Vec<Image> = (0..270).map(|seed| picture(seed, None)).collect();
    let images = table(folder.path(), "images", &pictures);
    let out = |name: &str| folder.path().join(name).display().to_string();
    let whole = Faulty::new(|_, body| ratings(body));
    let output = ask(&images, &out("whole"), &whole.url, "m", &[]);
    assert!(output.status.success(), "{}", said(&output));

    let breaks = Faulty::new(|number, body| match number {
        265.. => Act::Answer(500, vec![("retry-after", "0")], "out of memory".to_owned()),
        _ => ratings(body),
    });
    let broken = ask(&images, &out("broken"), &breaks.url, "m", &["--tries", "2"]);
    assert_eq!(broken.status.code(), Some(1), "{}", said(&broken));
    assert!(fault(&broken).contains(&breaks.url) && fault(&broken).contains("out of memory"), "{}", said(&broken));

    let again = Faulty::new(|_, body| ratings(body));
    let output = ask(&images, &out("broken"), &again.url, "m", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(rows(&out("broken")), rows(&out("whole")));
    assert_eq!(
        again.asked().iter().filter(|body| shows(body)).count(),
        1 + 14,
        "the first unit was not asked about again"
    );
}

#[test]
fn a_picture_that_the_server_fails_at_is_invalid_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let images = table(folder.path(), "images", &[picture(0, None), picture(1, None)]);
    let out = folder.path().join("scores").display().to_string();
    // The picture of the trial, then two questions.
    let faulty = Faulty::new(|number, body| match number {
        0 | 1 => ratings(body),
        _ if !shows(body) || body.get("seed").is_some() => ratings(body),
        2 | 3 => Act::Answer(200, vec![("retry-after", "0")], "{\"choices\": [{\"mess".to_owned()),
        _ => ratings(body),
    });
    let output = ask(&images, &out, &faulty.url, "m", &["--tries", "2", "--samples", "3"]);
    assert!(output.status.success(), "{}", said(&output));
    let found: Vec<_> = rows(&out).iter().map(|row| (row.decoding, row.score.is_some())).collect();
    let (g, s) = (Decoding::Greedy, Decoding::Sampled);
    let sampled = [(s, true); 3];
    assert_eq!(found, [&[(g, false)], &sampled[..], &[(g, true)], &sampled[..]].concat());
    let lost = &rows(&out)[0];
    assert_eq!((lost.invalid_reason.as_deref(), lost.reply.as_str()), (Some("broken_reply"), ""));
    assert_eq!(rows(&out)[4].policy, "openai:m");
    let distinct: BTreeSet<String> = rows(&out).into_iter().map(|row| row.reply).collect();
    assert_eq!(distinct.len(), 1 + 6 + 1, "each reply was drawn for itself");
}

#[test]
fn a_server_that_is_named_wrongly_is_bad_input_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let images = table(folder.path(), "images", &[picture(0, None)]);
    let out = folder.path().join("scores").display().to_string();
    let refuses = Faulty::new(|_, _| Act::Answer(401, vec![], "{\"error\": {\"message\": \"no key\"}}".to_owned()));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("http://{free}");
    let engine = ["--engine", "openai"];
    for (arguments, named) in [
        (vec!["--url", &refuses.url, "--model", "m"], "OPENAI_API_KEY"),
        (vec!["--url", &nowhere, "--model", "m", "--tries", "1"], nowhere.as_str()),
        (vec!["--url", "127.0.0.1:8000", "--model", "m"], "--url 127.0.0.1:8000"),
        (vec!["--url", &nowhere], "--model is missing"),
        (vec!["--model", "m"], "--url is missing"),
        (vec!["--url", &nowhere, "--model", "m", "--policy", &policy()], "--policy with --engine openai"),
    ] {
        let output = score(&[&["--images", &images, "--out", &out][..], &engine, &arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(fault(&output).contains(named), "{arguments:?}: {}", said(&output));
    }
    let output = score(&["--images", &images, "--out", &out, "--policy", &policy(), "--url", &nowhere]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(fault(&output).contains("--url is for a server"), "{}", said(&output));
}

/// The policy that ships: what it says can be read, and none of it is a special token, which programs show in different ways.
fn trained() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy");
    path.canonicalize().unwrap().display().to_string()
}

#[test]
fn transformers_says_of_a_picture_what_the_built_in_policy_says() {
    let Some(server) = Transformers::serving(&trained()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = table(folder.path(), "images", &[0, 1, 2, 3].map(|seed| picture(seed, None)));
    let out = |name: &str| folder.path().join(name).display().to_string();
    let built_in = score(&["--images", &images, "--policy", &trained(), "--out", &out("built-in")]);
    assert!(built_in.status.success(), "{}", said(&built_in));
    let served = |name: &str, more: &[&str]| {
        let output = ask(&images, &out(name), &server.url, &trained(), more);
        assert!(output.status.success(), "{}", said(&output));
        (said(&output), rows(&out(name)))
    };

    // Its most likely tokens are ours: the pictures, the prompt and the model are the same.
    let (log, greedy) = served("greedy", &[]);
    let words = |rows: &[Score]| rows.iter().map(|it| (it.reply.clone(), it.score, it.tokens)).collect::<Vec<_>>();
    assert_eq!(words(&greedy), words(&rows(&out("built-in"))));
    assert!(log.contains("one reply at a time, without log-probabilities"), "{log}");
    assert!(log.contains("refuses top_k, min_p and repetition_penalty"), "{log}");

    // It gives one choice where eight were asked for: each is asked for by itself, with a seed of its own.
    let (_, sampled) = served("sampled", &["--samples", "8"]);
    assert_eq!(sampled.len(), 4 * 9);
    let drawn = |rows: &[Score]| {
        rows.iter().filter(|it| it.decoding == Decoding::Sampled).map(|it| it.reply.clone()).collect::<Vec<_>>()
    };
    let distinct: BTreeSet<String> = drawn(&sampled).into_iter().collect();
    assert!(distinct.len() > 16, "{} of 32 sampled replies differ", distinct.len());
    assert_eq!(served("again", &["--samples", "8"]).1, sampled, "the seeds decide the replies");
    assert_ne!(drawn(&served("other", &["--samples", "8", "--seed", "2"]).1), drawn(&sampled));

    let wrong = ask(&images, &out("wrong"), &server.url, "nobody/nothing", &[]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    assert!(fault(&wrong).contains("check --model nobody/nothing"), "{}", said(&wrong));
}
