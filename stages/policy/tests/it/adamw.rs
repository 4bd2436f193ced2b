//! Our optimizer against torch's.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use evoq_policy::optimizer::{AdamW, Hyper, Schedule};

use crate::fixture::{arrays, flat, furthest};

const NAMES: [&str; 4] = ["matrix", "bias", "patch", "scalar"];
const PEAK: f64 = 3e-3;

/// A hundred steps with clipping and linear decay; the largest differences of a parameter and of a norm.
fn hundred_steps(weight_decay: f64) -> (f64, f64) {
    let file = arrays("adamw.safetensors");
    let norms: Vec<f32> = flat(&file["norm"]);
    let rates: Vec<f64> = file["rate"].to_vec1().unwrap();
    let vars: BTreeMap<String, Var> = NAMES
        .iter()
        .map(|&name| (name.to_owned(), Var::from_tensor(&file[&format!("initial.{name}")]).unwrap()))
        .collect();
    let mut adamw = AdamW::new(vars.clone().into_iter(), Hyper { weight_decay, ..Hyper::default() }).unwrap();
    let mut norm_off: f64 = 0.0;
    for step in 0..norms.len() {
        let gradients: BTreeMap<String, Tensor> =
            NAMES.iter().map(|&name| (name.to_owned(), file[&format!("gradient.{name}")].get(step).unwrap())).collect();
        let rate = Schedule::Linear.learning_rate(PEAK, step, norms.len());
        assert!((rate - rates[step]).abs() < 1e-15);
        let took = adamw.step(&gradients, rate).unwrap();
        assert_eq!(took.clipped, norms[step] > 1.0);
        norm_off = norm_off.max((took.gradient_norm - f64::from(norms[step])).abs());
    }
    let off = NAMES.iter().map(|&name| {
        let expected = &file[&format!("final.{name}.{weight_decay:.1}")];
        furthest(&flat(vars[name].as_tensor()), &flat(expected))
    });
    (off.fold(0.0, f64::max), norm_off)
}

#[test]
fn a_hundred_steps_agree_with_torch() {
    let (off, norm_off) = hundred_steps(0.0);
    println!("AdamW, 100 steps: parameters within {off:.1e}, norms within {norm_off:.1e}");
    assert!(off <= 1e-6 && norm_off <= 1e-5);
}

#[test]
fn a_hundred_steps_with_weight_decay_agree_with_torch() {
    let (off, norm_off) = hundred_steps(0.1);
    println!("AdamW with decay, 100 steps: parameters within {off:.1e}, norms within {norm_off:.1e}");
    assert!(off <= 1e-6 && norm_off <= 1e-5);
}
