//! What follows a prompt: lanes that read it from its cached keys and values, and keep their own side by side.

use candle_core::{Device, Tensor};

use super::attention::{KeysValues, Projected, attend_lanes, causal_mask, mask};
use super::layers::Rotary;
use super::text::{PromptCache, TextModel};
use crate::error::Result;

/// Positions for which lanes get room at a time.
pub(crate) const PAGE: usize = 32;

/// The lanes' own keys and values, layer by layer `[N, kv, S, d]`; lane `i` has filled its first `lengths[i]` places.
#[derive(Debug)]
pub(super) struct LaneCache {
    layers: Vec<KeysValues>,
    pub lengths: Vec<usize>,
    room: usize,
    device: Device,
}

impl LaneCache {
    pub fn new(text: &TextModel, device: &Device) -> Self {
        let room = 0;
        let layers = Vec::with_capacity(text.blocks().len());
        Self { layers, lengths: Vec::new(), room, device: device.clone() }
    }

    /// Appends `count` lanes that have said nothing.
    pub fn enter(&mut self, text: &TextModel, count: usize) -> Result<()> {
        self.lengths.resize(self.lengths.len() + count, 0);
        if self.layers.is_empty() {
            self.room = PAGE;
            for _ in text.blocks() {
                self.layers.push(KeysValues { keys: text.empty(count, PAGE)?, values: text.empty(count, PAGE)? });
            }
            return Ok(());
        }
        let more = text.empty(count, self.room)?;
        self.change(|kept| Ok(Tensor::cat(&[kept, &more], 0)?))
    }

    /// Keeps the lanes at these places, in their order.
    pub fn keep(&mut self, places: &[u32]) -> Result<()> {
        if places.len() == self.lengths.len() {
            return Ok(());
        }
        self.lengths = places.iter().map(|place| self.lengths[*place as usize]).collect();
        if places.is_empty() {
            self.layers.clear();
            return Ok(());
        }
        let places = Tensor::new(places, &self.device)?;
        self.change(|kept| Ok(kept.index_select(&places, 0)?))
    }

    /// Makes room for one more token of every lane.
    fn grow(&mut self, text: &TextModel) -> Result<()> {
        if self.lengths.iter().all(|length| *length < self.room) {
            return Ok(());
        }
        self.room += PAGE;
        let more = text.empty(self.lengths.len(), PAGE)?;
        self.change(|kept| Ok(Tensor::cat(&[kept, &more], 2)?))
    }

    fn change(&mut self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        for layer in &mut self.layers {
            *layer = KeysValues { keys: change(&layer.keys)?, values: change(&layer.values)? };
        }
        Ok(())
    }
}

/// Prompts, and how many of the lanes, which stand in the prompts' order, are each one's.
pub(super) type ByPrompt<'a> = [(&'a PromptCache, usize)];

impl TextModel {
    /// Reads one more token of each lane: rows `[N, H]` that predict the next ones. `rotary` holds the angles of every
    /// position that occurs.
    pub fn decode(&self, ids: &[u32], prompts: &ByPrompt, own: &mut LaneCache, rotary: &Rotary) -> Result<Tensor> {
        own.grow(self)?;
        let device = &own.device;
        let lengths: Vec<u32> = own.lengths.iter().map(|length| *length as u32).collect();
        let width = own.lengths.iter().max().map_or(0, |longest| longest + 1);
        let first = prompts.iter().flat_map(|(prompt, lanes)| std::iter::repeat_n(prompt.next, *lanes));
        let positions: Vec<u32> = first.zip(&lengths).map(|(first, length)| first + length).collect();
        let rotary = rotary.rows(&Tensor::new(positions, device)?)?;
        let lengths = Tensor::new(lengths, device)?.reshape((ids.len(), 1))?;
        let seen = mask(&lengths.broadcast_ge(&Tensor::arange(0, width as u32, device)?.reshape((1, width))?)?)?;
        let (kv, dim) = (self.config.num_key_value_heads, self.config.head_dim());
        let places = lengths.reshape((ids.len(), 1, 1, 1))?.broadcast_as((ids.len(), kv, 1, dim))?.contiguous()?;
        let mut x = self.embed(ids)?;
        for (layer, (block, own)) in self.blocks().iter().zip(&own.layers).enumerate() {
            x = block.forward(&x, &rotary, |Projected { queries, keys, values }| {
                for (kept, new) in [(&own.keys, keys), (&own.values, values)] {
                    kept.scatter_set(&places, &new.transpose(0, 1)?.unsqueeze(2)?.contiguous()?, 2)?;
                }
                let own = KeysValues { keys: own.keys.narrow(2, 0, width)?, values: own.values.narrow(2, 0, width)? };
                attend_by_prompt(&queries, prompts, layer, &own, &seen)
            })?;
        }
        own.lengths.iter_mut().for_each(|length| *length += 1);
        Ok(x)
    }

    /// Reads lanes of one prompt, all of `length` tokens, lane by lane: rows `[N·T, H]`, each of which predicts the token
    /// after its own. `rotary` as in [`Self::decode`].
    pub fn read_lanes(&self, ids: &[u32], length: usize, prompt: &PromptCache, rotary: &Rotary) -> Result<Tensor> {
        let (lanes, next) = (ids.len() / length, prompt.next);
        let device = rotary.cos.device();
        let positions: Vec<u32> = (0..ids.len()).map(|row| next + (row % length) as u32).collect();
        let rotary = rotary.rows(&Tensor::new(positions, device)?)?;
        let seen = causal_mask(0, length, length, device)?.repeat((lanes, 1))?;
        let mut x = self.embed(ids)?;
        for (layer, block) in self.blocks().iter().enumerate() {
            x = block.forward(&x, &rotary, |Projected { queries, keys, values }| {
                let by_lane = |x: Tensor| {
                    let (kv, _, dim) = x.dims3()?;
                    x.reshape((kv, lanes, length, dim))?.transpose(0, 1)?.contiguous()
                };
                let own = KeysValues { keys: by_lane(keys)?, values: by_lane(values)? };
                attend_lanes(&queries, &prompt.layers[layer], &own, &seen)
            })?;
        }
        Ok(x)
    }
}

/// One token of each lane: the lanes of a prompt together, prompt after prompt.
fn attend_by_prompt(
    queries: &Tensor,
    prompts: &ByPrompt,
    layer: usize,
    own: &KeysValues,
    seen: &Tensor,
) -> candle_core::Result<Tensor> {
    let (mut out, mut start) = (Vec::with_capacity(prompts.len()), 0);
    for (prompt, lanes) in prompts {
        let own = KeysValues { keys: own.keys.narrow(0, start, *lanes)?, values: own.values.narrow(0, start, *lanes)? };
        let (queries, seen) = (queries.narrow(2, start, *lanes)?, seen.narrow(0, start, *lanes)?);
        out.push(attend_lanes(&queries, &prompt.layers[layer], &own, &seen)?);
        start += lanes;
    }
    Tensor::cat(&out, 2)
}
