//! The language model against another implementation: `candle_transformers`' Qwen2 on the same weights. It knows no
//! pictures, but the three rotary positions of a text token are one number, and then the two models are the same.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder, ops};
use candle_transformers::models::qwen2;
use evoq_policy::model::{Model, Pack, Sequence};
use evoq_policy::ops::linear::Kernel;
use evoq_policy::policy::Policy;
use evoq_policy::train::Group;
use evoq_policy::{Config, Prompt};

use crate::fixture::{deviation, flat, furthest, path, policy};

/// Bound on logits, in their standard deviations, and on log-probabilities.
const VALUES: f64 = 1e-4;

/// The peer with the fixture's weights: it leaves the vision tower's alone.
fn peer(config: &Config) -> qwen2::ModelForCausalLM {
    let text = &config.text;
    let config = qwen2::Config {
        vocab_size: text.vocab_size,
        hidden_size: text.hidden_size,
        intermediate_size: text.intermediate_size,
        num_hidden_layers: text.num_hidden_layers,
        num_attention_heads: text.num_attention_heads,
        num_key_value_heads: text.num_key_value_heads,
        max_position_embeddings: 512,
        sliding_window: 512,
        max_window_layers: text.num_hidden_layers,
        tie_word_embeddings: config.tie_word_embeddings,
        rope_theta: text.rope_theta,
        rms_norm_eps: text.rms_norm_eps,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    };
    let file = std::fs::read(path("policy/checkpoint/model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(file, DType::F32, &Device::Cpu).unwrap();
    qwen2::ModelForCausalLM::new(&config, weights).unwrap()
}

/// The peer's logits after each token, read one by one into its cache, `[T, V]`.
fn peer_logits(peer: &mut qwen2::ModelForCausalLM, ids: &[u32]) -> Tensor {
    peer.clear_kv_cache();
    let one = |(at, &id)| peer.forward(&Tensor::new(&[[id]], &Device::Cpu).unwrap(), at).unwrap().squeeze(1).unwrap();
    let rows: Vec<Tensor> = ids.iter().enumerate().map(one).collect();
    Tensor::cat(&rows, 0).unwrap()
}

/// A prompt of text alone: every id that may be in one, in an order that repeats none.
fn prompt(policy: &Policy, length: usize) -> Prompt {
    let banned = policy.tokenizer.banned(&policy.config);
    let size = policy.config.text.vocab_size as u32;
    let ids = (0..size).map(|i| i * 193 % size).filter(|id| !banned.contains(id)).take(length).collect();
    Prompt { ids, grids: Vec::new() }
}

#[test]
fn logits_of_text_are_another_implementations() {
    let policy = policy();
    let prompt = prompt(&policy, 300);
    let model = Model::new(&policy.config, &policy.weights, Vec::new()).unwrap();
    let sequence = Sequence { prompt: &prompt, features: Vec::new(), completions: &[] };
    let pack = Pack::new(&policy.config, &model.text, &[], &[sequence]).unwrap();
    let (hidden, _) = model.text.forward(pack.embed(&model.text).unwrap(), &pack.plan).unwrap();
    let (ours, _) = model.text.logits(hidden, Kernel::General).unwrap();

    let theirs = peer_logits(&mut peer(&policy.config), &prompt.ids);
    assert_eq!((ours.dims(), prompt.ids.len()), (theirs.dims(), 300));
    let (ours, theirs) = (flat(&ours), flat(&theirs));
    let off = furthest(&ours, &theirs) / deviation(&theirs);
    println!("logits of 300 tokens of text within {off:.1e} of their standard deviation");
    assert!(off <= VALUES, "{off:.1e}");
}

#[test]
fn log_probs_of_packed_completions_are_another_implementations_one_by_one() {
    let policy = policy();
    let prompt = prompt(&policy, 40);
    let completions: Vec<Vec<u32>> = [0..1, 3..20, 5..11].map(|range| prompt.ids[range].to_vec()).into();
    let group = Group { prompt: prompt.clone(), pictures: Vec::new(), completions: completions.clone() };
    let ours = policy.logprobs(&[], &[group]).unwrap();

    let mut mask = vec![0_f32; policy.config.text.vocab_size];
    for id in policy.tokenizer.banned(&policy.config) {
        mask[id as usize] = f32::NEG_INFINITY;
    }
    let mask = Tensor::new(mask, &Device::Cpu).unwrap();
    let mut peer = peer(&policy.config);
    let mut worst: f64 = 0.0;
    for (completion, ours) in completions.iter().zip(&ours[0]) {
        let logits = peer_logits(&mut peer, &[&prompt.ids, completion.as_slice()].concat());
        let logits = logits.narrow(0, prompt.ids.len() - 1, completion.len()).unwrap();
        let all = ops::log_softmax(&logits.broadcast_add(&mask).unwrap(), D::Minus1).unwrap();
        let picks = Tensor::new(completion.as_slice(), &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        worst = worst.max(furthest(ours, &flat(&all.gather(&picks, 1).unwrap())));
    }
    println!("log-probs of packed completions within {worst:.1e}");
    assert!(worst <= VALUES, "{worst:.1e}");
}
