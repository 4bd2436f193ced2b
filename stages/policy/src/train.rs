//! The training step's forward and backward pass: exact gradients of any loss on completions' log-probabilities, and
//! of a probe on the vision tower's features.
//!
//! The backward pass of the model is written out by hand (see `ops`); candle's graph serves the caller's loss alone,
//! from a leaf that holds the log-probabilities. Work is cut into chunks by position and summed in their order, so
//! results do not depend on the number of threads.
//!
//! Memory: gradients are one sum, to which any number of micro-batches add. A small model's chunks run side by side, each
//! with sums of its own that are merged a few at a time; a large one's run one after the other, divide their work among the
//! threads inside, and add straight to the one sum. Of the layers no more is kept than fits a bound (see `ops::block`).

mod learnt;

pub use learnt::{Learnt, Trainable};

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::model::{Model, Pack, Sequence, chunks};
use crate::ops::sums::Sums;
use crate::ops::{Floats, tensor};
use crate::policy::{Features, Policy};
use crate::processor::Pixels;
use crate::prompt::Prompt;
use crate::sample::Asked;
use crate::vision::VisionState;

/// Bytes of a model from which its chunks run one after the other.
pub(crate) const LARGE: usize = 1 << 26;

/// Bytes of chunks' gradients that wait to be merged, at most: a few of a small model's.
pub(crate) const WAITING: usize = 1 << 28;

/// Bytes of the vision tower's states that are kept while the language model runs, at most; of other pictures the tower's
/// forward pass is made again.
pub(crate) const LOOKS: usize = 1 << 27;

/// A prompt with its pictures and completions.
#[derive(Debug, Clone)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// Its pictures, as indices into the batch's pictures.
    pub pictures: Vec<usize>,
    /// Completions of at least one token each, the end token included.
    pub completions: Vec<Vec<u32>>,
}

/// Something learnt beside the language model from the vision tower's features.
pub trait Probe: Sync {
    /// What the probe learns, by name; names must differ from the weights'.
    fn vars(&self) -> Vec<(String, Var)>;

    /// The loss, already scaled, of consecutive pictures from `first_picture` on; `pooled [n, hidden]` holds the mean
    /// of each picture's merged tokens. The batch's loss is the sum over such runs of pictures.
    fn loss(&self, first_picture: usize, pooled: &Tensor) -> candle_core::Result<Tensor>;
}

/// Gradients of a batch.
#[derive(Debug)]
pub struct Gradients {
    /// By the weights' release names, the adapters' and the probe's names. What no loss reaches is absent.
    pub by_name: BTreeMap<String, Tensor>,
    /// Each group's loss.
    pub losses: Vec<f32>,
    /// The probe's loss; 0 without a probe.
    pub probe_loss: f32,
}

/// Gradients in the making: one buffer for each tensor that learns, to which micro-batches add.
#[derive(Debug)]
pub struct GradientSum<'a> {
    sums: Sums<'a>,
    losses: Vec<f32>,
    probe_loss: f32,
}

impl<'a> GradientSum<'a> {
    /// Nothing yet.
    pub fn new(learnt: &'a Learnt) -> Self {
        Self { sums: Sums::new(learnt.wanted()), losses: Vec::new(), probe_loss: 0.0 }
    }

    /// What all micro-batches together brought; the losses stand in their order.
    ///
    /// # Errors
    /// Out of memory.
    pub fn finish(self) -> Result<Gradients> {
        Ok(Gradients { by_name: self.sums.into_map()?, losses: self.losses, probe_loss: self.probe_loss })
    }
}

impl Policy {
    /// Log-probabilities of all completion tokens: by group, completion and token. Banned tokens have probability 0,
    /// as in sampling.
    ///
    /// # Errors
    /// A batch whose pieces do not fit together; see [`Error::Batch`].
    pub fn logprobs(&self, pictures: &[Pixels], groups: &[Group]) -> Result<Vec<Vec<Vec<f32>>>> {
        let looked = pictures.par_iter().map(|pixels| self.look(pixels));
        let features: Vec<Features> = looked.collect::<Result<_>>()?;
        let asked = groups.iter().map(|group| {
            let features = group.pictures.iter().map(|&picture| at(&features, picture)).collect::<Result<_>>()?;
            Ok(Asked { prompt: &group.prompt, features })
        });
        let completions: Vec<&[Vec<u32>]> = groups.iter().map(|group| group.completions.as_slice()).collect();
        self.completion_logprobs(&asked.collect::<Result<Vec<_>>>()?, &completions)
    }

    /// Gradients of `Σ loss` over groups, plus the probe's loss, by all weights.
    ///
    /// `loss` gets a group's index, its log-probabilities `[K, T]` (0 where a completion is shorter) and the mask of
    /// real tokens `[K, T]`, and gives a scalar, already scaled. With no groups only the vision tower and the probe get
    /// gradients.
    ///
    /// # Errors
    /// A batch whose pieces do not fit together (see [`Error::Batch`]), or an error of `loss`.
    pub fn gradients<L>(
        &self,
        pictures: &[Pixels],
        groups: &[Group],
        loss: &L,
        probe: Option<&dyn Probe>,
    ) -> Result<Gradients>
    where
        L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync,
    {
        let learnt = Learnt::all();
        let mut sum = GradientSum::new(&learnt);
        self.accumulate(&mut sum, pictures, groups, loss, probe)?;
        sum.finish()
    }

    /// Adds a micro-batch's gradients to `sum`: those of [`Self::gradients`], by what learns. Indices count within the
    /// micro-batch. The same micro-batches in the same order give the same bits.
    ///
    /// # Errors
    /// As [`Self::gradients`]; `sum` is then of no use.
    pub fn accumulate<L>(
        &self,
        sum: &mut GradientSum,
        pictures: &[Pixels],
        groups: &[Group],
        loss: &L,
        probe: Option<&dyn Probe>,
    ) -> Result<()>
    where
        L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync,
    {
        let bytes = self.weights.parameters() * size_of::<f32>();
        let at_once = if bytes > LARGE { 1 } else { (WAITING / bytes.max(1)).max(2) };
        accumulate(self.model(), sum, pictures, groups, loss, probe, at_once)
    }
}

/// [`Policy::accumulate`] with a choice of how many chunks are worked on at once.
fn accumulate<L>(
    model: &Model,
    sum: &mut GradientSum,
    pictures: &[Pixels],
    groups: &[Group],
    loss: &L,
    probe: Option<&dyn Probe>,
    at_once: usize,
) -> Result<()>
where
    L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync,
{
    let (features, mut looks) = look(model, pictures, &sum.sums, at_once)?;
    let below = model.vision.is_wanted(&sum.sums);
    let mut dfeatures: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    let text = |range: Range<usize>, sums: &mut Sums| text_chunk(model, &features, groups, range, loss, below, sums);
    in_order(group_chunks(groups), at_once, &mut sum.sums, text, |chunk: TextChunk| {
        sum.losses.extend(chunk.losses);
        for (picture, gradient) in chunk.features {
            add_features(&mut dfeatures, picture, gradient);
        }
    })?;
    // The tower's gradients need no more than these; what is left of a look goes with its chunk.
    let waiting: Vec<_> =
        picture_chunks(pictures).into_iter().map(|range| (looks.remove(&range.start), range)).collect();
    let vision = |(state, range): (Option<VisionState>, Range<usize>), sums: &mut Sums| {
        vision_chunk(model, &pictures[range.clone()], range.start, state, &features, &dfeatures, probe, sums)
    };
    in_order(waiting, at_once, &mut sum.sums, vision, |loss| sum.probe_loss += loss)
}

/// Works on all items and takes the results in their order: one after the other, straight into `sums`, or `at_once` side by
/// side, each with sums of its own that are merged in order.
fn in_order<I: Send, T: Send>(
    items: Vec<I>,
    at_once: usize,
    sums: &mut Sums,
    work: impl Fn(I, &mut Sums) -> Result<T> + Sync,
    mut take: impl FnMut(T),
) -> Result<()> {
    if at_once == 1 {
        for item in items {
            take(work(item, sums)?);
        }
        return Ok(());
    }
    let wanted = sums.wanted();
    let mut items = items.into_iter();
    loop {
        let wave: Vec<I> = items.by_ref().take(at_once).collect();
        if wave.is_empty() {
            return Ok(());
        }
        let done = wave.into_par_iter().map(|item| {
            let mut own = Sums::new(wanted);
            Ok((work(item, &mut own)?, own))
        });
        for (result, own) in done.collect::<Result<Vec<_>>>()? {
            take(result);
            sums.merge(own);
        }
    }
}

/// Pictures that go through the vision tower together.
fn picture_chunks(pictures: &[Pixels]) -> Vec<Range<usize>> {
    chunks(pictures.iter().map(|pixels| pixels.grid.height * pixels.grid.width))
}

/// Each picture's merged tokens, `[tokens, H]`, and what is kept of the tower's passes by their first picture: of as many
/// as fit [`LOOKS`], in their order.
fn look(
    model: &Model,
    pictures: &[Pixels],
    sums: &Sums,
    at_once: usize,
) -> Result<(Vec<Tensor>, BTreeMap<usize, VisionState>)> {
    let mut left = if model.vision.is_wanted(sums) { LOOKS } else { 0 };
    let mut passes = Vec::new();
    for range in picture_chunks(pictures) {
        let of_chunk: Vec<&Pixels> = pictures[range.clone()].iter().collect();
        let bytes = model.vision.bytes(model.vision.rows(&of_chunk));
        let kept = bytes <= left;
        left -= if kept { bytes } else { 0 };
        passes.push((range.start, of_chunk, kept));
    }
    let look = |(first, pictures, kept): (usize, Vec<&Pixels>, bool)| -> Result<_> {
        let (features, state) = if kept {
            let (features, state) = model.vision.forward(&pictures, sums)?;
            (features, Some(state))
        } else {
            (model.vision.pass(&pictures)?, None)
        };
        let mut start = 0;
        let by_picture = pictures.iter().map(|pixels| {
            let tokens = model.vision.tokens(pixels);
            start += tokens;
            Ok(features.narrow(0, start - tokens, tokens)?)
        });
        Ok((first, by_picture.collect::<Result<Vec<_>>>()?, state))
    };
    let looked: Vec<_> = if at_once == 1 {
        passes.into_iter().map(look).collect::<Result<_>>()?
    } else {
        passes.into_par_iter().map(look).collect::<Result<_>>()?
    };
    let (mut features, mut states) = (Vec::with_capacity(pictures.len()), BTreeMap::new());
    for (first, of_pictures, state) in looked {
        features.extend(of_pictures);
        states.extend(state.map(|state| (first, state)));
    }
    Ok((features, states))
}

fn group_chunks(groups: &[Group]) -> Vec<Range<usize>> {
    let rows = |group: &Group| {
        let longest = group.completions.iter().map(Vec::len).max().unwrap_or(0);
        group.prompt.ids.len() + group.completions.len() * longest
    };
    chunks(groups.iter().map(rows))
}

/// What a batch holds of one of its pictures.
fn at<T>(pictures: &[T], picture: usize) -> Result<&T> {
    pictures.get(picture).ok_or_else(|| Error::Batch {
        problem: format!("a group names picture {picture} of a batch of {}", pictures.len()),
    })
}

/// Packs groups as rows.
fn pack<'a>(model: &Model, groups: &'a [Group], features: &'a [Tensor]) -> Result<Pack<'a>> {
    let sequence = |group: &'a Group| {
        if group.completions.is_empty() {
            return Err(Error::Batch { problem: "a group has no completions".to_owned() });
        }
        let features = group.pictures.iter().map(|&picture| at(features, picture)).collect::<Result<_>>()?;
        Ok(Sequence { prompt: &group.prompt, features, completions: &group.completions })
    };
    let sequences = groups.iter().map(sequence).collect::<Result<Vec<_>>>()?;
    Pack::new(&model.config, &model.text, &model.banned, &sequences)
}

struct TextChunk {
    losses: Vec<f32>,
    /// Picture and gradient of its features, in the order of use.
    features: Vec<(usize, Vec<f32>)>,
}

/// Forward and backward of the groups in `range`; `below` says whether the features' gradients are wanted.
fn text_chunk<L>(
    model: &Model,
    features: &[Tensor],
    groups: &[Group],
    range: Range<usize>,
    loss: &L,
    below: bool,
    sums: &mut Sums,
) -> Result<TextChunk>
where
    L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
{
    let here = &groups[range.clone()];
    let pack = pack(model, here, features)?;
    let (picked, state) = model.forward(&pack)?;
    let (mut losses, mut dpicked, mut reached) = (Vec::with_capacity(here.len()), Vec::new(), false);
    for (index, group) in range.zip(here) {
        let count = group.completions.iter().map(Vec::len).sum::<usize>();
        let (value, gradient) = group_loss(index, group, &picked[dpicked.len()..][..count], loss)?;
        losses.push(value);
        reached |= gradient.is_some();
        dpicked.extend(gradient.unwrap_or_else(|| vec![0.0; count]));
    }
    if !reached {
        return Ok(TextChunk { losses, features: Vec::new() });
    }
    let dfeatures = model.backward(&pack, state, &dpicked, below, sums)?;
    let pictures = here.iter().flat_map(|group| group.pictures.iter().copied());
    Ok(TextChunk { losses, features: pictures.zip(dfeatures).collect() })
}

/// A group's loss, and the gradient of its log-probabilities if the loss depends on them.
pub(crate) fn group_loss<L>(index: usize, group: &Group, picked: &[f32], loss: &L) -> Result<(f32, Option<Vec<f32>>)>
where
    L: Fn(usize, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
{
    let shape = (group.completions.len(), group.completions.iter().map(Vec::len).max().unwrap_or(0));
    let (mut padded, mut mask) = (vec![0.0_f32; shape.0 * shape.1], vec![0.0_f32; shape.0 * shape.1]);
    let (mut places, mut picked) = (Vec::with_capacity(picked.len()), picked.iter());
    for (lane, ids) in group.completions.iter().enumerate() {
        for (place, value) in (lane * shape.1..).zip(picked.by_ref().take(ids.len())) {
            (padded[place], mask[place]) = (*value, 1.0);
            places.push(place);
        }
    }
    let leaf = Var::from_vec(padded, shape, &Device::Cpu)?;
    let value = loss(index, leaf.as_tensor(), &tensor(mask, shape)?)?;
    let store = value.backward()?;
    let Some(gradient) = store.get(&leaf) else { return Ok((value.to_scalar()?, None)) };
    let gradient = gradient.contiguous()?;
    let gradient = Floats::of(&gradient)?;
    Ok((value.to_scalar()?, Some(places.into_iter().map(|place| gradient[place]).collect())))
}

/// Backward of pictures that go through the tower together, from picture `first` of the batch on, with the probe's part;
/// gives the probe's loss. Without a state the forward pass is made again.
#[expect(clippy::too_many_arguments, reason = "a chunk's inputs, each of another kind")]
fn vision_chunk(
    model: &Model,
    pictures: &[Pixels],
    first: usize,
    state: Option<VisionState>,
    features: &[Tensor],
    dfeatures: &BTreeMap<usize, Vec<f32>>,
    probe: Option<&dyn Probe>,
    sums: &mut Sums,
) -> Result<f32> {
    let features = &features[first..first + pictures.len()];
    let (mut gradient, mut reached) = (Vec::new(), false);
    for (picture, features) in (first..).zip(features) {
        match dfeatures.get(&picture) {
            Some(from_text) => {
                gradient.extend_from_slice(from_text);
                reached = true;
            }
            None => gradient.resize(gradient.len() + features.elem_count(), 0.0),
        }
    }
    let mut probe_loss = 0.0;
    if let Some(probe) = probe {
        let (value, dpooled) = probe_chunk(probe, first, features, sums)?;
        probe_loss = value;
        if let Some(dpooled) = dpooled {
            add_pooled(&mut gradient, &dpooled, features)?;
            reached = true;
        }
    }
    if reached && model.vision.is_wanted(sums) {
        let state = match state {
            Some(state) => state,
            None => model.vision.forward(&pictures.iter().collect::<Vec<_>>(), sums)?.1,
        };
        model.vision.backward(state, &gradient, sums)?;
    }
    Ok(probe_loss)
}

/// The probe's loss on these pictures, and the gradient of their pooled features; the probe's own go to `sums`.
fn probe_chunk(probe: &dyn Probe, first: usize, features: &[Tensor], sums: &mut Sums) -> Result<(f32, Option<Tensor>)> {
    let means = features.iter().map(|features| features.mean(0)).collect::<candle_core::Result<Vec<_>>>()?;
    let pooled = Var::from_tensor(&Tensor::stack(&means, 0)?)?;
    let value = probe.loss(first, pooled.as_tensor())?;
    let store: GradStore = value.backward()?;
    for (name, var) in probe.vars() {
        if let Some(gradient) = store.get(&var) {
            sums.add(&name, &gradient.contiguous()?)?;
        }
    }
    let dpooled = store.get(&pooled).map(Tensor::contiguous).transpose()?;
    Ok((value.to_scalar()?, dpooled))
}

/// Spreads the gradient of each picture's mean over its tokens.
fn add_pooled(gradient: &mut [f32], dpooled: &Tensor, features: &[Tensor]) -> Result<()> {
    let (_, width) = dpooled.dims2()?;
    let (dpooled, mut rows) = (Floats::of(dpooled)?, gradient.chunks_exact_mut(width));
    for (features, mean) in features.iter().zip(dpooled.chunks_exact(width)) {
        let tokens = features.dim(0)?;
        for row in rows.by_ref().take(tokens) {
            row.iter_mut().zip(mean).for_each(|(sum, mean)| *sum += mean / tokens as f32);
        }
    }
    Ok(())
}

fn add_features(sums: &mut BTreeMap<usize, Vec<f32>>, picture: usize, gradient: Vec<f32>) {
    match sums.get_mut(&picture) {
        Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value),
        None => {
            sums.insert(picture, gradient);
        }
    }
}

#[cfg(test)]
mod tests;
