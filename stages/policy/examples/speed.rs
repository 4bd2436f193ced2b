//! Throwaway.
use candle_core::{Device, Tensor, Var};
use evoq_policy::init::{Shape, fixed_pieces, init};
use evoq_policy::policy::Policy;
use evoq_policy::sample::Sampling;
use evoq_policy::train::{Group, Probe};
use evoq_policy::*;
use rayon::prelude::*;
use std::time::Instant;

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn measure(name: &str, n: usize, mut f: impl FnMut()) {
    f();
    let (c, w) = (cpu(), Instant::now());
    for _ in 0..n { f(); }
    println!("{name}: {:.4} CPU s, {:.4} wall s", (cpu() - c) / n as f64, w.elapsed().as_secs_f64() / n as f64);
}
struct P(Var);
impl Probe for P {
    fn vars(&self) -> Vec<(String, Var)> { vec![("probe".into(), self.0.clone())] }
    fn loss(&self, _: usize, pooled: &Tensor) -> candle_core::Result<Tensor> {
        pooled.matmul(&self.0)?.sqr()?.sum_all()
    }
}
fn main() {
    let shape: Shape = serde_saphyr::from_str(&std::fs::read_to_string("workflows/tiny-policy/shape.yaml").unwrap()).unwrap();
    let texts = (0..2000).map(|i| format!("very noisy, slightly blurred looks quite clean {}", i % 7));
    let tokenizer = Tokenizer::train(texts, &fixed_pieces(), shape.merges).unwrap();
    let (c, w, t, te, p) = init(&shape, tokenizer, 1, &Device::Cpu).unwrap();
    let policy = Policy::new(c, w, t, te, p).unwrap();
    let grid = Grid { height: 8, width: 8 };
    let pixels: Vec<Pixels> = (0..48).map(|n| Pixels { grid, patches: (0..64 * 1176).map(|i| ((i * 7 + n * 31) as f32 * 0.37).sin()).collect() }).collect();
    let compare = policy.prompt(&Question::new(Task::Compare, Reasoning::On), &[grid, grid]).unwrap();
    let score = policy.prompt(&Question::new(Task::Score, Reasoning::On), &[grid]).unwrap();
    println!("compare {} score {}", compare.ids.len(), score.ids.len());
    let reply = |n: usize| -> Vec<u32> { (0..11).map(|i| (30 + (n * 37 + i * 11) % 200) as u32).collect() };
    let sft: Vec<Group> = (0..42).map(|i| Group { prompt: compare.clone(), pictures: vec![i, i + 1], completions: vec![reply(i)] }).collect();
    let grpo: Vec<Group> = (0..8).map(|i| Group { prompt: score.clone(), pictures: vec![i], completions: (0..32).map(reply).collect() }).collect();
    let loss = |_: usize, l: &Tensor, _: &Tensor| l.sum_all()? * -0.01;
    let probe = P(Var::zeros((128, 17), candle_core::DType::F32, &Device::Cpu).unwrap());
    measure("vision only fwd+bwd 48", 5, || { policy.gradients(&pixels, &[], &loss, Some(&probe)).unwrap(); });
    measure("warm-start step", 5, || { policy.gradients(&pixels, &sft, &loss, Some(&probe)).unwrap(); });
    measure("warm-start forward", 5, || { policy.logprobs(&pixels, &sft).unwrap(); });
    measure("grpo gradients", 5, || { policy.gradients(&pixels[..8], &grpo, &loss, None).unwrap(); });
    measure("grpo reference", 5, || { policy.logprobs(&pixels[..8], &grpo).unwrap(); });
    let features: Vec<_> = pixels.iter().map(|p| policy.look(p).unwrap()).collect();
    let sampling = Sampling { max_tokens: 11, ..Sampling::default() };
    let keys: Vec<[u8; 32]> = (0..32).map(|i| [i; 32]).collect();
    measure("sample 8 x 32 score", 5, || {
        (0..8).into_par_iter().for_each(|i| { policy.sample(&score, &[&features[i]], &keys, &sampling).unwrap(); });
    });
    measure("sample 32 pairs x 32 compare", 2, || {
        (0..32).into_par_iter().for_each(|i| { policy.sample(&compare, &[&features[i], &features[i + 1]], &keys, &sampling).unwrap(); });
    });
    measure("look 48", 3, || { pixels.par_iter().for_each(|p| { policy.look(p).unwrap(); }); });
}
