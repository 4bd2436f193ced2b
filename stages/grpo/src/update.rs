//! One update: ratings of the batch's pictures, their rewards and advantages, the gradient, the step, and the rows that tell.

use candle_core::{Device, Tensor};
use evoq_pictures::Pictures;
use evoq_policy::optimizer::{AdamW, Step};
use evoq_policy::sample::{Asked, Completion, Draw, Finish, Request, Sampling};
use evoq_policy::train::Group;
use evoq_policy::{Features, InvalidReply, Pixels, Policy, Prompt, Question, parse_score};
use evoq_schemas::draws::key;
use evoq_schemas::{ImageId, Partner, Rollout, Update};
use rayon::prelude::*;

use crate::Args;
use crate::advantage::{advantages, spread};
use crate::batch::{Batch, Link};
use crate::loss::{Constants, token_loss};
use crate::reward::{Constants as RewardConstants, Moments, agreement, probability};

/// What stays the same from update to update.
pub(crate) struct Trainer<'a> {
    pub(crate) args: &'a Args,
    pub(crate) policy: &'a Policy,
    /// The frozen reference policy.
    pub(crate) reference: Policy,
    pub(crate) pictures: &'a Pictures,
    pub(crate) question: Question,
    pub(crate) sampling: Sampling,
}

/// A picture of a batch with its K completions.
struct Rated {
    pixels: Pixels,
    prompt: Prompt,
    completions: Vec<Completion>,
    scores: Vec<Result<f64, InvalidReply>>,
}

/// What a picture's completions earned.
struct Earned {
    /// For each completion, Eq. 2 with each partner that has moments; empty for an invalid one.
    partners: Vec<Vec<Partner>>,
    rewards: Vec<f64>,
    advantages: Vec<f64>,
    /// Whether the picture takes part: it and one of its partners have moments.
    counts: bool,
}

impl Trainer<'_> {
    /// Takes one optimizer step on `batch` and tells what happened.
    pub(crate) fn update(
        &self,
        optimizer: &mut AdamW,
        index: u32,
        batch: &Batch,
        learning_rate: f64,
    ) -> anyhow::Result<(Vec<Rollout>, Update)> {
        let rated = self.rate(index, &batch.pictures)?;
        let moments: Vec<_> = rated.iter().map(|it| Moments::of(it.scores.iter().flatten().copied())).collect();
        let earned: Vec<Earned> = rated
            .iter()
            .enumerate()
            .map(|(i, it)| self.earn(&it.scores, moments[i], &batch.links[i], &moments, &batch.pictures))
            .collect();

        // Every picture's divergence goes into the rows; only those that count are learnt from.
        let all: Vec<Group> = rated.iter().enumerate().map(|(i, it)| it.group(i)).collect();
        let pixels: Vec<Pixels> = rated.iter().map(|it| it.pixels.clone()).collect();
        let reference = self.reference.logprobs(&pixels, &all)?;
        let counted: Vec<usize> = (0..rated.len()).filter(|i| earned[*i].counts).collect();
        let groups: Vec<Group> = counted.iter().map(|i| all[*i].clone()).collect();
        let loss = |group: usize, logprobs: &Tensor, mask: &Tensor| {
            let i = counted[group];
            let reference = padded(&reference[i], logprobs)?;
            let advantages: Vec<f32> = earned[i].advantages.iter().map(|it| *it as f32).collect();
            let advantages = Tensor::from_vec(advantages, (logprobs.dim(0)?, 1), &Device::Cpu)?;
            let constants = Constants { epsilon: self.args.epsilon, beta: self.args.beta };
            token_loss(logprobs, &reference, mask, &advantages, constants, 1.0 / counted.len() as f64)
        };
        let (mut total, mut step) = (0.0, Step { gradient_norm: 0.0, clipped: false });
        if !counted.is_empty() {
            let gradients = self.policy.gradients(&pixels, &groups, &loss, None)?;
            step = optimizer.step(&gradients.by_name, learning_rate)?;
            total = gradients.losses.iter().map(|loss| f64::from(*loss)).sum();
        }

        let rewards: Vec<Vec<f64>> = earned.iter().map(|it| it.rewards.clone()).collect();
        let rows = rollouts(index, batch, &rated, earned, &reference);
        let mut update = summary(&rows, rated.len(), self.args);
        // A picture that was left out has no rewards to spread.
        let flat = |i: &&usize| spread(&rewards[**i]) == 0.0;
        update.zero_spread_groups = Some(counted.iter().filter(flat).count() as u32);
        update.update_index = index;
        update.loss = total;
        update.skipped_groups = Some((rated.len() - counted.len()) as u32);
        update.gradient_norm = step.gradient_norm;
        update.clipped = step.clipped;
        update.learning_rate = learning_rate;
        Ok((rows, update))
    }

    /// Looks at the pictures and draws the K completions of each.
    fn rate(&self, index: u32, ids: &[ImageId]) -> anyhow::Result<Vec<Rated>> {
        let looked = ids.par_iter().map(|id| {
            let pixels = self.policy.processor.pixels(&self.pictures.load(id)?)?;
            let (prompt, features) = (self.policy.prompt(&self.question, &[pixels.grid])?, self.policy.look(&pixels)?);
            Ok((pixels, prompt, features))
        });
        let looked: Vec<(Pixels, Prompt, Features)> = looked.collect::<anyhow::Result<_>>()?;
        let requests = ids.iter().zip(&looked).map(|(id, (_, prompt, features))| Request {
            asked: Asked { prompt, features: vec![features] },
            draws: (0..self.args.samples).map(|k| self.draw(index, id, k)).collect(),
        });
        let replies = self.policy.sample(&requests.collect::<Vec<_>>(), &self.sampling)?;
        let rated = looked.into_iter().zip(replies).map(|((pixels, prompt, _), completions)| {
            let scores = completions.iter().map(|it| parse_score(&it.text)).collect();
            Rated { pixels, prompt, completions, scores }
        });
        Ok(rated.collect())
    }

    /// The draws of completion `k` about a picture, keyed by what they are for.
    fn draw(&self, index: u32, id: &ImageId, k: u16) -> Draw {
        Draw::Key(key(self.args.seed, "grpo", &[&index.to_string(), id.as_str(), &k.to_string()]))
    }

    /// Rewards (Eq. 2, 3) and advantages (Eq. 4) of a picture's completions.
    fn earn(
        &self,
        scores: &[Result<f64, InvalidReply>],
        own: Option<Moments>,
        links: &[Link],
        moments: &[Option<Moments>],
        ids: &[ImageId],
    ) -> Earned {
        let constants = RewardConstants { gamma: self.args.gamma, root_epsilon: self.args.root_epsilon };
        let partners: Vec<(&Link, Moments)> =
            links.iter().filter_map(|link| Some((link, moments[link.partner]?))).collect();
        let (Some(own), false) = (own, partners.is_empty()) else {
            let count = scores.len();
            let nothing = Earned {
                partners: vec![Vec::new(); count],
                rewards: vec![0.0; count],
                advantages: vec![0.0; count],
                counts: false,
            };
            return nothing;
        };
        let compared: Vec<Vec<Partner>> = scores
            .iter()
            .map(|score| {
                let Ok(score) = score else { return Vec::new() };
                let partner = |(link, theirs): &(&Link, Moments)| Partner {
                    image_id: ids[link.partner].clone(),
                    preference: link.preference,
                    probability: probability(*score, own, *theirs, constants),
                };
                partners.iter().map(partner).collect()
            })
            .collect();
        let rewards: Vec<f64> = compared
            .iter()
            .map(|partners| {
                let agreements = partners.iter().map(|it| agreement(it.preference, it.probability, constants));
                agreements.sum::<f64>() / partners.len().max(1) as f64
            })
            .collect();
        let advantages = advantages(&rewards);
        Earned { partners: compared, rewards, advantages, counts: true }
    }
}

impl Rated {
    fn group(&self, picture: usize) -> Group {
        let completions = self.completions.iter().map(|it| it.ids.clone()).collect();
        Group { prompt: self.prompt.clone(), pictures: vec![picture], completions }
    }
}

/// The rows of an update: each picture's completions in order, with what each earned.
fn rollouts(
    index: u32,
    batch: &Batch,
    rated: &[Rated],
    earned: Vec<Earned>,
    reference: &[Vec<Vec<f32>>],
) -> Vec<Rollout> {
    let mut rows = Vec::new();
    for (i, earned) in earned.into_iter().enumerate() {
        let Rated { completions, scores, .. } = &rated[i];
        for (k, partners) in earned.partners.into_iter().enumerate() {
            let (completion, reference) = (&completions[k], &reference[i][k]);
            rows.push(Rollout {
                update_index: index,
                image_id: batch.pictures[i].clone(),
                completion: k as u16,
                reply: completion.text.clone(),
                score: scores[k].ok(),
                invalid_reason: scores[k].err().map(|reason| reason.as_str().to_owned()),
                partners,
                reward: earned.rewards[k],
                advantage: earned.advantages[k],
                logprob: sum(&completion.logprobs),
                reference_logprob: sum(reference),
                kl: mean_k3(&completion.logprobs, reference),
                tokens: completion.ids.len() as u32,
                finish: match completion.finish {
                    Finish::Stop => evoq_schemas::Finish::Stop,
                    Finish::Length => evoq_schemas::Finish::Length,
                },
            });
        }
    }
    rows
}

/// What the rows of an update say together; the caller fills in what the step did.
fn summary(rows: &[Rollout], groups: usize, args: &Args) -> Update {
    let count = rows.len() as f64;
    let mean = |value: fn(&Rollout) -> f64| rows.iter().map(value).sum::<f64>() / count;
    let spreads: Vec<f64> = rows
        .chunks(usize::from(args.samples))
        .map(|group| spread(&group.iter().map(|row| row.reward).collect::<Vec<_>>()))
        .collect();
    let kl = mean(|row| row.kl);
    Update {
        update_index: 0,
        loss: 0.0,
        policy_loss: Some(-mean(|row| row.advantage)),
        kl: Some(kl),
        probe_loss: None,
        reward_mean: Some(mean(|row| row.reward)),
        reward_std: Some(spreads.iter().sum::<f64>() / spreads.len() as f64),
        invalid_rate: Some(mean(|row| if row.score.is_none() { 1.0 } else { 0.0 })),
        zero_spread_groups: None,
        skipped_groups: None,
        gradient_norm: 0.0,
        clipped: false,
        learning_rate: 0.0,
        groups: groups as u32,
        completions: rows.len() as u32,
        tokens: rows.iter().map(|row| u64::from(row.tokens)).sum(),
    }
}

fn sum(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|it| f64::from(*it)).sum()
}

/// Mean over tokens of `k3 = exp(ref − logp) − (ref − logp) − 1`.
fn mean_k3(logprobs: &[f32], reference: &[f32]) -> f64 {
    let k3 = |(own, reference): (&f32, &f32)| {
        let behind = f64::from(*reference) - f64::from(*own);
        libm::expm1(behind) - behind
    };
    logprobs.iter().zip(reference).map(k3).sum::<f64>() / logprobs.len() as f64
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
