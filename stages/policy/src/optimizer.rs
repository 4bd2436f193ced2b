//! `AdamW` with f32 master weights and the clip of the gradient's global norm; learning-rate schedules beside it.
//!
//! Master weights and both moments are f32 in host memory whatever the variables' own format: with the paper's learning
//! rate of 3e-7 an update is far below the resolution of bf16. A variable that is itself f32 in host memory is its own
//! master. Every sum has a fixed order, so the bits do not depend on the number of threads. Beside the state nothing of
//! a tensor's size is made. The loss and the gradients are made elsewhere.

mod schedule;

use std::collections::BTreeMap;
use std::ops::{Deref, Range};

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::ops::{Floats, overwrite};
pub use schedule::Schedule;

/// Elements that one thread takes at a time; also the length of the norm's partial sums, hence part of its rounding.
const CHUNK: usize = 1 << 14;

/// Elements that are copied at a time between host memory and another format or device; whole chunks.
const PIECE: usize = CHUNK << 8;

/// The optimizer's constants; the defaults are those of Hugging Face's trainer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: a step multiplies each weight by 1 − rate · decay first.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; longer ones are scaled down to it. `None`: no clip.
    pub clip: Option<f64>,
}

impl Default for Hyper {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, clip: Some(1.0) }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Euclidean norm of all gradients together, before the clip.
    pub gradient_norm: f64,
    /// Whether the clip made the gradient shorter.
    pub clipped: bool,
}

/// `AdamW` (Loshchilov and Hutter, 2019) with the semantics of `torch.optim.AdamW` and `clip_grad_norm_`.
pub struct AdamW {
    hyper: Hyper,
    tensors: BTreeMap<String, State>,
}

/// One variable with its master copy and moments.
struct State {
    var: Var,
    /// `None` where the variable itself is f32 in host memory.
    master: Option<Vec<f32>>,
    moments: Moments,
}

/// The moments of one variable.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
    /// Steps that this tensor took: those in which it had a gradient.
    steps: i32,
}

/// All that the optimizer knows of one variable, to be written down and put back: a run that goes on from it takes the
/// same steps, bit by bit.
#[derive(Debug)]
pub struct TensorState<'a> {
    /// The variable's name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Steps that it took.
    pub steps: i32,
    /// The master weights, row by row.
    pub master: Values<'a>,
    /// The first moment.
    pub first: &'a [f32],
    /// The second moment.
    pub second: &'a [f32],
}

/// Values that lie in a slice, or in a variable that is read while this lives.
pub struct Values<'a>(Lent<'a>);

enum Lent<'a> {
    Slice(&'a [f32]),
    Variable(Floats<'a>),
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self(Lent::Slice(values))
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Lent::Slice(values) => values,
            Lent::Variable(values) => values,
        }
    }
}

impl std::fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.len())
    }
}

impl AdamW {
    /// Takes the variables to train by name; their present values become the master weights. Each variable is later
    /// set in place, so that everything that shares its storage sees the new values.
    ///
    /// # Errors
    /// If a variable cannot be read as f32.
    pub fn new(vars: impl Iterator<Item = (String, Var)>, hyper: Hyper) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, var) in vars {
            let count = var.elem_count();
            let master = if lies_open(&var) { None } else { Some(values(&var)?) };
            let moments = Moments { first: vec![0.0; count], second: vec![0.0; count], steps: 0 };
            tensors.insert(name, State { var, master, moments });
        }
        Ok(Self { hyper, tensors })
    }

    /// The state of every variable, sorted by name. Together with the learning rates to come it is all that the next
    /// steps depend on. It lends what it gives: the variables cannot be set while it lives.
    ///
    /// # Errors
    /// A variable that was replaced by one that cannot be read.
    pub fn state(&self) -> Result<Vec<TensorState<'_>>> {
        self.tensors.iter().map(|(name, state)| state.lend(name)).collect()
    }

    /// Puts back what [`Self::state`] gave of one variable, and sets the variable to its master weights. Whoever goes on
    /// with a run restores every name that `state` lists.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a name that is not trained here, [`Error::SavedState`] where the sizes differ; then
    /// nothing has changed.
    pub fn restore(&mut self, saved: &TensorState<'_>) -> Result<()> {
        let Some(state) = self.tensors.get_mut(saved.name) else {
            return Err(Error::NoSuchTensor { name: saved.name.to_owned() });
        };
        let (count, expected) = (state.var.elem_count(), state.var.dims());
        let sizes = [saved.master.len(), saved.first.len(), saved.second.len()];
        if saved.shape != expected || sizes != [count; 3] {
            let (name, expected, found) = (saved.name.to_owned(), expected.to_vec(), saved.shape.to_vec());
            return Err(Error::SavedState { name, expected, found, sizes });
        }
        state.moments.steps = saved.steps;
        state.moments.first.copy_from_slice(saved.first);
        state.moments.second.copy_from_slice(saved.second);
        match &mut state.master {
            None => Ok(overwrite(&state.var, |values| values.copy_from_slice(&saved.master))?),
            Some(master) => {
                master.copy_from_slice(&saved.master);
                state.publish(0..count)
            }
        }
    }

    /// One step at `learning_rate`. A variable without a gradient stays as it is, moments and all, as in torch.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a gradient of an unknown variable, [`Error::NotFinite`] for one that is infinite or
    /// not a number; in both cases nothing has changed.
    pub fn step(&mut self, gradients: &BTreeMap<String, Tensor>, learning_rate: f64) -> Result<Step> {
        let gradient_norm = self.norm(gradients)?;
        let scale = match self.hyper.clip {
            // torch adds 1e-6 and multiplies in every case, by at most 1.
            Some(clip) => (clip / (gradient_norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let hyper = self.hyper;
        self.tensors
            .par_iter_mut()
            .filter_map(|(name, state)| gradients.get(name).map(|gradient| (state, gradient)))
            .try_for_each(|(state, gradient)| state.step(gradient, scale as f32, learning_rate, &hyper))?;
        Ok(Step { gradient_norm, clipped: scale < 1.0 })
    }

    /// Euclidean norm of all gradients, in f64: partial sums of [`CHUNK`] elements, added by position, then by name.
    fn norm(&self, gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
        let squares: Vec<f64> = gradients
            .par_iter()
            .map(|(name, gradient)| {
                let Some(state) = self.tensors.get(name) else {
                    return Err(Error::NoSuchTensor { name: name.clone() });
                };
                if state.var.shape() != gradient.shape() {
                    let (lhs, rhs) = (state.var.shape().clone(), gradient.shape().clone());
                    return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "step" }.into());
                }
                let mut sum = 0.0;
                in_pieces(gradient, |_, gradient| {
                    let square = |chunk: &[f32]| chunk.iter().map(|&g| f64::from(g).powi(2)).sum();
                    let sums: Vec<f64> = gradient.par_chunks(CHUNK).map(square).collect();
                    sum = sums.iter().fold(sum, |sum, part| sum + part);
                    Ok(())
                })?;
                if sum.is_finite() { Ok(sum) } else { Err(Error::NotFinite { name: name.clone() }) }
            })
            .collect::<Result<_>>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }
}

impl State {
    fn lend<'a>(&'a self, name: &'a str) -> Result<TensorState<'a>> {
        let master = match &self.master {
            Some(master) => Lent::Slice(master),
            None => Lent::Variable(Floats::of(&self.var)?),
        };
        let Moments { first, second, steps } = &self.moments;
        Ok(TensorState { name, shape: self.var.dims(), steps: *steps, master: Values(master), first, second })
    }

    /// One step of this tensor; `scale` is the clip's factor.
    fn step(&mut self, gradient: &Tensor, scale: f32, learning_rate: f64, hyper: &Hyper) -> Result<()> {
        self.moments.steps += 1;
        let factors = Factors::of(self.moments.steps, scale, learning_rate, hyper);
        in_pieces(gradient, |at, gradient| {
            let (first, second) = (&mut self.moments.first[at.clone()], &mut self.moments.second[at.clone()]);
            match &mut self.master {
                None => {
                    Ok(overwrite(&self.var, |values| factors.apply(&mut values[at.clone()], first, second, gradient))?)
                }
                Some(master) => {
                    factors.apply(&mut master[at.clone()], first, second, gradient);
                    self.publish(at)
                }
            }
        })
    }

    /// Sets elements `at` of the variable to the master's, in its own format.
    fn publish(&self, at: Range<usize>) -> Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        let flat = self.var.as_detached_tensor().flatten_all()?;
        for start in at.clone().step_by(PIECE) {
            let values = &master[start..at.end.min(start + PIECE)];
            let new = Tensor::from_slice(values, values.len(), &Device::Cpu)?.to_dtype(self.var.dtype())?;
            flat.slice_set(&new.to_device(self.var.device())?, 0, start)?;
        }
        Ok(())
    }
}

/// The numbers of one tensor's step.
#[derive(Clone, Copy)]
struct Factors {
    scale: f32,
    keep: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    step_size: f32,
    correction2: f32,
    eps: f32,
}

impl Factors {
    fn of(steps: i32, scale: f32, learning_rate: f64, hyper: &Hyper) -> Self {
        let correction1 = 1.0 - hyper.beta1.powi(steps);
        Self {
            scale,
            keep: (1.0 - learning_rate * hyper.weight_decay) as f32,
            new1: (1.0 - hyper.beta1) as f32,
            beta2: hyper.beta2 as f32,
            new2: (1.0 - hyper.beta2) as f32,
            step_size: (learning_rate / correction1) as f32,
            correction2: (1.0 - hyper.beta2.powi(steps)).sqrt() as f32,
            eps: hyper.eps as f32,
        }
    }

    /// The update of some elements, in f32 and in torch's order of operations.
    fn apply(self, master: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let Self { scale, keep, new1, beta2, new2, step_size, correction2, eps } = self;
        let elements = master.par_chunks_mut(CHUNK).zip(first.par_chunks_mut(CHUNK));
        let elements = elements.zip(second.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
        elements.for_each(|(((master, first), second), gradient)| {
            for (((w, m), v), g) in master.iter_mut().zip(first).zip(second).zip(gradient) {
                let g = g * scale;
                *m += new1 * (g - *m);
                *v = *v * beta2 + new2 * g * g;
                *w = *w * keep - step_size * (*m / (v.sqrt() / correction2 + eps));
            }
        });
    }
}

/// Whether a tensor's values can be read, and overwritten, where they lie.
fn lies_open(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32 && tensor.device().is_cpu() && tensor.is_contiguous()
}

/// A tensor's elements in row-major order.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(tensor.elem_count());
    in_pieces(tensor, |_, piece| {
        out.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(out)
}

/// Hands a tensor's elements over as f32 in row-major order: all at once where they can be read in place, else copies of
/// [`PIECE`] elements.
fn in_pieces(tensor: &Tensor, mut each: impl FnMut(Range<usize>, &[f32]) -> Result<()>) -> Result<()> {
    let count = tensor.elem_count();
    if lies_open(tensor) {
        return each(0..count, &Floats::of(tensor)?);
    }
    let flat = tensor.flatten_all()?;
    for start in (0..count).step_by(PIECE) {
        let length = PIECE.min(count - start);
        let piece = flat.narrow(0, start, length)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        each(start..start + length, &piece.to_vec1::<f32>()?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp as _};

    use super::*;

    /// An optimizer of one variable `w` of the given values.
    fn optimizer(values: &[f32], hyper: Hyper) -> (Var, AdamW) {
        let var = Var::new(values, &Device::Cpu).unwrap();
        let adamw = AdamW::new([("w".to_owned(), var.clone())].into_iter(), hyper).unwrap();
        (var, adamw)
    }

    fn gradient(values: &[f32]) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_owned(), Tensor::new(values, &Device::Cpu).unwrap())])
    }

    #[test]
    fn a_first_step_moves_each_weight_by_the_rate_against_its_gradient() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let step = adamw.step(&gradient(&[0.3, -0.4]), 0.01).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [0.99, -1.99]);
        assert!((step.gradient_norm - 0.5).abs() < 1e-7 && !step.clipped);
    }

    #[test]
    fn a_long_gradient_is_clipped_and_its_norm_reported_unclipped() {
        let (_, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let step = adamw.step(&gradient(&[3.0, -4.0]), 0.01).unwrap();
        assert_eq!(step, Step { gradient_norm: 5.0, clipped: true });
    }

    #[test]
    fn what_shares_the_storage_sees_the_new_weights() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let alias = var.as_detached_tensor();
        adamw.step(&gradient(&[0.3, -0.4]), 0.01).unwrap();
        assert_eq!(alias.i(0).unwrap().to_scalar::<f32>().unwrap(), 0.99);
    }

    #[test]
    fn a_variable_without_a_gradient_keeps_its_value_under_weight_decay() {
        let (var, mut adamw) = optimizer(&[1.0], Hyper { weight_decay: 0.5, ..Hyper::default() });
        adamw.step(&BTreeMap::new(), 0.01).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_refused_by_name_and_changes_nothing() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let error = adamw.step(&gradient(&[0.1, f32::NAN]), 0.01).unwrap_err();
        assert!(matches!(error, Error::NotFinite { name } if name == "w"));
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn a_gradient_of_an_unknown_variable_is_refused_by_name() {
        let (_, mut adamw) = optimizer(&[1.0], Hyper::default());
        let stranger = BTreeMap::from([("x".to_owned(), Tensor::new(&[1f32], &Device::Cpu).unwrap())]);
        assert!(matches!(adamw.step(&stranger, 0.01), Err(Error::NoSuchTensor { name }) if name == "x"));
    }

    #[test]
    fn steps_smaller_than_bf16_resolves_add_up_in_the_master() {
        let start = Tensor::new(&[1f32], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
        let var = Var::from_tensor(&start).unwrap();
        let mut adamw = AdamW::new([("w".to_owned(), var.clone())].into_iter(), Hyper::default()).unwrap();
        for _ in 0..100 {
            adamw.step(&gradient(&[0.5]), 1e-4).unwrap();
        }
        let end = var.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()[0];
        assert!((end - 0.99).abs() < 2e-3, "{end}");
    }

    /// Name, shape, steps; master, first and second moment.
    type Saved = (String, Vec<usize>, i32, [Vec<f32>; 3]);

    /// The state as owned values, as a file would hold it.
    fn saved(adamw: &AdamW) -> Vec<Saved> {
        let own = |it: &TensorState| [it.master.to_vec(), it.first.to_vec(), it.second.to_vec()];
        let state = adamw.state().unwrap();
        state.iter().map(|it| (it.name.to_owned(), it.shape.to_vec(), it.steps, own(it))).collect()
    }

    fn restore(adamw: &mut AdamW, saved: &[Saved]) -> Result<()> {
        saved.iter().try_for_each(|(name, shape, steps, [master, first, second])| {
            let master = Values::from(master.as_slice());
            adamw.restore(&TensorState { name, shape, steps: *steps, master, first, second })
        })
    }

    #[test]
    fn a_run_that_goes_on_from_its_saved_state_takes_the_same_steps() {
        let start = Tensor::new(&[1f32, -2.0, 0.3], &Device::Cpu).unwrap();
        for format in [DType::F32, DType::BF16] {
            let var = || Var::from_tensor(&start.to_dtype(format).unwrap()).unwrap();
            let hyper = Hyper { weight_decay: 0.1, ..Hyper::default() };
            let of = |var: &Var| AdamW::new([("w".to_owned(), var.clone())].into_iter(), hyper).unwrap();
            let step = |adamw: &mut AdamW, n: usize| {
                let gradient = gradient(&[0.3 + n as f32, -0.2, 0.1 * n as f32]);
                adamw.step(&gradient, 0.01 / (n + 1) as f64).unwrap();
            };
            let (whole, halves) = (var(), var());
            let mut adamw = of(&whole);
            (0..6).for_each(|n| step(&mut adamw, n));
            let mut before = of(&halves);
            (0..3).for_each(|n| step(&mut before, n));
            let saved = saved(&before);
            let after = Var::zeros(3, format, &Device::Cpu).unwrap();
            let mut adamw_after = of(&after);
            restore(&mut adamw_after, &saved).unwrap();
            assert_eq!(values(&after).unwrap(), values(&halves).unwrap());
            (3..6).for_each(|n| step(&mut adamw_after, n));
            assert_eq!(values(&after).unwrap(), values(&whole).unwrap(), "{format:?}");
            assert_eq!(self::saved(&adamw_after), self::saved(&adamw), "{format:?}");
        }
    }

    #[test]
    fn a_state_of_another_variable_or_shape_is_refused_and_changes_nothing() {
        let (var, mut adamw) = optimizer(&[1.0, -2.0], Hyper::default());
        let (_, other) = optimizer(&[1.0, -2.0, 3.0], Hyper::default());
        let mut foreign = saved(&other);
        let error = restore(&mut adamw, &foreign).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains("[3]") && error.contains("[2]"), "{error}");
        foreign[0].0 = "x".to_owned();
        assert!(matches!(restore(&mut adamw, &foreign), Err(Error::NoSuchTensor { name }) if name == "x"));
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, -2.0]);
    }
}
