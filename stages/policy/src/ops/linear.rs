//! Linear layers over rows, and the sums in which gradients are collected by release name.

use std::collections::BTreeMap;

use candle_core::{Result, Shape, Tensor};

use super::kernels::add_dots;
use super::product::{product, product_onto};
use super::{Floats, tensor};

/// By what a layer multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The fastest for hundreds of rows. A row's last bits may depend on the rows beside it.
    General,
    /// For up to a few dozen rows, each of which gets the same bits in any company.
    RowByRow,
}

/// `y = x·Wᵀ (+ b)`. The bias can also be left to the pass that comes next.
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
    pub fn product(&self, x: &Tensor, kernel: Kernel) -> Result<Tensor> {
        match kernel {
            Kernel::General => product(x, &self.weight.t()?),
            Kernel::RowByRow => self.add_to(vec![0.0; x.dim(0)? * self.weight.dim(0)?], x, kernel),
        }
    }

    /// `x·Wᵀ + b`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Some(bias) = &self.bias else { return self.product(x, Kernel::General) };
        let (bias, rows) = (Floats::of(bias)?, x.dim(0)?);
        self.add_to(bias.repeat(rows), x, Kernel::General)
    }

    /// `residual + x·Wᵀ + b`.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor, kernel: Kernel) -> Result<Tensor> {
        let mut start = Floats::of(residual)?.to_vec();
        if let Some(bias) = &self.bias {
            let bias = Floats::of(bias)?;
            for row in start.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(&*bias).for_each(|(value, bias)| *value += bias);
            }
        }
        self.add_to(start, x, kernel)
    }

    /// `start + x·Wᵀ`.
    fn add_to(&self, mut start: Vec<f32>, x: &Tensor, kernel: Kernel) -> Result<Tensor> {
        if kernel == Kernel::General {
            return product_onto(start, x, &self.weight.t()?);
        }
        let (output, input) = self.weight.dims2()?;
        add_dots(&Floats::of(x)?, &Floats::of(&self.weight)?, input, &mut start)?;
        tensor(start, (x.dim(0)?, output))
    }

    /// Adds the gradients of weight and bias to `sums` and gives that of `x`, added to `dx` where there is one.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, dx: Option<&Tensor>, sums: &mut Sums) -> Result<Tensor> {
        sums.add(&format!("{}.weight", self.name), product(&dy.t()?, x)?)?;
        if self.bias.is_some() {
            sums.add(&format!("{}.bias", self.name), column_sums(dy)?)?;
        }
        match dx {
            Some(dx) => product_onto(Floats::of(dx)?.to_vec(), dy, &self.weight),
            None => product(dy, &self.weight),
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
pub struct Sums(BTreeMap<String, Sum>);

#[derive(Debug)]
enum Sum {
    /// One gradient, as it came.
    One(Tensor),
    /// Two or more.
    Many(Vec<f32>, Shape),
}

impl Sums {
    /// Adds `gradient` to what stands under `name`.
    pub fn add(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        match self.0.get_mut(name) {
            None => {
                self.0.insert(name.to_owned(), Sum::One(gradient));
            }
            Some(sum) => {
                if let Sum::One(first) = sum {
                    let values = Floats::of(first)?.to_vec();
                    *sum = Sum::Many(values, first.shape().clone());
                }
                if let Sum::Many(sum, _) = sum {
                    sum.iter_mut().zip(&*Floats::of(&gradient)?).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        Ok(())
    }

    /// Adds all of `other`. Callers merge in a fixed order, for sums of floats depend on it.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (name, sum) in other.0 {
            self.add(&name, sum.into_tensor()?)?;
        }
        Ok(())
    }

    /// The gradients, by name.
    pub fn into_map(self) -> Result<BTreeMap<String, Tensor>> {
        self.0.into_iter().map(|(name, sum)| Ok((name, sum.into_tensor()?))).collect()
    }
}

impl Sum {
    fn into_tensor(self) -> Result<Tensor> {
        match self {
            Self::One(gradient) => Ok(gradient),
            Self::Many(sum, shape) => tensor(sum, shape),
        }
    }
}
