//! Answers that are cut, flipped, spliced or made up: none may make the reader panic, and what is taken is a whole reply.

use evoq_test_support::accidents::{accidents, after, try_all};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::reply::{Sample, samples};
use crate::send::message;

/// An answer with two replies, as servers send them.
fn answer() -> Vec<u8> {
    let choice = |index: usize, text: &str| {
        let tokens: Vec<Value> = text
            .split_inclusive(' ')
            .map(|token| json!({ "token": token, "logprob": -0.25, "bytes": token.as_bytes() }))
            .collect();
        json!({
            "index": index, "message": { "role": "assistant", "content": text, "reasoning_content": null },
            "finish_reason": "stop", "logprobs": { "content": tokens },
        })
    };
    let choices = [choice(1, "<think>é it is sharp </think> \\boxed{0}"), choice(0, "\\boxed{1}")];
    let usage = json!({ "prompt_tokens": 90, "completion_tokens": 12 });
    json!({ "id": "c-1", "object": "chat.completion", "choices": choices, "usage": usage }).to_string().into_bytes()
}

/// Fails where the reader says more than a line, or gives what is no whole reply.
fn is_read_or_refused(bytes: &[u8], asked: usize) -> Result<(), TestCaseError> {
    match samples(bytes, asked) {
        Err(said) => is_one_line(&said)?,
        Ok(samples) => {
            prop_assert_eq!(samples.len(), asked);
            for reply in samples.iter().flatten().filter_map(|sample: &Sample| sample.as_ref().ok()) {
                let logprob = reply.logprob(0..reply.text.len());
                prop_assert!(logprob.is_none_or(f32::is_finite), "{logprob:?}");
                prop_assert!(reply.logprob(usize::MAX..usize::MAX).is_none());
            }
        }
    }
    is_one_line(&message(bytes))
}

fn is_one_line(said: &str) -> Result<(), TestCaseError> {
    prop_assert!(!said.is_empty() && said.chars().all(|it| !it.is_control()), "{said:?}");
    prop_assert!(said.chars().count() < 800, "{} characters: {said}", said.chars().count());
    Ok(())
}

#[test]
fn a_damaged_answer_is_refused_in_one_line_or_holds_whole_replies() {
    let whole = answer();
    assert!(samples(&whole, 2).unwrap().iter().all(|it| matches!(it, Some(Ok(reply)) if reply.has_logprobs())));
    try_all((accidents(), 1..4_usize), |(accidents, asked)| {
        is_read_or_refused(&after(whole.clone(), &accidents), asked)
    });
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\":,0123.e-\\utrue ".to_vec())];
    try_all((0..=300_usize, prop::collection::vec(byte, 0..300)), |(kept, random)| {
        is_read_or_refused(&[&whole[..kept.min(whole.len())], &random].concat(), 1)
    });
}

#[test]
fn numbers_and_texts_beyond_measure_are_no_replies_and_told_in_a_line() {
    let text = |of: usize| "x\n".repeat(of);
    for answer in [
        json!({ "choices": [{ "message": { "content": "0" }, "finish_reason": text(100_000) }] }),
        json!({ "choices": text(100_000) }),
        json!({ "choices": [{ "index": -1, "message": { "content": "0" }, "finish_reason": "stop" }] }),
        json!({ "error": { "message": text(100_000) } }),
        json!([[]]),
    ] {
        assert!(samples(answer.to_string().as_bytes(), 1).is_err());
        is_read_or_refused(answer.to_string().as_bytes(), 1).unwrap();
    }
    let below = r#"{"choices": [{"message": {"content": "0"}, "finish_reason": "stop", "logprobs": {"content": [{"token": "0", "logprob": -1e300}]}}]}"#;
    let known = samples(below.as_bytes(), 1).unwrap().remove(0).unwrap().unwrap();
    assert_eq!((known.tokens, known.logprob(0..1)), (1, None));
}
