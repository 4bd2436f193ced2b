//! Attention over lanes: each sees its own keys and, where there is one, a prompt that all lanes share.

use candle_core::{Result, Tensor};

use super::blockwise::Attended;
use super::heads::{Columns, Heads, Lanes, Rotary, merge, split};
use super::softmax::Mask;
use super::tensor;

/// Keys and values of a prompt, `[kv, P, d]` each, or of lanes, `[kv·L, S, d]` each.
#[derive(Debug, Clone)]
pub struct KeysValues {
    /// Keys, rotated.
    pub keys: Tensor,
    /// Values.
    pub values: Tensor,
}

/// Lanes that attend alike.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Their rows.
    pub lanes: Lanes,
    /// Which of its own lane's keys a query sees.
    pub mask: Mask,
    /// An earlier span of one lane, all of whose keys these lanes see as well.
    pub prompt: Option<usize>,
}

/// How packed rows attend: the spans that divide them, and each row's rotation.
#[derive(Debug)]
pub struct Plan {
    /// Every row is in exactly one span.
    pub spans: Vec<Span>,
    /// Rotation of queries and keys.
    pub rotary: Rotary,
    /// Division of a row of queries.
    pub heads: Heads,
}

/// Queries, keys and values of all rows, biases not yet added.
#[derive(Debug, Clone, Copy)]
pub struct Projected<'a> {
    /// Queries.
    pub q: Columns<'a>,
    /// Keys.
    pub k: Columns<'a>,
    /// Values.
    pub v: Columns<'a>,
}

/// What the backward pass needs of a span; its keys and values also serve as a cache.
#[derive(Debug)]
pub struct SpanState {
    queries: Tensor,
    /// The lanes' own keys and values.
    pub own: KeysValues,
}

impl Plan {
    /// Attention of all spans: rows `[R, heads·d]`, and the spans' states.
    pub fn forward(&self, projected: Projected) -> Result<(Tensor, Vec<SpanState>)> {
        let (rows, width) = (projected.q.rows.dim(0)?, self.heads.width());
        let mut out = vec![0.0; rows * width];
        let mut states: Vec<SpanState> = Vec::with_capacity(self.spans.len());
        for span in &self.spans {
            let (queries, own) = self.split(projected, span.lanes)?;
            let shared = span.prompt.map(|prompt| &states[prompt].own);
            let attended = self.attended(span, shared, &own).forward(&queries)?;
            merge(&[&attended], self.heads, span.lanes, None, &mut out, width, 0)?;
            states.push(SpanState { queries, own });
        }
        Ok((tensor(out, (rows, width))?, states))
    }

    /// Gradients of queries, keys and values as rows, given that of the result, `dy [R, heads·d]`.
    ///
    /// They are written into `widths.len()` buffers: `columns` names buffer and first column of each kind, for the
    /// vision tower projects all three with one matrix and the text model with three.
    pub fn backward(
        &self,
        mut states: Vec<SpanState>,
        dy: &Tensor,
        widths: &[usize],
        columns: [(usize, usize); 3],
    ) -> Result<Vec<Vec<f32>>> {
        let rows = dy.dim(0)?;
        let mut buffers: Vec<Vec<f32>> = widths.iter().map(|width| vec![0.0; rows * width]).collect();
        let mut from_lanes: Vec<Vec<KeysValues>> = self.spans.iter().map(|_| Vec::new()).collect();
        // From the last span to the first: lanes come before the prompt whose keys they share.
        for (index, span) in self.spans.iter().enumerate().rev() {
            let Some(state) = states.pop() else { break };
            let dy = split(Columns { rows: dy, start: 0, bias: None }, self.heads, span.lanes, None)?;
            let shared = span.prompt.map(|prompt| &states[prompt].own);
            let gradient = self.attended(span, shared, &state.own).backward(&state.queries, &dy)?;
            if let (Some(prompt), Some(shared)) = (span.prompt, gradient.shared) {
                from_lanes[prompt].push(shared);
            }
            let of_lanes = std::mem::take(&mut from_lanes[index]);
            let own = std::iter::once(&gradient.own).chain(&of_lanes);
            let (keys, values): (Vec<&Tensor>, Vec<&Tensor>) = own.map(|own| (&own.keys, &own.values)).unzip();
            let turn = Some(&self.rotary);
            let queries = vec![&gradient.queries];
            for ((parts, heads, turn), (buffer, start)) in
                [(queries, self.heads, turn), (keys, self.heads.keys(), turn), (values, self.heads.keys(), None)]
                    .into_iter()
                    .zip(columns)
            {
                merge(&parts, heads, span.lanes, turn, &mut buffers[buffer], widths[buffer], start)?;
            }
        }
        Ok(buffers)
    }

    fn attended<'a>(&self, span: &Span, shared: Option<&'a KeysValues>, own: &'a KeysValues) -> Attended<'a> {
        Attended { shared, own, mask: span.mask, rep: self.heads.rep }
    }

    fn split(&self, projected: Projected, lanes: Lanes) -> Result<(Tensor, KeysValues)> {
        let turn = Some(&self.rotary);
        let by_lane = (self.heads.kv * lanes.count, lanes.length, self.heads.dim);
        Ok((
            split(projected.q, self.heads, lanes, turn)?,
            KeysValues {
                keys: split(projected.k, self.heads.keys(), lanes, turn)?.reshape(by_lane)?,
                values: split(projected.v, self.heads.keys(), lanes, None)?.reshape(by_lane)?,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Floats;
    use crate::ops::check::{close_to_differences, waves, weighted};

    const HEADS: Heads = Heads { kv: 2, rep: 2, dim: 4 };

    /// A prompt of three rows, two lanes of two rows that share it, and a window of full attention.
    fn plan() -> Plan {
        let prompt =
            Span { lanes: Lanes { start: 0, count: 1, length: 3 }, mask: Mask::Causal { first: 0 }, prompt: None };
        let lanes = Span { lanes: Lanes { start: 3, count: 2, length: 2 }, prompt: Some(0), ..prompt };
        let window = Span { lanes: Lanes { start: 7, count: 1, length: 2 }, mask: Mask::Full, prompt: None };
        let angles = waves(&[9 * 2], 0.4);
        let angles = Floats::of(&angles).unwrap();
        let rotary = Rotary {
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
            half: 2,
        };
        Plan { spans: vec![prompt, lanes, window], rotary, heads: HEADS }
    }

    fn attend(plan: &Plan, q: &Tensor, k: &Tensor, v: &Tensor) -> (Tensor, Vec<SpanState>) {
        let [q, k, v] = [q, k, v].map(|rows| Columns { rows, start: 0, bias: None });
        plan.forward(Projected { q, k, v }).unwrap()
    }

    /// What each row sees, row by row, in f64.
    fn plainly(plan: &Plan, q: &Tensor, k: &Tensor, v: &Tensor) -> Vec<f64> {
        let rotated = |rows: &Tensor, heads: usize, row: usize, head: usize| -> Vec<f64> {
            let rows = Floats::of(rows).unwrap();
            let x: Vec<f64> = rows[(row * heads + head) * 4..][..4].iter().map(|x| f64::from(*x)).collect();
            let (c, s) = (&plan.rotary.cos[row * 2..], &plan.rotary.sin[row * 2..]);
            (0..4)
                .map(|i| {
                    let (c, s) = (f64::from(c[i % 2]), f64::from(s[i % 2]));
                    if i < 2 { x[i] * c - x[i + 2] * s } else { x[i] * c + x[i - 2] * s }
                })
                .collect()
        };
        let sees: [&[usize]; 9] = [
            &[0],
            &[0, 1],
            &[0, 1, 2],
            &[0, 1, 2, 3],
            &[0, 1, 2, 3, 4],
            &[0, 1, 2, 5],
            &[0, 1, 2, 5, 6],
            &[7, 8],
            &[7, 8],
        ];
        let values = Floats::of(v).unwrap();
        let mut out = Vec::new();
        for (row, sees) in sees.iter().enumerate() {
            for head in 0..4 {
                let query = rotated(q, 4, row, head);
                let weight = |key: &usize| -> f64 {
                    let key = rotated(k, 2, *key, head / 2);
                    (query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / 2.0).exp()
                };
                let weights: Vec<f64> = sees.iter().map(weight).collect();
                let total: f64 = weights.iter().sum();
                out.extend((0..4).map(|i| {
                    let value = |row: usize| f64::from(values[(row * 2 + head / 2) * 4 + i]);
                    sees.iter().zip(&weights).map(|(row, w)| w / total * value(*row)).sum::<f64>()
                }));
            }
        }
        out
    }

    #[test]
    fn every_row_sees_its_prompt_and_its_own_past() {
        let (q, k, v) = (waves(&[9, 16], 0.1), waves(&[9, 8], 0.7), waves(&[9, 8], 1.9));
        let (rows, _) = attend(&plan(), &q, &k, &v);
        let expected = plainly(&plan(), &q, &k, &v);
        for (i, (found, expected)) in Floats::of(&rows).unwrap().iter().zip(expected).enumerate() {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "element {i}: {found}, expected {expected}");
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (q, k, v) = (waves(&[9, 16], 0.1), waves(&[9, 8], 0.7), waves(&[9, 8], 1.9));
        let dy = waves(&[9, 16], 2.3);
        let plan = plan();
        let (_, states) = attend(&plan, &q, &k, &v);
        let gradients = plan.backward(states, &dy, &[16, 8, 8], [(0, 0), (1, 0), (2, 0)]).unwrap();
        let gradients: Vec<Tensor> =
            gradients.into_iter().map(|rows| tensor(rows.clone(), (9, rows.len() / 9)).unwrap()).collect();
        close_to_differences(&q, &gradients[0], |q| weighted(&attend(&plan, q, &k, &v).0, &dy));
        close_to_differences(&k, &gradients[1], |k| weighted(&attend(&plan, &q, k, &v).0, &dy));
        close_to_differences(&v, &gradients[2], |v| weighted(&attend(&plan, &q, &k, v).0, &dy));
    }
}
