//! The whole model, on tensors alone: the vision tower, the language model, and the rows in which prompts and
//! completions are packed for them.

mod pack;

pub use pack::{Pack, Sequence};

use std::ops::Range;

use candle_core::Tensor;

use crate::config::Config;
use crate::decode::PromptCache;
use crate::error::Result;
use crate::ops::Floats;
use crate::ops::linear::Kernel;
use crate::ops::logits::{Pick, ban, log_probabilities, log_probabilities_backward};
use crate::ops::sums::Sums;
use crate::sample::Asked;
use crate::text::{HeadState, TextModel, TextState};
use crate::vision::VisionTower;
use crate::weights::Weights;

/// Rows that are worked on together, at least, in a pass over many pictures or many prompts.
pub(crate) const CHUNK_ROWS: usize = 512;

/// Logits that are made at a time where their log-probabilities are wanted, at most: never those of all rows.
pub(crate) const LOGITS: usize = 1 << 24;

/// Vision tower and language model. Its tensors share their storage with the weights that it was made of, so that a
/// change of those is seen.
#[derive(Debug)]
pub struct Model {
    /// The vision tower.
    pub vision: VisionTower,
    /// The language model.
    pub text: TextModel,
    /// The configuration.
    pub config: Config,
    /// Ids that are never sampled and have probability 0, in rising order.
    pub banned: Vec<u32>,
}

/// What the backward pass needs of a [`Pack`]'s forward pass.
#[derive(Debug)]
pub struct PackState {
    text: TextState,
    /// The predicting rows, `[M, H]`.
    rows: Tensor,
    /// The normaliser of each one's logits.
    normalisers: Vec<f32>,
    /// All logits, where they are few enough to be one run.
    kept: Option<(Tensor, HeadState)>,
}

impl Model {
    /// `banned` are the ids that are never sampled.
    pub fn new(config: &Config, weights: &Weights, mut banned: Vec<u32>) -> Result<Self> {
        banned.sort_unstable();
        banned.dedup();
        Ok(Self {
            vision: VisionTower::new(config, weights)?,
            text: TextModel::new(config, weights)?,
            config: config.clone(),
            banned,
        })
    }

    /// Reads prompts: of each, its keys and values, and the logits after it, those of banned ids at −∞.
    pub(crate) fn read(&self, asked: &[&Asked]) -> Result<Vec<(PromptCache, Vec<f32>)>> {
        let mut read = Vec::with_capacity(asked.len());
        for range in chunks(asked.iter().map(|asked| asked.prompt.ids.len())) {
            let sequences = asked[range].iter().map(|asked| asked.sequence(&[])).collect::<Result<Vec<_>>>()?;
            let pack = Pack::new(&self.config, &self.text, &self.banned, &sequences)?;
            let (rows, layers) = self.text.pass(pack.embed(&self.text)?, &pack.plan)?;
            let (logits, _) = self.text.logits(pack.predicting_rows(&rows)?, Kernel::RowByRow)?;
            let logits = Floats::of(&logits)?;
            let mut layers: Vec<_> = layers.into_iter().map(Vec::into_iter).collect();
            for (next, logits) in pack.next.iter().zip(logits.chunks_exact(self.config.text.vocab_size)) {
                let mut logits = logits.to_vec();
                ban(&mut logits, &self.banned);
                let layers = layers.iter_mut().filter_map(Iterator::next).collect();
                read.push((PromptCache { layers, next: *next }, logits));
            }
        }
        Ok(read)
    }

    /// Log-probabilities of `picks` among the predicting rows of `pack`; nothing is kept for a gradient.
    pub(crate) fn score(&self, pack: &Pack, picks: &[Pick]) -> Result<Vec<f32>> {
        let (rows, _) = self.text.pass(pack.embed(&self.text)?, &pack.plan)?;
        Ok(self.pick(&pack.predicting_rows(&rows)?, picks)?.values)
    }

    /// Log-probabilities of all completion tokens of `pack`, completion by completion, with all that the backward pass
    /// needs.
    pub fn forward(&self, pack: &Pack) -> Result<(Vec<f32>, PackState)> {
        let (rows, text) = self.text.forward(pack.embed(&self.text)?, &pack.plan)?;
        let rows = pack.predicting_rows(&rows)?;
        let Picked { values, normalisers, kept } = self.pick(&rows, &pack.picks)?;
        Ok((values, PackState { text, rows, normalisers, kept }))
    }

    /// Adds the gradients of the language model's weights to `sums`, given that of each log-probability, and gives that
    /// of the pictures' features if it is wanted.
    pub fn backward(
        &self,
        pack: &Pack,
        state: PackState,
        dpicked: &[f32],
        features: bool,
        sums: &mut Sums,
    ) -> Result<Vec<Vec<f32>>> {
        let PackState { text, rows, normalisers, mut kept } = state;
        let mut drows = Vec::with_capacity(rows.elem_count());
        for run in self.runs(rows.dim(0)?) {
            let (places, picks) = within(&pack.picks, &run);
            let rows = rows.narrow(0, run.start, run.len())?;
            let (logits, head) = kept.take().map_or_else(|| self.text.logits(rows, Kernel::General), Ok)?;
            let dpicked: Vec<f32> = places.into_iter().map(|place| dpicked[place]).collect();
            log_probabilities_backward(&logits, &normalisers[run], &self.banned, &picks, &dpicked)?;
            drows.append(&mut self.text.logits_backward(&head, &logits, sums)?);
        }
        drop(rows);
        let embeddings = self.text.embedding_is_wanted(sums);
        let drows = pack.spread_to_rows(&drows, self.config.text.hidden_size);
        let drows = self.text.backward(text, &pack.plan, drows, features || embeddings, sums)?;
        let drows = drows.unwrap_or_default();
        if embeddings {
            pack.embed_backward(&self.text, &drows, sums);
        }
        Ok(if features { pack.features_backward(&self.text, &drows) } else { Vec::new() })
    }

    /// Log-probabilities of `picks` among `rows [M, H]`, whose logits are made run by run.
    fn pick(&self, rows: &Tensor, picks: &[Pick]) -> Result<Picked> {
        let (mut values, mut normalisers, mut kept) = (vec![0.0; picks.len()], Vec::new(), None);
        let runs = self.runs(rows.dim(0)?);
        let whole = runs.len() == 1;
        for run in runs {
            let (places, picks) = within(picks, &run);
            let (logits, head) = self.text.logits(rows.narrow(0, run.start, run.len())?, Kernel::General)?;
            let (picked, mut of_run) = log_probabilities(&logits, &self.banned, &picks)?;
            places.into_iter().zip(picked).for_each(|(place, value)| values[place] = value);
            normalisers.append(&mut of_run);
            kept = whole.then_some((logits, head));
        }
        Ok(Picked { values, normalisers, kept })
    }

    /// Cuts rows into runs of at most [`LOGITS`] logits, or one row.
    fn runs(&self, rows: usize) -> Vec<Range<usize>> {
        let step = (LOGITS / self.config.text.vocab_size).max(1);
        (0..rows).step_by(step).map(|start| start..rows.min(start + step)).collect()
    }
}

/// What [`Model::pick`] found.
struct Picked {
    /// Log-probabilities.
    values: Vec<f32>,
    /// Each row's.
    normalisers: Vec<f32>,
    /// All logits, if they were one run.
    kept: Option<(Tensor, HeadState)>,
}

/// The picks of a run of rows: their places in the list, and they themselves with rows counted in the run.
fn within(picks: &[Pick], run: &Range<usize>) -> (Vec<usize>, Vec<Pick>) {
    let here = (0..).zip(picks).filter(|(_, pick)| run.contains(&pick.row));
    here.map(|(place, pick)| (place, Pick { row: pick.row - run.start, ..*pick })).unzip()
}

/// Cuts a list into runs of at least [`CHUNK_ROWS`] rows (the last may be shorter), given each item's rows. By position
/// alone, so that sums of floats do not depend on the number of threads.
pub fn chunks(rows: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let (mut chunks, mut start, mut sum, mut end) = (Vec::new(), 0, 0, 0);
    for rows in rows {
        end += 1;
        sum += rows;
        if sum >= CHUNK_ROWS {
            chunks.push(start..end);
            (start, sum) = (end, 0);
        }
    }
    if start < end {
        chunks.push(start..end);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::chunks;

    #[test]
    fn chunks_cover_the_list_in_order() {
        assert_eq!(chunks([400, 100, 12, 600, 5].into_iter()), [0..3, 3..4, 4..5]);
        assert!(chunks(std::iter::empty()).is_empty());
    }
}
