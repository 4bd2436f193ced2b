//! Between rows and attention heads: splitting rows into heads with bias and rotation, and merging them back.
//!
//! Heads are laid out `[kv, L, T, rep, d]`: the `rep` query heads that share a key-value head stand as rows
//! beside each other. So one product `[kv, L·T·rep, d] × [kv, d, P]` meets a prompt that all lanes share, and the
//! same memory read as `[kv·L, T·rep, d]` meets each lane's own keys; nothing is repeated or padded.

use candle_core::{Result, Tensor};

use super::{Floats, tensor};

/// How a row of attention heads is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Key-value heads.
    pub kv: usize,
    /// Query heads that share one key-value head.
    pub rep: usize,
    /// Elements of a head.
    pub dim: usize,
}

impl Heads {
    /// The same heads, seen from keys and values: one a group.
    #[must_use]
    pub fn keys(self) -> Self {
        Self { rep: 1, ..self }
    }

    /// Elements of a row of all heads.
    pub fn width(self) -> usize {
        self.kv * self.rep * self.dim
    }
}

/// Lanes of equal length that stand one after the other in consecutive rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    /// First row.
    pub start: usize,
    /// Number of lanes.
    pub count: usize,
    /// Rows of each lane, padding included.
    pub length: usize,
}

/// Cosines and sines of each row's angles, `[R, d/2]` each: element `i` of a head turns with element `i + d/2`.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
    /// Angles of a row: `d/2`.
    pub half: usize,
}

impl Rotary {
    fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let at = row * self.half..(row + 1) * self.half;
        (&self.cos[at.clone()], &self.sin[at])
    }
}

/// Columns of a row tensor that hold the heads of one kind (queries, keys or values), bias not yet added.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// `[R, width]`.
    pub rows: &'a Tensor,
    /// First column.
    pub start: usize,
    /// Bias over all columns of `rows`.
    pub bias: Option<&'a Tensor>,
}

/// Cuts `lanes` out of rows, adds the bias and rotates: `[kv, L·T·rep, d]`.
pub fn split(columns: Columns, heads: Heads, lanes: Lanes, rotary: Option<&Rotary>) -> Result<Tensor> {
    let (_, width) = columns.rows.dims2()?;
    let rows = Floats::of(columns.rows)?;
    let at = columns.start..columns.start + heads.width();
    let bias = match columns.bias {
        Some(bias) => Floats::of(bias)?[at.clone()].to_vec(),
        None => vec![0.0; heads.width()],
    };
    let (count, group) = (lanes.count * lanes.length, heads.rep * heads.dim);
    let mut out = vec![0.0; heads.kv * count * group];
    for (n, row) in rows.chunks_exact(width).skip(lanes.start).take(count).enumerate() {
        let turn = rotary.map(|rotary| rotary.row(lanes.start + n));
        let row = &row[at.clone()];
        for j in 0..heads.kv {
            let here = &mut out[(j * count + n) * group..][..group];
            let from = &row[j * group..][..group];
            for ((here, from), bias) in here.iter_mut().zip(from).zip(&bias[j * group..][..group]) {
                *here = from + bias;
            }
            if let Some((cos, sin)) = turn {
                here.chunks_exact_mut(heads.dim).for_each(|head| rotate(head, cos, sin));
            }
        }
    }
    tensor(out, (heads.kv, count * heads.rep, heads.dim))
}

/// The inverse of [`split`] without its bias: adds up `parts` (each `[kv, L·T·rep, d]` in memory), turns them back
/// where `rotary` is given, and writes them into columns `start..` of `out`, rows of `width`.
pub fn merge(
    parts: &[&Tensor],
    heads: Heads,
    lanes: Lanes,
    rotary: Option<&Rotary>,
    out: &mut [f32],
    width: usize,
    start: usize,
) -> Result<()> {
    let parts = parts.iter().map(|part| Floats::of(part)).collect::<Result<Vec<_>>>()?;
    let (count, group) = (lanes.count * lanes.length, heads.rep * heads.dim);
    for (n, row) in out.chunks_exact_mut(width).skip(lanes.start).take(count).enumerate() {
        let turn = rotary.map(|rotary| rotary.row(lanes.start + n));
        for j in 0..heads.kv {
            let here = &mut row[start + j * group..][..group];
            for (index, part) in parts.iter().enumerate() {
                let from = &part[(j * count + n) * group..][..group];
                if index == 0 {
                    here.copy_from_slice(from);
                } else {
                    here.iter_mut().zip(from).for_each(|(here, from)| *here += from);
                }
            }
            if let Some((cos, sin)) = turn {
                here.chunks_exact_mut(heads.dim).for_each(|head| rotate_back(head, cos, sin));
            }
        }
    }
    Ok(())
}

fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

fn rotate_back(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * c + *b * s, *b * c - *a * s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_undoes_splitting() {
        let heads = Heads { kv: 2, rep: 3, dim: 4 };
        let lanes = Lanes { start: 1, count: 2, length: 2 };
        let rows = 5;
        let values: Vec<f32> = (0..rows * 30).map(|i| i as f32).collect();
        let angles: Vec<f32> = (0..rows * 2).map(|i| i as f32 * 0.3).collect();
        let rotary = Rotary {
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
            half: 2,
        };
        let x = tensor(values.clone(), (rows, 30)).unwrap();
        let columns = Columns { rows: &x, start: 5, bias: None };
        let split = split(columns, heads, lanes, Some(&rotary)).unwrap();
        assert_eq!(split.dims(), [2, 12, 4]);
        let mut out = vec![-1.0; rows * 30];
        merge(&[&split], heads, lanes, Some(&rotary), &mut out, 30, 5).unwrap();
        for (i, (new, old)) in out.iter().zip(&values).enumerate() {
            let inside = (1..5).contains(&(i / 30)) && (5..29).contains(&(i % 30));
            let expected = if inside { *old } else { -1.0 };
            assert!((new - expected).abs() < 1e-4, "element {i}: {new}, expected {expected}");
        }
    }

    #[test]
    fn query_heads_of_a_group_stand_beside_each_other() {
        let heads = Heads { kv: 2, rep: 2, dim: 1 };
        let x = tensor((0..8).map(|i| i as f32).collect(), (2, 4)).unwrap();
        let columns = Columns { rows: &x, start: 0, bias: None };
        let split = split(columns, heads, Lanes { start: 0, count: 1, length: 2 }, None).unwrap();
        assert_eq!(*Floats::of(&split).unwrap(), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
