//! Sampling is the same whoever is asked beside whom.

use std::ops::Range;
use std::path::Path;

use candle_core::Device;

use super::*;
use crate::train::Group;

/// Log-probabilities of the same token move by rounding only.
const VALUES: f32 = 1e-5;
/// Sampling keys that are closer than this may change places.
const KEYS: f32 = 1e-5;

pub(crate) fn policy() -> Policy {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy/checkpoint");
    Policy::load(&folder, &Device::Cpu).unwrap()
}

/// Prompts of different lengths without pictures.
pub(crate) fn prompts(count: u32) -> Vec<Prompt> {
    let prompt =
        |n: u32| Prompt { ids: (0..20 + 7 * n).map(|i| 40 + (i * (n + 3)) % 200).collect(), grids: Vec::new() };
    (0..count).map(prompt).collect()
}

pub(crate) fn asked(prompts: &[Prompt]) -> Vec<Asked<'_>> {
    prompts.iter().map(|prompt| Asked { prompt, features: Vec::new() }).collect()
}

pub(crate) fn keys(range: Range<u16>) -> Vec<Draw> {
    let key = |n: u16| {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        Draw::Key(key)
    };
    range.map(key).collect()
}

/// `lanes` completions of each prompt, every lane with a key of its own.
fn requests(prompts: &[Prompt], lanes: u16) -> Vec<Request<'_>> {
    let request = |(n, asked): (u16, _)| Request { asked, draws: keys(n * lanes..(n + 1) * lanes) };
    (0..).zip(asked(prompts)).map(request).collect()
}

fn options() -> Sampling {
    Sampling { max_tokens: 24, ..Sampling::default() }
}

/// Tokens of one side that the other does not have because two keys were nearly equal, and all that were compared. Any
/// other difference is a failure.
fn near_ties(one: &[Vec<Completion>], other: &[Vec<Completion>]) -> (usize, usize) {
    assert_eq!(one.len(), other.len());
    let (mut ties, mut compared) = (0, 0);
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(other) {
            for (t, (a, b)) in one.ids.iter().zip(&other.ids).enumerate() {
                compared += 1;
                if a != b {
                    assert!(one.leads[t] < KEYS, "token {t}: {a} and {b} with a lead of {}", one.leads[t]);
                    ties += 1;
                    break;
                }
                let (a, b) = (one.logprobs[t], other.logprobs[t]);
                assert!((a - b).abs() <= VALUES, "token {t}: log-probabilities {a} and {b}");
            }
        }
    }
    println!("{ties} near ties among {compared} tokens");
    assert!(compared > 100 && ties * 10_000 <= compared, "{ties} near ties among {compared} tokens");
    (ties, compared)
}

#[test]
fn lanes_that_share_a_prompt_are_those_of_separate_runs() {
    let (policy, prompts) = (policy(), prompts(3));
    let together = policy.sample(&requests(&prompts, 40), &options()).unwrap();
    let separate = requests(&prompts, 40).into_iter().map(|Request { asked, draws }| {
        let alone = |draw: Draw| {
            let request = Request { asked: asked.clone(), draws: vec![draw] };
            policy.sample(&[request], &options()).unwrap().remove(0).remove(0)
        };
        draws.into_iter().map(alone).collect()
    });
    near_ties(&together, &separate.collect::<Vec<Vec<Completion>>>());
}

#[test]
fn a_permutation_of_prompts_and_lanes_changes_nothing() {
    let (policy, prompts) = (policy(), prompts(12));
    let forward = policy.sample(&requests(&prompts, 30), &options()).unwrap();
    let mut reversed = requests(&prompts, 30);
    reversed.reverse();
    for request in &mut reversed {
        request.draws.reverse();
    }
    let mut backward = policy.sample(&reversed, &options()).unwrap();
    backward.reverse();
    for lanes in &mut backward {
        lanes.reverse();
    }
    near_ties(&forward, &backward);
}

#[test]
fn a_split_of_the_requests_changes_nothing() {
    let (policy, prompts) = (policy(), prompts(12));
    let requests = requests(&prompts, 30);
    let whole = policy.sample(&requests, &options()).unwrap();
    let mut parts = Vec::new();
    for part in [&requests[..1], &requests[1..8], &requests[8..]] {
        parts.extend(policy.sample(part, &options()).unwrap());
    }
    near_ties(&whole, &parts);
}

#[test]
fn lanes_that_wait_for_room_say_the_same() {
    let (policy, prompts) = (policy(), prompts(5));
    let requests = requests(&prompts, 20);
    let whole = policy.sample(&requests, &options()).unwrap();
    // Room for the longest prompt and three lanes beside it.
    let text = &policy.model().text;
    let cache_bytes = prompts[4].ids.len() * text.bytes_a_token() + 3 * text.bytes_a_lane(23);
    let three_streams = Sampling { cache_bytes: 3 * cache_bytes, ..options() };
    near_ties(&whole, &policy.sample(&requests, &three_streams).unwrap());
}

#[test]
fn every_option_keeps_to_a_lanes_own_company() {
    let (policy, prompts) = (policy(), prompts(6));
    let shaped = Sampling {
        temperature: 0.8,
        top_p: 0.9,
        top_k: Some(40),
        repetition_penalty: 1.1,
        stop: vec![70],
        banned: vec![60, 61],
        ..options()
    };
    let whole = policy.sample(&requests(&prompts, 30), &shaped).unwrap();
    let requests = requests(&prompts, 30);
    let halves = requests.chunks(3).flat_map(|half| policy.sample(half, &shaped).unwrap());
    near_ties(&whole, &halves.collect::<Vec<_>>());
}

#[test]
fn the_same_call_gives_the_same_bits_on_any_number_of_threads() {
    let (policy, prompts) = (policy(), prompts(9));
    let requests = requests(&prompts, 25);
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| policy.sample(&requests, &options()).unwrap())
    };
    let one = with_threads(1);
    assert_eq!(one, with_threads(3));
    assert_eq!(one, policy.sample(&requests, &options()).unwrap());
}

#[test]
fn lanes_with_other_keys_say_other_things() {
    let (policy, prompts) = (policy(), prompts(1));
    let lanes = policy.sample(&requests(&prompts, 8), &options()).unwrap().remove(0);
    let texts: HashSet<&Vec<u32>> = lanes.iter().map(|lane| &lane.ids).collect();
    assert_eq!(texts.len(), 8);
}

#[test]
fn log_probabilities_are_those_of_the_training_pass() {
    let (policy, prompts) = (policy(), prompts(3));
    let sampled = policy.sample(&requests(&prompts, 7), &options()).unwrap();
    let group = |(prompt, sampled): (&Prompt, &Vec<Completion>)| Group {
        prompt: prompt.clone(),
        pictures: Vec::new(),
        completions: sampled.iter().map(|completion| completion.ids.clone()).collect(),
    };
    let groups: Vec<Group> = prompts.iter().zip(&sampled).map(group).collect();
    let scored = policy.logprobs(&[], &groups).unwrap();
    for (sampled, scored) in sampled.iter().flatten().zip(scored.iter().flatten()) {
        assert_eq!(sampled.logprobs.len(), scored.len());
        for (sampled, scored) in sampled.logprobs.iter().zip(scored) {
            assert!((sampled - scored).abs() < VALUES, "{sampled} while sampling, {scored} in training");
        }
    }
}

#[test]
fn a_completion_ends_with_an_end_token_or_at_the_longest_length() {
    let (policy, prompts) = (policy(), prompts(4));
    let stop = vec![70, 80, 90, 100, 110];
    let sampling = Sampling { stop: stop.clone(), max_tokens: 60, ..Sampling::default() };
    let lanes = policy.sample(&requests(&prompts, 30), &sampling).unwrap().concat();
    let ends = |id: &u32| stop.contains(id) || policy.config.eos.contains(id);
    for lane in &lanes {
        let (last, before) = lane.ids.split_last().unwrap();
        assert!(!before.iter().any(ends));
        let finish = if ends(last) { Finish::Stop } else { Finish::Length };
        assert_eq!(lane.finish, finish);
        assert!(lane.finish == Finish::Stop || lane.ids.len() == 60);
        assert_eq!((lane.logprobs.len(), lane.leads.len()), (lane.ids.len(), lane.ids.len()));
        assert_eq!(lane.text, policy.tokenizer.decode(&lane.ids).unwrap());
    }
    assert!(lanes.iter().any(|lane| lane.finish == Finish::Stop));
    assert!(lanes.iter().any(|lane| lane.finish == Finish::Length));
}

#[test]
fn banned_tokens_are_never_drawn() {
    let (policy, prompts) = (policy(), prompts(4));
    let banned: Vec<u32> = (0..200).collect();
    let sampling = Sampling { banned: banned.clone(), ..options() };
    let lanes = policy.sample(&requests(&prompts, 32), &sampling).unwrap().concat();
    let never = &policy.model().banned;
    assert!(!never.is_empty());
    assert!(lanes.iter().flat_map(|lane| &lane.ids).all(|id| !never.contains(id) && !banned.contains(id)));
}

#[test]
fn greedy_and_drawn_lanes_share_a_prompt() {
    let (policy, prompts) = (policy(), prompts(1));
    let draws = [vec![Draw::Greedy], keys(0..5)].concat();
    let asked = asked(&prompts).remove(0);
    let mixed = policy.sample(&[Request { asked, draws }], &options()).unwrap().remove(0);
    assert_eq!(mixed[0].ids, policy.greedy(&prompts[0], &[], 24).unwrap().ids);
    let drawn = policy.sample(&requests(&prompts, 5), &options()).unwrap().remove(0);
    assert_eq!(mixed[1].ids, drawn[0].ids);
}

#[test]
fn what_does_not_fit_the_allowed_bytes_is_refused() {
    let (policy, prompts) = (policy(), prompts(1));
    let sampling = Sampling { cache_bytes: 1000, ..options() };
    let message = policy.sample(&requests(&prompts, 1), &sampling).unwrap_err().to_string();
    assert!(message.contains("20 tokens") && message.contains("1000 are allowed"), "{message}");
}

#[test]
fn a_request_for_no_completions_is_refused() {
    let (policy, prompts) = (policy(), prompts(1));
    let message = policy.sample(&requests(&prompts, 0), &options()).unwrap_err().to_string();
    assert!(message.contains("0 completions"), "{message}");
    assert!(policy.sample(&[], &options()).unwrap().is_empty());
}

#[test]
fn a_prompt_too_long_for_the_positions_is_refused() {
    let policy = policy();
    let limit = policy.config.text.max_position_embeddings;
    let prompt = Prompt { ids: vec![40; 8], grids: Vec::new() };
    assert!(matches!(policy.greedy(&prompt, &[], limit), Err(Error::TooLong { .. })));
}

#[test]
fn an_option_out_of_its_range_is_an_error() {
    let policy = policy();
    for (wrong, named) in [
        (Sampling { temperature: 0.0, ..Sampling::default() }, "temperature"),
        (Sampling { top_p: 1.5, ..Sampling::default() }, "top_p"),
        (Sampling { top_k: Some(0), ..Sampling::default() }, "top_k"),
        (Sampling { repetition_penalty: -1.0, ..Sampling::default() }, "repetition penalty"),
        (Sampling { max_tokens: 0, ..Sampling::default() }, "0 new tokens"),
        (Sampling { stop: vec![1 << 20], ..Sampling::default() }, "outside the vocabulary"),
        (
            Sampling { banned: (0..policy.config.text.vocab_size as u32).collect(), ..Sampling::default() },
            "every token",
        ),
    ] {
        let message = policy.sample(&[], &wrong).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
    }
}
