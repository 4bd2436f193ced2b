//! `--engine openai`: against a small server that answers, and fails, as it is told, and against `transformers serve`.

use std::collections::BTreeSet;
use std::process::Output;

use evoq_schemas::{Design, Outcome, Pair, PairId, Vote};
use evoq_test_support::faulty::{Act, Faulty, replies};
use evoq_test_support::{Transformers, stored, table, texture};
use image::{Rgb, RgbImage};
use serde_json::Value;

use super::{inputs, noisy, tiny_policy, vote, votes};

/// Six votes on each pair by the server at `url`.
fn ask([images, pairs]: &[String; 2], out: &str, url: &str, more: &[&str]) -> Output {
    let fixed = ["--images", images, "--pairs", pairs, "--out", out, "--samples", "6"];
    let server = ["--engine", "openai", "--url", url, "--model", "m", "--concurrency", "1"];
    vote(&[&fixed[..], &server, more].concat())
}

/// The pictures that a request shows, as they are sent.
fn shown(body: &Value) -> Vec<&str> {
    let parts = body["messages"][0]["content"].as_array().unwrap().iter();
    parts.filter_map(|part| part.pointer("/image_url/url").and_then(Value::as_str)).collect()
}

/// Says that of the two pictures the one is better whose bytes sort first, as often as it is asked.
fn smaller(body: &Value) -> Act {
    let shown = shown(body);
    let better = usize::from(shown.len() == 2 && shown[1] < shown[0]);
    let count = body["n"].as_u64().unwrap_or(1);
    let seed = body["seed"].as_u64().unwrap_or(0);
    replies((0..count).map(|i| format!("<think>{}</think>\\boxed{{{better}}}", seed + i)))
}

/// What a vote says, and in which words.
fn said(rows: &[Vote]) -> Vec<(u16, Option<Outcome>, Option<&str>)> {
    rows.iter().map(|row| (row.vote, row.outcome, row.reply.as_deref())).collect()
}

#[test]
fn a_servers_votes_are_turned_back_and_no_two_share_a_seed() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    let out = |name: &str| folder.path().join(name).display().to_string();
    let server = Faulty::new(|_, body| smaller(body));
    for order in ["balanced", "per-vote"] {
        let rows = votes(&out(order), &ask(&inputs, &out(order), &server.url, &["--order", order]));
        assert_eq!(rows.len(), 12);
        for pair in rows.chunks(6) {
            assert!(pair[0].outcome != Some(Outcome::Invalid));
            // Whatever is shown first, it is the same picture that is better.
            assert!(pair.iter().all(|row| row.outcome == pair[0].outcome), "{order}: {:?}", said(pair));
        }
        let replies: BTreeSet<&str> = rows.iter().filter_map(|row| row.reply.as_deref()).collect();
        assert_eq!(replies.len(), 12, "each vote was drawn for itself: {replies:?}");
        assert!(rows.iter().all(|row| row.policy == "openai:m" && row.min_pixels.is_none()));
    }

    // What is not asked for changes nothing of what is.
    let stopped = votes(&out("stopped"), &ask(&inputs, &out("stopped"), &server.url, &["--early-stop", "lossless"]));
    let all = votes(&out("all"), &ask(&inputs, &out("all"), &server.url, &[]));
    assert_eq!(stopped.len(), 8);
    for (stopped, all) in stopped.chunks(4).zip(all.chunks(6)) {
        assert_eq!(said(stopped), said(&all[..4]));
    }
}

#[test]
fn the_picture_that_the_server_finds_better_has_the_vote_in_either_order() {
    let folder = tempfile::tempdir().unwrap();
    let flat = RgbImage::from_pixel(56, 56, Rgb([90; 3]));
    let images = [stored("a.png", &flat), stored("b.png", &texture(56, 56, 1))];
    let [image_a, image_b] = images.each_ref().map(|it| it.image_id.clone());
    let pair_id = PairId::of(&image_a, &image_b);
    let pair = Pair { pair_id, image_a, image_b, design: Design::Random, reference_id: None };
    let inputs = [table(folder.path(), "images", &images), table(folder.path(), "pairs", &[pair])];
    // It is shown the files: the one with detail is the larger.
    let server = Faulty::new(|_, body| {
        let shown = shown(body);
        let better = usize::from(shown.len() == 2 && shown[1].len() > shown[0].len());
        replies((0..body["n"].as_u64().unwrap_or(1)).map(|_| format!("\\boxed{{{better}}}")))
    });
    let out = folder.path().join("votes").display().to_string();
    let rows = votes(&out, &ask(&inputs, &out, &server.url, &["--order", "balanced"]));
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row.outcome == Some(Outcome::B)), "{:?}", said(&rows));
}

#[test]
fn a_vote_that_the_server_fails_at_is_invalid_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    let out = folder.path().join("votes").display().to_string();
    let server = Faulty::new(|_, body| {
        let shown = shown(body);
        // It breaks at the pictures of the table in one order.
        if shown.len() == 2 && shown[0] < shown[1] {
            Act::Answer(200, vec![("retry-after", "0")], "{\"choices\": [{\"mess".to_owned())
        } else {
            smaller(body)
        }
    });
    let more = ["--order", "balanced", "--tries", "2"];
    let rows = votes(&out, &ask(&inputs, &out, &server.url, &more));
    for pair in rows.chunks(6) {
        let lost: Vec<&Vote> = pair.iter().filter(|row| row.outcome == Some(Outcome::Invalid)).collect();
        assert_eq!(lost.len(), 3, "{:?}", said(pair));
        for row in lost {
            assert_eq!((row.invalid_reason.as_deref(), row.reply.as_deref()), (Some("broken_reply"), None));
        }
    }

    let elsewhere = folder.path().join("elsewhere").display().to_string();
    let refused =
        ask(&inputs, &elsewhere, &server.url, &["--order", "balanced", "--tries", "2", "--min-valid-rate", "0.6"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("broken_reply"));
}

#[test]
fn transformers_votes_as_the_built_in_policy_votes() {
    let policy = tiny_policy();
    let Some(server) = Transformers::serving(&policy) else { return };
    let folder = tempfile::tempdir().unwrap();
    let [images, pairs] = noisy(folder.path());
    let out = |name: &str| folder.path().join(name).display().to_string();
    let cast = |name: &str, engine: &[&str], more: &[&str]| {
        let fixed = ["--images", &images, "--pairs", &pairs, "--out", &out(name), "--max-tokens", "14"];
        votes(&out(name), &vote(&[&fixed[..], engine, more].concat()))
    };
    let built_in = ["--policy", &policy];
    let served = ["--engine", "openai", "--url", &server.url, "--model", &policy, "--concurrency", "1"];

    // As cold as this, each token is the most likely one: the pictures, their order, the prompt and the model are the same.
    let cold = ["--samples", "2", "--order", "balanced", "--temperature", "0.001"];
    let (ours, theirs) = (cast("ours", &built_in, &cold), cast("theirs", &served, &cold));
    assert_eq!(said(&theirs), said(&ours));
    let sides: BTreeSet<_> = theirs.iter().map(|row| row.outcome.as_ref().map(Outcome::as_str)).collect();
    assert!(sides.contains(&Some("a")) && sides.contains(&Some("b")), "{sides:?}");

    // It gives one choice where four were asked for: each is asked for by itself, with a seed of its own.
    let drawn = cast("drawn", &served, &["--samples", "4"]);
    assert_eq!(drawn.len(), 15 * 4);
    let of_a_pair = |rows: &[Vote]| rows.iter().filter_map(|row| row.reply.clone()).collect::<BTreeSet<_>>().len();
    let several = drawn.chunks(4).filter(|rows| of_a_pair(rows) > 1).count();
    assert!(several > 7, "{several} of 15 pairs got different replies");
    assert!(cast("again", &served, &["--samples", "4"]) == drawn, "the seeds decide the replies");
}
