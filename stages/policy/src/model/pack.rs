//! Prompts and completions as rows of one forward pass: `[prompt | completion 1 | … | completion K]`, and the same
//! again for the next prompt.

use candle_core::Tensor;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ops::attention::{Plan, Span};
use crate::ops::heads::Lanes;
use crate::ops::logits::Pick;
use crate::ops::softmax::Mask;
use crate::ops::sums::Sums;
use crate::ops::{Floats, tensor};
use crate::positions::Positions;
use crate::prompt::Prompt;
use crate::text::TextModel;

/// A prompt, what its pictures look like, and its completions.
#[derive(Debug, Clone)]
pub struct Sequence<'a> {
    /// The prompt.
    pub prompt: &'a Prompt,
    /// Merged tokens of each of its pictures, `[tokens, H]`.
    pub features: Vec<&'a Tensor>,
    /// Completions, each of at least one token. None: only the logits after the prompt are wanted.
    pub completions: &'a [Vec<u32>],
}

/// What a row is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Token(u32),
    /// A merged token of a picture: which picture of the pack, and its row there.
    Feature(usize, usize),
    /// Fills a lane up to the longest one. Nobody attends to it.
    Padding,
}

/// Packed rows. The last token of a completion predicts nothing and has no row.
#[derive(Debug)]
pub struct Pack<'a> {
    sources: Vec<Source>,
    features: Vec<&'a Tensor>,
    /// How the rows attend.
    pub plan: Plan,
    /// Rows whose logits are needed, in rising order.
    predicting: Vec<usize>,
    /// All tokens of all completions in order, `row` counting in the predicting rows.
    pub picks: Vec<Pick>,
    /// Of each sequence, the position that follows its prompt.
    pub next: Vec<u32>,
}

impl<'a> Pack<'a> {
    /// Packs `sequences`.
    ///
    /// # Errors
    /// A prompt without tokens or whose picture places do not match its pictures' tokens, an id outside the
    /// vocabulary, a completion without tokens or with a banned one, or more tokens than the model's positions reach.
    pub fn new(config: &Config, text: &TextModel, banned: &[u32], sequences: &[Sequence<'a>]) -> Result<Self> {
        let mut pack = Self {
            sources: Vec::new(),
            features: Vec::new(),
            plan: Plan { spans: Vec::new(), rotary: text.rotary(std::iter::empty()), heads: text.heads() },
            predicting: Vec::new(),
            picks: Vec::new(),
            next: Vec::new(),
        };
        let mut positions = Vec::new();
        for sequence in sequences {
            check(config, banned, sequence)?;
            pack.add_prompt(config, sequence, &mut positions)?;
            pack.add_completions(sequence.completions, &mut positions);
        }
        pack.plan.rotary = text.rotary(positions.into_iter());
        Ok(pack)
    }

    fn add_prompt(&mut self, config: &Config, sequence: &Sequence<'a>, at: &mut Vec<[u32; 3]>) -> Result<()> {
        let Sequence { prompt, features, .. } = sequence;
        let merge = config.vision.spatial_merge_size;
        let positions = Positions::of(&prompt.ids, config.image_token_id, &prompt.grids, merge)?;
        let mut places = Vec::new();
        for (features, grid) in features.iter().zip(&prompt.grids) {
            let (found, expected) = (features.dim(0)?, grid.height * grid.width / (merge * merge));
            if found != expected {
                return Err(Error::Batch {
                    problem: format!("a picture of {found} tokens was given where the prompt has {expected} places"),
                });
            }
            places.extend((0..expected).map(|row| Source::Feature(self.features.len(), row)));
            self.features.push(features);
        }
        let start = self.sources.len();
        let mut places = places.into_iter();
        self.sources.extend(prompt.ids.iter().map(|&id| {
            let place = if id == config.image_token_id { places.next() } else { None };
            place.unwrap_or(Source::Token(id))
        }));
        at.extend(&positions.tokens);
        self.next.push(positions.next);
        let lanes = Lanes { start, count: 1, length: prompt.ids.len() };
        self.plan.spans.push(Span { lanes, mask: Mask::Causal { first: 0 }, prompt: None });
        Ok(())
    }

    fn add_completions(&mut self, completions: &[Vec<u32>], at: &mut Vec<[u32; 3]>) {
        let first_prediction = self.predicting.len();
        self.predicting.push(self.sources.len() - 1);
        let length = completions.iter().map(|ids| ids.len() - 1).max().unwrap_or(0);
        let next = *self.next.last().expect("a prompt was added before its completions");
        let start = self.sources.len();
        for ids in completions {
            self.picks.push(Pick { row: first_prediction, id: ids[0] });
            for t in 0..length {
                let row = self.sources.len();
                at.push([next + t as u32; 3]);
                let Some(following) = ids.get(t + 1) else {
                    self.sources.push(Source::Padding);
                    continue;
                };
                self.sources.push(Source::Token(ids[t]));
                self.picks.push(Pick { row: self.predicting.len(), id: *following });
                self.predicting.push(row);
            }
        }
        if length > 0 {
            let lanes = Lanes { start, count: completions.len(), length };
            let prompt = Some(self.plan.spans.len() - 1);
            self.plan.spans.push(Span { lanes, mask: Mask::Causal { first: 0 }, prompt });
        }
    }

    /// The rows' embeddings, `[R, H]`.
    pub fn embed(&self, text: &TextModel) -> Result<Tensor> {
        let width = text.hidden_size();
        let table = text.embeddings()?;
        let features =
            self.features.iter().map(|features| Floats::of(features)).collect::<candle_core::Result<Vec<_>>>()?;
        let mut out = Vec::with_capacity(self.sources.len() * width);
        for source in &self.sources {
            match *source {
                Source::Token(id) => out.extend_from_slice(&table[id as usize * width..][..width]),
                Source::Feature(picture, row) => out.extend_from_slice(&features[picture][row * width..][..width]),
                Source::Padding => out.resize(out.len() + width, 0.0),
            }
        }
        Ok(tensor(out, (self.sources.len(), width))?)
    }

    /// Adds the gradient of the embedding matrix to `sums`, given that of the rows.
    pub fn embed_backward(&self, text: &TextModel, drows: &[f32], sums: &mut Sums) {
        let tokens = self.sources.iter().map(|source| match source {
            Source::Token(id) => Some(*id),
            Source::Feature(..) | Source::Padding => None,
        });
        text.embed_backward(tokens, drows, sums);
    }

    /// The gradient of each picture's features, in the order of the sequences' pictures, given that of the rows.
    pub fn features_backward(&self, text: &TextModel, drows: &[f32]) -> Vec<Vec<f32>> {
        let width = text.hidden_size();
        let mut out: Vec<Vec<f32>> = self.features.iter().map(|features| vec![0.0; features.elem_count()]).collect();
        for (source, row) in self.sources.iter().zip(drows.chunks_exact(width)) {
            if let Source::Feature(picture, at) = *source {
                out[picture][at * width..][..width].copy_from_slice(row);
            }
        }
        out
    }

    /// The rows whose logits are needed, `[M, H]` of `[R, H]`.
    pub fn predicting_rows(&self, rows: &Tensor) -> Result<Tensor> {
        let (_, width) = rows.dims2()?;
        let values = Floats::of(rows)?;
        let out = self.predicting.iter().flat_map(|row| &values[row * width..][..width]).copied().collect();
        Ok(tensor(out, (self.predicting.len(), width))?)
    }

    /// The inverse of [`Self::predicting_rows`] for rows of `width`; all other rows are zero.
    pub fn spread_to_rows(&self, predicting: &[f32], width: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.sources.len() * width];
        for (row, values) in self.predicting.iter().zip(predicting.chunks_exact(width)) {
            out[row * width..][..width].copy_from_slice(values);
        }
        out
    }
}

/// What [`Pack::new`] promises to refuse, but for the places of pictures.
fn check(config: &Config, banned: &[u32], sequence: &Sequence) -> Result<()> {
    let Sequence { prompt, features, completions } = sequence;
    let vocabulary = config.text.vocab_size;
    let problem = |problem: String| Err(Error::Batch { problem });
    if features.len() != prompt.grids.len() {
        return Err(Error::PictureCount { expected: prompt.grids.len(), found: features.len() });
    }
    if prompt.ids.is_empty() {
        return problem("a prompt has no tokens".to_owned());
    }
    if completions.iter().any(Vec::is_empty) {
        return problem("a completion has no tokens; it ends with the end token at least".to_owned());
    }
    if let Some(id) = prompt.ids.iter().chain(completions.iter().flatten()).find(|&&id| id as usize >= vocabulary) {
        return problem(format!("token {id} is outside the vocabulary of {vocabulary}"));
    }
    if let Some(id) = completions.iter().flatten().find(|id| banned.binary_search(id).is_ok()) {
        return problem(format!("a completion holds token {id}, which is never sampled and has probability 0"));
    }
    let tokens = prompt.ids.len() + completions.iter().map(Vec::len).max().unwrap_or(0);
    let limit = config.text.max_position_embeddings;
    if tokens > limit {
        return Err(Error::TooLong { tokens, limit });
    }
    Ok(())
}
