//! What of a policy learns: which of its weights, or low-rank matrices in the place of its linear layers' weights.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ops::product::{Matrix, multiply_into};
use crate::ops::sums::{Adapter, Wanted, adapter_names};
use crate::ops::{Floats, overwrite};
use crate::policy::Policy;
use crate::weights::{Weights, expected};

/// Which part of a policy is trained. No gradient is computed of what is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trainable {
    /// All weights (the paper's choice).
    All,
    /// The language model with its embeddings; the vision tower is frozen.
    Text,
    /// The vision tower with its merger; the language model is frozen.
    Vision,
    /// The vision tower's merger alone.
    Merger,
    /// Low-rank matrices `W = W0 + (alpha/rank)·B·A` beside the language model's linear layers, of attention and MLP; all
    /// weights are frozen. Hu and others, 2021.
    Lora {
        /// Rows of `A` and columns of `B`.
        rank: usize,
        /// Weight of their product, times the rank.
        alpha: f64,
    },
}

impl Trainable {
    /// Whether the weights of that release name are trained themselves.
    pub fn weights(self) -> fn(&str) -> bool {
        match self {
            Self::All => |_| true,
            Self::Text => |name| !name.starts_with("visual."),
            Self::Vision => |name| name.starts_with("visual."),
            Self::Merger => |name| name.starts_with("visual.merger."),
            Self::Lora { .. } => |_| false,
        }
    }

    /// How many numbers are trained.
    pub fn numbers(self, config: &Config) -> usize {
        let shapes = expected(config);
        if let Self::Lora { rank, .. } = self {
            let adapted = shapes.iter().filter(|(name, _)| adapted_layer(name).is_some());
            return adapted.map(|(_, shape)| rank * shape.iter().sum::<usize>()).sum();
        }
        let trained = shapes.iter().filter(|(name, _)| self.weights()(name));
        trained.map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

/// The layer of a weight's release name, if a low-rank matrix can stand beside it.
fn adapted_layer(weight: &str) -> Option<&str> {
    let layer = weight.strip_suffix(".weight")?;
    let part = layer.strip_prefix("model.layers.")?;
    (part.contains(".self_attn.") || part.contains(".mlp.")).then_some(layer)
}

/// What learns of one policy.
#[derive(Debug)]
pub struct Learnt {
    wanted: Wanted,
    /// The adapters' matrices by name, `A` and `B` of each.
    matrices: BTreeMap<String, Var>,
}

impl Learnt {
    /// All weights.
    pub fn all() -> Self {
        Self {
            wanted: Wanted { weights: Trainable::All.weights(), adapters: BTreeMap::new() },
            matrices: BTreeMap::new(),
        }
    }

    /// What `trainable` names of `policy`. Of adapters, `A` is drawn by `seed` and name, evenly within ±1/√in, and `B` is 0:
    /// at first the policy is what it was.
    ///
    /// # Errors
    /// A rank of 0.
    pub fn new(policy: &Policy, trainable: Trainable, seed: u64) -> Result<Self> {
        Self::of(&policy.weights, trainable, seed)
    }

    /// [`Self::new`] of weights wherever they lie; the adapters' matrices are `f32` in host memory.
    pub(crate) fn of(weights: &Weights, trainable: Trainable, seed: u64) -> Result<Self> {
        let mut learnt = Self {
            wanted: Wanted { weights: trainable.weights(), adapters: BTreeMap::new() },
            matrices: BTreeMap::new(),
        };
        let Trainable::Lora { rank, alpha } = trainable else { return Ok(learnt) };
        if rank == 0 {
            let problem = "a low-rank matrix of rank 0 learns nothing; give a rank of at least 1".to_owned();
            return Err(Error::Shape { field: "rank".to_owned(), problem });
        }
        for (name, weight) in weights.iter() {
            let Some(layer) = adapted_layer(name) else { continue };
            let (output, input) = weight.dims2()?;
            let [name_a, name_b] = adapter_names(layer);
            let a = Var::from_vec(evenly(seed, &name_a, rank * input, input), (rank, input), &Device::Cpu)?;
            let b = Var::from_vec(vec![0.0_f32; output * rank], (output, rank), &Device::Cpu)?;
            let adapter =
                Adapter { a: a.as_detached_tensor(), b: b.as_detached_tensor(), scale: (alpha / rank as f64) as f32 };
            learnt.wanted.adapters.insert(layer.to_owned(), adapter);
            learnt.matrices.extend([(name_a, a), (name_b, b)]);
        }
        Ok(learnt)
    }

    /// The variables to train, by name: for the optimizer.
    pub fn variables(&self, policy: &Policy) -> Vec<(String, Var)> {
        self.variables_of(&policy.weights)
    }

    /// [`Self::variables`] of weights wherever they lie.
    pub(crate) fn variables_of(&self, weights: &Weights) -> Vec<(String, Var)> {
        let weights = weights.iter().filter(|(name, _)| (self.wanted.weights)(name));
        let weights = weights.map(|(name, var)| (name.to_owned(), var.clone()));
        weights.chain(self.matrices.iter().map(|(name, var)| (name.clone(), var.clone()))).collect()
    }

    /// Sets the weights that have adapters to `W0 + scale·B·A`, with `W0` of `base`: the frozen policy that the run began
    /// with. To be called after each step of the optimizer, and after its state was put back; without adapters it does
    /// nothing. What is saved is merged.
    ///
    /// # Errors
    /// `base` is another model.
    pub fn merge(&self, policy: &Policy, base: &Weights) -> Result<()> {
        for (layer, adapter) in &self.wanted.adapters {
            let name = format!("{layer}.weight");
            merge(policy.weights.get(&name)?, base.get(&name)?, adapter)?;
        }
        Ok(())
    }

    /// Whose gradients are wanted.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

/// `weight = base + scale·B·A`, in place.
fn merge(weight: &Tensor, base: &Tensor, adapter: &Adapter) -> Result<()> {
    let ((rank, input), (output, _)) = (adapter.a.dims2()?, adapter.b.dims2()?);
    if weight.dims() != base.dims() || weight.dims() != [output, input] {
        let (lhs, rhs) = (weight.shape().clone(), base.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "merge" }.into());
    }
    let (a, base) = (Floats::of(&adapter.a)?, Floats::of(base)?);
    let b: Vec<f32> = Floats::of(&adapter.b)?.iter().map(|value| value * adapter.scale).collect();
    let mut done = Ok(());
    overwrite(weight, |weight| {
        weight.copy_from_slice(&base);
        let (b, a) = (Matrix::rows(&b, output, rank, rank), Matrix::rows(&a, rank, input, input));
        done = multiply_into(b, a, true, weight, input);
    })?;
    Ok(done?)
}

/// `count` draws that are even within ±1/√width, keyed by seed and name.
fn evenly(seed: u64, name: &str, count: usize, width: usize) -> Vec<f32> {
    let mut key = blake3::Hasher::new();
    key.update(b"adapter").update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(*key.finalize().as_bytes());
    let bound = 1.0 / (width as f64).sqrt();
    // 53 bits, in 0..1.
    let mut even = || (generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count).map(|_| (bound * (2.0 * even() - 1.0)) as f32).collect()
}
