//! Qwen2.5-VL on candle: image processor, prompts, sampling, log-probabilities, training step.
//!
//! A [`Policy`] is a Hugging Face checkpoint folder in memory: [`Config`], [`Weights`], [`Tokenizer`],
//! [`Template`] and [`Processor`]. The crate knows no table, no workflow and no object store: it opens a local
//! folder that it is given. Every checkpoint of the Qwen2.5-VL architecture loads, and what is saved here loads
//! in `transformers`.

#![expect(clippy::disallowed_methods, reason = "the policy opens a local checkpoint folder that it is given")]

pub mod answer;
pub mod checkpoint;
pub mod config;
mod decode;
pub mod device;
pub mod error;
pub mod estimate;
pub mod exact;
pub mod gallery;
pub mod init;
pub mod model;
pub mod ops;
pub mod optimizer;
pub mod policy;
pub mod positions;
pub mod processor;
pub mod prompt;
pub mod reply;
pub mod sample;
pub mod template;
pub mod text;
pub mod tokenizer;
pub mod train;
pub mod vision;
pub mod weights;

pub use answer::answer_tokens;
pub use config::{Config, TextConfig, VisionConfig};
pub use device::{Answerer, DevicePolicy, DeviceSum, Learner, LearnerSum, Place};
pub use error::{Error, Result};
pub use estimate::{Estimate, Work, estimate, published};
pub use exact::ExpectedScore;
pub use gallery::{Gallery, PictureKey};
pub use init::{Shape, init};
pub use optimizer::{AdamW, Hyper, Schedule, Step};
pub use policy::{Features, Policy};
pub use processor::{Grid, Pixels, Processor};
pub use prompt::{Prompt, Question, Reasoning, Task};
pub use reply::{InvalidReply, Side, parse_comparison, parse_score};
pub use sample::{Asked, Completion, Draw, Finish, Request, Sampling};
pub use template::Template;
pub use tokenizer::Tokenizer;
pub use train::{GradientSum, Gradients, Group, Learnt, Probe, Trainable};
pub use weights::Weights;
