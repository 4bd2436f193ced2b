//! The gradients of both objectives against differences of the whole loss, from its formula in f64.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use evoq_grpo::loss::Objective;
use evoq_policy::Policy;
use evoq_policy::train::Gradients;

use crate::batch::Batch;
use crate::fixture::{flat, policy};

/// Log-probabilities by group, completion and token.
type LogProbs = Vec<Vec<Vec<f32>>>;

/// The step of a weight. Log-probabilities are f32: a smaller step counts their rounding, a larger one the curvature.
const STEP: f32 = 3e-3;

/// Bound on the error of an entry, by the largest entry of its tensor.
const ENTRY: f64 = 1e-2;

/// The loss of `now` as `docs/paper.md` writes it, in f64; `old` drew the completions.
fn loss(batch: &Batch, now: &LogProbs, old: &LogProbs, reference: &LogProbs) -> f64 {
    let constants = batch.constants();
    let gain = |now: f64, old: f64, reference: f64, advantage: f64| {
        let (ratio, ahead) = (libm::exp(now - old), reference - now);
        let clipped = ratio.clamp(1.0 - constants.epsilon, 1.0 + constants.epsilon);
        (ratio * advantage).min(clipped * advantage) - constants.beta * (libm::exp(ahead) - ahead - 1.0)
    };
    let sum = |row: &[f32]| row.iter().map(|&it| f64::from(it)).sum::<f64>();
    let completion = |now: &[f32], old: &[f32], reference: &[f32], advantage: f64| {
        if batch.objective() == Objective::Sequence {
            return gain(sum(now), sum(old), sum(reference), advantage);
        }
        let tokens = now.iter().zip(old).zip(reference);
        let gains = tokens.map(|((n, o), r)| gain((*n).into(), (*o).into(), (*r).into(), advantage));
        gains.sum::<f64>() / now.len() as f64
    };
    let mut total = 0.0;
    for (group, advantages) in batch.advantages.iter().enumerate() {
        let each = advantages
            .iter()
            .enumerate()
            .map(|(k, &advantage)| completion(&now[group][k], &old[group][k], &reference[group][k], advantage.into()));
        total -= each.sum::<f64>() / advantages.len() as f64 / batch.advantages.len() as f64;
    }
    total
}

/// The first tensor of each kind: names that differ in numbers of layers only are of one kind.
fn kinds(policy: &Policy) -> Vec<String> {
    let mut kinds = BTreeMap::new();
    for (name, _) in policy.weights.iter() {
        let parts = name.split('.').filter(|part| part.parse::<usize>().is_err() || name.contains("merger"));
        kinds.entry(parts.collect::<Vec<_>>()).or_insert_with(|| name.to_owned());
    }
    kinds.into_values().collect()
}

/// The places to try in a tensor: its largest gradient, and two others.
fn places(gradient: &[f32]) -> Vec<usize> {
    let largest = (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
    let mut places = vec![largest, gradient.len() / 3, gradient.len() * 4 / 5];
    places.dedup();
    places
}

/// Sets one entry of a weight to `values[place] + step`.
fn step(policy: &Policy, name: &str, values: &[f32], place: usize, step: f32) {
    let (var, mut moved) = (policy.weights.get(name).unwrap(), values.to_vec());
    moved[place] += step;
    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
}

#[test]
fn entries_of_every_kind_of_tensor_are_those_of_finite_differences() {
    let policy = policy();
    let batches = ["four.token", "four.sequence"].map(Batch::named);
    let (pictures, groups) = batches[0].pictures_and_groups();
    let exact: Vec<Gradients> = batches.iter().map(|batch| batch.gradients(&policy)).collect();
    let (old, reference) = (policy.logprobs(&pictures, &groups).unwrap(), batches[0].reference());
    let kinds = kinds(&policy);
    assert_eq!(kinds.len(), 33);
    let mut worst = [0_f64; 2];
    for name in &kinds {
        let original = flat(policy.weights.get(name).unwrap());
        for place in places(&flat(&exact[0].by_name[name])) {
            let at = |by: f32| {
                step(&policy, name, &original, place, by * STEP);
                let now = policy.logprobs(&pictures, &groups).unwrap();
                [0, 1].map(|form| loss(&batches[form], &now, &old, &reference))
            };
            let (near, far) = ([at(1.0), at(-1.0)], [at(2.0), at(-2.0)]);
            step(&policy, name, &original, place, 0.0);
            for form in [0, 1] {
                // The five-point formula, whose error is of the fourth order in the step.
                let numeric = (8.0 * (near[0][form] - near[1][form]) - (far[0][form] - far[1][form])) / 12.0;
                let numeric = numeric / f64::from(STEP);
                let gradient = flat(&exact[form].by_name[name]);
                let size = gradient.iter().fold(0_f32, |size, entry| size.max(entry.abs()));
                let off = (numeric - f64::from(gradient[place])).abs() / f64::from(size);
                worst[form] = worst[form].max(off);
                let (found, name) = (gradient[place], format!("{}, {name}, {place}", batches[form].name));
                assert!(off <= ENTRY, "{name}: {found}, but differences say {numeric}; the largest is {size}");
            }
        }
    }
    println!("differences of {} kinds: off by {:.1e} (token), {:.1e} (sequence)", kinds.len(), worst[0], worst[1]);
}
