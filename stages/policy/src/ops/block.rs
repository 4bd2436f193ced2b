//! One transformer block, as the vision tower and the text model both have it:
//! `h = x + proj(attention(norm1 x))`, `y = h + down(silu(gate(norm2 h)) · up(norm2 h))`.

use candle_core::{Result, Tensor};

use super::activation::{swiglu, swiglu_backward};
use super::attention::{Plan, Projected, SpanState};
use super::heads::{Columns, Heads};
use super::linear::{Kernel, Linear, Sums};
use super::norm::Norm;

/// The projections to queries, keys and values.
#[derive(Debug, Clone)]
pub enum Projection {
    /// One matrix whose rows are queries, keys, values (vision tower).
    Joint(Linear),
    /// One matrix each (text model).
    Separate([Linear; 3]),
}

impl Projection {
    /// The layers in order, the width of each one's result, and for q, k and v the layer and its first column.
    fn layout(&self, heads: Heads) -> (&[Linear], Vec<usize>, [(usize, usize); 3]) {
        let (queries, keys) = (heads.width(), heads.keys().width());
        match self {
            Self::Joint(layer) => {
                let columns = [(0, 0), (0, queries), (0, queries + keys)];
                (std::slice::from_ref(layer), vec![queries + 2 * keys], columns)
            }
            Self::Separate(layers) => (layers, vec![queries, keys, keys], [(0, 0), (1, 0), (2, 0)]),
        }
    }
}

/// A block's weights.
#[derive(Debug, Clone)]
pub struct Block {
    /// Before attention.
    pub norm1: Norm,
    /// To queries, keys, values.
    pub projection: Projection,
    /// From the heads back to `H`.
    pub output: Linear,
    /// Before the MLP.
    pub norm2: Norm,
    /// Through `SiLU`.
    pub gate: Linear,
    /// Multiplied with it.
    pub up: Linear,
    /// From `I` back to `H`.
    pub down: Linear,
    /// Division of a row of queries.
    pub heads: Heads,
}

/// What the backward pass needs of a block; `S` is the attention's own state.
#[derive(Debug)]
pub struct BlockState<S> {
    x: Tensor,
    normed1: Tensor,
    /// The attention's state.
    pub attention: S,
    mixed: Tensor,
    h: Tensor,
    normed2: Tensor,
    gate: Tensor,
    up: Tensor,
    gated: Tensor,
}

impl Block {
    /// `x [R, H]` to `[R, H]`. `attend` maps the projected rows to rows of attended values, `[R, heads·d]`.
    pub fn forward<S>(
        &self,
        x: Tensor,
        kernel: Kernel,
        attend: impl FnOnce(Projected) -> Result<(Tensor, S)>,
    ) -> Result<(Tensor, BlockState<S>)> {
        let normed1 = self.norm1.forward(&x)?;
        let (layers, _, columns) = self.projection.layout(self.heads);
        let products = layers.iter().map(|layer| layer.product(&normed1, kernel)).collect::<Result<Vec<_>>>()?;
        let [q, k, v] =
            columns.map(|(layer, start)| Columns { rows: &products[layer], start, bias: layers[layer].bias() });
        let (mixed, attention) = attend(Projected { q, k, v })?;
        let h = self.output.forward_onto(&mixed, &x, kernel)?;
        let normed2 = self.norm2.forward(&h)?;
        let (gate, up) = (self.gate.product(&normed2, kernel)?, self.up.product(&normed2, kernel)?);
        let gated = swiglu(&gate, self.gate.bias(), &up, self.up.bias())?;
        let y = self.down.forward_onto(&gated, &h, kernel)?;
        Ok((y, BlockState { x, normed1, attention, mixed, h, normed2, gate, up, gated }))
    }

    /// The gradient of `x`, given that of `y`; the weights' are added to `sums`.
    pub fn backward(
        &self,
        state: &BlockState<Vec<SpanState>>,
        plan: &Plan,
        dy: &Tensor,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let dgated = self.down.backward(&state.gated, dy, None, sums)?;
        let (gate_bias, up_bias) = (self.gate.bias(), self.up.bias());
        let (dgate, dup) = swiglu_backward(&state.gate, gate_bias, &state.up, up_bias, &dgated)?;
        let dnormed2 = self.gate.backward(&state.normed2, &dgate, None, sums)?;
        let dnormed2 = self.up.backward(&state.normed2, &dup, Some(&dnormed2), sums)?;
        let dh = self.norm2.backward(&state.h, &dnormed2, Some(dy), sums)?;
        let dmixed = self.output.backward(&state.mixed, &dh, None, sums)?;
        let (layers, widths, columns) = self.projection.layout(self.heads);
        let projected = plan.backward(&state.attention, &dmixed, &widths, columns)?;
        let mut dnormed1: Option<Tensor> = None;
        for (layer, dy) in layers.iter().zip(&projected) {
            dnormed1 = Some(layer.backward(&state.normed1, dy, dnormed1.as_ref(), sums)?);
        }
        let dnormed1 = dnormed1.expect("a projection has at least one layer");
        self.norm1.backward(&state.x, &dnormed1, Some(&dh), sums)
    }
}
