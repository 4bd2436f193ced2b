//! On the device engine, here on the CPU in `f32`, a trainer takes the updates that it takes on the first engine.

use std::path::{Path, PathBuf};

use candle_core::DType;
use evoq_artifacts::Artifact;
use evoq_policy::device::{DevicePolicy, Tensors};
use evoq_policy::{Place, Processor, Template, Tokenizer};
use evoq_schemas::{Image, Label};
use evoq_test_support::{Folder, stored, texture};

use super::*;
use crate::args::tests::parsed;
use crate::batch::of_pairs;
use crate::batch::tests::label;

const UPDATES: usize = 2;

/// As many pairs as the updates show, four pictures each.
fn course() -> (Folder, Pictures, Course) {
    let folder = Folder::new();
    let pictures: Vec<Image> =
        (0..4 * UPDATES as u32).map(|it| stored(&format!("{it}.png"), &texture(112, 112, it))).collect();
    let labels: Vec<Label> =
        pictures.chunks(2).map(|it| label(it[0].image_id.as_str(), it[1].image_id.as_str(), Some(1.0))).collect();
    let artifact = Artifact::open(&folder.table("images", &pictures)).unwrap();
    let pairs: Vec<(&Label, f64)> = labels.iter().map(|it| (it, 1.0)).collect();
    let checked = labels.iter().take(2).map(|it| [it.image_a.clone(), it.image_b.clone()]).collect();
    let course = Course { batches: of_pairs(&pairs, 2, 1, 1), checked };
    (folder, Pictures::open(&[artifact]).unwrap(), course)
}

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy")
}

/// The tiny policy on the second engine, its weights as they are on the first.
fn on_second_engine() -> Learner {
    let folder = checkpoint();
    let config = Config::load(&folder).unwrap();
    let tensors = Tensors::load(&folder, &config, &Device::Cpu, DType::F32).unwrap();
    let (tokenizer, template) = (Tokenizer::load(&folder).unwrap(), Template::load(&folder).unwrap());
    let policy = DevicePolicy::to_train(config, tensors, tokenizer, template, Processor::load(&folder).unwrap());
    Learner::try_from(policy.unwrap()).unwrap()
}

/// What the updates leave under `flags`.
fn updates(learner: &Learner, flags: &[&str]) -> Vec<Updated> {
    let fixed = ["--samples", "8", "--max-tokens", "14", "--check-every", "1"];
    let args = parsed(&[&fixed[..], flags].concat()).unwrap();
    let (_folder, pictures, course) = course();
    let trainer = Trainer::new(&args, learner, &pictures, &course).unwrap();
    let mut optimizer = AdamW::new(trainer.variables().into_iter(), args.descent.hyper()).unwrap();
    (0..UPDATES).map(|index| trainer.update(&mut optimizer, index, 1e-5).unwrap()).collect()
}

#[track_caller]
fn close(ours: f64, theirs: f64, relative: f64) {
    assert!((ours - theirs).abs() <= relative * theirs.abs().max(1e-3), "{ours} {theirs}");
}

/// That updates are the same on both engines, and that the second has a policy that the first moved.
fn same_on_both(flags: &[&str]) {
    let first = updates(&Learner::load(&checkpoint(), Place::Cpu).unwrap(), flags);
    let second = updates(&on_second_engine(), flags);
    for (first, second) in first.iter().zip(&second) {
        let replies = |it: &Updated| it.rollouts.iter().map(|row| row.reply.clone()).collect::<Vec<_>>();
        assert_eq!(replies(first), replies(second));
        let (first, second) = (&first.update, &second.update);
        assert_eq!(first.reward_mean, second.reward_mean);
        assert_eq!((first.vote_valid_rate, first.vote_entropy), (second.vote_valid_rate, second.vote_entropy));
        assert!(first.gradient_norm > 0.0);
        close(second.gradient_norm, first.gradient_norm, 1e-3);
        close(second.loss, first.loss, 1e-2);
    }
    let kl = |updates: &[Updated]| updates[1].update.kl.unwrap();
    assert!(kl(&first) > 1e-9, "{}", kl(&first));
    assert!((kl(&second) / kl(&first) - 1.0).abs() < 0.05, "{} {}", kl(&second), kl(&first));
}

#[test]
fn all_weights_take_the_same_updates_on_both_engines() {
    same_on_both(&[]);
}

#[test]
fn low_rank_matrices_take_the_same_updates_on_both_engines_in_micro_batches() {
    same_on_both(&["--trainable", "lora", "--lora-rank", "4", "--micro-batch", "3"]);
}

#[test]
fn a_frozen_language_model_takes_the_same_updates_on_both_engines() {
    same_on_both(&["--trainable", "vision"]);
}
