//! A policy: a checkpoint in memory, with all that turns pictures and a question into the model's rows and back.

use std::path::Path;

use candle_core::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use crate::checkpoint;
use crate::config::Config;
use crate::error::Result;
use crate::model::Model;
use crate::processor::{Grid, Pixels, Processor};
use crate::prompt::{Prompt, Question};
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// A Qwen2.5-VL checkpoint, ready to look, answer and learn. It can be shared among threads.
pub struct Policy {
    /// Sizes and token ids.
    pub config: Config,
    /// The weights. Whoever changes them (an optimizer) changes what this policy answers.
    pub weights: Weights,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: Template,
    /// Pictures to patches.
    pub processor: Processor,
    model: Model,
}

/// A picture as the language model sees it.
#[derive(Debug, Clone)]
pub struct Features {
    /// Merged tokens, `[tokens, hidden]`.
    pub tensor: Tensor,
    /// The picture's patches.
    pub grid: Grid,
}

impl Policy {
    /// Puts a policy together from its parts.
    ///
    /// # Errors
    /// A weight that the configuration calls for is not there.
    pub fn new(
        config: Config,
        weights: Weights,
        tokenizer: Tokenizer,
        template: Template,
        processor: Processor,
    ) -> Result<Self> {
        let model = Model::new(&config, &weights, tokenizer.banned(&config))?;
        Ok(Self { config, weights, tokenizer, template, processor, model })
    }

    /// Reads a checkpoint folder, weights as `f32` onto `device`. The arithmetic between matrix products runs on the
    /// CPU alone so far.
    ///
    /// # Errors
    /// A file that is missing or malformed, or weights that do not fit the configuration; the error names it.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let config = Config::load(folder)?;
        // The small files first: what they lack is said before many gigabytes of weights are read.
        let (tokenizer, template) = (Tokenizer::load(folder)?, Template::load(folder)?);
        let processor = Processor::load(folder)?;
        let weights = Weights::load(folder, &config, device)?;
        Self::new(config, weights, tokenizer, template, processor)
    }

    /// Writes a folder that `transformers` loads.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        checkpoint::save(folder, &self.config, &self.weights, &self.tokenizer, &self.template, &self.processor)
    }

    /// The same policy with weights of its own, which later training of this one leaves as they are.
    ///
    /// # Errors
    /// Out of memory.
    pub fn frozen(&self) -> Result<Self> {
        Self::new(
            self.config.clone(),
            self.weights.copy()?,
            self.tokenizer.clone(),
            self.template.clone(),
            self.processor.clone(),
        )
    }

    /// The tokens of a question about pictures of these grids.
    ///
    /// # Errors
    /// Another number of pictures than the question asks about.
    pub fn prompt(&self, question: &Question, grids: &[Grid]) -> Result<Prompt> {
        Prompt::new(question, grids, &self.config, &self.tokenizer, &self.template)
    }

    /// A picture as the vision tower reads it.
    ///
    /// # Errors
    /// As [`Processor::pixels`]; a picture that alone takes more tokens than the model's positions reach, which is said
    /// before anything is made of it.
    pub fn pixels(&self, picture: &RgbImage) -> Result<Pixels> {
        self.processor.pixels_within(picture, self.config.text.max_position_embeddings)
    }

    /// Looks at a picture once; the result serves any number of prompts, until the weights change.
    ///
    /// # Errors
    /// Patches that do not fit the model's patch size.
    pub fn look(&self, pixels: &Pixels) -> Result<Features> {
        Ok(Features { tensor: self.model.vision.pass(&[pixels])?, grid: pixels.grid })
    }

    /// Looks at each picture by itself, so that what is seen in it does not depend on its company, and at several side by
    /// side: the products of a small model are too small to be divided among threads.
    ///
    /// # Errors
    /// As [`Policy::look`].
    pub fn look_all(&self, pixels: &[Pixels]) -> Result<Vec<Features>> {
        pixels.par_iter().map(|pixels| self.look(pixels)).collect()
    }

    /// The model on tensors.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }
}
