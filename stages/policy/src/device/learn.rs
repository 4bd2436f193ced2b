//! The training step on a device: exact gradients of a loss on completions' log-probabilities, group by group.
//!
//! A group is one pass of packed rows, `[prompt | completion 1 | … | completion K]`. Of the pass forward each block's input is
//! kept and nothing else; on the way back a block makes its pass again. Logits are made a run of rows at a time.

use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::DevicePolicy;
use super::attention::{Attention, PromptAndLanes, SCORES};
use super::choose::Chooser;
use super::exact::LOGITS;
use super::layers::Rotary;
use super::sums::Sums;
use super::vision::Reach;
use crate::error::{Error, Result};
use crate::policy::Features;
use crate::positions::Positions;
use crate::processor::Pixels;
use crate::sample::{Asked, Sampling};
use crate::train::{Gradients, Group, Learnt, group_loss};
use crate::weights::Weights;

/// Gradients in the making, on the device: one buffer for each tensor that learns, to which micro-batches add.
#[derive(Debug)]
pub struct DeviceSum<'a> {
    sums: Sums<'a>,
    losses: Vec<f32>,
}

impl<'a> DeviceSum<'a> {
    /// Nothing yet.
    pub fn new(learnt: &'a Learnt) -> Self {
        Self { sums: Sums::new(learnt.wanted()), losses: Vec::new() }
    }

    /// What all micro-batches together brought; the losses stand in their order.
    pub fn finish(self) -> Gradients {
        Gradients { by_name: self.sums.into_map(), losses: self.losses, probe_loss: 0.0 }
    }
}

/// What is made at a time while learning, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Attention scores of completions.
    pub scores: usize,
    /// Logits.
    pub logits: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { scores: SCORES, logits: LOGITS }
    }
}

/// A token of a completion: the row that predicts it, counted from the prompt's last, and its id.
#[derive(Debug, Clone, Copy)]
struct Pick {
    row: usize,
    id: u32,
}

/// A group as rows.
struct Rows<'a> {
    asked: Asked<'a>,
    shape: PromptAndLanes,
    rotary: Rotary,
    /// The lanes' tokens, lane by lane, 0 after the end of a shorter one: nobody attends to those rows. The last token of a
    /// completion predicts nothing and has no row.
    ids: Vec<u32>,
    /// All tokens of all completions, in order.
    picks: Vec<Pick>,
}

impl DevicePolicy {
    /// Log-probabilities of all completion tokens: by group, completion and token.
    ///
    /// # Errors
    /// A batch whose pieces do not fit together; see [`Error::Batch`].
    pub fn logprobs(&self, pictures: &[Pixels], groups: &[Group]) -> Result<Vec<Vec<Vec<f32>>>> {
        let features = pictures.iter().map(|pixels| self.look(pixels)).collect::<Result<Vec<_>>>()?;
        let asked = groups.iter().map(|group| asked(group, &features)).collect::<Result<Vec<_>>>()?;
        let completions: Vec<&[Vec<u32>]> = groups.iter().map(|group| group.completions.as_slice()).collect();
        self.completion_logprobs(&asked, &completions)
    }

    /// Gradients of `Σ loss` over groups, by all weights; `loss` as for [`crate::Policy::gradients`]. They lie on the device,
    /// in `f32`.
    ///
    /// # Errors
    /// A batch whose pieces do not fit together (see [`Error::Batch`]), or an error of `loss`; this policy was not loaded for
    /// training.
    pub fn gradients<L>(&self, pictures: &[Pixels], groups: &[Group], loss: &L) -> Result<Gradients>
    where
        L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
    {
        let learnt = Learnt::all();
        let mut sum = DeviceSum::new(&learnt);
        self.accumulate(&mut sum, pictures, groups, loss)?;
        Ok(sum.finish())
    }

    /// Adds a micro-batch's gradients to `sum`: those of [`Self::gradients`], by what learns. Indices count within the
    /// micro-batch.
    ///
    /// # Errors
    /// As [`Self::gradients`]; `sum` is then of no use.
    pub fn accumulate<L>(&self, sum: &mut DeviceSum, pictures: &[Pixels], groups: &[Group], loss: &L) -> Result<()>
    where
        L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
    {
        self.trained()?;
        let features = pictures.iter().map(|pixels| self.look(pixels)).collect::<Result<Vec<_>>>()?;
        let _turn = self.turn();
        let sampling = Sampling::default();
        let chooser = self.chooser(&sampling)?;
        let reach = Reach::of(&sum.sums);
        let mut dfeatures: BTreeMap<usize, Tensor> = BTreeMap::new();
        for (index, group) in groups.iter().enumerate() {
            let rows = self.rows(group, &features)?;
            let inputs = self.forward(&rows)?;
            let picked = self.picked(&rows, &inputs, &chooser)?;
            let (value, gradient) = group_loss(index, group, &picked, loss)?;
            sum.losses.push(value);
            let Some(gradient) = gradient else { continue };
            let drows = self.text_backward(&rows, inputs, &gradient, &chooser, &mut sum.sums)?;
            if reach != Reach::Nothing {
                self.add_features(group, &rows, &drows, &mut dfeatures)?;
            }
        }
        for (picture, dy) in &dfeatures {
            self.vision.backward(&pictures[*picture], dy, reach, &mut sum.sums)?;
        }
        Ok(())
    }

    /// Sets the weights that have adapters; see [`Learnt::merge`].
    pub(super) fn merge(&self, learnt: &Learnt, base: &Weights) -> Result<()> {
        let weights = self.trained()?;
        for (layer, adapter) in &learnt.wanted().adapters {
            let name = format!("{layer}.weight");
            let here = |matrix: &Tensor| matrix.to_device(&self.device);
            let change = (here(&adapter.b)?.matmul(&here(&adapter.a)?)? * f64::from(adapter.scale))?;
            let merged = (base.get(&name)?.to_dtype(DType::F32)? + change)?;
            weights.get(&name)?.set(&merged.to_dtype(self.dtype)?)?;
        }
        Ok(())
    }

    fn rows<'a>(&self, group: &'a Group, features: &'a [Features]) -> Result<Rows<'a>> {
        let asked = asked(group, features)?;
        let length = self.check_completions(&asked, &group.completions)? - 1;
        let merge = self.config.vision.spatial_merge_size;
        let positions = Positions::of(&group.prompt.ids, self.config.image_token_id, &group.prompt.grids, merge)?;
        let lane = (positions.next..).take(length).map(|position| [position; 3]);
        let positions_of_lanes = std::iter::repeat_n(lane, group.completions.len()).flatten();
        let (mut ids, mut picks) = (Vec::with_capacity(group.completions.len() * length), Vec::new());
        for (lane, completion) in group.completions.iter().enumerate() {
            let row = |t: usize| if t == 0 { 0 } else { lane * length + t };
            picks.extend(completion.iter().enumerate().map(|(t, id)| Pick { row: row(t), id: *id }));
            let said = &completion[..completion.len() - 1];
            ids.extend(said.iter().copied().chain(std::iter::repeat_n(0, length - said.len())));
        }
        let (prompt, lanes) = (group.prompt.ids.len(), group.completions.len());
        let shape = PromptAndLanes { prompt, lanes, length, scores: self.bounds.scores };
        let rotary = self.text.rotary_at(positions.tokens.into_iter().chain(positions_of_lanes))?;
        Ok(Rows { asked, shape, rotary, ids, picks })
    }

    /// Each block's input, and after them the last one's result; `[R, H]`.
    fn forward(&self, rows: &Rows) -> Result<Vec<Tensor>> {
        let mut x = self.text.embed_prompt(&rows.asked, self.config.image_token_id)?;
        if !rows.ids.is_empty() {
            x = Tensor::cat(&[&x, &self.text.embed(&rows.ids)?], 0)?;
        }
        let mut inputs = vec![x];
        for (n, block) in self.text.blocks().iter().enumerate() {
            inputs.push(block.forward(&inputs[n], &rows.rotary, |projected| rows.shape.forward(&projected))?);
        }
        Ok(inputs)
    }

    /// Log-probabilities of all picks.
    fn picked(&self, rows: &Rows, inputs: &[Tensor], chooser: &Chooser) -> Result<Vec<f32>> {
        let mut picked = vec![0.0; rows.picks.len()];
        let Some(x) = inputs.last() else { return Ok(picked) };
        for run in self.runs(rows, x)? {
            if run.places.is_empty() {
                continue;
            }
            let logits = chooser.ban(&self.text.logits(&run.x)?)?;
            let normalisers = logits.log_sum_exp(D::Minus1)?.index_select(&run.rows, 0)?;
            let values = (logits.flatten_all()?.index_select(&run.flat, 0)? - normalisers)?.to_vec1::<f32>()?;
            run.places.into_iter().zip(values).for_each(|(place, value)| picked[place] = value);
        }
        Ok(picked)
    }

    /// Adds the gradients of the language model's weights to `sums`, given those of the picks, and gives that of the embedded
    /// rows.
    fn text_backward(
        &self,
        rows: &Rows,
        mut inputs: Vec<Tensor>,
        dpicked: &[f32],
        chooser: &Chooser,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let last = inputs.pop().ok_or_else(|| Error::Batch { problem: "a group has no rows".to_owned() })?;
        let mut dnormed = Vec::new();
        for run in self.runs(rows, &last)? {
            let normed = self.text.norm.forward(&run.x)?;
            let logits = chooser.ban(&self.text.head.forward(&normed)?.to_dtype(DType::F32)?)?;
            let dlogits = run.dlogits(&logits, dpicked)?.to_dtype(self.dtype)?;
            drop(logits);
            dnormed.push(self.text.head.backward(&normed, &dlogits, sums)?);
        }
        let first = rows.shape.prompt - 1;
        let predicting = last.narrow(0, first, last.dim(0)? - first)?;
        let dx = self.text.norm.backward(&predicting, &Tensor::cat(&dnormed, 0)?, sums)?;
        let mut dx = dx.pad_with_zeros(0, first, 0)?;
        for block in self.text.blocks().iter().rev() {
            let Some(x) = inputs.pop() else { break };
            dx = block.backward(&x, &rows.rotary, &rows.shape, &dx, sums)?;
        }
        self.text.embed_backward(&rows.asked.prompt.ids, &rows.ids, self.config.image_token_id, &dx, sums)?;
        Ok(dx)
    }

    /// Adds the gradients of a group's picture features, in `f32`.
    fn add_features(
        &self,
        group: &Group,
        rows: &Rows,
        drows: &Tensor,
        sums: &mut BTreeMap<usize, Tensor>,
    ) -> Result<()> {
        let image = self.config.image_token_id;
        let ids = &rows.asked.prompt.ids;
        let mut start = 0;
        for (picture, features) in group.pictures.iter().zip(&rows.asked.features) {
            let count = features.tensor.dim(0)?;
            start += ids[start..].iter().take_while(|id| **id != image).count();
            let own = drows.narrow(0, start, count)?.to_dtype(DType::F32)?;
            let sum = match sums.remove(picture) {
                Some(sum) => (sum + own)?,
                None => own,
            };
            sums.insert(*picture, sum);
            start += count;
        }
        Ok(())
    }

    /// The predicting rows of the last block's result in runs whose logits are bounded, each with its picks.
    fn runs(&self, rows: &Rows, last: &Tensor) -> Result<Vec<Run>> {
        let (first, vocabulary) = (rows.shape.prompt - 1, self.config.text.vocab_size);
        let count = last.dim(0)? - first;
        let most = (self.bounds.logits / vocabulary).max(1);
        let run = |start: usize| {
            let length = most.min(count - start);
            let here = rows.picks.iter().enumerate().filter(|(_, pick)| (start..start + length).contains(&pick.row));
            let (places, here): (Vec<usize>, Vec<&Pick>) = here.unzip();
            let rows = here.iter().map(|pick| (pick.row - start) as u32).collect::<Vec<_>>();
            let flat = here.iter().map(|pick| ((pick.row - start) * vocabulary) as u32 + pick.id).collect::<Vec<_>>();
            Ok(Run {
                x: last.narrow(0, first + start, length)?,
                rows: Tensor::from_vec(rows, places.len(), last.device())?,
                flat: Tensor::from_vec(flat, places.len(), last.device())?,
                picks: here.into_iter().map(|pick| Pick { row: pick.row - start, ..*pick }).collect(),
                places,
            })
        };
        (0..count).step_by(most).map(run).collect()
    }
}

/// A group's prompt with its pictures' features.
fn asked<'a>(group: &'a Group, features: &'a [Features]) -> Result<Asked<'a>> {
    let at = |picture: &usize| {
        features.get(*picture).ok_or_else(|| Error::Batch {
            problem: format!("a group names picture {picture} of a batch of {}", features.len()),
        })
    };
    Ok(Asked { prompt: &group.prompt, features: group.pictures.iter().map(at).collect::<Result<_>>()? })
}

/// Some of a group's predicting rows.
struct Run {
    /// `[M, H]`.
    x: Tensor,
    /// Where its picks stand among the group's.
    places: Vec<usize>,
    /// Their rows here.
    rows: Tensor,
    /// Their places in the flattened logits.
    flat: Tensor,
    picks: Vec<Pick>,
}

impl Run {
    /// The gradient of the logits `[M, V]`, given those of the group's picks: each gives its token what it takes from all by
    /// their probabilities.
    fn dlogits(&self, logits: &Tensor, dpicked: &[f32]) -> Result<Tensor> {
        let (count, _) = logits.dims2()?;
        let mut taken = vec![0.0_f32; count];
        let mut given = Vec::with_capacity(self.places.len());
        for (place, pick) in self.places.iter().zip(&self.picks) {
            taken[pick.row] -= dpicked[*place];
            given.push(dpicked[*place]);
        }
        let taken = Tensor::from_vec(taken, (count, 1), logits.device())?;
        let dlogits = softmax_last_dim(logits)?.broadcast_mul(&taken)?;
        if given.is_empty() {
            return Ok(dlogits);
        }
        let given = Tensor::from_vec(given, self.places.len(), logits.device())?;
        Ok(dlogits.flatten_all()?.index_add(&self.flat, &given, 0)?.reshape(logits.shape())?)
    }
}
