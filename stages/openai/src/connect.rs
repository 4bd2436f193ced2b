//! Tries a server before anything is asked of it: whether it answers, takes pictures, and what of a request it takes.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use evoq_pictures::encode_png;
use evoq_stage::bad_input;
use image::RgbImage;

use crate::flags::Flags;
use crate::picture::png_uri;
use crate::question::{Draws, body};
use crate::reply::{Lost, Sample};
use crate::send::{Failed, Fault, SIMPLE, simple_sampling};
use crate::server::{Server, Takes};

/// Replies that are asked for at once, to see how many come.
const SEVERAL: usize = 4;

/// What a server may take, in the order in which it is tried: what is refused is left out. Several replies at once are of use only
/// with log-probabilities, which alone tell how many tokens each has.
const ALL: [Takes; 6] = [
    Takes { several: true, logprobs: true, more: true },
    Takes { several: false, logprobs: true, more: true },
    Takes { several: true, logprobs: true, more: false },
    Takes { several: false, logprobs: true, more: false },
    Takes { several: false, logprobs: false, more: true },
    Takes { several: false, logprobs: false, more: false },
];

impl Server {
    /// Tries the server that the flags name, with questions about `pictures` pictures.
    ///
    /// # Errors
    /// Bad input: a flag is missing or wrong, nothing answers there, the key or the model is refused, the model takes no
    /// pictures. A failure: the server is there and does not get to answering.
    pub fn connect(flags: &Flags, pictures: usize) -> anyhow::Result<Self> {
        let mut server = Self::named(flags, Duration::from_secs(1))?;
        server.learn(pictures)?;
        Ok(server)
    }

    /// The server that the flags name, not yet tried.
    pub(crate) fn named(flags: &Flags, first_pause: Duration) -> anyhow::Result<Self> {
        let checked = flags.checked()?;
        Ok(Self {
            address: checked.address,
            model: checked.model,
            client: checked.client,
            key: checked.key,
            concurrency: flags.concurrency,
            tries: flags.tries,
            first_pause,
            takes: ALL[0],
            has_replied: AtomicBool::new(false),
        })
    }

    /// Finds out what the server takes.
    pub(crate) fn learn(&mut self, pictures: usize) -> anyhow::Result<()> {
        let mut refused = None;
        for takes in ALL {
            let count = if takes.several { SEVERAL } else { 1 };
            match self.simple(takes, &[], count) {
                Ok(samples) => {
                    self.takes = given(takes, &samples);
                    return self.take_pictures(pictures);
                }
                Err(Fault::Lost(Lost::Refused, what)) => refused = refused.or(Some(what)),
                Err(fault) => return Err(self.told(fault)),
            }
        }
        Err(bad_input(format!(
            "--url {}: the server refuses the simplest question: {}; check --model {}",
            self.name(),
            refused.unwrap_or_default(),
            self.model
        )))
    }

    /// Shows the server as many pictures as its questions will have.
    fn take_pictures(&self, pictures: usize) -> anyhow::Result<()> {
        let picture =
            RgbImage::from_fn(56, 56, |x, y| image::Rgb([(x * 4) as u8, (y * 4) as u8, ((x * y) % 256) as u8]));
        let shown = vec![png_uri(&encode_png(&picture)); pictures];
        match self.simple(self.takes, &shown, 1) {
            Ok(_) => {}
            Err(Fault::Lost(_, what)) => {
                let what = format!("the server does not take {pictures} pictures in one question: {what}");
                return Err(bad_input(format!("--url {}: {what}; serve a model that does", self.name())));
            }
            Err(fault) => return Err(self.told(fault)),
        }
        let Takes { several, logprobs, more } = self.takes;
        tracing::info!(
            "{}: {} answers, {}, {} log-probabilities",
            self.name(),
            self.model,
            if several { "several replies at a time" } else { "one reply at a time" },
            if logprobs { "with" } else { "without" }
        );
        if !more {
            tracing::warn!(
                "{}: the server refuses top_k, min_p and repetition_penalty; where it has defaults of its own, or takes them from \
                 the checkpoint's generation_config.json, they hold",
                self.name()
            );
        }
        Ok(())
    }

    /// Asks a question that any model answers.
    fn simple(&self, takes: Takes, pictures: &[String], count: usize) -> Result<Vec<Option<Sample>>, Fault> {
        let draws = Draws::Seeded { first: 1, count };
        let body = body(&self.model, SIMPLE, pictures, draws, &simple_sampling(), takes);
        self.exchange(&body, count, 1, self.tries, &Failed::new())
    }

    /// The error of a fault before anything was asked.
    fn told(&self, fault: Fault) -> anyhow::Error {
        match fault {
            Fault::Fatal(error) => error,
            Fault::Lost(_, what) => bad_input(format!("--url {}: {what}; check the server", self.name())),
            Fault::Stopped => unreachable!("nothing else is asked that could end the run"),
        }
    }
}

/// What of `takes` the server gave. Some ignore `n`, some `logprobs`, and some repeat one reply `n` times.
fn given(takes: Takes, samples: &[Option<Sample>]) -> Takes {
    let replies: Vec<_> = samples.iter().flatten().flatten().collect();
    let logprobs = takes.logprobs && !replies.is_empty() && replies.iter().all(|reply| reply.has_logprobs());
    let differ = replies.windows(2).any(|two| two[0].text != two[1].text);
    Takes { several: takes.several && logprobs && replies.len() == SEVERAL && differ, logprobs, ..takes }
}
