//! A run of requests whose lanes are decoded together: lanes enter in order as there is room, and leave when they end.

use candle_core::Tensor;
use rayon::prelude::*;

use super::choose::choose;
use super::said::{Said, no_room};
use super::{Completion, LANES, Request, Sampling};
use crate::decode::{Decoding, LaneCache, PromptCache};
use crate::error::Result;
use crate::ops::Floats;
use crate::ops::linear::Kernel;
use crate::ops::logits::ban;
use crate::policy::Policy;

/// Logits of a step from which the lanes' choices are divided among threads.
const DIVIDED: usize = 1 << 16;

/// Requests on their way to completions.
pub(super) struct Stream<'a> {
    policy: &'a Policy,
    requests: &'a [Request<'a>],
    sampling: &'a Sampling,
    /// Most bytes of keys and values.
    room: usize,
    /// The next lane to enter: its request and its draw.
    next: (usize, usize),
    /// Prompts with lanes that have not ended or not yet entered, in the order of the requests.
    open: Vec<Open>,
    /// By request, then by draw.
    done: Vec<Vec<Option<Completion>>>,
}

/// A prompt that was read.
struct Open {
    request: usize,
    cache: PromptCache,
    /// After the prompt, those of banned ids at −∞.
    logits: Vec<f32>,
    /// The distinct ids of the prompt, for a repetition penalty.
    seen: Vec<u32>,
    lanes: Vec<Lane>,
}

/// A lane: what it has said, and its keys and values.
struct Lane {
    said: Said,
    cache: LaneCache,
}

impl<'a> Stream<'a> {
    pub fn new(policy: &'a Policy, requests: &'a [Request<'a>], sampling: &'a Sampling, room: usize) -> Self {
        let done = requests.iter().map(|request| vec![None; request.draws.len()]).collect();
        Self { policy, requests, sampling, room, next: (0, 0), open: Vec::new(), done }
    }

    /// The completions of each request, in the order of its draws.
    pub fn run(mut self) -> Result<Vec<Vec<Completion>>> {
        loop {
            self.admit()?;
            self.retire()?;
            if self.lanes() > 0 {
                self.step()?;
                self.retire()?;
            } else if self.next.0 == self.requests.len() {
                break;
            }
        }
        let whole = |lanes: Vec<Option<Completion>>| lanes.into_iter().flatten().collect();
        Ok(self.done.into_iter().map(whole).collect())
    }

    fn lanes(&self) -> usize {
        self.open.iter().map(|open| open.lanes.len()).sum()
    }

    /// Lets lanes in while there is room, reads the prompts of those that are the first of theirs, and draws each lane's
    /// first token.
    fn admit(&mut self) -> Result<()> {
        let text = &self.policy.model().text;
        let a_lane = text.bytes_a_lane(self.sampling.max_tokens - 1);
        let a_prompt = |request: usize| self.requests[request].asked.prompt.ids.len() * text.bytes_a_token();
        let mut used = self.lanes() * a_lane + self.open.iter().map(|open| a_prompt(open.request)).sum::<usize>();
        let (mut entering, mut lanes, mut prompts) = (Vec::new(), self.lanes(), Vec::new());
        while let Some(request) = self.requests.get(self.next.0) {
            let first = self.next.1 == 0;
            let needed = a_lane + if first { a_prompt(self.next.0) } else { 0 };
            if lanes == LANES || used + needed > self.room {
                break;
            }
            (used, lanes) = (used + needed, lanes + 1);
            if first {
                prompts.push(self.next.0);
            }
            entering.push(self.next);
            self.next.1 += 1;
            if self.next.1 == request.draws.len() {
                self.next = (self.next.0 + 1, 0);
            }
        }
        if let (0, Some(request)) = (lanes, self.requests.get(self.next.0)) {
            let bytes = used + a_lane + a_prompt(self.next.0);
            return Err(no_room(request.asked.prompt.ids.len(), self.sampling, bytes, self.room));
        }
        self.read(&prompts)?;
        for (request, index) in entering {
            let draw = self.requests[request].draws[index];
            let open = self.open.iter_mut().find(|open| open.request == request).expect("its prompt was read");
            open.lanes.push(Lane { said: Said::new(index, draw, open.seen.clone()), cache: LaneCache::default() });
        }
        self.first_tokens()
    }

    /// Reads the prompts of these requests.
    fn read(&mut self, requests: &[usize]) -> Result<()> {
        let model = self.policy.model();
        let asked: Vec<_> = requests.iter().map(|&request| &self.requests[request].asked).collect();
        for (&request, (cache, logits)) in requests.iter().zip(model.read(&asked)?) {
            let seen = self.sampling.seen(self.requests[request].asked.prompt);
            self.open.push(Open { request, cache, logits, seen, lanes: Vec::new() });
        }
        Ok(())
    }

    /// Draws the first token of lanes that have none.
    fn first_tokens(&mut self) -> Result<()> {
        let (policy, sampling) = (self.policy, self.sampling);
        let lanes: Vec<(&mut Lane, &[f32])> = self
            .open
            .iter_mut()
            .flat_map(|open| open.lanes.iter_mut().map(|lane| (lane, open.logits.as_slice())))
            .filter(|(lane, _)| lane.said.ids.is_empty())
            .collect();
        take_all(lanes, policy, sampling)
    }

    /// Reads the newest token of every lane and draws the next one.
    fn step(&mut self) -> Result<()> {
        let (policy, sampling) = (self.policy, self.sampling);
        let model = policy.model();
        let ids: Vec<u32> = self
            .open
            .iter()
            .flat_map(|open| &open.lanes)
            .map(|lane| *lane.said.ids.last().expect("a lane's first token is drawn when it enters"))
            .collect();
        let mut decoding: Vec<Decoding> = self
            .open
            .iter_mut()
            .filter(|open| !open.lanes.is_empty())
            .map(|open| Decoding {
                prompt: &open.cache,
                lanes: open.lanes.iter_mut().map(|lane| &mut lane.cache).collect(),
            })
            .collect();
        let rows = model.text.decode(&ids, &mut decoding)?;
        drop(decoding);
        let (logits, _) = model.text.logits(rows, Kernel::RowByRow)?;
        let mut logits = values(&logits)?;
        let width = logits.len() / ids.len();
        logits.chunks_exact_mut(width).for_each(|row| ban(row, &model.banned));
        let lanes = self.open.iter_mut().flat_map(|open| &mut open.lanes).zip(logits.chunks_exact(width));
        take_all(lanes.collect(), policy, sampling)
    }

    /// Takes away lanes that have ended, and prompts of which no lane is left or to come.
    fn retire(&mut self) -> Result<()> {
        let next = self.next.0;
        for open in &mut self.open {
            let done = &mut self.done[open.request];
            for lane in open.lanes.extract_if(.., |lane| lane.said.finish.is_some()) {
                let index = lane.said.index;
                done[index] = Some(lane.said.complete(&self.policy.tokenizer)?);
            }
        }
        self.open.retain(|open| !open.lanes.is_empty() || open.request == next);
        Ok(())
    }
}

fn values(logits: &Tensor) -> Result<Vec<f32>> {
    Ok(Floats::of(logits)?.to_vec())
}

/// Draws a token for each lane from its logits.
fn take_all(lanes: Vec<(&mut Lane, &[f32])>, policy: &Policy, sampling: &Sampling) -> Result<()> {
    let eos = &policy.config.eos;
    let take = |(lane, logits): (&mut Lane, &[f32])| lane.take(logits, sampling, eos);
    if lanes.len() * policy.config.text.vocab_size < DIVIDED {
        lanes.into_iter().try_for_each(take)
    } else {
        lanes.into_par_iter().try_for_each(take)
    }
}

impl Lane {
    /// Draws the next token.
    fn take(&mut self, logits: &[f32], sampling: &Sampling, eos: &[u32]) -> Result<()> {
        let said = &mut self.said;
        let choice = choose(logits, &said.seen, sampling, said.draw, said.ids.len())?;
        said.take(choice, sampling, eos);
        Ok(())
    }
}
