//! The training loop: updates in their order, the rows they leave, the policy at the end.

use anyhow::Context;
use evoq_pictures::Pictures;
use evoq_policy::optimizer::{AdamW, Schedule, TensorState};
use evoq_policy::{Error, Learner};
use evoq_schemas::{Rollout, Update};
use evoq_stage::{Grows, Job, Taken, Trained, Training, bad_input};

use crate::Args;
use crate::intake::course;
use crate::update::{Trainer, Updated};

/// Trains on the job's labels, one update after another, and writes the policy and its tables.
pub(crate) fn train(args: &Args, job: &mut Job) -> anyhow::Result<()> {
    args.check()?;
    let course = course(args, job)?;
    let pictures = Pictures::open(job.artifacts("images"))?;
    let policy = Learner::load(&job.policy("policy")?.folder, args.device)
        .map_err(|error| bad_input(format!("--{}: {error}", if is_device(&error) { "device" } else { "policy" })))?;
    let trainer = Trainer::new(args, &policy, &pictures, &course)?;
    let optimizer = AdamW::new(trainer.variables().into_iter(), args.descent.hyper())?;
    descend(args, job, &trainer, optimizer, course.batches.len())?;
    let folder = job.scratch_folder()?;
    policy.save(folder.path())?;
    job.put_policy(folder.path())
}

/// Whether the device is at fault, and not the checkpoint.
fn is_device(error: &Error) -> bool {
    matches!(error, Error::NoDevice { .. })
}

/// Takes the updates, from where an earlier run of this step was, and writes their tables.
fn descend(
    args: &Args,
    job: &mut Job,
    trainer: &Trainer<'_>,
    mut optimizer: AdamW,
    updates: usize,
) -> anyhow::Result<()> {
    let (mut rollouts, mut rows) = (job.grow::<Rollout>(), job.grow::<Update>());
    let mut training = job.training(&args.keeping, updates)?;
    let start = training.resume(&mut [&mut rollouts, &mut rows], |saved| put_back(&mut optimizer, saved))?;
    trainer.merge()?;
    for index in start..updates {
        if let Err(interrupted) = job.check() {
            save(&mut training, &mut [&mut rollouts, &mut rows], &optimizer)?;
            return Err(interrupted.into());
        }
        let learning_rate = Schedule::Linear.learning_rate(args.descent.learning_rate, index, updates);
        let updated = trainer
            .update(&mut optimizer, index, learning_rate)
            .with_context(|| format!("update {index} failed; {}", training.last_checkpoint()))?;
        let Updated { rollouts: completions, update, laps } = updated;
        completions.into_iter().try_for_each(|row| rollouts.push(row))?;
        training.taken(&Taken { laps, scalars: &scalars(&update), line: line(&update) })?;
        rows.push(update)?;
        if training.is_due() {
            save(&mut training, &mut [&mut rollouts, &mut rows], &optimizer)?;
        } else {
            training.show(&mut [&mut rollouts, &mut rows])?;
        }
    }
    job.close_growing(rollouts)?;
    job.close_growing(rows)
}

/// Saves all that the next updates depend on, with the rows so far.
fn save(training: &mut Training, tables: &mut [&mut dyn Grows], optimizer: &AdamW) -> anyhow::Result<()> {
    let state = optimizer.state()?;
    training.save(tables, &state.iter().map(trained).collect::<Vec<_>>())
}

fn trained<'a>(it: &'a TensorState<'_>) -> Trained<'a> {
    let TensorState { name, shape, steps, master, first, second } = it;
    Trained { name, shape, steps: *steps, master, first, second }
}

fn put_back(optimizer: &mut AdamW, saved: &Trained<'_>) -> anyhow::Result<()> {
    let Trained { name, shape, steps, master, first, second } = *saved;
    Ok(optimizer.restore(&TensorState { name, shape, steps, master: master.into(), first, second })?)
}

/// What the live line says of an update.
fn line(update: &Update) -> String {
    let valid = update.invalid_rate.map(|rate| 1.0 - rate);
    let [reward, kl, valid] = [update.reward_mean, update.kl, valid].map(|it| it.unwrap_or(f64::NAN));
    format!("reward {reward:.3}, kl {kl:.4}, valid {valid:.3}")
}

/// What is drawn of an update: the numbers that it has.
fn scalars(update: &Update) -> Vec<(&'static str, f64)> {
    let numbers = [
        ("loss", Some(update.loss)),
        ("policy_loss", update.policy_loss),
        ("kl", update.kl),
        ("reward_mean", update.reward_mean),
        ("reward_std", update.reward_std),
        ("invalid_rate", update.invalid_rate),
        ("gradient_norm", Some(update.gradient_norm)),
        ("learning_rate", Some(update.learning_rate)),
        ("clip_share", update.clip_share),
        ("vote_valid_rate", update.vote_valid_rate),
        ("vote_entropy", update.vote_entropy),
    ];
    numbers.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
}
