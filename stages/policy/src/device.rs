//! A second engine, made of whole-tensor operations, that runs a policy on any device: `bf16` on CUDA, `f32` on the CPU,
//! where it is the check of itself. It answers, scores and learns; all work on the CPU is the first engine's.
//!
//! The two give the same up to rounding: a lane's noise has the same bits on both, so on both it draws the same tokens
//! but where two sampling keys are as close as the rounding.

mod answerer;
mod attention;
mod choose;
mod decode;
mod exact;
mod layers;
mod learn;
mod learner;
mod noise;
mod place;
mod stream;
mod sums;
#[cfg(test)]
mod tests;
mod text;
mod vision;
mod weights;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

pub use answerer::Answerer;
pub(crate) use attention::SCORES;
pub(crate) use decode::PAGE;
pub(crate) use exact::LOGITS;
pub use learn::DeviceSum;
pub use learner::{Learner, LearnerSum};
pub use place::{Place, memory_in_use};
pub use weights::{Tensors, random};

use crate::checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::policy::Features;
use crate::processor::{Grid, Pixels, Processor};
use crate::prompt::{Prompt, Question};
use crate::sample::{Completion, Request, Sampling};
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;
use choose::Chooser;
use learn::Bounds;
use stream::Stream;
use text::TextModel;
use vision::VisionTower;

/// A checkpoint in a device's memory, ready to look and answer, and where it was loaded for it, to learn.
pub struct DevicePolicy {
    /// Sizes and token ids.
    pub config: Config,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: Template,
    /// Pictures to patches.
    pub processor: Processor,
    device: Device,
    dtype: DType,
    /// Whose turn it is: several at a time would be no faster, and take memory several times over.
    turn: Mutex<()>,
    vision: VisionTower,
    text: TextModel,
    bounds: Bounds,
    /// The very storage that the layers read; none where it only answers.
    variables: Option<Weights>,
    /// Ids that are never sampled and have probability 0, in rising order.
    banned: Vec<u32>,
}

impl DevicePolicy {
    /// Reads a checkpoint folder; its weights go tensor by tensor from the mapped files to the device.
    ///
    /// # Errors
    /// No such device; a file that is missing or malformed, or weights that do not fit the configuration.
    pub fn load(folder: &Path, place: Place) -> Result<Self> {
        let (device, dtype) = (place.open()?, place.dtype());
        let config = Config::load(folder)?;
        let mut tensors = Tensors::load(folder, &config, &device, dtype)?;
        let (tokenizer, template) = (Tokenizer::load(folder)?, Template::load(folder)?);
        Self::new(config, &mut tensors, tokenizer, template, Processor::load(folder)?)
    }

    /// Puts a policy together from its parts. Tensors are taken out as they are placed.
    ///
    /// # Errors
    /// A tensor that the configuration calls for is not there.
    pub fn new(
        config: Config,
        tensors: &mut Tensors,
        tokenizer: Tokenizer,
        template: Template,
        processor: Processor,
    ) -> Result<Self> {
        let (device, dtype) = (tensors.device.clone(), tensors.dtype);
        let mut banned = tokenizer.banned(&config);
        banned.sort_unstable();
        banned.dedup();
        let vision = VisionTower::new(&config, tensors)?;
        let text = TextModel::new(&config, tensors)?;
        Ok(Self {
            config,
            tokenizer,
            template,
            processor,
            device,
            dtype,
            turn: Mutex::new(()),
            vision,
            text,
            bounds: Bounds::default(),
            variables: None,
            banned,
        })
    }

    /// [`Self::load`] for training: the weights are variables.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_to_train(folder: &Path, place: Place) -> Result<Self> {
        let (device, dtype) = (place.open()?, place.dtype());
        let config = Config::load(folder)?;
        let (tokenizer, template) = (Tokenizer::load(folder)?, Template::load(folder)?);
        let processor = Processor::load(folder)?;
        let tensors = Tensors::load(folder, &config, &device, dtype)?;
        Self::to_train(config, tensors, tokenizer, template, processor)
    }

    /// [`Self::new`] for training: the weights are variables.
    ///
    /// # Errors
    /// As [`Self::new`]; the device is out of memory.
    pub fn to_train(
        config: Config,
        tensors: Tensors,
        tokenizer: Tokenizer,
        template: Template,
        processor: Processor,
    ) -> Result<Self> {
        let (mut tensors, weights) = tensors.variables()?;
        let policy = Self::new(config, &mut tensors, tokenizer, template, processor)?;
        Ok(Self { variables: Some(weights), ..policy })
    }

    /// The weights, of a policy that was loaded for training. Whoever changes them changes what this policy answers.
    pub fn variables(&self) -> Option<&Weights> {
        self.variables.as_ref()
    }

    /// The same policy with weights of its own, which later training of this one leaves as they are.
    ///
    /// # Errors
    /// This policy was not loaded for training; out of memory.
    pub fn frozen(&self) -> Result<Self> {
        let tensors = Tensors::copy_of(self.trained()?, &self.device, self.dtype)?;
        let (tokenizer, template) = (self.tokenizer.clone(), self.template.clone());
        Self::to_train(self.config.clone(), tensors, tokenizer, template, self.processor.clone())
    }

    /// Writes a folder that `transformers` loads, in this policy's number format, tensor by tensor from the device.
    ///
    /// # Errors
    /// This policy was not loaded for training; a file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let (config, weights) = (&self.config, self.trained()?);
        checkpoint::save(folder, config, weights, &self.tokenizer, &self.template, &self.processor)?;
        let mut written = config.to_json();
        if let (DType::BF16, Some(fields)) = (self.dtype, written.as_object_mut()) {
            fields.insert("torch_dtype".to_owned(), "bfloat16".into());
            checkpoint::write_json(&folder.join("config.json"), &written)?;
        }
        Ok(())
    }

    fn trained(&self) -> Result<&Weights> {
        self.variables.as_ref().ok_or_else(|| Error::Batch {
            problem: "this policy was loaded to answer alone; load it to train".to_owned(),
        })
    }

    /// The tokens of a question about pictures of these grids.
    ///
    /// # Errors
    /// Another number of pictures than the question asks about.
    pub fn prompt(&self, question: &Question, grids: &[Grid]) -> Result<Prompt> {
        Prompt::new(question, grids, &self.config, &self.tokenizer, &self.template)
    }

    /// Looks at a picture once; the result, which stays on the device, serves any number of prompts.
    ///
    /// # Errors
    /// Patches that do not fit the model's patch size.
    pub fn look(&self, pixels: &Pixels) -> Result<Features> {
        let _turn = self.turn();
        Ok(Features { tensor: self.vision.pass(pixels)?, grid: pixels.grid })
    }

    /// The completions of each request, in the order of its draws; as the first engine's.
    ///
    /// # Errors
    /// As [`crate::Policy::sample`].
    pub fn sample(&self, requests: &[Request], sampling: &Sampling) -> Result<Vec<Vec<Completion>>> {
        sampling.check(&self.config, &self.banned)?;
        for request in requests {
            self.check(&request.asked, sampling.max_tokens)?;
            if request.draws.is_empty() {
                return Err(Error::Batch { problem: "a request asks for 0 completions; ask for 1 or more".to_owned() });
            }
        }
        let _turn = self.turn();
        Stream::new(self, requests, sampling)?.run()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // It guards no data that a panic could have left half-written.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chooser<'a>(&self, sampling: &'a Sampling) -> Result<Chooser<'a>> {
        Chooser::new(sampling, self.config.text.vocab_size, &self.banned, &self.device)
    }

    /// Waits until the device has done all that it was given; for those who measure.
    ///
    /// # Errors
    /// The device failed.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.device.synchronize()?)
    }

    /// The number format of weights and activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// `values` as a tensor of `dtype` on `device`.
fn upload(
    values: Vec<f32>,
    shape: impl Into<candle_core::Shape>,
    device: &Device,
    dtype: DType,
) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, shape.into(), device)?.to_dtype(dtype)
}
