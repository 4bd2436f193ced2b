//! The training loop: steps in their order, each one optimizer step, and the rows they leave.

use anyhow::Context;
use candle_core::Tensor;
use evoq_pictures::Pictures;
use evoq_policy::optimizer::{AdamW, Hyper, Schedule, TensorState};
use evoq_policy::train::Probe;
use evoq_policy::{Pixels, Policy};
use evoq_schemas::{ImageId, Update};
use evoq_stage::{Growing, Job, Laps, Taken, Trained, Training, bad_input};
use rayon::prelude::*;

use crate::examples::Step;
use crate::probe::{FlawProbe, Flaws};
use crate::{Args, Decay, Objective};

/// What training works on.
pub(crate) struct Material<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) pictures: &'a Pictures,
    pub(crate) flaws: &'a Flaws,
    pub(crate) steps: &'a [Step],
}

/// Takes the steps, from where an earlier run of this step was, and writes the table `updates`.
pub(crate) fn train(args: &Args, job: &mut Job, material: &Material<'_>) -> anyhow::Result<()> {
    let Material { policy, flaws, steps, .. } = material;
    let probe_weight = if args.objective == Objective::Probe { 1.0 } else { args.probe };
    if probe_weight > 0.0 && flaws.pictures().is_empty() {
        return Err(bad_input("--images: no picture has a known distortion; the probe has nothing to learn from"));
    }
    let hidden = policy.config.text.hidden_size;
    let heads = (probe_weight > 0.0).then(|| FlawProbe::new(flaws, hidden, args.seed)).transpose()?;
    let vars = policy.weights.iter().map(|(name, var)| (name.to_owned(), var.clone()));
    let vars = vars.chain(heads.iter().flat_map(FlawProbe::vars));
    let hyper = Hyper { beta2: args.beta2, weight_decay: args.weight_decay, clip: Some(args.clip), ..Hyper::default() };
    let mut optimizer = AdamW::new(vars, hyper)?;
    let schedule = match args.decay {
        Decay::Constant => Schedule::Constant,
        Decay::Linear => Schedule::Linear,
        Decay::Cosine => Schedule::Cosine { warmup: args.warmup },
    };
    let mut updates = job.grow::<Update>();
    let mut training = job.training(&args.keeping, steps.len())?;
    let start = training.resume(&mut [&mut updates], |saved| put_back(&mut optimizer, saved))?;
    for (index, step) in steps.iter().enumerate().skip(start) {
        if let Err(interrupted) = job.check() {
            save(&mut training, &mut updates, &optimizer)?;
            return Err(interrupted.into());
        }
        let learning_rate = schedule.learning_rate(args.learning_rate, index, steps.len());
        let probe = heads.as_ref().map(|heads| heads.with(&step.pictures, probe_weight));
        let probe = probe.as_ref().map(|probe| probe as &dyn Probe);
        let (update, laps) = descend(args, material, step, probe, &mut optimizer, learning_rate)
            .with_context(|| format!("step {index} failed; {}", training.last_checkpoint()))?;
        let update = Update { update_index: index as u32, ..update };
        training.taken(&Taken { laps, scalars: &scalars(&update), line: format!("loss {:.4}", update.loss) })?;
        updates.push(update)?;
        if training.is_due() {
            save(&mut training, &mut updates, &optimizer)?;
        } else {
            training.show(&mut [&mut updates])?;
        }
    }
    job.close_growing(updates)
}

/// One optimizer step on the examples of `step`: what it was like, but for its number, and how long it took.
fn descend(
    args: &Args,
    material: &Material<'_>,
    step: &Step,
    probe: Option<&dyn Probe>,
    optimizer: &mut AdamW,
    learning_rate: f64,
) -> anyhow::Result<(Update, Laps)> {
    let policy = material.policy;
    let mut laps = Laps::start();
    let pixels = pixels(policy, material.pictures, &step.pictures)?;
    let groups = step.groups(policy, &pixels, args.reasoning)?;
    let weights = step.token_weights(policy, args.answer_weight)?;
    let loss = |group: usize, logprobs: &Tensor, _: &Tensor| (logprobs * &weights[group])?.sum_all()?.neg();
    let gradients = policy.gradients(&pixels, &groups, &loss, probe)?;
    let tokens = groups.iter().flat_map(|group| &group.completions).map(|it| it.len() as u64).sum();
    laps.lap("gradients", Some(tokens));
    let taken = optimizer.step(&gradients.by_name, learning_rate)?;
    laps.lap("step", None);
    let reply_loss: f64 = gradients.losses.iter().map(|loss| f64::from(*loss)).sum();
    let probe_loss = f64::from(gradients.probe_loss);
    let update = Update {
        update_index: 0,
        loss: reply_loss + probe_loss,
        policy_loss: None,
        kl: None,
        probe_loss: probe.is_some().then_some(probe_loss),
        reward_mean: None,
        reward_std: None,
        invalid_rate: None,
        zero_spread_groups: None,
        skipped_groups: None,
        clip_share: None,
        vote_valid_rate: None,
        vote_entropy: None,
        gradient_norm: taken.gradient_norm,
        clipped: taken.clipped,
        learning_rate,
        groups: groups.len().max(if groups.is_empty() { pixels.len() } else { 0 }) as u32,
        completions: groups.len() as u32,
        tokens,
    };
    Ok((update, laps))
}

/// The pictures `ids` as the policy sees them, in order.
fn pixels(policy: &Policy, pictures: &Pictures, ids: &[ImageId]) -> anyhow::Result<Vec<Pixels>> {
    ids.par_iter().map(|id| Ok(policy.processor.pixels(&pictures.load(id)?)?)).collect()
}

/// Saves all that the next steps depend on, with the rows so far.
fn save(training: &mut Training, updates: &mut Growing<Update>, optimizer: &AdamW) -> anyhow::Result<()> {
    let state = optimizer.state()?;
    training.save(&mut [updates], &state.iter().map(trained).collect::<Vec<_>>())
}

fn trained<'a>(it: &'a TensorState<'_>) -> Trained<'a> {
    let TensorState { name, shape, steps, master, first, second } = it;
    Trained { name, shape, steps: *steps, master, first, second }
}

fn put_back(optimizer: &mut AdamW, saved: &Trained<'_>) -> anyhow::Result<()> {
    let Trained { name, shape, steps, master, first, second } = *saved;
    Ok(optimizer.restore(&TensorState { name, shape, steps, master: master.into(), first, second })?)
}

/// What is drawn of a step: the numbers that it has.
fn scalars(update: &Update) -> Vec<(&'static str, f64)> {
    let numbers = [
        ("loss", Some(update.loss)),
        ("probe_loss", update.probe_loss),
        ("gradient_norm", Some(update.gradient_norm)),
        ("learning_rate", Some(update.learning_rate)),
    ];
    numbers.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
}
