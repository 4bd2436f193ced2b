//! Linear layers over rows, and the sums in which gradients are collected by release name.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::{Floats, tensor};

/// `y = x·Wᵀ (+ b)`. The product and the bias are apart, so that the pass that comes next can add the bias.
#[derive(Debug, Clone)]
pub struct Linear {
    name: String,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `name` is the release name without `.weight` and `.bias`; `weight` is `[out, in]`, `bias` `[out]`.
    pub fn new(name: String, weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { name, weight, bias }
    }

    /// The bias, for a pass that adds it itself.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// `x·Wᵀ` without the bias: `[R, in]` to `[R, out]`.
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)
    }

    /// `x·Wᵀ + b`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        add_bias(self.product(x)?, self.bias(), None)
    }

    /// `residual + x·Wᵀ + b`.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        add_bias(self.product(x)?, self.bias(), Some(residual))
    }

    /// Adds the gradients of weight and bias to `sums` and gives that of `x`.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, sums: &mut Sums) -> Result<Tensor> {
        self.backward_weights(x, dy, sums)?;
        dy.matmul(&self.weight)
    }

    /// The gradients of weight and bias alone, for a layer whose input needs none.
    pub fn backward_weights(&self, x: &Tensor, dy: &Tensor, sums: &mut Sums) -> Result<()> {
        sums.add(&format!("{}.weight", self.name), dy.t()?.matmul(x)?)?;
        if self.bias.is_some() {
            sums.add(&format!("{}.bias", self.name), column_sums(dy)?)?;
        }
        Ok(())
    }
}

/// `y + bias + residual` in one pass; `y` itself when there is nothing to add.
fn add_bias(y: Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Tensor> {
    let (rows, width) = y.dims2()?;
    match (bias, residual) {
        (None, None) => Ok(y),
        (None, Some(residual)) => y + residual,
        (Some(bias), None) => {
            let (bias, mut out) = (Floats::of(bias)?, Vec::with_capacity(rows * width));
            for row in Floats::of(&y)?.chunks_exact(width) {
                out.extend(row.iter().zip(&*bias).map(|(y, b)| y + b));
            }
            tensor(out, (rows, width))
        }
        (Some(bias), Some(residual)) => {
            let (bias, residual) = (Floats::of(bias)?, Floats::of(residual)?);
            let mut out = Vec::with_capacity(rows * width);
            for (row, residual) in Floats::of(&y)?.chunks_exact(width).zip(residual.chunks_exact(width)) {
                out.extend(row.iter().zip(&*bias).zip(residual).map(|((y, b), r)| (y + b) + r));
            }
            tensor(out, (rows, width))
        }
    }
}

/// Sums over rows: `[R, H]` to `[H]`.
pub(crate) fn column_sums(rows: &Tensor) -> Result<Tensor> {
    let (_, width) = rows.dims2()?;
    let mut sums = vec![0.0; width];
    for row in Floats::of(rows)?.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    tensor(sums, width)
}

/// Gradients by release name. A name that nothing was added to is absent.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<String, Tensor>);

impl Sums {
    /// Adds `gradient` to what stands under `name`.
    pub fn add(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        match self.0.get_mut(name) {
            Some(sum) => {
                let new = (&*sum + gradient.reshape(sum.shape())?)?;
                *sum = new;
            }
            None => {
                self.0.insert(name.to_owned(), gradient);
            }
        }
        Ok(())
    }

    /// Adds all of `other`. Callers merge in a fixed order, for sums of floats depend on it.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (name, gradient) in other.0 {
            self.add(&name, gradient)?;
        }
        Ok(())
    }

    /// The gradients, by name.
    pub fn into_map(self) -> BTreeMap<String, Tensor> {
        self.0
    }
}
