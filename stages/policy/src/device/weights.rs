//! A model's tensors on their way from the files into the layers.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};

use super::layers::{Linear, Norm, SideBySide};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::weights::{Checkpoint, Weights, expected};

/// Tensors by release name, on one device and in one number format. The layers take them out, so that nothing is kept
/// twice.
pub struct Tensors {
    named: BTreeMap<String, Tensor>,
    pub(super) device: Device,
    pub(super) dtype: DType,
    form: Form,
}

/// How layers of one input are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As one product, for a policy that only answers.
    Joined,
    /// Each by itself, as its variable has it.
    Separate,
}

impl Tensors {
    /// Reads the weights of `folder`, tensor by tensor, from the mapped files to the device.
    ///
    /// # Errors
    /// A file that is missing or malformed, or weights that do not fit the configuration.
    pub fn load(folder: &Path, config: &Config, device: &Device, dtype: DType) -> Result<Self> {
        let named = Checkpoint::open(folder, config)?.read_as(dtype, device)?;
        Ok(Self { named, device: device.clone(), dtype, form: Form::Joined })
    }

    /// The same as variables; the layers then take aliases, and see what is later set.
    pub(super) fn variables(mut self) -> Result<(Self, Weights)> {
        let mut vars = Vec::with_capacity(self.named.len());
        // One after the other, so that no more than one tensor is there twice.
        for (name, tensor) in std::mem::take(&mut self.named) {
            let var = Var::from_tensor(&tensor)?;
            self.named.insert(name.clone(), var.as_detached_tensor());
            vars.push((name, var.into_inner()));
        }
        // What is a variable already is taken as it is.
        Ok((Self { form: Form::Separate, ..self }, Weights::from_tensors(vars)?))
    }

    /// A copy of these weights.
    pub(super) fn copy_of(weights: &Weights, device: &Device, dtype: DType) -> Result<Self> {
        // As variables from the start, so that they are not copied a second time.
        let copy = |(name, var): (&str, &Var)| {
            Ok((name.to_owned(), Var::from_tensor(&var.as_detached_tensor())?.into_inner()))
        };
        Ok(Self {
            named: weights.iter().map(copy).collect::<Result<_>>()?,
            device: device.clone(),
            dtype,
            form: Form::Joined,
        })
    }

    pub(super) fn take(&mut self, name: &str) -> Result<Tensor> {
        self.named.remove(name).ok_or_else(|| Error::NoSuchTensor { name: name.to_owned() })
    }

    pub(super) fn norm(&mut self, name: &str, epsilon: f64) -> Result<Norm> {
        let weight = self.take(&format!("{name}.weight"))?;
        Ok(Norm { name: name.to_owned(), weight, epsilon: epsilon as f32 })
    }

    /// A linear layer; with its bias where there is one.
    pub(super) fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = self.take(&format!("{name}.weight"))?;
        Ok(Linear { name: name.to_owned(), weight, bias: self.named.remove(&format!("{name}.bias")) })
    }

    /// Several linear layers of one input, their outputs side by side.
    pub(super) fn side_by_side<const N: usize>(&mut self, names: &[String; N]) -> Result<SideBySide> {
        let layers = names.iter().map(|name| self.linear(name)).collect::<Result<Vec<_>>>()?;
        if self.form == Form::Separate {
            return Ok(SideBySide(layers));
        }
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Vec<&Tensor> = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect();
        let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0)?) };
        Ok(SideBySide(vec![Linear { name: names.join("+"), weight: Tensor::cat(&weights, 0)?, bias }]))
    }
}

/// Random weights in the shape of `config`, drawn on the device: for measuring without a checkpoint. Products keep the
/// scale of what goes in.
///
/// # Errors
/// The device is out of memory.
pub fn random(config: &Config, device: &Device, dtype: DType) -> Result<Tensors> {
    let draw = |(name, shape): (String, Vec<usize>)| {
        let tensor = match name.rsplit('.').next() {
            Some("bias") => Tensor::zeros(shape, dtype, device)?,
            _ if shape.len() == 1 => Tensor::ones(shape, dtype, device)?,
            _ => {
                let inputs: usize = shape[1..].iter().product();
                Tensor::randn(0_f32, (1.0 / inputs as f32).sqrt(), shape, device)?.to_dtype(dtype)?
            }
        };
        Ok((name, tensor))
    };
    let named = expected(config).into_iter().map(draw).collect::<Result<_>>()?;
    Ok(Tensors { named, device: device.clone(), dtype, form: Form::Joined })
}
