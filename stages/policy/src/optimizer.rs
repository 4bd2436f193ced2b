//! `AdamW` with f32 master weights, the clip of the gradient's global norm, and learning-rate schedules.
//!
//! Master weights and both moments are f32 in host memory whatever the variables' own format: with the paper's learning
//! rate of 3e-7 an update is far below the resolution of bf16. Every sum has a fixed order, so the bits do not depend
//! on the number of threads. The loss and the gradients are made elsewhere.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use candle_core::{DType, Tensor, Var};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Elements that one thread takes at a time; also the length of the norm's partial sums, hence part of its rounding.
const CHUNK: usize = 1 << 14;

/// The optimizer's constants; the defaults are those of Hugging Face's trainer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: a step multiplies each weight by 1 − rate · decay first.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; longer ones are scaled down to it. `None`: no clip.
    pub clip: Option<f64>,
}

impl Default for Hyper {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, clip: Some(1.0) }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Euclidean norm of all gradients together, before the clip.
    pub gradient_norm: f64,
    /// Whether the clip made the gradient shorter.
    pub clipped: bool,
}

/// `AdamW` (Loshchilov and Hutter, 2019) with the semantics of `torch.optim.AdamW` and `clip_grad_norm_`.
pub struct AdamW {
    hyper: Hyper,
    tensors: BTreeMap<String, State>,
}

/// One variable with its master copy and moments.
struct State {
    var: Var,
    master: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// Steps that this tensor took: those in which it had a gradient.
    steps: i32,
}

impl AdamW {
    /// Takes the variables to train by name; their present values become the master weights. Each variable is later
    /// set in place, so that everything that shares its storage sees the new values.
    ///
    /// # Errors
    /// If a variable cannot be read as f32.
    pub fn new(vars: impl Iterator<Item = (String, Var)>, hyper: Hyper) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, var) in vars {
            let master = values(&var)?;
            let (first, second) = (vec![0.0; master.len()], vec![0.0; master.len()]);
            tensors.insert(name, State { var, master, first, second, steps: 0 });
        }
        Ok(Self { hyper, tensors })
    }

    /// One step at `learning_rate`. A variable without a gradient stays as it is, moments and all, as in torch.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a gradient of an unknown variable, [`Error::NotFinite`] for one that is infinite or
    /// not a number; in both cases nothing has changed.
    pub fn step(&mut self, gradients: &BTreeMap<String, Tensor>, learning_rate: f64) -> Result<Step> {
        let gradient_norm = self.norm(gradients)?;
        let scale = match self.hyper.clip {
            // torch adds 1e-6 and multiplies in every case, by at most 1.
            Some(clip) => (clip / (gradient_norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let hyper = self.hyper;
        self.tensors
            .par_iter_mut()
            .filter_map(|(name, state)| gradients.get(name).map(|gradient| (state, gradient)))
            .try_for_each(|(state, gradient)| state.step(&values(gradient)?, scale as f32, learning_rate, &hyper))?;
        Ok(Step { gradient_norm, clipped: scale < 1.0 })
    }

    /// Euclidean norm of all gradients, in f64: partial sums of [`CHUNK`] elements, added by position, then by name.
    fn norm(&self, gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
        let squares: Vec<f64> = gradients
            .par_iter()
            .map(|(name, gradient)| {
                let Some(state) = self.tensors.get(name) else {
                    return Err(Error::NoSuchTensor { name: name.clone() });
                };
                if state.var.shape() != gradient.shape() {
                    let (lhs, rhs) = (state.var.shape().clone(), gradient.shape().clone());
                    return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "step" }.into());
                }
                let gradient = values(gradient)?;
                let sums: Vec<f64> =
                    gradient.par_chunks(CHUNK).map(|chunk| chunk.iter().map(|&g| f64::from(g).powi(2)).sum()).collect();
                let sum: f64 = sums.iter().sum();
                if sum.is_finite() { Ok(sum) } else { Err(Error::NotFinite { name: name.clone() }) }
            })
            .collect::<Result<_>>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }
}

impl State {
    /// One step of this tensor; `scale` is the clip's factor. In f32 and in torch's order of operations.
    fn step(&mut self, gradient: &[f32], scale: f32, learning_rate: f64, hyper: &Hyper) -> Result<()> {
        self.steps += 1;
        let correction1 = 1.0 - hyper.beta1.powi(self.steps);
        let correction2 = (1.0 - hyper.beta2.powi(self.steps)).sqrt() as f32;
        let step_size = (learning_rate / correction1) as f32;
        let keep = (1.0 - learning_rate * hyper.weight_decay) as f32;
        let (new1, beta2, new2) = ((1.0 - hyper.beta1) as f32, hyper.beta2 as f32, (1.0 - hyper.beta2) as f32);
        let eps = hyper.eps as f32;
        self.master
            .par_chunks_mut(CHUNK)
            .zip(self.first.par_chunks_mut(CHUNK))
            .zip(self.second.par_chunks_mut(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|(((master, first), second), gradient)| {
                for (((w, m), v), g) in master.iter_mut().zip(first).zip(second).zip(gradient) {
                    let g = g * scale;
                    *m += new1 * (g - *m);
                    *v = *v * beta2 + new2 * g * g;
                    *w = *w * keep - step_size * (*m / (v.sqrt() / correction2 + eps));
                }
            });
        let new = Tensor::from_slice(&self.master, self.var.shape(), self.var.device())?;
        Ok(self.var.set(&new.to_dtype(self.var.dtype())?)?)
    }
}

/// A tensor's elements in row-major order.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The peak at every step.
    Constant,
    /// From the peak at the first step in a straight line to 0 after the last, without a warm-up (the paper's trainer).
    Linear,
    /// Rises in a straight line over `warmup` steps, the last of which is at the peak, then falls as half a cosine to 0.
    Cosine {
        /// Steps of the rise; 0 for none.
        warmup: usize,
    },
}

impl Schedule {
    /// The learning rate of `step` (from 0) of `steps`; 0 from the end on, except when constant.
    pub fn learning_rate(self, peak: f64, step: usize, steps: usize) -> f64 {
        let left = |from: usize| (steps.saturating_sub(step)) as f64 / steps.saturating_sub(from).max(1) as f64;
        match self {
            Self::Constant => peak,
            Self::Linear => peak * left(0),
            Self::Cosine { warmup } if step < warmup => peak * (step + 1) as f64 / warmup as f64,
            Self::Cosine { warmup } => peak * 0.5 * (1.0 - libm::cos(PI * left(warmup))),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp as _};

    use super::*;

    /// An optimizer of one variable `w` of the given values.
    fn optimizer(values: &[f32], hyper: Hyper) -> (Var, AdamW) {
        let var = Var::new(values, &Device::Cpu).unwrap();
        let adamw = AdamW::new([("w".to_owned(), var.clone())].into_iter(), hyper).unwrap();
        (var, adamw)
    }

    fn gradient(values: &[f32]) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_owned(), Tensor::new(values, &Device::Cpu).unwrap())])
    }

    #[test]
    fn a_first_step_moves_each_weight_by_the_rate_against_its_gradient() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let step = adamw.step(&gradient(&[0.3, -0.4]), 0.01).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [0.99, -1.99]);
        assert!((step.gradient_norm - 0.5).abs() < 1e-7 && !step.clipped);
    }

    #[test]
    fn a_long_gradient_is_clipped_and_its_norm_reported_unclipped() {
        let (_, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let step = adamw.step(&gradient(&[3.0, -4.0]), 0.01).unwrap();
        assert_eq!(step, Step { gradient_norm: 5.0, clipped: true });
    }

    #[test]
    fn what_shares_the_storage_sees_the_new_weights() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let alias = var.as_detached_tensor();
        adamw.step(&gradient(&[0.3, -0.4]), 0.01).unwrap();
        assert_eq!(alias.i(0).unwrap().to_scalar::<f32>().unwrap(), 0.99);
    }

    #[test]
    fn a_variable_without_a_gradient_keeps_its_value_under_weight_decay() {
        let (var, mut adamw) = optimizer(&[1.0], Hyper { weight_decay: 0.5, ..Hyper::default() });
        adamw.step(&BTreeMap::new(), 0.01).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_refused_by_name_and_changes_nothing() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let error = adamw.step(&gradient(&[0.1, f32::NAN]), 0.01).unwrap_err();
        assert!(matches!(error, Error::NotFinite { name } if name == "w"));
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn a_gradient_of_an_unknown_variable_is_refused_by_name() {
        let (_, mut adamw) = optimizer(&[1.0], Hyper::default());
        let stranger = BTreeMap::from([("x".to_owned(), Tensor::new(&[1f32], &Device::Cpu).unwrap())]);
        assert!(matches!(adamw.step(&stranger, 0.01), Err(Error::NoSuchTensor { name }) if name == "x"));
    }

    #[test]
    fn steps_smaller_than_bf16_resolves_add_up_in_the_master() {
        let start = Tensor::new(&[1f32], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
        let var = Var::from_tensor(&start).unwrap();
        let mut adamw = AdamW::new([("w".to_owned(), var.clone())].into_iter(), Hyper::default()).unwrap();
        for _ in 0..100 {
            adamw.step(&gradient(&[0.5]), 1e-4).unwrap();
        }
        let end = var.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()[0];
        assert!((end - 0.99).abs() < 2e-3, "{end}");
    }

    #[test]
    fn the_linear_schedule_starts_at_the_peak_and_ends_at_zero() {
        let rates: Vec<f64> = (0..5).map(|step| Schedule::Linear.learning_rate(8.0, step, 4)).collect();
        assert_eq!(rates, [8.0, 6.0, 4.0, 2.0, 0.0]);
    }

    #[test]
    fn the_cosine_schedule_warms_up_to_the_peak_and_falls_to_zero() {
        let schedule = Schedule::Cosine { warmup: 2 };
        let rates: Vec<f64> = (0..7).map(|step| schedule.learning_rate(8.0, step, 6)).collect();
        let fall = |part: f64| 4.0 * (1.0 + (PI * part).cos());
        for (rate, expected) in rates.iter().zip([4.0, 8.0, 8.0, fall(0.25), fall(0.5), fall(0.75), 0.0]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn the_constant_schedule_stays_at_the_peak() {
        assert_eq!(Schedule::Constant.learning_rate(8.0, 3, 4), 8.0);
    }
}
