//! Matrix products, by the kernels that candle itself uses (`gemm`), called directly.
//!
//! Candle's own `matmul` looks up the machine's core count before each product (it reads `/proc/cpuinfo`: as long as
//! a product of this crate's small policy takes), wants to divide even small products among threads, and cannot add
//! onto what is there. Operands may be strided in any way.

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};
use gemm::Parallelism;

use super::tensor;

/// Multiply-adds from which a product is divided among threads. Below it (a millisecond or two of one core) waking
/// others costs more than they bring; pictures and prompts are worked on in parallel instead.
const DIVIDED: usize = 1 << 27;

/// `a·b` of `[m, k]` and `[k, n]`, or of equally many such matrices.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (Operand::of(a)?, Operand::of(b)?);
    let dims = [a.dims[0], a.dims[1], b.dims[2]];
    let mut out = vec![0.0; dims.iter().product()];
    multiply(&a, &b, false, &mut out)?;
    tensor(out, &dims[3 - a.rank..])
}

/// `start + a·b` of `[m, k]` and `[k, n]`; `start` has `m·n` values.
pub fn product_onto(mut start: Vec<f32>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (Operand::of(a)?, Operand::of(b)?);
    multiply(&a, &b, true, &mut start)?;
    tensor(start, (a.dims[1], b.dims[2]))
}

/// `f32` matrices in host memory, one or several, with any strides.
struct Operand<'a> {
    storage: StorageRef<'a>,
    start: usize,
    rank: usize,
    /// Matrices, rows, columns.
    dims: [usize; 3],
    strides: [usize; 3],
}

impl<'a> Operand<'a> {
    fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
            bail!("an f32 tensor in host memory is needed, this one is {:?} on {:?}", tensor.dtype(), tensor.device());
        };
        let (dims, strides) = three(layout)?;
        let last: usize = dims.iter().zip(strides).map(|(dim, stride)| dim.saturating_sub(1) * stride).sum();
        if !dims.contains(&0) && layout.start_offset() + last >= values.len() {
            bail!("a tensor of layout {layout:?} reaches beyond its storage of {} values", values.len());
        }
        Ok(Self { start: layout.start_offset(), rank: layout.dims().len(), dims, strides, storage })
    }

    fn values(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..],
            _ => unreachable!("checked when the operand was made"),
        }
    }
}

/// Dimensions and strides with one matrix in front where there is no batch.
fn three(layout: &Layout) -> Result<([usize; 3], [usize; 3])> {
    match (layout.dims(), layout.stride()) {
        (&[m, n], &[rows, columns]) => Ok(([1, m, n], [0, rows, columns])),
        (&[b, m, n], &[batch, rows, columns]) => Ok(([b, m, n], [batch, rows, columns])),
        (dims, _) => bail!("a product takes matrices or batches of matrices, not {dims:?}"),
    }
}

/// Writes `a·b` to `out`, row-major, or adds it.
fn multiply(a: &Operand, b: &Operand, onto: bool, out: &mut [f32]) -> Result<()> {
    let ([batches, m, k], [b_batches, b_k, n]) = (a.dims, b.dims);
    if a.rank != b.rank || batches != b_batches || k != b_k || out.len() != batches * m * n {
        bail!("no product of {:?} and {:?} into {} values", a.dims, b.dims, out.len());
    }
    if out.is_empty() || k == 0 {
        return Ok(());
    }
    let parallelism = match m * n * k {
        work if work < DIVIDED => Parallelism::None,
        _ => Parallelism::Rayon(rayon::current_num_threads()),
    };
    let (lhs, rhs) = (a.values(), b.values());
    for (batch, out) in out.chunks_exact_mut(m * n).enumerate() {
        let (lhs, rhs) = (&lhs[batch * a.strides[0]..], &rhs[batch * b.strides[0]..]);
        #[expect(unsafe_code, reason = "the kernels take pointers")]
        // SAFETY: `Operand::of` has checked that the element at the last index of all dimensions lies within the
        // storage, and strides are not negative, so every element read does. `out` is m·n values, borrowed alone.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.as_mut_ptr(),
                1,
                n as isize,
                onto,
                lhs.as_ptr(),
                a.strides[2] as isize,
                a.strides[1] as isize,
                rhs.as_ptr(),
                b.strides[2] as isize,
                b.strides[1] as isize,
                1.0_f32,
                1.0_f32,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Floats;
    use crate::ops::check::waves;

    fn close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        for (a, b) in Floats::of(a).unwrap().iter().zip(&*Floats::of(b).unwrap()) {
            assert!((a - b).abs() < 1e-5, "{a} and {b}");
        }
    }

    #[test]
    fn products_of_strided_batches_are_candles() {
        let a = waves(&[3, 7, 5], 0.2).narrow(2, 1, 3).unwrap();
        let b = waves(&[3, 4, 6], 0.9).narrow(2, 2, 3).unwrap();
        let b = b.t().unwrap();
        let candles = a.contiguous().unwrap().matmul(&b.contiguous().unwrap()).unwrap();
        close(&product(&a, &b).unwrap(), &candles);
        let (a, b) = (waves(&[5, 7], 0.2), waves(&[5, 4], 1.2));
        let a = a.t().unwrap();
        close(&product(&a, &b).unwrap(), &a.matmul(&b).unwrap());
    }

    #[test]
    fn a_product_can_be_added_to_what_is_there() {
        let (a, b) = (waves(&[6, 3], 0.2), waves(&[3, 4], 1.2));
        let sum = product_onto(vec![0.5; 24], &a, &b).unwrap();
        close(&sum, &(a.matmul(&b).unwrap() + 0.5).unwrap());
    }

    #[test]
    fn matrices_that_do_not_fit_are_refused() {
        let (a, b) = (waves(&[6, 3], 0.2), waves(&[4, 4], 1.2));
        assert!(product(&a, &b).is_err());
        assert!(product_onto(vec![0.0; 23], &a, &b.narrow(0, 0, 3).unwrap()).is_err());
    }
}
