//! A policy that learns, on the engine that its device calls for.

use std::path::Path;

use candle_core::{Device, Tensor, Var};

use super::learn::DeviceSum;
use super::{Answerer, DevicePolicy, Place};
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::processor::Pixels;
use crate::train::{GradientSum, Gradients, Group, Learnt, Trainable};
use crate::weights::Weights;

/// An [`Answerer`] whose weights are variables: on the CPU the first engine in `f32`, on CUDA the second in `bf16`.
///
/// A step: [`Self::begin`], [`Self::accumulate`] once for each micro-batch, [`crate::AdamW::step`] over [`Self::variables`],
/// which sets them in place, and [`Self::merge`]. What is asked of [`Self::answerer`] afterwards is answered by the new weights.
pub struct Learner(Answerer);

/// Gradients in the making, on the learner's engine.
#[derive(Debug)]
pub struct LearnerSum<'a>(Sum<'a>);

#[derive(Debug)]
enum Sum<'a> {
    Cpu(GradientSum<'a>),
    Device(DeviceSum<'a>),
}

impl LearnerSum<'_> {
    /// What all micro-batches together brought; the losses stand in their order, the gradients lie where they were made.
    ///
    /// # Errors
    /// Out of memory.
    pub fn finish(self) -> Result<Gradients> {
        match self.0 {
            Sum::Cpu(sum) => sum.finish(),
            Sum::Device(sum) => Ok(sum.finish()),
        }
    }
}

impl Learner {
    /// Reads a checkpoint folder onto the place's device, in its number format.
    ///
    /// # Errors
    /// As [`Policy::load`] and [`DevicePolicy::load`].
    pub fn load(folder: &Path, place: Place) -> Result<Self> {
        Ok(match place {
            Place::Cpu => Self::from(Policy::load(folder, &Device::Cpu)?),
            Place::Cuda => Self::try_from(DevicePolicy::load_to_train(folder, place)?)?,
        })
    }

    /// The policy as it is now, to look, to answer and to be scored.
    pub fn answerer(&self) -> &Answerer {
        &self.0
    }

    /// The same policy with weights of its own, which later training of this one leaves as they are: the reference policy.
    ///
    /// # Errors
    /// Out of memory.
    pub fn frozen(&self) -> Result<Self> {
        Ok(match &self.0 {
            Answerer::Cpu(policy) => Self::from(policy.frozen()?),
            Answerer::Device(policy) => Self::try_from(policy.frozen()?)?,
        })
    }

    /// What `trainable` names of this policy; see [`Learnt::new`].
    ///
    /// # Errors
    /// As [`Learnt::new`].
    pub fn learnt(&self, trainable: Trainable, seed: u64) -> Result<Learnt> {
        Learnt::of(self.weights(), trainable, seed)
    }

    /// The variables to train, by name: for the optimizer.
    pub fn variables(&self, learnt: &Learnt) -> Vec<(String, Var)> {
        learnt.variables_of(self.weights())
    }

    /// Sets the weights that have adapters, after each step of the optimizer; see [`Learnt::merge`]. `base` is what
    /// [`Self::frozen`] gave when the run began.
    ///
    /// # Errors
    /// As [`Learnt::merge`].
    pub fn merge(&self, learnt: &Learnt, base: &Self) -> Result<()> {
        match &self.0 {
            Answerer::Cpu(policy) => learnt.merge(policy, base.weights()),
            Answerer::Device(policy) => policy.merge(learnt, base.weights()),
        }
    }

    /// No gradients yet.
    pub fn begin<'a>(&self, learnt: &'a Learnt) -> LearnerSum<'a> {
        LearnerSum(match &self.0 {
            Answerer::Cpu(_) => Sum::Cpu(GradientSum::new(learnt)),
            Answerer::Device(_) => Sum::Device(DeviceSum::new(learnt)),
        })
    }

    /// Adds a micro-batch's gradients to `sum`, which this learner began; see [`Policy::accumulate`]. `loss` is given tensors
    /// in host memory on either engine.
    ///
    /// # Errors
    /// As [`Policy::accumulate`].
    pub fn accumulate<L>(&self, sum: &mut LearnerSum, pictures: &[Pixels], groups: &[Group], loss: &L) -> Result<()>
    where
        L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync,
    {
        match (&self.0, &mut sum.0) {
            (Answerer::Cpu(policy), Sum::Cpu(sum)) => policy.accumulate(sum, pictures, groups, loss, None),
            (Answerer::Device(policy), Sum::Device(sum)) => policy.accumulate(sum, pictures, groups, loss),
            (Answerer::Cpu(_), Sum::Device(_)) | (Answerer::Device(_), Sum::Cpu(_)) => {
                unreachable!("a sum is begun by the learner that adds to it")
            }
        }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        match &self.0 {
            Answerer::Cpu(policy) => &policy.weights,
            Answerer::Device(policy) => policy.variables().expect("a learner is made of a policy with variables"),
        }
    }

    /// Writes a folder that `transformers` loads, in the number format of the variables.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        match &self.0 {
            Answerer::Cpu(policy) => policy.save(folder),
            Answerer::Device(policy) => policy.save(folder),
        }
    }
}

impl From<Policy> for Learner {
    fn from(policy: Policy) -> Self {
        Self(Answerer::Cpu(Box::new(policy)))
    }
}

impl TryFrom<DevicePolicy> for Learner {
    type Error = Error;

    fn try_from(policy: DevicePolicy) -> Result<Self> {
        policy.trained()?;
        Ok(Self(Answerer::Device(Box::new(policy))))
    }
}
