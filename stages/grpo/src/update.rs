//! One update: ratings of the batch's pictures, their rewards and advantages, the gradient, the step.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor, Var};
use evoq_pictures::Pictures;
use evoq_policy::optimizer::AdamW;
use evoq_policy::sample::{Asked, Completion, Draw, Request, Sampling};
use evoq_policy::train::{Gradients, Group, Learnt};
use evoq_policy::{
    Answerer, Config, Features, Grid, InvalidReply, Learner, Pixels, Prompt, Question, Task, parse_score,
};
use evoq_schemas::draws::key;
use evoq_schemas::{ImageId, Rollout, Update};
use evoq_stage::Laps;
use rayon::prelude::*;
use tracing::debug_span;

use crate::Args;
use crate::args::MICRO_BATCH;
use crate::check::{Collapse, Votes, votes};
use crate::earn::{Earned, Reply, earn};
use crate::form::is_well_formed;
use crate::intake::Course;
use crate::loss::{Constants, Known, clipped, loss};
use crate::rows::{rollouts, summary};

/// What stays the same from update to update.
pub(crate) struct Trainer<'a> {
    args: &'a Args,
    learner: &'a Learner,
    /// The frozen reference policy.
    reference: Learner,
    learnt: Learnt,
    pictures: &'a Pictures,
    course: &'a Course,
    sampling: Sampling,
}

/// A picture of a batch with its K completions.
pub(crate) struct Rated {
    id: ImageId,
    group: Group,
    pub(crate) completions: Vec<Completion>,
    pub(crate) scores: Vec<Result<f64, InvalidReply>>,
    /// Log-probabilities of the completions' tokens under the reference policy.
    pub(crate) reference: Vec<Vec<f32>>,
}

/// What an update leaves.
pub(crate) struct Updated {
    /// Each picture's completions in order, with what each earned.
    pub(crate) rollouts: Vec<Rollout>,
    /// What they say together.
    pub(crate) update: Update,
    /// How long its phases took.
    pub(crate) laps: Laps,
}

/// What the steps on a batch did.
#[derive(Default)]
pub(crate) struct Descended {
    pub(crate) loss: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) clipped: bool,
    pub(crate) clip_share: f64,
}

impl<'a> Trainer<'a> {
    /// Trains `learner`, which is the reference policy as it is now.
    pub(crate) fn new(
        args: &'a Args,
        learner: &'a Learner,
        pictures: &'a Pictures,
        course: &'a Course,
    ) -> anyhow::Result<Self> {
        let sampling = Sampling { temperature: args.temperature, max_tokens: args.max_tokens, ..Sampling::default() };
        let learnt = learner.learnt(args.learning.trainable(), args.seed)?;
        Ok(Self { args, learner, reference: learner.frozen()?, learnt, pictures, course, sampling })
    }

    /// What the optimizer moves.
    pub(crate) fn variables(&self) -> Vec<(String, Var)> {
        self.learner.variables(&self.learnt)
    }

    /// Brings the policy's weights up to what was learnt: after each step, and after the optimizer's state was put back.
    pub(crate) fn merge(&self) -> anyhow::Result<()> {
        Ok(self.learner.merge(&self.learnt, &self.reference)?)
    }

    /// The policy as it is now.
    fn policy(&self) -> &Answerer {
        self.learner.answerer()
    }

    /// Takes the optimizer's steps on the batch of update `index`, from 0, and tells what happened.
    ///
    /// # Errors
    /// A [`Collapse`]; a loss or gradient that is not finite; a picture that cannot be read. The policy may have changed.
    pub(crate) fn update(&self, optimizer: &mut AdamW, index: usize, learning_rate: f64) -> anyhow::Result<Updated> {
        let batch = &self.course.batches[index];
        let number = index as u32;
        let mut laps = Laps::start();
        let (rated, kept) = self.rate(number, &batch.pictures, &mut laps)?;
        let replies: Vec<Vec<Reply>> = rated.iter().map(Rated::replies).collect();
        let earned = earn(&batch.goals, &replies, &self.args.constants);
        // Every picture's divergence goes into the rows; only those that count are learnt from.
        let counted: Vec<(&Rated, &Earned)> = rated.iter().zip(&earned).filter(|(_, earned)| earned.counts).collect();
        let descended = self.descend(optimizer, &counted, &kept, learning_rate, &mut laps)?;
        drop(kept);
        let votes = self.check_votes(index)?;
        if votes.is_some() {
            laps.lap("votes", None);
        }
        let rollouts = rollouts(number, batch, &rated, &earned);
        let update = summary(number, &rollouts, &earned, &descended, votes, learning_rate);
        Ok(Updated { rollouts, update, laps })
    }

    /// Looks at the pictures, draws the K completions of each, and asks the reference policy about them. The pictures' pixels
    /// come along where one micro-batch holds them all; elsewhere each micro-batch loads its own.
    fn rate(&self, index: u32, ids: &[ImageId], laps: &mut Laps) -> anyhow::Result<(Vec<Rated>, Vec<Pixels>)> {
        let ranges = self.micro_batches(ids.iter())?;
        let (mut rated, mut kept) = (Vec::with_capacity(ids.len()), Vec::new());
        for range in &ranges {
            let (some, pixels) = self.rate_some(index, &ids[range.clone()], laps)?;
            rated.extend(some);
            if ranges.len() == 1 {
                kept = pixels;
            }
        }
        let valid = rated.iter().flat_map(|it| &it.scores).filter(|it| it.is_ok()).count();
        let asked = rated.len() * usize::from(self.args.samples);
        Collapse::check("ratings", valid, asked, self.args.checks.min_valid_rate)?;
        Ok((rated, kept))
    }

    /// [`Self::rate`] of one micro-batch.
    fn rate_some(&self, index: u32, ids: &[ImageId], laps: &mut Laps) -> anyhow::Result<(Vec<Rated>, Vec<Pixels>)> {
        let span = debug_span!("sampling").entered();
        let question = Question::new(Task::Score, self.args.reasoning);
        let pixels = self.pixels(ids)?;
        let features = self.policy().look_all(&pixels)?;
        let prompts = pixels.iter().map(|it| self.policy().prompt(&question, &[it.grid]));
        let prompts: Vec<Prompt> = prompts.collect::<Result<_, _>>()?;
        let requests = ids.iter().zip(asked(&prompts, &features)).map(|(id, asked)| Request {
            asked,
            draws: (0..self.args.samples).map(|k| self.draw(index, id, k)).collect(),
        });
        let completions = self.policy().sample(&requests.collect::<Vec<_>>(), &self.sampling)?;
        let said: Vec<Vec<Vec<u32>>> =
            completions.iter().map(|it| it.iter().map(|reply| reply.ids.clone()).collect()).collect();
        let tokens = said.iter().flatten().map(|ids| ids.len() as u64).sum();
        drop(span);
        laps.lap("sampling", Some(tokens));
        let span = debug_span!("reference").entered();
        let reference = self.reference.answerer();
        // A frozen vision tower is the reference policy's own.
        let features = if self.args.learning.moves_vision() { reference.look_all(&pixels)? } else { features };
        let groups: Vec<&[Vec<u32>]> = said.iter().map(Vec::as_slice).collect();
        let reference = reference.completion_logprobs(&asked(&prompts, &features), &groups)?;
        drop(span);
        laps.lap("reference", Some(tokens));
        let rated = ids.iter().zip(prompts).zip(said).zip(completions).zip(reference);
        let rated = rated.map(|((((id, prompt), said), completions), reference)| Rated {
            id: id.clone(),
            group: Group { prompt, pictures: vec![0], completions: said },
            scores: completions.iter().map(|it| parse_score(&it.text)).collect(),
            completions,
            reference,
        });
        Ok((rated.collect(), pixels))
    }

    /// The pictures as the vision tower reads them.
    fn pixels(&self, ids: &[ImageId]) -> anyhow::Result<Vec<Pixels>> {
        let load = |id: &ImageId| {
            let picture = self.pictures.load(id)?;
            self.policy().pixels(&picture).with_context(|| format!("picture `{id}`"))
        };
        ids.par_iter().map(load).collect()
    }

    /// Pictures cut into runs that are held in memory together: by `--micro-batch`, or by the bytes of their shapes.
    fn micro_batches<'b>(&self, ids: impl Iterator<Item = &'b ImageId>) -> anyhow::Result<Vec<Range<usize>>> {
        if let Some(count) = self.args.learning.micro_batch {
            return Ok(runs(ids.map(|_| 1), count));
        }
        let bytes = |id: &ImageId| {
            let row = self.pictures.row(id)?;
            let grid = self.policy().processor().grid(row.width, row.height);
            Ok(picture_bytes(self.policy().config(), grid.with_context(|| format!("picture `{id}`"))?))
        };
        let sizes = ids.map(bytes).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(runs(sizes.into_iter(), MICRO_BATCH))
    }

    /// The draws of completion `k` about a picture, keyed by what they are for.
    fn draw(&self, index: u32, id: &ImageId, k: u16) -> Draw {
        Draw::Key(key(self.args.seed, "grpo", &[&index.to_string(), id.as_str(), &k.to_string()]))
    }

    /// The steps on one batch: one, or `--iterations` of them, of which the first is at ρ = 1.
    fn descend(
        &self,
        optimizer: &mut AdamW,
        counted: &[(&Rated, &Earned)],
        kept: &[Pixels],
        learning_rate: f64,
        laps: &mut Laps,
    ) -> anyhow::Result<Descended> {
        let mut descended = Descended::default();
        if counted.is_empty() {
            return Ok(descended);
        }
        let memory = Memory::of(counted.len());
        for pass in 0..self.args.iterations {
            let gradients = debug_span!("gradients").in_scope(|| self.gradients(counted, kept, &memory))?;
            laps.lap("gradients", None);
            let total: f64 = gradients.losses.iter().map(|loss| f64::from(*loss)).sum();
            ensure!(
                total.is_finite(),
                "the loss is {total}; lower --learning-rate, or go back to the policy before this run"
            );
            let span = debug_span!("step").entered();
            let step = optimizer.step(&gradients.by_name, learning_rate)?;
            self.merge()?;
            drop(span);
            laps.lap("step", None);
            if pass == 0 {
                (descended.loss, descended.gradient_norm) = (total, step.gradient_norm);
            }
            descended.clipped |= step.clipped;
        }
        descended.clip_share = memory.clips.into_inner() as f64 / memory.ratios.into_inner() as f64;
        Ok(descended)
    }

    /// Gradients of the mean of the pictures' losses, micro-batch by micro-batch.
    fn gradients(&self, counted: &[(&Rated, &Earned)], kept: &[Pixels], memory: &Memory) -> anyhow::Result<Gradients> {
        let descent = &self.args.descent;
        let constants = Constants { epsilon: descent.epsilon, beta: descent.beta };
        let mut sum = self.learner.begin(&self.learnt);
        for range in self.micro_batches(counted.iter().map(|(it, _)| &it.id))? {
            let ids = counted[range.clone()].iter().map(|(it, _)| it.id.clone());
            let is_all = kept.len() == range.len();
            let pixels = if is_all { Cow::Borrowed(kept) } else { Cow::Owned(self.pixels(&ids.collect::<Vec<_>>())?) };
            let groups = counted[range.clone()].iter().enumerate();
            let groups: Vec<Group> =
                groups.map(|(i, (it, _))| Group { pictures: vec![i], ..it.group.clone() }).collect();
            let group_loss = |group: usize, logprobs: &Tensor, mask: &Tensor| {
                let (rated, earned) = counted[range.start + group];
                let advantages: Vec<f32> = earned.advantages.iter().map(|it| *it as f32).collect();
                let known = Known {
                    old: memory.old[range.start + group].get_or_init(|| logprobs.detach()),
                    reference: &padded(&rated.reference, logprobs)?,
                    mask,
                    advantages: &Tensor::from_vec(advantages, (logprobs.dim(0)?, 1), &Device::Cpu)?,
                };
                let (clipped, of) = clipped(descent.objective, logprobs, &known, constants)?;
                memory.clips.fetch_add(clipped, Ordering::Relaxed);
                memory.ratios.fetch_add(of, Ordering::Relaxed);
                loss(descent.objective, logprobs, &known, constants)? * (1.0 / counted.len() as f64)
            };
            self.learner.accumulate(&mut sum, &pixels, &groups, &group_loss)?;
        }
        Ok(sum.finish()?)
    }

    /// The votes of the policy after update `index`, where they are due.
    fn check_votes(&self, index: usize) -> anyhow::Result<Option<Votes>> {
        let checks = &self.args.checks;
        let is_last = index + 1 == self.course.batches.len();
        if self.course.checked.is_empty() || !((index + 1).is_multiple_of(checks.check_every) || is_last) {
            return Ok(None);
        }
        let question = Question::new(Task::Compare, self.args.reasoning);
        let found =
            votes(self.policy(), self.pictures, &self.course.checked, &question, &self.sampling, self.args.seed)?;
        found.hold(checks.min_valid_rate, checks.max_vote_entropy)?;
        Ok(Some(found))
    }
}

/// Prompts about one picture each.
fn asked<'a>(prompts: &'a [Prompt], features: &'a [Features]) -> Vec<Asked<'a>> {
    prompts.iter().zip(features).map(|(prompt, it)| Asked { prompt, features: vec![it] }).collect()
}

/// What the passes over a batch leave to one another.
struct Memory {
    /// For each picture, the log-probabilities under the policy that drew the completions, as the first pass finds them.
    old: Vec<OnceLock<Tensor>>,
    /// Ratios that were clipped.
    clips: AtomicU64,
    /// All ratios.
    ratios: AtomicU64,
}

impl Memory {
    fn of(pictures: usize) -> Self {
        let old = (0..pictures).map(|_| OnceLock::new()).collect();
        Self { old, clips: AtomicU64::new(0), ratios: AtomicU64::new(0) }
    }
}

/// Bytes of a picture's pixels and features.
pub(crate) fn picture_bytes(config: &Config, grid: Grid) -> usize {
    let numbers = grid.patches() * config.vision.patch_dim()
        + grid.tokens(config.vision.spatial_merge_size) * config.text.hidden_size;
    numbers * size_of::<f32>()
}

/// Consecutive items cut into runs whose sizes sum to `most` at most; an item that alone is larger is a run.
fn runs(sizes: impl Iterator<Item = usize>, most: usize) -> Vec<Range<usize>> {
    let (mut runs, mut sum): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
    for (i, size) in sizes.enumerate() {
        sum += size;
        match runs.last_mut() {
            Some(run) if sum <= most => run.end = i + 1,
            _ => {
                runs.push(i..i + 1);
                sum = size;
            }
        }
    }
    runs
}

impl Rated {
    fn replies(&self) -> Vec<Reply> {
        let reply = |(completion, score): (&Completion, &Result<f64, InvalidReply>)| Reply {
            score: score.ok(),
            well_formed: is_well_formed(&completion.text),
        };
        self.completions.iter().zip(&self.scores).map(reply).collect()
    }
}

/// Rows of differing lengths as `[K, T]`, 0 where a row is shorter, in the shape of `like`.
fn padded(rows: &[Vec<f32>], like: &Tensor) -> candle_core::Result<Tensor> {
    let (count, width) = like.dims2()?;
    let mut values = vec![0.0f32; count * width];
    for (into, row) in values.chunks_mut(width).zip(rows) {
        into[..row.len()].copy_from_slice(row);
    }
    Tensor::from_vec(values, (count, width), like.device())
}

#[cfg(test)]
mod engines;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_what_fits_and_every_item_once() {
        let runs = |sizes: &[usize], most| runs(sizes.iter().copied(), most);
        assert_eq!(runs(&[1; 5], 2), [0..2, 2..4, 4..5]);
        assert_eq!(runs(&[3, 9, 1, 1], 4), [0..1, 1..2, 2..4]);
        assert_eq!(runs(&[1; 3], 3).len(), 1);
        assert!(runs(&[], 4).is_empty());
    }
}
