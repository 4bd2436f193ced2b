//! The engine that a device calls for, behind one type.

use std::path::Path;

use candle_core::Device;
use image::RgbImage;

use super::{DevicePolicy, Place};
use crate::config::Config;
use crate::error::Result;
use crate::policy::{Features, Policy};
use crate::processor::{Grid, Pixels, Processor};
use crate::prompt::{Prompt, Question};
use crate::sample::{Asked, Completion, Request, Sampling};
use crate::tokenizer::Tokenizer;
use crate::train::Group;

/// A policy that answers and is not trained: on the CPU the first engine, on CUDA the second.
pub enum Answerer {
    /// On the CPU.
    Cpu(Box<Policy>),
    /// On another device.
    Device(Box<DevicePolicy>),
}

impl Answerer {
    /// Reads a checkpoint folder onto the place's device, in its number format.
    ///
    /// # Errors
    /// As [`Policy::load`] and [`DevicePolicy::load`].
    pub fn load(folder: &Path, place: Place) -> Result<Self> {
        match place {
            Place::Cpu => Ok(Self::Cpu(Box::new(Policy::load(folder, &Device::Cpu)?))),
            Place::Cuda => Ok(Self::Device(Box::new(DevicePolicy::load(folder, place)?))),
        }
    }

    /// Sizes and token ids.
    pub fn config(&self) -> &Config {
        match self {
            Self::Cpu(policy) => &policy.config,
            Self::Device(policy) => &policy.config,
        }
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Cpu(policy) => &policy.tokenizer,
            Self::Device(policy) => &policy.tokenizer,
        }
    }

    /// Pictures to patches.
    pub fn processor(&self) -> &Processor {
        match self {
            Self::Cpu(policy) => &policy.processor,
            Self::Device(policy) => &policy.processor,
        }
    }

    /// The tokens of a question about pictures of these grids.
    ///
    /// # Errors
    /// As [`Policy::prompt`].
    pub fn prompt(&self, question: &Question, grids: &[Grid]) -> Result<Prompt> {
        match self {
            Self::Cpu(policy) => policy.prompt(question, grids),
            Self::Device(policy) => policy.prompt(question, grids),
        }
    }

    /// A picture as the vision tower reads it.
    ///
    /// # Errors
    /// As [`Policy::pixels`].
    pub fn pixels(&self, picture: &RgbImage) -> Result<Pixels> {
        self.processor().pixels_within(picture, self.config().text.max_position_embeddings)
    }

    /// Looks at a picture once.
    ///
    /// # Errors
    /// As [`Policy::look`].
    pub fn look(&self, pixels: &Pixels) -> Result<Features> {
        match self {
            Self::Cpu(policy) => policy.look(pixels),
            Self::Device(policy) => policy.look(pixels),
        }
    }

    /// Looks at each picture by itself; on the CPU at several side by side.
    ///
    /// # Errors
    /// As [`Policy::look`].
    pub fn look_all(&self, pixels: &[Pixels]) -> Result<Vec<Features>> {
        match self {
            Self::Cpu(policy) => policy.look_all(pixels),
            Self::Device(policy) => pixels.iter().map(|pixels| policy.look(pixels)).collect(),
        }
    }

    /// The completions of each request, in the order of its draws.
    ///
    /// # Errors
    /// As [`Policy::sample`].
    pub fn sample(&self, requests: &[Request], sampling: &Sampling) -> Result<Vec<Vec<Completion>>> {
        match self {
            Self::Cpu(policy) => policy.sample(requests, sampling),
            Self::Device(policy) => policy.sample(requests, sampling),
        }
    }

    /// The probability that a completion drawn under `sampling` begins with each of `tokens`, for each prompt.
    ///
    /// # Errors
    /// As [`Policy::first_token_probabilities`].
    pub fn first_token_probabilities(
        &self,
        asked: &[Asked],
        sampling: &Sampling,
        tokens: &[u32],
    ) -> Result<Vec<Vec<f64>>> {
        match self {
            Self::Cpu(policy) => policy.first_token_probabilities(asked, sampling, tokens),
            Self::Device(policy) => policy.first_token_probabilities(asked, sampling, tokens),
        }
    }

    /// Log-probabilities of given completions of each prompt.
    ///
    /// # Errors
    /// As [`Policy::completion_logprobs`].
    pub fn completion_logprobs(&self, asked: &[Asked], completions: &[&[Vec<u32>]]) -> Result<Vec<Vec<Vec<f32>>>> {
        match self {
            Self::Cpu(policy) => policy.completion_logprobs(asked, completions),
            Self::Device(policy) => policy.completion_logprobs(asked, completions),
        }
    }

    /// Log-probabilities of all completion tokens of groups: by group, completion and token.
    ///
    /// # Errors
    /// As [`Policy::logprobs`].
    pub fn logprobs(&self, pictures: &[Pixels], groups: &[Group]) -> Result<Vec<Vec<Vec<f32>>>> {
        match self {
            Self::Cpu(policy) => policy.logprobs(pictures, groups),
            Self::Device(policy) => policy.logprobs(pictures, groups),
        }
    }
}
