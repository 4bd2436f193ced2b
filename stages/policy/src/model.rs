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
use crate::ops::linear::{Kernel, Sums};
use crate::ops::logits::{Pick, ban, log_probabilities, log_probabilities_backward};
use crate::sample::Asked;
use crate::text::{HeadState, TextModel, TextState};
use crate::vision::VisionTower;
use crate::weights::Weights;

/// Rows that are worked on together, at least, in a pass over many pictures or many prompts.
const CHUNK_ROWS: usize = 512;

/// Logits that are made at a time where only some of their log-probabilities are wanted, at most.
const LOGITS: usize = 1 << 24;

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
    head: HeadState,
    logits: Tensor,
    normalisers: Vec<f32>,
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
        let rows = pack.predicting_rows(&rows)?;
        let (count, step) = (rows.dim(0)?, (LOGITS / self.config.text.vocab_size).max(1));
        let mut picked = vec![0.0; picks.len()];
        for start in (0..count).step_by(step) {
            let end = count.min(start + step);
            let here = (0..).zip(picks).filter(|(_, pick)| (start..end).contains(&pick.row));
            let (places, here): (Vec<usize>, Vec<Pick>) =
                here.map(|(place, pick)| (place, Pick { row: pick.row - start, ..*pick })).unzip();
            let (logits, _) = self.text.logits(rows.narrow(0, start, end - start)?, Kernel::General)?;
            let (values, _) = log_probabilities(&logits, &self.banned, &here)?;
            places.into_iter().zip(values).for_each(|(place, value)| picked[place] = value);
        }
        Ok(picked)
    }

    /// Log-probabilities of all completion tokens of `pack`, completion by completion, with all that the backward pass
    /// needs.
    pub fn forward(&self, pack: &Pack) -> Result<(Vec<f32>, PackState)> {
        let (rows, text) = self.text.forward(pack.embed(&self.text)?, &pack.plan)?;
        let (logits, head) = self.text.logits(pack.predicting_rows(&rows)?, Kernel::General)?;
        let (picked, normalisers) = log_probabilities(&logits, &self.banned, &pack.picks)?;
        Ok((picked, PackState { text, head, logits, normalisers }))
    }

    /// Adds the gradients of the language model's weights to `sums`, given that of each log-probability, and gives that
    /// of the packed rows, `[R, H]`.
    pub fn backward(&self, pack: &Pack, state: &PackState, dpicked: &[f32], sums: &mut Sums) -> Result<Tensor> {
        let (banned, picks) = (&self.banned, &pack.picks);
        let dlogits = log_probabilities_backward(&state.logits, &state.normalisers, banned, picks, dpicked)?;
        let dhead = self.text.logits_backward(&state.head, &dlogits, sums)?;
        let drows = self.text.backward(&state.text, &pack.plan, pack.spread_to_rows(&dhead)?, sums)?;
        pack.embed_backward(&self.text, &drows, sums)?;
        Ok(drows)
    }
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
