//! Completions that share one prompt in a packed sequence against each as a sequence of its own, and both against f64: see
//! `tests/fixtures/policy_packed.py`.

use candle_core::{Device, Tensor};
use evoq_policy::policy::Policy;
use evoq_policy::train::{Gradients, Group};
use evoq_policy::{Pixels, Weights};

use crate::fixture::{Case, arrays, flat, json, norm, pictures_and_groups, policy};
use crate::sketch::{SIGNS, distance};

/// Bound on the distance of a packed gradient from the sum of the separate ones, by the sum of their lengths: what rounding
/// in f32 goes with. The 32 gradients of a tensor cancel to between a fifth and a tenth of that sum.
const OF_ALL: f64 = 1e-6;

/// The same by the length of what is left, which is a ninth of it where it is least. Arrangements of separate sequences alone
/// (each one twice, or four in a pack) are up to 1.5e-6 apart by this measure, and each of them, as the packed gradient, 1.1e-5
/// from the gradient in f64.
const OF_WHAT_IS_LEFT: f64 = 3e-6;

/// Bound on the distance from the gradient in f64 by its length, in the mean over tensors. Autograd's f32 is 1.0e-5 off.
const OF_F64: f64 = 1e-5;

/// A question with its pictures and 32 completions of 1 to 29 tokens.
fn question() -> (Vec<Pixels>, Group) {
    let cases: Vec<serde_json::Value> = json("policy/objectives.json");
    let many = cases.iter().find(|case| case["name"] == "many.token").unwrap();
    let completions: [Vec<Vec<u32>>; 1] = serde_json::from_value(many["completions"].clone()).unwrap();
    let [completions] = completions;
    let case = Case { completions, ..Case::named(many["prompts"][0].as_str().unwrap()) };
    let (pictures, mut groups) = pictures_and_groups(&[case]);
    (pictures, groups.remove(0))
}

/// Gradient of the tokens' weighted log-probs, no two weights alike; `first` is the row of the group's first completion.
fn gradients(policy: &Policy, pictures: &[Pixels], group: Group, first: usize) -> Gradients {
    let weight = |row: usize, token: usize| (1.7 * row as f32 + 0.61 * token as f32).sin();
    let loss = |_: usize, logprobs: &Tensor, mask: &Tensor| {
        let (rows, tokens) = logprobs.dims2()?;
        let weights = (first..).take(rows).flat_map(|row| (0..tokens).map(move |token| weight(row, token)));
        ((logprobs * Tensor::from_vec(weights.collect::<Vec<_>>(), (rows, tokens), &Device::Cpu)?)? * mask)?.sum_all()
    };
    policy.gradients(pictures, &[group], &loss, None).unwrap()
}

/// For each tensor the sum of the gradients in f64, and the sum of their lengths.
fn sums(weights: &Weights, gradients: &[Gradients]) -> Vec<(String, Vec<f64>, f64)> {
    let sum = |name: &str| {
        let each: Vec<Vec<f32>> = gradients.iter().map(|gradients| flat(&gradients.by_name[name])).collect();
        let sum = (0..each[0].len()).map(|i| each.iter().map(|one| f64::from(one[i])).sum());
        (name.to_owned(), sum.collect(), each.iter().map(|one| norm(one.iter().copied())).sum())
    };
    weights.iter().map(|(name, _)| sum(name)).collect()
}

/// The packed gradient of [`question`], and those of its completions as sequences of their own.
fn packed_and_alone(policy: &Policy) -> (Gradients, Vec<Gradients>) {
    let (pictures, group) = question();
    assert_eq!(group.completions.len(), 32);
    let one = |completion: &Vec<u32>| Group { completions: vec![completion.clone()], ..group.clone() };
    let alone = group.completions.iter().enumerate().map(|(row, it)| gradients(policy, &pictures, one(it), row));
    let alone = alone.collect();
    (gradients(policy, &pictures, group, 0), alone)
}

#[test]
fn thirty_two_packed_completions_have_the_gradients_of_as_many_sequences() {
    let policy = policy();
    let (packed, alone) = packed_and_alone(&policy);
    let (mut worst, mut all) = ([0_f64; 2], [0_f64; 2]);
    for (name, sum, lengths) in sums(&policy.weights, &alone) {
        let off =
            flat(&packed.by_name[&name]).iter().zip(&sum).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>().sqrt();
        let left = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        worst = [worst[0].max(off / lengths), worst[1].max(off / left)];
        all = [all[0] + off * off, all[1] + left * left];
        assert!(off <= OF_ALL * lengths && off <= OF_WHAT_IS_LEFT * left, "{name}: {off:.1e} of {left:.1e}");
    }
    println!("packed gradients within {:.1e} of what they sum up, {:.1e} of what is left", worst[0], worst[1]);
    println!("{:.2e} of what is left of all tensors together", (all[0] / all[1]).sqrt());
    let alone: f64 = alone.iter().flat_map(|gradients| &gradients.losses).map(|&loss| f64::from(loss)).sum();
    assert!((f64::from(packed.losses[0]) - alone).abs() <= 1e-4);
}

#[test]
fn packed_gradients_are_as_close_to_those_in_f64_as_the_sum_of_separate_ones() {
    let policy = policy();
    let (packed, alone) = packed_and_alone(&policy);
    let exact = arrays("policy/packed.safetensors");
    let (sketches, norms) = (flat(&exact["sketch"]), flat(&exact["norm"]));
    let mut separate = sums(&policy.weights, &alone);
    separate.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(norms.len(), separate.len());
    let mut off = [0_f64; 2];
    for (((name, sum, _), theirs), norm) in separate.iter().zip(sketches.chunks(SIGNS)).zip(&norms) {
        let sum: Vec<f32> = sum.iter().map(|&value| value as f32).collect();
        for (off, ours) in off.iter_mut().zip([flat(&packed.by_name[name]), sum]) {
            *off += distance(&ours, theirs) / f64::from(*norm) / norms.len() as f64;
        }
    }
    println!("off f64 by {:.1e} packed, {:.1e} separate, in the mean over tensors", off[0], off[1]);
    assert!(off[0] <= 1.1 * off[1] && off[1] <= OF_F64, "{off:?}");
}
