//! What can go wrong with a policy, by cause. Every message says what was found, what was expected and what to do.

use std::path::PathBuf;

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the policy: a file of the checkpoint, a picture, a prompt or the arithmetic itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of a checkpoint folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that every checkpoint folder has is not there.
    #[error("{}: there is no such file, and a checkpoint is not complete without it; fetch it from where the others came from", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file of a checkpoint folder is not the JSON that it should be.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        source: serde_json::Error,
    },
    /// A field of a JSON file of the checkpoint is missing, of the wrong type or out of range.
    #[error("{}: field `{field}`: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field, with its parents, joined by dots.
        field: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A weight file is not a readable safetensors file.
    #[error("{}: not a readable safetensors file: {source}; fetch the file again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The format's own message.
        source: safetensors::SafeTensorError,
    },
    /// A folder holds no weights in a format that is read here.
    #[error("{}: found neither model.safetensors nor model.safetensors.index.json; other formats must be saved as safetensors first", folder.display())]
    NoWeights {
        /// The checkpoint folder.
        folder: PathBuf,
    },
    /// The folder's weight files lack a tensor that the configuration calls for.
    #[error(
        "{}: tensor `{name}` is missing ({missing} of {expected} tensors are); config.json and the weights must be of the same model",
        path.display()
    )]
    MissingTensor {
        /// The first missing tensor, by its release name.
        name: String,
        /// The folder's index file, weight file or the folder itself.
        path: PathBuf,
        /// How many are missing.
        missing: usize,
        /// How many the configuration calls for.
        expected: usize,
    },
    /// A weight file holds a tensor that the configuration has no place for.
    #[error(
        "{}: tensor `{name}` has no place in this model; config.json and the weights must be of the same model (adapters must be merged first)",
        path.display()
    )]
    ExtraTensor {
        /// The tensor, as the file names it.
        name: String,
        /// The weight file.
        path: PathBuf,
    },
    /// Two entries of the weight files mean the same tensor.
    #[error("{}: tensor `{name}` stands there a second time; remove the stale weight files", path.display())]
    RepeatedTensor {
        /// The tensor, as the second file names it.
        name: String,
        /// The second weight file.
        path: PathBuf,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{name}` has shape {found:?}, config.json calls for {expected:?}", path.display())]
    MisshapedTensor {
        /// The tensor, as the file names it.
        name: String,
        /// The weight file.
        path: PathBuf,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not read here.
    #[error("{}: tensor `{name}` is stored as {found}; BF16, F16 and F32 are read, quantised checkpoints are not", path.display())]
    TensorFormat {
        /// The tensor, as the file names it.
        name: String,
        /// The weight file.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// A tensor holds a value that is infinite or not a number.
    #[error(
        "{}: tensor `{name}` holds {found} at position {at}; no model computes with that: fetch the file again, or take an earlier checkpoint",
        path.display()
    )]
    BrokenTensor {
        /// The tensor, as the file names it.
        name: String,
        /// The weight file.
        path: PathBuf,
        /// Position of the first such value, row by row.
        at: usize,
        /// The value.
        found: f32,
    },
    /// A tensor was asked for that this model does not have.
    #[error("the model has no tensor `{name}`")]
    NoSuchTensor {
        /// The name asked for.
        name: String,
    },
    /// The tokenizer could not be read, trained, written or applied.
    #[error("tokenizer: {doing}: {source}")]
    Tokenizer {
        /// What was being done, with the file if there is one.
        doing: String,
        /// The tokenizer library's message.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The chat template could not be compiled or rendered.
    #[error(
        "chat template of {origin}: {source}; the template must take `messages`, `add_generation_prompt` and `add_vision_id`"
    )]
    Template {
        /// The file that holds the template.
        origin: String,
        /// The template engine's message, with its line.
        source: minijinja::Error,
    },
    /// A picture that the image processor refuses.
    #[error("picture of {width}x{height} pixels: {problem}")]
    Picture {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// A prompt was given another number of pictures than it has places for.
    #[error("the prompt has places for {expected} pictures and was given {found}")]
    PictureCount {
        /// Places for pictures in the rendered prompt.
        expected: usize,
        /// Pictures given.
        found: usize,
    },
    /// A sequence is longer than the model's positions reach.
    #[error(
        "a sequence of {tokens} tokens is longer than the model's {limit}; use smaller pictures (lower max_pixels) or fewer new tokens"
    )]
    TooLong {
        /// Tokens of prompt and completion together.
        tokens: usize,
        /// `max_position_embeddings` of the checkpoint.
        limit: usize,
    },
    /// A gradient overflowed or is not a number; the weights are as they were before the step.
    #[error(
        "the gradient of `{name}` is not finite; lower the learning rate, or go back to the policy before this run"
    )]
    NotFinite {
        /// Such a tensor (one of them, where there are several).
        name: String,
    },
    /// A saved state of the optimizer that does not fit the variable it is named for.
    #[error(
        "optimizer: the saved state of `{name}` has shape {found:?} and {sizes:?} values of master, first and second moment; the model has {expected:?}: take the state that was saved with this policy"
    )]
    SavedState {
        /// The variable.
        name: String,
        /// Its shape in the model.
        expected: Vec<usize>,
        /// The shape that was saved.
        found: Vec<usize>,
        /// Values that were saved of master, first and second moment.
        sizes: [usize; 3],
    },
    /// The pieces of a batch do not fit together (a picture index out of range, a completion without tokens …).
    #[error("batch: {problem}")]
    Batch {
        /// What was found and what was expected.
        problem: String,
    },
    /// The shape of a new checkpoint is impossible.
    #[error("shape: field `{field}`: {problem}")]
    Shape {
        /// The field of the shape.
        field: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A CUDA device was asked for where none can be used.
    #[error("no CUDA device: {problem}; run on a machine with a GPU a program that was built for it, or take the CPU")]
    NoDevice {
        /// What stood in the way.
        problem: String,
    },
    /// The tensor library failed: out of memory, a device error, or shapes that do not fit (a defect of this crate).
    #[error("tensor arithmetic: {0}")]
    Candle(#[from] candle_core::Error),
}
