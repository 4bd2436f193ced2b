//! The tokenizer: the checkpoint's own `tokenizer.json`, or a small one trained here. Byte-level BPE with one token a
//! digit, as the release has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::checkpoint::{read, write};
use crate::config::Config;
use crate::error::{Error, Result};

/// Ends a text, and pads.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Opens a turn.
pub const TURN_START: &str = "<|im_start|>";
/// Ends a turn, and with it a completion.
pub const TURN_END: &str = "<|im_end|>";
/// Before a picture's tokens.
pub const VISION_START: &str = "<|vision_start|>";
/// After a picture's tokens.
pub const VISION_END: &str = "<|vision_end|>";
/// A place in a picture, of any kind.
pub const VISION_PAD: &str = "<|vision_pad|>";
/// A picture's place in a prompt: one in the rendered text, one for each of its tokens in the model's input.
pub const IMAGE_PAD: &str = "<|image_pad|>";
/// A video's place in a prompt.
pub const VIDEO_PAD: &str = "<|video_pad|>";

/// Special tokens of a tokenizer that is trained here, in the release's order.
const SPECIAL: [&str; 8] =
    [END_OF_TEXT, TURN_START, TURN_END, VISION_START, VISION_END, VISION_PAD, IMAGE_PAD, VIDEO_PAD];

/// The tokens that must never be sampled: they stand for pictures.
const VISION: [&str; 5] = [VISION_START, VISION_END, VISION_PAD, IMAGE_PAD, VIDEO_PAD];

/// The release's way to cut text before BPE: contractions, words with what stands before them, single digits, symbols,
/// line ends, spaces.
const PIECES: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The file that says it all.
const MAIN_FILE: &str = "tokenizer.json";
/// What other programs read beside it; kept as found.
const OTHER_FILES: [&str; 5] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"];

/// Text to token ids and back.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// One more than the largest id.
    len: usize,
    /// Ids below `len` that no token has.
    holes: Vec<u32>,
    /// The tokenizer's files by name, as found or made, for writing them back unchanged.
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and keeps the files beside it for [`Tokenizer::save`].
    ///
    /// # Errors
    /// The file is missing or is not a tokenizer.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for name in OTHER_FILES.into_iter().chain([MAIN_FILE]) {
            let path = folder.join(name);
            if name == MAIN_FILE || path.is_file() {
                files.insert(name, read(&path)?);
            }
        }
        let content = files.get(MAIN_FILE).map(Vec::as_slice).unwrap_or_default();
        let inner = tokenizers::Tokenizer::from_bytes(content)
            .map_err(failed(|| folder.join(MAIN_FILE).display().to_string()))?;
        Ok(Self::new(inner, files))
    }

    fn new(inner: tokenizers::Tokenizer, files: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let ids: BTreeSet<u32> = inner.get_vocab(true).into_values().collect();
        let len = ids.last().map_or(0, |&last| last + 1);
        let holes = (0..len).filter(|id| !ids.contains(id)).collect();
        Self { inner, len: len as usize, holes, files }
    }

    /// Trains a byte-level BPE of at most `merges` merges on `texts`. The vocabulary is the 256 bytes, the merges, the
    /// release's special tokens, and `fixed`: pieces of text that are one token wherever they stand (the longest one
    /// where several begin). What lies between fixed pieces is what the merges are learnt from. The same texts give
    /// the same bytes, whatever the number of threads.
    ///
    /// # Errors
    /// The training library fails.
    pub fn train(texts: impl Iterator<Item = String>, fixed: &[String], merges: usize) -> Result<Self> {
        let training = || "training".to_owned();
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_normalizer(Some(NFC)).map_err(failed(training))?;
        let split = Split::new(SplitPattern::Regex(PIECES.to_owned()), SplitDelimiterBehavior::Isolated, false);
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(split.map_err(failed(training))?),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)),
        ])));
        inner.with_decoder(Some(ByteLevel::new(false, true, false)));

        let alphabet: std::collections::HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(alphabet.len() + merges)
            .min_frequency(2)
            .initial_alphabet(alphabet)
            .build();
        let pieces: Vec<String> = texts.flat_map(|text| between(&text, fixed)).collect();
        inner.train(&mut TrainerWrapper::from(trainer), pieces.into_iter()).map_err(failed(training))?;

        let added = |text: &str, special| AddedToken::from(text, special).normalized(false);
        inner.add_tokens(SPECIAL.map(|text| added(text, true))).map_err(failed(training))?;
        inner.add_tokens(fixed.iter().map(|text| added(text, false))).map_err(failed(training))?;

        let main = inner.to_string(true).map_err(failed(training))?;
        let config = format!("{:#}\n", tokenizer_config(&inner));
        let files = BTreeMap::from([(MAIN_FILE, main.into_bytes()), ("tokenizer_config.json", config.into_bytes())]);
        Ok(Self::new(inner, files))
    }

    /// Writes the tokenizer's files as they were found or made.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, content)| write(&folder.join(name), content))
    }

    /// Token ids of a text. Special tokens in it are recognised; nothing is put before or after.
    ///
    /// # Errors
    /// The tokenizer has no token for a byte of the text (a byte-level one always has).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed(|| "encoding".to_owned()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids. Special tokens are left out, ids without a token too; bytes that are no UTF-8 become
    /// the replacement character.
    ///
    /// # Errors
    /// The decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(failed(|| "decoding".to_owned()))
    }

    /// How many bytes of text a token is; 0 for special tokens, which are no text.
    pub fn bytes(&self, id: u32) -> usize {
        if let Some(added) = self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id) {
            return if added.special { 0 } else { added.content.len() };
        }
        // A character of a byte-level token stands for a byte.
        self.inner.id_to_token(id).map_or(0, |token| token.chars().count())
    }

    /// The id of a token, by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the largest id: rows of the embedding matrix from here on have no token.
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Ids that must never be sampled, sorted: the vision tokens by configuration and by name (a sampled
    /// `<|image_pad|>` makes every later forward pass fail), and every row of the head without a token.
    pub fn banned(&self, config: &Config) -> Vec<u32> {
        let named =
            [config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id];
        let rows = config.text.vocab_size as u32;
        let mut banned: BTreeSet<u32> = named.into_iter().chain(config.vision_token_id).collect();
        banned.extend(VISION.iter().filter_map(|token| self.id(token)));
        banned.extend(&self.holes);
        banned.extend(self.len as u32..rows);
        banned.into_iter().filter(|&id| id < rows).collect()
    }
}

/// What `transformers` reads beside `tokenizer.json`: the class, the end and padding tokens, the added tokens.
fn tokenizer_config(inner: &tokenizers::Tokenizer) -> Value {
    let added: BTreeMap<u32, AddedToken> = inner.get_added_tokens_decoder().into_iter().collect();
    let entry = |(id, token): (u32, AddedToken)| {
        let fields = json!({"content": token.content, "lstrip": false, "normalized": token.normalized,
            "rstrip": false, "single_word": false, "special": token.special});
        (id.to_string(), fields)
    };
    json!({
        "add_prefix_space": false,
        "added_tokens_decoder": added.into_iter().map(entry).collect::<Map<_, _>>(),
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "eos_token": TURN_END,
        "errors": "replace",
        "model_max_length": 131_072,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    })
}

/// What is left of a text when the fixed pieces are taken out, at each place the longest that begins there.
fn between(text: &str, fixed: &[String]) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found =
            fixed.iter().filter(|fixed| rest.starts_with(*fixed)).map(String::len).max().filter(|&length| length > 0);
        if found.is_some() {
            pieces.push(std::mem::take(&mut piece));
        } else {
            piece.push(first);
        }
        rest = &rest[found.unwrap_or(first.len_utf8())..];
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Wraps the tokenizer library's boxed errors.
fn failed(doing: impl FnOnce() -> String) -> impl FnOnce(tokenizers::Error) -> Error {
    |source| Error::Tokenizer { doing: doing(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    /// A tokenizer for replies, and the replies.
    fn trained() -> Tokenizer {
        let replies =
            ["<think>very noisy, slightly blurred</think>\\boxed{1}", "<think>looks noisy</think>\\boxed{3.52}"];
        let texts = strings(&replies.repeat(50));
        Tokenizer::train(texts.into_iter(), &strings(&["<think>", "</think>", "\\boxed{", "\n", "user\n"]), 60).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        tokenizer.encode(text).unwrap().iter().map(|&id| tokenizer.inner.id_to_token(id).unwrap()).collect()
    }

    #[test]
    fn words_are_one_token_and_numbers_one_a_digit() {
        let tokenizer = trained();
        let found = pieces(&tokenizer, "<think>looks noisy</think>\\boxed{3.52}<|im_end|>");
        assert_eq!(
            found,
            ["<think>", "looks", "Ġnoisy", "</think>", "\\boxed{", "3", ".", "5", "2", "}", "<|im_end|>"]
        );
    }

    #[test]
    fn a_fixed_piece_is_one_token_and_is_not_special() {
        let tokenizer = trained();
        let ids = tokenizer.encode("user\n<think>\n").unwrap();
        assert_eq!(ids.len(), 3);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "user\n<think>\n");
    }

    #[test]
    fn any_text_comes_back_and_special_tokens_do_not() {
        let tokenizer = trained();
        for text in ["", "héllo wörld", "日本語 ١٢٣", "a\r\n b\t", "It's 3.14!", "🙂"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        let ids = tokenizer.encode("<|im_start|>noisy<|im_end|>").unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), "noisy");
    }

    #[test]
    fn merges_are_learnt_between_fixed_pieces_only() {
        let fixed = strings(&["ab", "abc"]);
        assert_eq!(between("xabcyab", &fixed), ["x", "y"]);
        assert_eq!(between("é", &fixed), ["é"]);
        assert_eq!(between("ababc", &fixed), Vec::<String>::new());
        // No merge of `think` with what stands around it.
        assert!(trained().inner.get_vocab(false).keys().all(|token| !token.contains('<') || token == "<"));
    }

    #[test]
    fn the_same_texts_give_the_same_bytes() {
        assert!(trained().files == trained().files);
    }

    #[test]
    fn saving_and_loading_keeps_every_byte() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        trained().save(a.path()).unwrap();
        std::fs::write(a.path().join("merges.txt"), "#version: 0.2\n").unwrap();
        let loaded = Tokenizer::load(a.path()).unwrap();
        loaded.save(b.path()).unwrap();
        for name in [MAIN_FILE, "tokenizer_config.json", "merges.txt"] {
            assert_eq!(
                std::fs::read(a.path().join(name)).unwrap(),
                std::fs::read(b.path().join(name)).unwrap(),
                "{name}"
            );
        }
        assert_eq!(loaded.encode("quite noisy 12").unwrap(), trained().encode("quite noisy 12").unwrap());
        assert_eq!(loaded.len(), trained().len());
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MAIN_FILE), "{}").unwrap();
        let message = Tokenizer::load(folder.path()).err().unwrap().to_string();
        assert!(message.contains(MAIN_FILE), "{message}");
    }

    #[test]
    fn merges_written_as_lines_and_as_pairs_are_both_read() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = trained();
        let mut json: Value = serde_json::from_slice(&tokenizer.files[MAIN_FILE]).unwrap();
        let lines = |pair: &Value| json!(format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
        json["model"]["merges"] = json["model"]["merges"].as_array().unwrap().iter().map(lines).collect();
        std::fs::write(folder.path().join(MAIN_FILE), json.to_string()).unwrap();
        let old = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(old.encode("very noisy").unwrap(), tokenizer.encode("very noisy").unwrap());
    }
}
