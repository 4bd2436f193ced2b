//! A run of requests on the device: lanes enter in order as there is room, are decoded together, and leave when they end.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::DevicePolicy;
use super::choose::{Chooser, Drawing};
use super::decode::{LaneCache, PAGE};
use super::layers::Rotary;
use super::text::PromptCache;
use crate::error::Result;
use crate::sample::said::{Said, no_room};
use crate::sample::{Asked, Completion, Draw, LANES, Request, Sampling};

/// Requests on their way to completions.
pub(super) struct Stream<'a> {
    policy: &'a DevicePolicy,
    requests: &'a [Request<'a>],
    sampling: &'a Sampling,
    chooser: Chooser<'a>,
    /// Angles of every position up to the longest completion's.
    rotary: Rotary,
    /// The lanes to come: request and draw.
    waiting: VecDeque<(usize, usize)>,
    /// Prompts with lanes that have not ended or not yet entered, in the order of the requests.
    open: Vec<Open>,
    /// The lanes' own keys and values, in the order of `open` and of its lanes.
    cache: LaneCache,
    /// By request, then by draw.
    done: Vec<Vec<Option<Completion>>>,
}

/// A prompt that was read.
struct Open {
    request: usize,
    cache: PromptCache,
    /// After the prompt, `[1, V]`.
    logits: Tensor,
    lanes: Vec<Said>,
}

impl<'a> Stream<'a> {
    pub fn new(policy: &'a DevicePolicy, requests: &'a [Request<'a>], sampling: &'a Sampling) -> Result<Self> {
        // A position is at most the token's index: pictures take fewer positions than tokens.
        let longest = requests.iter().map(|request| request.asked.prompt.ids.len()).max().unwrap_or(0);
        let lanes = |(n, request): (usize, &Request)| (0..request.draws.len()).map(move |draw| (n, draw));
        Ok(Self {
            chooser: policy.chooser(sampling)?,
            rotary: policy.text.rotary((longest + sampling.max_tokens) as u32)?,
            waiting: requests.iter().enumerate().flat_map(lanes).collect(),
            open: Vec::new(),
            cache: LaneCache::new(&policy.text, &policy.device),
            done: requests.iter().map(|request| vec![None; request.draws.len()]).collect(),
            policy,
            requests,
            sampling,
        })
    }

    /// The completions of each request, in the order of its draws.
    pub fn run(mut self) -> Result<Vec<Vec<Completion>>> {
        loop {
            self.admit()?;
            self.retire()?;
            if self.lanes() > 0 {
                self.step()?;
                self.retire()?;
            } else if self.waiting.is_empty() {
                break;
            }
        }
        let whole = |lanes: Vec<Option<Completion>>| lanes.into_iter().flatten().collect();
        Ok(self.done.into_iter().map(whole).collect())
    }

    fn lanes(&self) -> usize {
        self.open.iter().map(|open| open.lanes.len()).sum()
    }

    /// Bytes of keys and values of a prompt.
    fn bytes_of(&self, request: usize) -> usize {
        self.requests[request].asked.prompt.ids.len() * self.policy.text.bytes_a_token()
    }

    /// Lets lanes in while there is room, reads the prompts of those that are the first of theirs, and draws each lane's
    /// first token.
    fn admit(&mut self) -> Result<()> {
        let tokens = (self.sampling.max_tokens - 1).next_multiple_of(PAGE);
        let a_lane = tokens * self.policy.text.bytes_a_token();
        let mut lanes = self.lanes();
        let mut used = lanes * a_lane + self.open.iter().map(|open| self.bytes_of(open.request)).sum::<usize>();
        while let Some(&(request, index)) = self.waiting.front() {
            let known = self.open.last().is_some_and(|open| open.request == request);
            let needed = a_lane + if known { 0 } else { self.bytes_of(request) };
            if lanes == LANES || used + needed > self.sampling.cache_bytes {
                if lanes == 0 {
                    let prompt = self.requests[request].asked.prompt.ids.len();
                    return Err(no_room(prompt, self.sampling, used + needed, self.sampling.cache_bytes));
                }
                break;
            }
            (used, lanes) = (used + needed, lanes + 1);
            self.waiting.pop_front();
            if !known {
                let (cache, logits) = self.policy.read(&self.requests[request].asked, &self.chooser)?;
                self.open.push(Open { request, cache, logits, lanes: Vec::new() });
            }
            let of_request = &self.requests[request];
            let lane = Said::new(index, of_request.draws[index], self.sampling.seen(of_request.asked.prompt));
            self.open.last_mut().expect("its prompt was read").lanes.push(lane);
        }
        self.cache.enter(&self.policy.text, lanes - self.cache.lengths.len())?;
        self.first_tokens()
    }

    /// Draws the first token of lanes that have none.
    fn first_tokens(&mut self) -> Result<()> {
        for open in &mut self.open {
            let lanes: Vec<&mut Said> = open.lanes.iter_mut().filter(|lane| lane.ids.is_empty()).collect();
            if !lanes.is_empty() {
                let logits = open.logits.repeat((lanes.len(), 1))?;
                take_all(lanes, &logits, &self.chooser, self.sampling, &self.policy.config.eos)?;
            }
        }
        Ok(())
    }

    /// Reads the newest token of every lane and draws the next one.
    fn step(&mut self) -> Result<()> {
        let lanes = self.open.iter().flat_map(|open| &open.lanes);
        let ids: Vec<u32> = lanes.filter_map(|lane| lane.ids.last().copied()).collect();
        let prompts: Vec<_> = self.open.iter().map(|open| (&open.cache, open.lanes.len())).collect();
        let prompts: Vec<_> = prompts.into_iter().filter(|(_, lanes)| *lanes > 0).collect();
        let text = &self.policy.text;
        let rows = text.decode(&ids, &prompts, &mut self.cache, &self.rotary)?;
        let logits = self.chooser.ban(&text.logits(&rows)?)?;
        let lanes = self.open.iter_mut().flat_map(|open| &mut open.lanes).collect();
        take_all(lanes, &logits, &self.chooser, self.sampling, &self.policy.config.eos)
    }

    /// Takes away lanes that have ended, and prompts of which no lane is left or to come.
    fn retire(&mut self) -> Result<()> {
        let lanes = self.open.iter().flat_map(|open| &open.lanes);
        let kept = (0..).zip(lanes).filter(|(_, lane)| lane.finish.is_none()).map(|(place, _)| place);
        self.cache.keep(&kept.collect::<Vec<u32>>())?;
        for open in &mut self.open {
            let done = &mut self.done[open.request];
            for lane in open.lanes.extract_if(.., |lane| lane.finish.is_some()) {
                let index = lane.index;
                done[index] = Some(lane.complete(&self.policy.tokenizer)?);
            }
        }
        let next = self.waiting.front().map(|(request, _)| *request);
        self.open.retain(|open| !open.lanes.is_empty() || Some(open.request) == next);
        Ok(())
    }
}

impl DevicePolicy {
    /// Reads a prompt: its keys and values, and the logits after it, `[1, V]`, −∞ for what is never said.
    pub(super) fn read(&self, asked: &Asked, chooser: &Chooser) -> Result<(PromptCache, Tensor)> {
        let merge = self.config.vision.spatial_merge_size;
        let (cache, last) = self.text.read(asked, self.config.image_token_id, merge)?;
        Ok((cache, chooser.ban(&self.text.logits(&last)?)?))
    }
}

/// Draws a token for each lane from its row of logits.
fn take_all(lanes: Vec<&mut Said>, logits: &Tensor, chooser: &Chooser, sampling: &Sampling, eos: &[u32]) -> Result<()> {
    let drawing = |lane: &&mut Said| (lane.draw, lane.ids.len());
    let draws: Vec<(Draw, usize)> = lanes.iter().map(drawing).collect();
    let drawings: Vec<Drawing> =
        lanes.iter().zip(draws).map(|(lane, (draw, step))| Drawing { draw, step, seen: &lane.seen }).collect();
    let choices = chooser.choose(logits, &drawings)?;
    lanes.into_iter().zip(choices).for_each(|(lane, choice)| lane.take(choice, sampling, eos));
    Ok(())
}
