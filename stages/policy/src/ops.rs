//! The arithmetic that the vision tower and the text model share: each forward function with its exact backward.
//!
//! Activations are rows, `[R, H]`: tokens of all sequences one below the other, never padded batches. Matrix
//! products run on candle's kernels; what lies between them (norms, activations, rotation, softmax) is one pass over
//! `f32` slices. The backward pass is written out instead of recorded: candle's graph would add a zeroed sum and
//! an addition to every edge, and its own fused operations drop gradients without a word.
//!
//! Letters: `R` rows, `H` hidden, `I` intermediate, `L` lanes, `T` rows of a lane, `S` keys of a lane, `P` rows of
//! a shared prompt, `d` head dimension, `V` vocabulary.

pub mod activation;
pub mod attention;
pub mod block;
pub mod blockwise;
#[cfg(test)]
mod check;
pub mod exp;
pub mod heads;
pub(crate) mod kernels;
pub mod linear;
pub mod logits;
pub mod norm;
pub mod product;
pub mod softmax;
pub mod sums;

use std::cell::Cell;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

/// Gives freed memory back to the system, between one large block's backward pass and the next. glibc keeps it otherwise,
/// in pieces that the gradients which are still to come seldom fit, and would stand beside them at the peak of an update.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the library has no safe call for it")]
    // SAFETY: any thread may call it at any time; it touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A contiguous `f32` tensor in host memory, read as a slice while this guard lives.
pub(crate) struct Floats<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> Floats<'a> {
    /// Opens `tensor` for reading; an error if it is strided, of another type or on another device.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a contiguous tensor is needed, this one is strided: {layout:?}");
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => {}
            _ => bail!(
                "an f32 tensor in host memory is needed, this one is {:?} on {:?}",
                tensor.dtype(),
                tensor.device()
            ),
        }
        Ok(Self { storage, start, end })
    }
}

impl std::ops::Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => unreachable!("checked when the guard was made"),
        }
    }
}

/// Lets `write` change a contiguous `f32` tensor's values in host memory where they lie; all that share them see it.
pub(crate) fn overwrite(tensor: &Tensor, write: impl FnOnce(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Overwrite(Cell::new(Some(write))))
}

/// [`overwrite`] as candle takes it.
struct Overwrite<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Overwrite<F> {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("only contiguous f32 values can be overwritten: {layout:?}");
        };
        if let Some(write) = self.0.take() {
            write(&mut values[start..end]);
        }
        Ok(())
    }
}

/// Runs a loop compiled for the widest registers that the CPU has. Nothing is fused or reordered in it, so its numbers
/// are the same on every CPU.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Values from which a pass over rows is divided among threads.
const DIVIDED: usize = 1 << 19;

/// Length of the pieces in which a pass over rows of `width` is divided among threads: whole rows, by the sizes alone, so
/// that sums over rows do not depend on the threads.
pub(crate) fn piece(values: usize, width: usize) -> usize {
    if values < DIVIDED { values.max(1) } else { (DIVIDED / 8 / width).max(1) * width }
}

/// Wraps values that a kernel has made; no copy.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}
