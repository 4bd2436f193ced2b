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
pub const DIVIDED: usize = 1 << 27;

/// `a·b` of `[m, k]` and `[k, n]`, or of equally many such matrices.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (Operand::of(a)?, Operand::of(b)?);
    let dims = [a.dims[0], a.dims[1], b.dims[2]];
    let mut out = vec![0.0; dims.iter().product()];
    multiply(&a, &b, &mut out)?;
    tensor(out, &dims[3 - a.rank..])
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
        let Storage::Cpu(CpuStorage::F32(_)) = &*storage else {
            bail!("an f32 tensor in host memory is needed, this one is {:?} on {:?}", tensor.dtype(), tensor.device());
        };
        let (dims, strides) = three(layout)?;
        Ok(Self { start: layout.start_offset(), rank: layout.dims().len(), dims, strides, storage })
    }

    /// Matrix `index` of the batch.
    fn matrix(&self, index: usize) -> Matrix<'_> {
        let Storage::Cpu(CpuStorage::F32(values)) = &*self.storage else {
            unreachable!("checked when the operand was made")
        };
        let values = &values[self.start + index * self.strides[0]..];
        Matrix { values, shape: [self.dims[1], self.dims[2]], strides: [self.strides[1], self.strides[2]] }
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

/// Writes `a·b` to `out`, row-major.
fn multiply(a: &Operand, b: &Operand, out: &mut [f32]) -> Result<()> {
    let ([batches, m, k], [b_batches, b_k, n]) = (a.dims, b.dims);
    if a.rank != b.rank || batches != b_batches || k != b_k || out.len() != batches * m * n {
        bail!("no product of {:?} and {:?} into {} values", a.dims, b.dims, out.len());
    }
    if out.is_empty() || k == 0 {
        return Ok(());
    }
    for (batch, out) in out.chunks_exact_mut(m * n).enumerate() {
        multiply_into(a.matrix(batch), b.matrix(batch), false, out, n)?;
    }
    Ok(())
}

/// A matrix within a slice, with any strides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Consecutive rows of `width` values, the first `columns` of which make the matrix.
    pub fn rows(values: &'a [f32], rows: usize, columns: usize, width: usize) -> Self {
        Self { values, shape: [rows, columns], strides: [width, 1] }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.shape[0], self.shape[1])
    }

    /// The same values with rows and columns exchanged.
    pub fn t(self) -> Self {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [right, down], ..self }
    }

    /// Whether the element at the last index of both dimensions lies within the slice.
    fn fits(&self) -> bool {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        rows == 0 || columns == 0 || (rows - 1) * down + (columns - 1) * right < self.values.len()
    }
}

/// Writes `a·b` into the first columns of `out`, rows of `width`, or adds it there.
pub(crate) fn multiply_into(a: Matrix, b: Matrix, onto: bool, out: &mut [f32], width: usize) -> Result<()> {
    let ([m, k], [b_k, n]) = (a.shape, b.shape);
    let room = m == 0 || n == 0 || (n <= width && (m - 1) * width + n <= out.len());
    if k != b_k || !a.fits() || !b.fits() || !room {
        bail!(
            "no product of {a_shape:?} and {b_shape:?} into {} values in rows of {width}",
            out.len(),
            a_shape = a.shape,
            b_shape = b.shape
        );
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    let parallelism = match m * n * k {
        work if work < DIVIDED => Parallelism::None,
        _ => Parallelism::Rayon(rayon::current_num_threads()),
    };
    #[expect(unsafe_code, reason = "the kernels take pointers")]
    // SAFETY: that every element read or written lies within its slice was checked above: the last index of both
    // dimensions does, and strides are not negative. `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            width as isize,
            onto,
            a.values.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.values.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
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
        let values = [Floats::of(&a).unwrap(), Floats::of(&b).unwrap()];
        let mut sum = vec![0.5; 24];
        let (left, right) = (Matrix::rows(&values[0], 6, 3, 3), Matrix::rows(&values[1], 3, 4, 4));
        multiply_into(left, right, true, &mut sum, 4).unwrap();
        close(&tensor(sum, (6, 4)).unwrap(), &(a.matmul(&b).unwrap() + 0.5).unwrap());
    }

    #[test]
    fn a_product_within_wider_rows_leaves_the_rest_alone() {
        let (a, b) = (waves(&[2, 3], 0.2), waves(&[4, 3], 1.2));
        let mut out = [7.0; 2 * 6];
        let values = [Floats::of(&a).unwrap(), Floats::of(&b).unwrap()];
        let (left, right) = (Matrix::rows(&values[0], 2, 3, 3), Matrix::rows(&values[1], 4, 3, 3).t());
        multiply_into(left, right, false, &mut out[1..], 6).unwrap();
        let inside = [&out[1..5], &out[7..11]].concat();
        close(&tensor(inside, (2, 4)).unwrap(), &product(&a, &b.t().unwrap()).unwrap());
        assert_eq!([out[0], out[5], out[6], out[11]], [7.0; 4]);
    }

    #[test]
    fn matrices_that_do_not_fit_are_refused() {
        let (a, b) = (waves(&[6, 3], 0.2), waves(&[4, 4], 1.2));
        assert!(product(&a, &b).is_err());
        let matrix = Matrix::rows(&[0.0; 9], 3, 3, 3);
        assert!(multiply_into(matrix, matrix, false, &mut [0.0; 8], 3).is_err());
        assert!(multiply_into(Matrix::rows(&[0.0; 8], 3, 3, 3), matrix, false, &mut [0.0; 9], 3).is_err());
    }
}
