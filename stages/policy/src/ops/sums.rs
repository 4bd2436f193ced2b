//! The sums in which gradients are collected by name, and whose gradients are wanted at all.

use std::collections::BTreeMap;

use candle_core::{Result, Shape, Tensor};

use super::product::{Matrix, multiply_into};
use super::{Floats, tensor};

/// Low-rank matrices that learn in the place of a layer's weights: `W = W0 + scale·B·A`.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// `A`, `[rank, in]`.
    pub a: Tensor,
    /// `B`, `[out, rank]`.
    pub b: Tensor,
    /// What multiplies their product.
    pub scale: f32,
}

/// Whose gradients are wanted. What is not wanted is not computed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whether the weights of that release name learn themselves.
    pub weights: fn(&str) -> bool,
    /// Adapters, by the release name of the layer without `.weight`.
    pub adapters: BTreeMap<String, Adapter>,
}

/// The gradients of all weights are wanted.
static ALL: Wanted = Wanted { weights: |_| true, adapters: BTreeMap::new() };

/// Names of an adapter's two matrices, `A` and `B`, given its layer's.
pub fn adapter_names(layer: &str) -> [String; 2] {
    [format!("{layer}.lora_A.weight"), format!("{layer}.lora_B.weight")]
}

/// Gradients by name: one buffer a name, into which everything is added. A name that nothing was added to is absent.
#[derive(Debug)]
pub struct Sums<'a> {
    wanted: &'a Wanted,
    by_name: BTreeMap<String, Sum>,
}

#[derive(Debug)]
struct Sum {
    values: Vec<f32>,
    shape: Shape,
}

impl Default for Sums<'static> {
    fn default() -> Self {
        Self::new(&ALL)
    }
}

impl<'a> Sums<'a> {
    /// Empty sums of what is wanted.
    pub fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, by_name: BTreeMap::new() }
    }

    /// Whose gradients are wanted.
    pub fn wanted(&self) -> &'a Wanted {
        self.wanted
    }

    /// Whether the gradient of these weights is wanted.
    pub fn wants(&self, name: &str) -> bool {
        (self.wanted.weights)(name)
    }

    /// Lets `add` add to the sum of that name.
    pub fn add_with(&mut self, name: &str, shape: &Shape, add: impl FnOnce(&mut [f32])) {
        if !self.by_name.contains_key(name) {
            let sum = Sum { values: vec![0.0; shape.elem_count()], shape: shape.clone() };
            self.by_name.insert(name.to_owned(), sum);
        }
        if let Some(sum) = self.by_name.get_mut(name) {
            add(&mut sum.values);
        }
    }

    /// Adds `gradient` to the sum of that name.
    pub fn add(&mut self, name: &str, gradient: &Tensor) -> Result<()> {
        let values = Floats::of(gradient)?;
        self.add_with(name, gradient.shape(), |sum| add(sum, &values));
        Ok(())
    }

    /// Adds `a·b` to the sum of that name; the product is made nowhere else.
    pub(crate) fn add_product(&mut self, name: &str, a: Matrix, b: Matrix) -> Result<()> {
        let ((rows, _), (_, columns)) = (a.shape(), b.shape());
        let onto = self.by_name.contains_key(name);
        let mut done = Ok(());
        self.add_with(name, &(rows, columns).into(), |sum| done = multiply_into(a, b, onto, sum, columns));
        done
    }

    /// Adds the gradients of the adapter of `layer`, if it has one, given those rows of its input and of its result's
    /// gradient. With `dW = dyᵀ·x`, `dA = s·Bᵀ·dW` and `dB = s·dW·Aᵀ`; multiplied from the other side, no `dW` is made.
    pub(crate) fn add_adapters(&mut self, layer: &str, x: Matrix, dy: Matrix) -> Result<()> {
        let Some(adapter) = self.wanted.adapters.get(layer) else { return Ok(()) };
        let ((rank, input), (output, _)) = (adapter.a.dims2()?, adapter.b.dims2()?);
        let (a, b) = (Floats::of(&adapter.a)?, Floats::of(&adapter.b)?);
        let [name_a, name_b] = adapter_names(layer);
        let (rows, _) = x.shape();
        let mut low = vec![0.0; rows * rank];
        multiply_into(dy, Matrix::rows(&b, output, rank, rank), false, &mut low, rank)?;
        scale(&mut low, adapter.scale);
        self.add_product(&name_a, Matrix::rows(&low, rows, rank, rank).t(), x)?;
        multiply_into(x, Matrix::rows(&a, rank, input, input).t(), false, &mut low, rank)?;
        scale(&mut low, adapter.scale);
        self.add_product(&name_b, dy.t(), Matrix::rows(&low, rows, rank, rank))
    }

    /// Adds all of `other`. Callers merge in a fixed order, for sums of floats depend on it.
    pub fn merge(&mut self, other: Self) {
        for (name, other) in other.by_name {
            match self.by_name.get_mut(&name) {
                Some(sum) => add(&mut sum.values, &other.values),
                None => {
                    self.by_name.insert(name, other);
                }
            }
        }
    }

    /// The gradients, by name.
    pub fn into_map(self) -> Result<BTreeMap<String, Tensor>> {
        self.by_name.into_iter().map(|(name, sum)| Ok((name, tensor(sum.values, sum.shape)?))).collect()
    }
}

fn scale(values: &mut [f32], by: f32) {
    for value in values {
        *value *= by;
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{waves, weighted};
    use crate::ops::linear::{Kernel, Linear};

    const LAYER: &str = "layer";

    fn adapter() -> Adapter {
        Adapter { a: waves(&[2, 5], 0.4), b: waves(&[3, 2], 1.3), scale: 0.7 }
    }

    /// `x·W0ᵀ + s·(x·Aᵀ)·Bᵀ`, the adapter beside the layer.
    fn separate(x: &Tensor, w0: &Tensor, adapter: &Adapter) -> Tensor {
        let low = x.matmul(&adapter.a.t().unwrap()).unwrap().matmul(&adapter.b.t().unwrap()).unwrap();
        (x.matmul(&w0.t().unwrap()).unwrap() + (low * f64::from(adapter.scale)).unwrap()).unwrap()
    }

    #[test]
    fn an_adapters_gradients_are_those_of_finite_differences() {
        let (x, dy, w0, adapter) = (waves(&[4, 5], 0.3), waves(&[4, 3], 2.0), waves(&[3, 5], 1.1), adapter());
        let wanted = Wanted { weights: |_| false, adapters: BTreeMap::from([(LAYER.to_owned(), adapter.clone())]) };
        let mut sums = Sums::new(&wanted);
        let layer = Linear::new(LAYER.to_owned(), w0.clone(), None);
        layer.backward(&Floats::of(&x).unwrap(), &Floats::of(&dy).unwrap(), &mut sums).unwrap();
        let found = sums.into_map().unwrap();
        let names = adapter_names(LAYER);
        assert_eq!(found.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        crate::ops::check::close_to_differences(&adapter.a, &found[&names[0]], |a| {
            weighted(&separate(&x, &w0, &Adapter { a: a.clone(), ..adapter.clone() }), &dy)
        });
        crate::ops::check::close_to_differences(&adapter.b, &found[&names[1]], |b| {
            weighted(&separate(&x, &w0, &Adapter { b: b.clone(), ..adapter.clone() }), &dy)
        });
    }

    #[test]
    fn products_are_added_where_the_sum_stands() {
        let (x, dy) = (waves(&[4, 5], 0.3), waves(&[4, 3], 2.0));
        let mut sums = Sums::default();
        let layer = Linear::new(LAYER.to_owned(), waves(&[3, 5], 1.1), None);
        for _ in 0..3 {
            layer.backward(&Floats::of(&x).unwrap(), &Floats::of(&dy).unwrap(), &mut sums).unwrap();
        }
        let once = dy.t().unwrap().matmul(&x).unwrap();
        let found = &sums.into_map().unwrap()["layer.weight"];
        let off = (found - (once * 3.0).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-5);
        assert_eq!(layer.product(&x, Kernel::General).unwrap().dims(), [4, 3]);
    }
}
