//! Linear layers over rows: tensors `[R, in]`, or the same rows in a slice.

use candle_core::{Result, Tensor};

use super::kernels::add_dots;
use super::product::{Matrix, multiply_into};
use super::sums::Sums;
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

    /// Width of a row that goes in.
    pub(crate) fn input(&self) -> usize {
        self.weight.dims().last().copied().unwrap_or(0)
    }

    /// The bias, for a pass that adds it itself.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// `x·Wᵀ` without the bias: `[R, in]` to `[R, out]`.
    pub fn product(&self, x: &Tensor, kernel: Kernel) -> Result<Tensor> {
        let (rows, output) = (x.dim(0)?, self.weight.dim(0)?);
        tensor(self.product_of(&Floats::of(x)?, kernel)?, (rows, output))
    }

    /// [`Self::product`] of rows in a slice.
    pub(crate) fn product_of(&self, x: &[f32], kernel: Kernel) -> Result<Vec<f32>> {
        let (output, input) = self.weight.dims2()?;
        let mut out = vec![0.0; x.len() / input * output];
        self.multiply(x, kernel, false, &mut out)?;
        Ok(out)
    }

    /// `x·Wᵀ + b`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, output) = (x.dim(0)?, self.weight.dim(0)?);
        let mut out = vec![0.0; rows * output];
        self.add_bias(&mut out)?;
        self.multiply(&Floats::of(x)?, Kernel::General, true, &mut out)?;
        tensor(out, (rows, output))
    }

    /// `residual + b`, onto which [`Self::add_to`] adds the product.
    pub(crate) fn start(&self, residual: &[f32]) -> Result<Vec<f32>> {
        let mut start = residual.to_vec();
        self.add_bias(&mut start)?;
        Ok(start)
    }

    /// `out + x·Wᵀ`.
    pub(crate) fn add_to(&self, out: &mut [f32], x: &[f32], kernel: Kernel) -> Result<()> {
        self.multiply(x, kernel, true, out)
    }

    fn add_bias(&self, rows: &mut [f32]) -> Result<()> {
        let Some(bias) = &self.bias else { return Ok(()) };
        let bias = Floats::of(bias)?;
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(&*bias).for_each(|(value, bias)| *value += bias);
        }
        Ok(())
    }

    /// Writes `x·Wᵀ` into `out`, which holds zeros, or adds it.
    fn multiply(&self, x: &[f32], kernel: Kernel, onto: bool, out: &mut [f32]) -> Result<()> {
        let (output, input) = self.weight.dims2()?;
        let weight = Floats::of(&self.weight)?;
        match kernel {
            Kernel::General => {
                let weight = Matrix::rows(&weight, output, input, input);
                multiply_into(Matrix::rows(x, x.len() / input, input, input), weight.t(), onto, out, output)
            }
            Kernel::RowByRow => add_dots(x, &weight, input, out),
        }
    }

    /// Adds the gradients of weight and bias to `sums`, or those of the layer's adapter, whichever are wanted.
    pub(crate) fn backward(&self, x: &[f32], dy: &[f32], sums: &mut Sums) -> Result<()> {
        let (output, input) = self.weight.dims2()?;
        let rows = dy.len() / output;
        let (x, outer) = (Matrix::rows(x, rows, input, input), Matrix::rows(dy, rows, output, output));
        let (weight, bias) = (format!("{}.weight", self.name), format!("{}.bias", self.name));
        if sums.wants(&weight) {
            sums.add_product(&weight, outer.t(), x)?;
        } else {
            sums.add_adapters(&self.name, x, outer)?;
        }
        if self.bias.is_some() && sums.wants(&bias) {
            sums.add_with(&bias, &output.into(), |sum| add_columns(dy, sum));
        }
        Ok(())
    }

    /// Writes the gradient of `x` into `dx`, or adds it to what is there.
    pub(crate) fn backward_input(&self, dy: &[f32], onto: bool, dx: &mut [f32]) -> Result<()> {
        let (output, input) = self.weight.dims2()?;
        let weight = Floats::of(&self.weight)?;
        let dy = Matrix::rows(dy, dy.len() / output, output, output);
        multiply_into(dy, Matrix::rows(&weight, output, input, input), onto, dx, input)
    }
}

/// Adds the sum over rows to `sums`, which is one row.
fn add_columns(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
