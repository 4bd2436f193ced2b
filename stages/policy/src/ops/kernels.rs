//! Matrix products whose every element is made by the same operations in the same order, whatever rows stand beside it
//! and however many threads share the work: a lane gets the same bits in any company.
//!
//! Operands are read where they lie. For a few dozen rows against a matrix of weights, repacking it is where a general
//! kernel spends much of its time.

use std::ops::Range;

use candle_core::{Result, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Terms of a dot product that are summed in registers before they are added to the result.
const DEPTH: usize = 1024;
/// Rows of the left operand that are worked on together: with [`DEPTH`] of each they stay in a core's own cache.
const BLOCK: usize = 96;
/// Columns of the result that make a piece of work for a thread.
const COLUMNS: usize = 192;
/// Multiply-adds from which a product is divided among threads.
const DIVIDED: usize = 1 << 22;
/// Rows of the left operand, and rows or vectors of the right one, whose sums are in registers at a time.
const TILE: (usize, usize) = (3, 8);

/// `a·bᵀ` of `a [m, k]` and `b [n, k]`, both row by row without gaps, added to `out [m, n]`.
pub(crate) fn add_dots(a: &[f32], b: &[f32], k: usize, out: &mut [f32]) -> Result<()> {
    if k == 0 || out.is_empty() {
        return Ok(());
    }
    let (m, n) = (a.len() / k, b.len() / k);
    if a.len() != m * k || b.len() != n * k || out.len() != m * n {
        bail!("no product of {} and {} values in rows of {k} into {} values", a.len(), b.len(), out.len());
    }
    if m * n * k < DIVIDED {
        Arch::new().dispatch(Dots { a, b, k, out });
        return Ok(());
    }
    let pieces = b.par_chunks(COLUMNS * k).enumerate().map(|(piece, b)| {
        let width = b.len() / k;
        let mut here = Vec::with_capacity(m * width);
        out.chunks_exact(n).for_each(|row| here.extend_from_slice(&row[piece * COLUMNS..][..width]));
        Arch::new().dispatch(Dots { a, b, k, out: &mut here });
        here
    });
    let pieces: Vec<Vec<f32>> = pieces.collect();
    for (row, out) in out.chunks_exact_mut(n).enumerate() {
        for (piece, out) in pieces.iter().zip(out.chunks_mut(COLUMNS)) {
            out.copy_from_slice(&piece[row * out.len()..][..out.len()]);
        }
    }
    Ok(())
}

/// One thread's part of [`add_dots`].
struct Dots<'a> {
    a: &'a [f32],
    b: &'a [f32],
    k: usize,
    out: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, k, out } = self;
        let n = b.len() / k;
        let (whole, mut panels) = (k / S::F32_LANES * S::F32_LANES, Vec::new());
        for (a, out) in a.chunks(BLOCK * k).zip(out.chunks_mut(BLOCK * n)) {
            for start in (0..whole).step_by(DEPTH) {
                let depth = start..whole.min(start + DEPTH);
                let panel = interleave::<S>(simd, a, k, depth.clone(), &mut panels);
                for column in (0..n).step_by(TILE.1) {
                    let (here, after) = b[column * k..].split_at(TILE.1.min(n - column) * k);
                    for (i, (a, out)) in panels.chunks_exact(panel).zip(out.chunks_mut(TILE.0 * n)).enumerate() {
                        if here.len() == TILE.1 * k {
                            let next = after.get(i * k + start..).filter(|_| i < TILE.1).unwrap_or(here);
                            add_tile(simd, a, &here[start..], k, next, &mut out[column..], n);
                        } else {
                            add_columns(simd, a, here, k, depth.clone(), &mut out[column..], n);
                        }
                    }
                }
            }
            if whole < k {
                add_tails(simd, a, b, k, whole, out);
            }
        }
    }
}

/// Puts columns `depth` of rows of `k` into panels, a vector of each of a tile's rows in turn, and gives a panel's
/// length. Rows that the last tile lacks are 0.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
fn interleave<S: Simd>(simd: S, rows: &[f32], k: usize, depth: Range<usize>, panels: &mut Vec<S::f32s>) -> usize {
    let panel = depth.len() / S::F32_LANES * TILE.0;
    panels.clear();
    panels.resize(rows.len().div_ceil(k * TILE.0) * panel, simd.splat_f32s(0.0));
    for (rows, panel) in rows.chunks(k * TILE.0).zip(panels.chunks_exact_mut(panel)) {
        for (i, row) in rows.chunks_exact(k).enumerate() {
            let (vectors, _) = S::as_simd_f32s(&row[depth.clone()]);
            for (place, vector) in panel[i..].iter_mut().step_by(TILE.0).zip(vectors) {
                *place = *vector;
            }
        }
    }
    panel
}

/// Asks for the memory at `place` to be brought near; nothing happens where there is none.
#[inline]
fn prefetch(place: *const f32) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "the instruction takes a pointer")]
    // SAFETY: the instruction reads nothing and does not fault on any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Writes a block out for each column of a tile, its number as a constant: arrays that are indexed by constants alone
/// stay in registers, whatever the compiler thinks of unrolling.
macro_rules! each_column {
    ($column:ident, $block:block) => {
        each_column!(@ $column, $block, 0 1 2 3 4 5 6 7)
    };
    (@ $column:ident, $block:block, $($number:literal)*) => {
        $({
            const $column: usize = $number;
            $block
        })*
    };
}

/// Adds the dot products of a panel's rows and of eight rows of `b`, which are `k` apart, to `out`, rows of `width`, as
/// far as it reaches. Meanwhile as many values of `next` are brought near as a row has.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
fn add_tile<S: Simd>(simd: S, panel: &[S::f32s], b: &[f32], k: usize, next: &[f32], out: &mut [f32], width: usize) {
    let count = panel.len() / TILE.0;
    assert!(b.len() >= (TILE.1 - 1) * k + count * S::F32_LANES, "the tile reaches beyond its rows");
    let mut sums = [[simd.splat_f32s(0.0); TILE.1]; TILE.0];
    let (mut at, mut ahead) = (b.as_ptr(), next.as_ptr());
    for a in panel.chunks_exact(TILE.0) {
        prefetch(ahead);
        ahead = ahead.wrapping_add(S::F32_LANES);
        let (a0, a1, a2) = (a[0], a[1], a[2]);
        each_column!(J, {
            #[expect(unsafe_code, reason = "with checked indices the sums do not stay in registers")]
            // SAFETY: `at` is `t` vectors into `b`, t < count, and J < 8: the assertion above covers the last of them.
            let b = unsafe { at.wrapping_add(k.wrapping_mul(J)).cast::<S::f32s>().read_unaligned() };
            sums[0][J] = simd.mul_add_f32s(a0, b, sums[0][J]);
            sums[1][J] = simd.mul_add_f32s(a1, b, sums[1][J]);
            sums[2][J] = simd.mul_add_f32s(a2, b, sums[2][J]);
        });
        at = at.wrapping_add(S::F32_LANES);
    }
    if let Some(out) = out.get_mut(..TILE.1) {
        each_column!(J, { out[J] += simd.reduce_sum_f32s(sums[0][J]) });
    }
    if let Some(out) = out.get_mut(width..width + TILE.1) {
        each_column!(J, { out[J] += simd.reduce_sum_f32s(sums[1][J]) });
    }
    if let Some(out) = out.get_mut(2 * width..2 * width + TILE.1) {
        each_column!(J, { out[J] += simd.reduce_sum_f32s(sums[2][J]) });
    }
}

/// [`add_tile`] for fewer than eight rows of `b`, by the same operations.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
fn add_columns<S: Simd>(
    simd: S,
    panel: &[S::f32s],
    b: &[f32],
    k: usize,
    depth: Range<usize>,
    out: &mut [f32],
    width: usize,
) {
    for (j, b) in b.chunks_exact(k).enumerate() {
        let (b, _) = S::as_simd_f32s(&b[depth.clone()]);
        for i in 0..TILE.0 {
            let mut sum = simd.splat_f32s(0.0);
            for (a, b) in panel[i..].iter().step_by(TILE.0).zip(b) {
                sum = simd.mul_add_f32s(*a, *b, sum);
            }
            let Some(out) = out.get_mut(i * width + j) else { break };
            *out += simd.reduce_sum_f32s(sum);
        }
    }
}

/// Adds what columns `from..` of the rows, fewer than a vector's, bring to their dot products.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
fn add_tails<S: Simd>(simd: S, a: &[f32], b: &[f32], k: usize, from: usize, out: &mut [f32]) {
    for (a, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(b.len() / k)) {
        let a = simd.partial_load_f32s(&a[from..]);
        for (b, out) in b.chunks_exact(k).zip(out) {
            *out += simd.reduce_sum_f32s(simd.mul_f32s(a, simd.partial_load_f32s(&b[from..])));
        }
    }
}

/// `weights·rows` of `weights [m, p]`, the first columns of rows of `width`, and `rows [p, d]` without gaps, added to
/// `out [m, d]`.
pub(crate) fn add_weighted(weights: &[f32], width: usize, rows: &[f32], d: usize, out: &mut [f32]) -> Result<()> {
    if d == 0 || out.is_empty() {
        return Ok(());
    }
    let (m, p) = (out.len() / d, rows.len() / d);
    if out.len() != m * d || rows.len() != p * d || p > width || weights.len() < (m - 1) * width + p {
        bail!("no sums of {} values in rows of {d} by {} weights in rows of {width}", rows.len(), weights.len());
    }
    Arch::new().dispatch(Weighted { weights, width, rows, d, out });
    Ok(())
}

/// The work of [`add_weighted`].
struct Weighted<'a> {
    weights: &'a [f32],
    width: usize,
    rows: &'a [f32],
    d: usize,
    out: &'a mut [f32],
}

impl WithSimd for Weighted<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, width, rows, d, out } = self;
        let whole = d / S::F32_LANES;
        for (weights, out) in weights.chunks(TILE.0 * width).zip(out.chunks_mut(TILE.0 * d)) {
            // Where the last tile lacks rows, its first one stands in for them, and what comes of it is dropped.
            let row = |i: usize| &weights[if i * d < out.len() { i * width } else { 0 }..];
            let weights = [row(0), row(1), row(2)];
            for first in (0..whole).step_by(TILE.1) {
                let vectors = TILE.1.min(whole - first);
                add_weighted_tile(simd, weights, rows, d, first, vectors, out);
            }
            for (weights, out) in weights.iter().zip(out.chunks_exact_mut(d)) {
                for (weight, row) in weights.iter().zip(rows.chunks_exact(d)) {
                    let tails = out[whole * S::F32_LANES..].iter_mut().zip(&row[whole * S::F32_LANES..]);
                    tails.for_each(|(out, value)| *out += weight * value);
                }
            }
        }
    }
}

/// Adds `vectors` columns of vectors of weighted rows, from vector `first` on, to the rows of `out`, three or fewer.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
fn add_weighted_tile<S: Simd>(
    simd: S,
    weights: [&[f32]; TILE.0],
    rows: &[f32],
    d: usize,
    first: usize,
    vectors: usize,
    out: &mut [f32],
) {
    let mut sums = [[simd.splat_f32s(0.0); TILE.1]; TILE.0];
    let each = weights[0].iter().zip(weights[1]).zip(weights[2]).zip(rows.chunks_exact(d));
    for (((a0, a1), a2), row) in each {
        let (a0, a1, a2) = (simd.splat_f32s(*a0), simd.splat_f32s(*a1), simd.splat_f32s(*a2));
        let (row, _) = S::as_simd_f32s(row);
        let row = &row[first..first + vectors];
        each_column!(J, {
            if let Some(value) = row.get(J) {
                sums[0][J] = simd.mul_add_f32s(a0, *value, sums[0][J]);
                sums[1][J] = simd.mul_add_f32s(a1, *value, sums[1][J]);
                sums[2][J] = simd.mul_add_f32s(a2, *value, sums[2][J]);
            }
        });
    }
    let [of_first, of_second, of_third] = sums;
    let mut rows = out.chunks_exact_mut(d);
    if let Some(out) = rows.next() {
        add_vectors(simd, of_first, first, out);
    }
    if let Some(out) = rows.next() {
        add_vectors(simd, of_second, first, out);
    }
    if let Some(out) = rows.next() {
        add_vectors(simd, of_third, first, out);
    }
}

/// Adds sums to a row, from vector `first` on, as far as the row has whole vectors.
#[expect(clippy::inline_always, reason = "what is not inlined keeps to narrow registers")]
#[inline(always)]
fn add_vectors<S: Simd>(simd: S, sums: [S::f32s; TILE.1], first: usize, out: &mut [f32]) {
    let (out, _) = S::as_mut_simd_f32s(out);
    each_column!(J, {
        if let Some(out) = out.get_mut(first + J) {
            *out = simd.add_f32s(*out, sums[J]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Floats;
    use crate::ops::check::waves;

    fn values(shape: &[usize], phase: f32) -> Vec<f32> {
        Floats::of(&waves(shape, phase)).unwrap().to_vec()
    }

    fn dots(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
        let mut out = vec![0.25; a.len() / k * (b.len() / k)];
        add_dots(a, b, k, &mut out).unwrap();
        out
    }

    /// Rows, columns and terms: whole and broken tiles, vectors and blocks.
    const SHAPES: [(usize, usize, usize); 7] =
        [(1, 1, 1), (3, 8, 16), (2, 9, 5), (7, 33, 80), (5, 20, 2100), (100, 40, 48), (40, 400, 600)];

    #[test]
    fn dots_are_sums_of_products() {
        for (m, n, k) in SHAPES {
            let (a, b) = (values(&[m, k], 0.3), values(&[n, k], 1.7));
            let out = dots(&a, &b, k);
            for (i, a) in a.chunks_exact(k).enumerate() {
                for (j, b) in b.chunks_exact(k).enumerate() {
                    let exact: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let found = f64::from(out[i * n + j]) - 0.25;
                    assert!((found - exact).abs() < 1e-5 * (k as f64).sqrt(), "{m}x{n}x{k}: {found}, expected {exact}");
                }
            }
        }
    }

    #[test]
    fn a_row_gets_the_same_bits_in_any_company_and_on_any_number_of_threads() {
        for (m, n, k) in SHAPES {
            let (a, b) = (values(&[m, k], 0.3), values(&[n, k], 1.7));
            let together = dots(&a, &b, k);
            for (a, together) in a.chunks_exact(k).zip(together.chunks_exact(n)) {
                assert_eq!(dots(a, &b, k), together, "{m}x{n}x{k}");
            }
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            assert_eq!(pool.install(|| dots(&a, &b, k)), together);
        }
    }

    #[test]
    fn weighted_rows_are_sums_of_products_and_the_same_bits_in_any_company() {
        for (m, p, d) in [(1, 1, 1), (4, 37, 16), (7, 50, 80), (3, 20, 200), (9, 5, 7)] {
            let width = p + 3;
            let (weights, rows) = (values(&[m, width], 0.3), values(&[p, d], 1.7));
            let mut out = vec![0.0; m * d];
            add_weighted(&weights, width, &rows, d, &mut out).unwrap();
            for (i, out) in out.chunks_exact(d).enumerate() {
                for (j, found) in out.iter().enumerate() {
                    let term = |t: usize| f64::from(weights[i * width + t]) * f64::from(rows[t * d + j]);
                    let exact: f64 = (0..p).map(term).sum();
                    assert!((f64::from(*found) - exact).abs() < 1e-4, "{m}x{p}x{d}: {found}, expected {exact}");
                }
                let mut alone = vec![0.0; d];
                add_weighted(&weights[i * width..(i + 1) * width], width, &rows, d, &mut alone).unwrap();
                assert_eq!(alone, out);
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        assert!(add_dots(&[0.0; 5], &[0.0; 6], 3, &mut [0.0; 2]).is_err());
        assert!(add_dots(&[0.0; 6], &[0.0; 6], 3, &mut [0.0; 3]).is_err());
        assert!(add_weighted(&[0.0; 5], 3, &[0.0; 6], 2, &mut [0.0; 4]).is_err());
    }
}
