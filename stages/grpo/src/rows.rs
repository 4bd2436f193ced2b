//! The rows that tell of an update: its completions, and what they say together.

use evoq_policy::sample::Finish;
use evoq_schemas::{Partner, Rollout, Update};

use crate::advantage::spread;
use crate::batch::Batch;
use crate::check::Votes;
use crate::earn::{Comparison, Earned};
use crate::update::{Descended, Rated};

/// The rows of an update: each picture's completions in order, with what each earned.
pub(crate) fn rollouts(index: u32, batch: &Batch, rated: &[Rated], earned: &[Earned]) -> Vec<Rollout> {
    let partner = |it: &Comparison| Partner {
        image_id: batch.pictures[it.link.partner].clone(),
        preference: it.link.preference,
        probability: it.probability,
    };
    let mut rows = Vec::new();
    for (i, earned) in earned.iter().enumerate() {
        let Rated { completions, scores, reference, .. } = &rated[i];
        for (k, compared) in earned.comparisons.iter().enumerate() {
            let (completion, reference) = (&completions[k], &reference[k]);
            rows.push(Rollout {
                update_index: index,
                image_id: batch.pictures[i].clone(),
                completion: k as u16,
                reply: completion.text.clone(),
                score: scores[k].ok(),
                invalid_reason: scores[k].err().map(|reason| reason.as_str().to_owned()),
                partners: compared.iter().map(partner).collect(),
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

/// What the rows of an update say together, and what its steps did.
pub(crate) fn summary(
    index: u32,
    rows: &[Rollout],
    earned: &[Earned],
    descended: &Descended,
    votes: Option<Votes>,
    learning_rate: f64,
) -> Update {
    let count = rows.len() as f64;
    let mean = |value: fn(&Rollout) -> f64| rows.iter().map(value).sum::<f64>() / count;
    let spreads: Vec<f64> = earned.iter().map(|it| spread(&it.rewards, 1)).collect();
    // A picture that was left out has no rewards to spread.
    let flat = earned.iter().zip(&spreads).filter(|(it, spread)| it.counts && **spread == 0.0);
    Update {
        update_index: index,
        loss: descended.loss,
        policy_loss: Some(-mean(|row| row.advantage)),
        kl: Some(mean(|row| row.kl)),
        probe_loss: None,
        reward_mean: Some(mean(|row| row.reward)),
        reward_std: Some(spreads.iter().sum::<f64>() / spreads.len() as f64),
        invalid_rate: Some(mean(|row| if row.score.is_none() { 1.0 } else { 0.0 })),
        zero_spread_groups: Some(flat.count() as u32),
        skipped_groups: Some(earned.iter().filter(|it| !it.counts).count() as u32),
        clip_share: Some(descended.clip_share),
        vote_valid_rate: votes.map(|it| it.valid as f64 / it.asked as f64),
        vote_entropy: votes.and_then(|it| it.entropy),
        gradient_norm: descended.gradient_norm,
        clipped: descended.clipped,
        learning_rate,
        groups: earned.len() as u32,
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
