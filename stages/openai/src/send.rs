//! One request, tried until it is answered: what each fault means, when it is tried again, and when to give up.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use evoq_artifacts::block_on;
use evoq_schemas::draws;
use evoq_stage::bad_input;
use reqwest::StatusCode;
use reqwest::header::{LOCATION, RETRY_AFTER};
use serde_json::Value;

use crate::flags::Key;
use crate::question::{Draws, Sampling, body};
use crate::reply::{Lost, Sample, excerpt, samples};
use crate::server::Server;

/// The longest pause of our own choice.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_mins(10);
/// Tries of an address at which nothing was ever reached.
const FIRST_TRIES: usize = 3;
/// A question that any model answers.
pub(crate) const SIMPLE: &str = "Write sixteen letters in a random order.";

/// What one try came to, where it came to no reply.
enum Failure {
    /// It may pass: worth another try, after `wait` where the server says so.
    Passing { cause: Cause, what: String, wait: Option<Duration> },
    /// The server does not take this question.
    Refused(String),
    /// The server cannot be used as it was named.
    Unusable(String),
}

/// Whose fault a failure may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Nothing was reached.
    Unreached,
    /// The server has too much to do, or is not ready.
    Busy,
    /// The question's, or the server's: another question tells.
    Question(Lost),
}

/// Why a request has no answer.
pub(crate) enum Fault {
    /// It is this request's: what was found.
    Lost(Lost, String),
    /// It ends the run.
    Fatal(anyhow::Error),
    /// Another request has ended the run.
    Stopped,
}

/// The first failure that ends the run.
pub(crate) type Failed = OnceLock<anyhow::Error>;

impl Server {
    /// The samples that the server gives for `body`, which asks for `asked` of them; `seed` keys the pauses.
    pub(crate) fn exchange(
        &self,
        body: &Value,
        asked: usize,
        seed: u64,
        tries: usize,
        failed: &Failed,
    ) -> Result<Vec<Option<Sample>>, Fault> {
        let body = body.to_string();
        let mut tried = 0;
        loop {
            if failed.get().is_some() {
                return Err(Fault::Stopped);
            }
            tried += 1;
            let (cause, what, wait) = match self.attempt(&body, asked) {
                Ok(samples) => {
                    self.has_replied.store(true, Ordering::Relaxed);
                    return Ok(samples);
                }
                Err(Failure::Refused(what)) => return Err(Fault::Lost(Lost::Refused, what)),
                Err(Failure::Unusable(what)) => return Err(Fault::Fatal(bad_input(what))),
                Err(Failure::Passing { cause, what, wait }) => (cause, what, wait),
            };
            let limit = match cause {
                _ if self.has_replied.load(Ordering::Relaxed) => tries,
                Cause::Unreached => tries.min(FIRST_TRIES),
                // A server that looks for an unknown model elsewhere may look for ever.
                Cause::Question(Lost::TimedOut) => 1,
                _ => tries,
            };
            if tried >= limit {
                return Err(self.given_up(cause, &what, tried, failed));
            }
            tracing::debug!("{}: {what}; try {tried} of {tries}", self.name());
            pause(wait.unwrap_or_else(|| self.pause(seed, tried)), failed);
        }
    }

    /// What a request that failed in all its tries means: the question's own fault only where the server answers another.
    fn given_up(&self, cause: Cause, what: &str, tried: usize, failed: &Failed) -> Fault {
        let name = self.name();
        if let (Cause::Question(lost), true) = (cause, self.has_replied.load(Ordering::Relaxed)) {
            let draws = Draws::Seeded { first: 1, count: 1 };
            let body = body(&self.model, SIMPLE, &[], draws, &simple_sampling(), self.takes);
            // It lacks the question: its own failure is never the question's.
            match self.attempt_some(&body.to_string(), failed) {
                Ok(()) => return Fault::Lost(lost, format!("{name}: {what}, {tried} times")),
                Err(fault) => return fault,
            }
        }
        let error = if self.has_replied.load(Ordering::Relaxed) || cause == Cause::Busy {
            anyhow::anyhow!(
                "--url {name}: {what}, {tried} times; what is done is kept: see to the server, or lower --concurrency, or raise \
                 --tries or --request-timeout, and run the same command again"
            )
        } else {
            bad_input(format!(
                "--url {name}: {what}, {tried} times; expected an OpenAI-compatible server with the model {}: start it, or check \
                 the address and --model",
                self.model
            ))
        };
        Fault::Fatal(error)
    }

    /// Whether a simple question is answered within a few tries.
    fn attempt_some(&self, body: &str, failed: &Failed) -> Result<(), Fault> {
        let mut said = String::new();
        for tried in 1..=FIRST_TRIES {
            if failed.get().is_some() {
                return Err(Fault::Stopped);
            }
            match self.attempt(body, 1) {
                Ok(_) => return Ok(()),
                Err(Failure::Passing { what, wait, .. }) => {
                    said = what;
                    if tried < FIRST_TRIES {
                        pause(wait.unwrap_or_else(|| self.pause(0, tried)), failed);
                    }
                }
                Err(Failure::Refused(what) | Failure::Unusable(what)) => {
                    said = what;
                    break;
                }
            }
        }
        Err(Fault::Fatal(anyhow::anyhow!(
            "--url {}: the server has stopped answering, simple questions too: {said}; what is done is kept: see to the server \
             and run the same command again",
            self.name()
        )))
    }

    /// The pause after try number `tried`: doubled each time, and less by up to a half, keyed by the request.
    pub(crate) fn pause(&self, seed: u64, tried: usize) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (tried - 1).min(16)).min(LONGEST_PAUSE);
        let share = draws::seed(seed, "back-off", &[&tried.to_string()]) as f64 / u64::MAX as f64;
        doubled.mul_f64(1.0 - 0.5 * share)
    }

    /// Sends the request once.
    fn attempt(&self, body: &str, asked: usize) -> Result<Vec<Option<Sample>>, Failure> {
        let request = self.client.post(self.address.clone()).body(body.to_owned());
        let answered = block_on(async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok((status, headers, answer.bytes().await?))
        });
        let (status, headers, answer) = answered.map_err(|error| lost_request(&error))?;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if status.is_success() {
            return samples(&answer, asked).map_err(|what| Failure::Passing {
                cause: Cause::Question(Lost::BrokenReply),
                what,
                wait: None,
            });
        }
        let said = format!("it answers {status}: {}", message(&answer));
        Err(self.refusal(status, said, header(RETRY_AFTER.as_str()), header(LOCATION.as_str())))
    }

    /// What an answer that is no success means.
    fn refusal(&self, status: StatusCode, said: String, after: Option<&str>, location: Option<&str>) -> Failure {
        let (name, Key { variable, is_set }) = (self.name(), &self.key);
        // A date would need a clock that agrees with the server's: our own pause stands in for it.
        let wait = after.and_then(|text| text.trim().parse().ok()).and_then(|it| Duration::try_from_secs_f64(it).ok());
        let wait = wait.map(|it| it.min(LONGEST_ASKED));
        let passing = |cause| Failure::Passing { cause, what: said.clone(), wait };
        match status.as_u16() {
            408 => passing(Cause::Question(Lost::TimedOut)),
            425 | 429 | 502..=504 => passing(Cause::Busy),
            401 | 403 if *is_set => {
                Failure::Unusable(format!("--url {name}: {said}; check that {variable} holds a key of this server"))
            }
            401 | 403 => Failure::Unusable(format!(
                "--url {name}: {said}; set {variable} to a key of this server, or name another variable with --key-env"
            )),
            404 => Failure::Unusable(format!(
                "--url {name}: {said}; check that --model {} is a model there, and the address",
                self.model
            )),
            300..=399 => Failure::Unusable(format!(
                "--url {name}: {said}; it points to {}: give that server's address",
                location.unwrap_or("no other address")
            )),
            405 | 501 => Failure::Unusable(format!(
                "--url {name}: {said}; expected an OpenAI-compatible server: check the address"
            )),
            400..=499 => Failure::Refused(said),
            _ => passing(Cause::Question(Lost::ServerError)),
        }
    }
}

/// How a simple question is answered.
pub(crate) fn simple_sampling() -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, top_k: None, max_tokens: 16 }
}

/// A request that was not answered whole.
fn lost_request(error: &reqwest::Error) -> Failure {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    let (cause, what) = if error.is_connect() {
        (Cause::Unreached, format!("no connection ({root})"))
    } else if error.is_timeout() {
        (Cause::Question(Lost::TimedOut), "no answer within --request-timeout".to_owned())
    } else {
        (Cause::Question(Lost::ServerError), format!("the connection was lost ({root})"))
    };
    Failure::Passing { cause, what, wait: None }
}

/// What a server says about a fault: its message where it is in one of the usual places, else the beginning of what it sent.
pub(crate) fn message(answer: &[u8]) -> String {
    let told = serde_json::from_slice::<Value>(answer).ok().and_then(|value| {
        let places = ["/error/message", "/message", "/detail", "/error"];
        places.iter().find_map(|place| value.pointer(place)?.as_str().map(|text| excerpt(text.as_bytes())))
    });
    told.unwrap_or_else(|| excerpt(answer))
}

/// Waits, but not for a run that has ended.
fn pause(time: Duration, failed: &Failed) {
    const PIECE: Duration = Duration::from_millis(100);
    let mut left = time;
    while !left.is_zero() && failed.get().is_none() {
        let piece = left.min(PIECE);
        thread::sleep(piece);
        left -= piece;
    }
}
