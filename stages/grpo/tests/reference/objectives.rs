//! Both objectives with K = 1, 4 and 32 completions of different lengths against transformers and autograd.

use crate::batch::Batch;
use crate::fixture::{arrays, flat, policy};
use crate::sketch::{SIGNS, distance};

/// Bound on ‖ours − theirs‖ / ‖theirs‖ of a tensor's gradient. The sketches that stand for theirs tell such a length within
/// 18 %, so that half of it is asked for; `sketch.rs` says why this is enough.
const GRADIENTS: f64 = 1e-4;

/// Bound on the value of the loss.
const LOSS: f64 = 1e-5;

/// Every gradient of each batch with this many completions a prompt.
fn agree(case: &str) {
    let (policy, file) = (policy(), arrays("policy/objectives.safetensors"));
    for objective in ["token", "sequence"] {
        let batch = Batch::named(&format!("{case}.{objective}"));
        let ours = batch.gradients(&policy);
        let loss: f64 = ours.losses.iter().map(|&loss| f64::from(loss)).sum();
        let sketches = flat(&file[&format!("{}.sketch", batch.name)]);
        let norms = flat(&file[&format!("{}.norm", batch.name)]);
        assert_eq!(norms.len(), policy.weights.iter().count());
        let mut worst = (0.0, "");
        for (((name, _), theirs), norm) in policy.weights.iter().zip(sketches.chunks(SIGNS)).zip(norms) {
            let off = distance(&flat(&ours.by_name[name]), theirs) / f64::from(norm);
            assert!(off <= GRADIENTS / 2.0, "{}, {name}: {off:.1e}", batch.name);
            if off > worst.0 {
                worst = (off, name);
            }
        }
        let off = (loss - batch.loss).abs();
        println!("{}: loss off by {off:.1e}, gradients by {:.1e} at most, {}", batch.name, worst.0, worst.1);
        assert!(off <= LOSS, "{}: {loss} is not {}", batch.name, batch.loss);
    }
}

#[test]
fn one_completion_a_prompt_has_autograds_gradients() {
    agree("one");
}

#[test]
fn four_completions_of_three_prompts_have_autograds_gradients() {
    agree("four");
}

#[test]
fn thirty_two_completions_of_a_prompt_have_autograds_gradients() {
    agree("many");
}
