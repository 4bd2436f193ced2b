//! Questions to servers that fail in every way that real ones do.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use evoq_schemas::ImageId;
use evoq_stage::BadInput;
use evoq_test_support::faulty::{Act, Faulty, replies, reply};
use serde_json::{Value, json};

use crate::ask::ask_with;
use crate::server::Takes;
use crate::{Draws, Engine, Flags, Lost, Question, Sample, Sampling, Server};

const SAMPLING: Sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: None, max_tokens: 8 };

/// Flags that name the server at `url`.
pub(crate) fn flags(url: &str) -> Flags {
    Flags {
        engine: Engine::Openai,
        url: Some(url.to_owned()),
        model: Some("tiny".to_owned()),
        key_env: None,
        concurrency: 4,
        request_timeout: 20,
        tries: 3,
    }
}

/// The server, not yet tried, which takes everything.
fn server(faulty: &Faulty) -> Server {
    Server::named(&flags(&faulty.url), Duration::from_millis(1)).unwrap()
}

/// Asks for `count` replies about each of `ids`; the seeds of the `i`-th begin with `100 i`.
fn ask(server: &Server, ids: &[&str], count: usize) -> anyhow::Result<Vec<Vec<Sample>>> {
    let ids: Vec<ImageId> = ids.iter().map(|id| ImageId::from(*id)).collect();
    let question = |(index, id)| {
        let draws = Draws::Seeded { first: 100 * index as u64, count };
        Question { text: "how good?", pictures: vec![id], draws }
    };
    let questions: Vec<Question> = ids.iter().enumerate().map(question).collect();
    ask_with(server, &|id| Ok(format!("data:{id}")), &questions, &SAMPLING)
}

/// The texts of replies; lost ones by their reason.
fn texts(samples: &[Vec<Sample>]) -> Vec<Vec<&str>> {
    samples.iter().map(|it| it.iter().map(text).collect()).collect()
}

fn text(sample: &Sample) -> &str {
    match sample {
        Ok(reply) => &reply.text,
        Err(lost) => lost.as_str(),
    }
}

/// The picture that a request shows; empty for the simple question.
fn shown(body: &Value) -> &str {
    body.pointer("/messages/0/content/0/image_url/url").and_then(Value::as_str).unwrap_or_default()
}

/// The seed of the first reply that a request asks for, and how many.
fn seeds(body: &Value) -> (u64, u64) {
    (body["seed"].as_u64().unwrap(), body["n"].as_u64().unwrap_or(1))
}

/// Replies that say their own seeds, all that are asked for.
fn honest(body: &Value) -> Act {
    let (first, count) = seeds(body);
    replies((first..first + count).map(|seed| seed.to_string()))
}

fn is_bad_input(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<BadInput>)
}

#[test]
fn what_passes_is_tried_again_until_there_is_a_reply() {
    let faulty = Faulty::new(|number, _| match number {
        0 => Act::Answer(429, vec![("retry-after", "0")], "slow down".to_owned()),
        1 => Act::Answer(500, vec![], "{\"error\": {\"message\": \"no memory\"}}".to_owned()),
        2 => Act::Drop,
        3 => Act::Answer(200, vec![], "{\"choices\": [{\"message\": {\"content\": \"\\\\boxed{0}".to_owned()),
        4 => Act::CutShort,
        5 => Act::Answer(503, vec![], String::new()),
        _ => reply("\\boxed{1}"),
    });
    let server = Server { tries: 7, ..server(&faulty) };
    assert_eq!(texts(&ask(&server, &["a"], 1).unwrap()), [["\\boxed{1}"]]);
    assert_eq!(faulty.asked().len(), 7);
    // Each try is for the same reply.
    assert!(faulty.asked().windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn the_pause_that_a_server_asks_for_stands_in_for_our_own() {
    let faulty = Faulty::new(|number, _| match number {
        0 => Act::Answer(429, vec![("retry-after", "0")], String::new()),
        _ => reply("1"),
    });
    let server = Server { first_pause: Duration::from_secs(10_000), ..server(&faulty) };
    assert_eq!(texts(&ask(&server, &["a"], 1).unwrap()), [["1"]]);
}

#[test]
fn all_replies_come_in_one_request_where_the_server_gives_them() {
    let faulty = Faulty::new(|_, body| honest(body));
    assert_eq!(texts(&ask(&server(&faulty), &["a", "b"], 3).unwrap()), [["0", "1", "2"], ["100", "101", "102"]]);
    assert_eq!(faulty.asked().len(), 2);
}

#[test]
fn replies_that_did_not_come_are_asked_for_with_the_seeds_that_they_would_have_had() {
    // As `transformers serve`: one choice, whatever was asked for.
    let faulty = Faulty::new(|_, body| reply(&seeds(body).0.to_string()));
    let asked = ask(&server(&faulty), &["a", "b"], 4).unwrap();
    assert_eq!(texts(&asked), [["0", "1", "2", "3"], ["100", "101", "102", "103"]]);
    let seen: BTreeSet<_> = faulty.asked().iter().map(seeds).collect();
    assert_eq!(seen.len(), 8);
    assert_eq!(seen.iter().filter(|(_, count)| *count > 1).count(), 2);
}

#[test]
fn a_choice_that_was_cut_off_by_the_server_is_asked_for_again() {
    let faulty = Faulty::new(|_, body| match seeds(body) {
        (first, 3) => {
            let Act::Answer(status, headers, text) = replies((first..first + 3).map(|seed| seed.to_string())) else {
                unreachable!("replies are an answer")
            };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            answer["choices"][1]["finish_reason"] = json!("abort");
            answer["choices"][1]["message"]["content"] = json!("\\boxed{0}");
            Act::Answer(status, headers, answer.to_string())
        }
        (seed, _) => reply(&format!("again {seed}")),
    });
    assert_eq!(texts(&ask(&server(&faulty), &["a"], 3).unwrap()), [["0", "again 1", "2"]]);
}

#[test]
fn one_question_that_never_gets_through_costs_no_other() {
    let faulty = Faulty::new(|_, body| match shown(body) {
        "data:hangs" => Act::Hang,
        "data:breaks" => Act::Answer(200, vec![], "{\"choices\": [".to_owned()),
        "data:crashes" => Act::Answer(500, vec![], String::new()),
        "data:drops" => Act::Drop,
        "data:large" => Act::Answer(400, vec![], "{\"error\": {\"message\": \"picture too large\"}}".to_owned()),
        _ => honest(body),
    });
    let flags = Flags { request_timeout: 1, tries: 2, ..flags(&faulty.url) };
    let server = Server::named(&flags, Duration::from_millis(1)).unwrap();
    let ids = ["fine", "hangs", "breaks", "crashes", "drops", "large", "well"];
    let asked = ask(&server, &ids, 1).unwrap();
    let lost =
        [Lost::TimedOut, Lost::BrokenReply, Lost::ServerError, Lost::ServerError, Lost::Refused].map(Lost::as_str);
    assert_eq!(texts(&asked), [["0"], [lost[0]], [lost[1]], [lost[2]], [lost[3]], [lost[4]], ["600"]]);
}

#[test]
fn a_server_that_went_away_ends_the_run_and_no_reply_is_made_up() {
    for fault in [|| Act::Answer(500, vec![], "out of memory".to_owned()), || Act::Drop] {
        let faulty = Faulty::new(move |number, body| if number < 3 { honest(body) } else { fault() });
        let error = ask(&server(&faulty), &["a", "b", "c", "d", "e", "f"], 1).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&faulty.url) && said.contains("what is done is kept"), "{said}");
        assert!(!is_bad_input(&error) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn a_limit_of_the_rate_ends_the_run_rather_than_lose_replies() {
    let faulty = Faulty::new(|number, body| match number {
        0 => honest(body),
        _ if shown(body).is_empty() => honest(body),
        _ => {
            Act::Answer(429, vec![("retry-after", "0")], "{\"error\": {\"message\": \"too many requests\"}}".to_owned())
        }
    });
    let said = ask(&Server { concurrency: 1, ..server(&faulty) }, &["a", "b"], 1).unwrap_err().to_string();
    assert!(said.contains("429") && said.contains("too many requests") && said.contains("--concurrency"), "{said}");
}

#[test]
fn what_no_try_can_mend_is_bad_input_that_says_what_to_do() {
    let text = |text: &str| format!("{{\"error\": {{\"message\": \"{text}\"}}}}");
    for (status, headers, answer, remedy) in [
        (401, vec![], text("no key"), "set OPENAI_API_KEY"),
        (403, vec![], text("wrong key"), "OPENAI_API_KEY"),
        (404, vec![], text("no such model"), "--model tiny"),
        (308, vec![("location", "https://elsewhere/v1")], String::new(), "https://elsewhere/v1"),
        (405, vec![], String::new(), "check the address"),
        (501, vec![], "<html>no POST</html>".to_owned(), "check the address"),
        (400, vec![], text("bad model"), "check --model tiny"),
        (200, vec![], "<html>hello</html>".to_owned(), "check the address"),
    ] {
        let faulty = Faulty::new(move |_, _| Act::Answer(status, headers.clone(), answer.clone()));
        let error = server(&faulty).learn(1).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&faulty.url) && said.contains(remedy) && !said.contains('\n'), "{status}: {said}");
        assert!(is_bad_input(&error), "{said}");
    }
}

#[test]
fn nothing_at_the_address_is_bad_input() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Server::named(&flags(&url), Duration::from_millis(1)).unwrap().learn(1).unwrap_err();
    assert!(
        is_bad_input(&error) && error.to_string().contains("start it, or check the address and --model"),
        "{error}"
    );
}

#[test]
fn what_a_server_does_not_take_is_found_out() {
    type Answers = fn(&Value) -> Act;
    let cases: [(Answers, Takes); 5] = [
        (honest, Takes { several: true, logprobs: true, more: true }),
        (
            |body| if body.get("n").is_some() { Act::Answer(400, vec![], "n".to_owned()) } else { honest(body) },
            Takes { several: false, logprobs: true, more: true },
        ),
        (
            |body| {
                if body.get("min_p").is_some() { Act::Answer(422, vec![], "min_p".to_owned()) } else { honest(body) }
            },
            Takes { several: true, logprobs: true, more: false },
        ),
        // As `transformers serve`: one choice, no log-probabilities, unknown fields refused.
        (
            |body| match body.get("top_k") {
                Some(_) => Act::Answer(422, vec![], "{\"detail\": \"Unexpected fields\"}".to_owned()),
                None => evoq_test_support::faulty::untold(&seeds(body).0.to_string()),
            },
            Takes { several: false, logprobs: false, more: false },
        ),
        // One reply, again and again.
        (
            |body| replies((0..seeds(body).1).map(|_| "same".to_owned())),
            Takes { several: false, logprobs: true, more: true },
        ),
    ];
    for (answers, takes) in cases {
        let faulty = Faulty::new(move |_, body| answers(body));
        let mut server = server(&faulty);
        server.learn(2).unwrap();
        assert_eq!(server.takes, takes);
        let last = faulty.asked().pop().unwrap();
        assert_eq!(last["messages"][0]["content"].as_array().unwrap().len(), 3, "two pictures were shown");
    }
}

#[test]
fn a_server_that_never_answers_its_first_question_is_not_waited_for_again() {
    let faulty = Faulty::new(|_, _| Act::Hang);
    let flags = Flags { request_timeout: 1, ..flags(&faulty.url) };
    let error = Server::named(&flags, Duration::from_millis(1)).unwrap().learn(1).unwrap_err();
    assert!(is_bad_input(&error) && error.to_string().contains("--model"), "{error}");
    assert_eq!(faulty.asked().len(), 1);
}

#[test]
fn a_model_without_eyes_is_found_out_before_anything_is_asked() {
    let faulty = Faulty::new(|_, body| match shown(body) {
        "" => honest(body),
        _ => Act::Answer(400, vec![], "{\"error\": {\"message\": \"not a multimodal model\"}}".to_owned()),
    });
    let error = server(&faulty).learn(2).unwrap_err();
    assert!(is_bad_input(&error), "{error}");
    assert!(
        error.to_string().contains("2 pictures") && error.to_string().contains("not a multimodal model"),
        "{error}"
    );
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let faulty = Faulty::new(|_, _| Act::Answer(401, vec![], "no".to_owned()));
    // A variable that is set wherever tests run.
    let key = std::env::var("PATH").unwrap();
    let flags = Flags { key_env: Some("PATH".to_owned()), ..flags(&faulty.url) };
    let mut server = Server::named(&flags, Duration::from_millis(1)).unwrap();
    let error = server.learn(1).unwrap_err().to_string();
    assert_eq!(faulty.keys(), [format!("Bearer {key}")]);
    assert!(error.contains("PATH holds a key") && !error.contains(&key), "{error}");
    assert!(!format!("{server:?}").contains(&key));
    let missing = Flags { key_env: Some("EVOQ_NO_SUCH_VARIABLE".to_owned()), ..flags };
    assert!(is_bad_input(&Server::named(&missing, Duration::ZERO).unwrap_err()));
}

#[test]
fn a_picture_that_cannot_be_read_ends_the_run() {
    let faulty = Faulty::new(|_, body| honest(body));
    let id = ImageId::from("a");
    let question = Question { text: "", pictures: vec![&id], draws: Draws::Greedy };
    let error = ask_with(&server(&faulty), &|id| anyhow::bail!("{id} is torn"), &[question], &SAMPLING).unwrap_err();
    assert_eq!(error.to_string(), "a is torn");
}

#[test]
fn pauses_double_and_are_the_same_in_each_run() {
    let faulty = Faulty::new(|_, body| honest(body));
    let server = Server { first_pause: Duration::from_secs(1), ..server(&faulty) };
    let pauses = |seed: u64| (1..=9).map(|tried| server.pause(seed, tried).as_secs_f64()).collect::<Vec<_>>();
    assert_eq!(pauses(5), pauses(5));
    assert_ne!(pauses(5), pauses(6));
    for (tried, pause) in pauses(5).into_iter().enumerate() {
        let longest = f64::from(1 << tried).min(60.0);
        assert!(pause >= longest / 2.0 && pause <= longest, "{tried}: {pause}");
    }
}
