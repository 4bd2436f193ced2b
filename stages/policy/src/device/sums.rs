//! Gradients on their device: one sum in `f32` for each tensor that learns.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};

use crate::ops::sums::{Wanted, adapter_names};

/// Gradients by name. What nothing was added to is absent.
#[derive(Debug)]
pub(super) struct Sums<'a> {
    wanted: &'a Wanted,
    by_name: BTreeMap<String, Tensor>,
}

impl<'a> Sums<'a> {
    pub fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, by_name: BTreeMap::new() }
    }

    /// Whether the gradient of these weights is wanted.
    pub fn wants(&self, name: &str) -> bool {
        (self.wanted.weights)(name)
    }

    /// Adds to what stands under `name`; nothing is made for a tensor that does not learn.
    pub fn add(&mut self, name: &str, gradient: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        if self.wants(name) { self.put(name, &gradient()?) } else { Ok(()) }
    }

    /// Adds the gradients of the adapter of `layer`, if it has one, given the layer's input and its result's gradient. With
    /// `dW = dyᵀ·x`, `dA = s·Bᵀ·dW` and `dB = s·dW·Aᵀ`; multiplied from the other side, no `dW` is made.
    pub fn add_adapters(&mut self, layer: &str, x: &Tensor, dy: &Tensor) -> Result<()> {
        let Some(adapter) = self.wanted.adapters.get(layer) else { return Ok(()) };
        let here = |matrix: &Tensor| matrix.to_device(x.device())?.to_dtype(x.dtype());
        let scale = f64::from(adapter.scale);
        let low = (dy.matmul(&here(&adapter.b)?)? * scale)?;
        let da = low.t()?.matmul(x)?;
        let low = (x.matmul(&here(&adapter.a)?.t()?)? * scale)?;
        let db = dy.t()?.matmul(&low)?;
        let [name_a, name_b] = adapter_names(layer);
        self.put(&name_a, &da)?;
        self.put(&name_b, &db)
    }

    fn put(&mut self, name: &str, gradient: &Tensor) -> Result<()> {
        // Cast first: products in bf16 are summed in f32, but come back in bf16.
        let gradient = gradient.to_dtype(DType::F32)?;
        let sum = match self.by_name.remove(name) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        self.by_name.insert(name.to_owned(), sum);
        Ok(())
    }

    /// The gradients, by name.
    pub fn into_map(self) -> BTreeMap<String, Tensor> {
        self.by_name
    }
}
