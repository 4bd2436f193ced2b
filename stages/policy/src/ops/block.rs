//! One transformer block, as the vision tower and the text model both have it:
//! `h = x + proj(attention(norm1 x))`, `y = h + down(silu(gate(norm2 h)) · up(norm2 h))`.
//!
//! The backward pass needs a block's input alone and makes the rest again, or takes what the forward pass kept: the same
//! operations on the same rows, hence the same bits.

use candle_core::{Result, Tensor};

use super::activation::{Biases, swiglu, swiglu_backward};
use super::attention::{Plan, Projected, SpanState};
use super::heads::{Columns, Heads};
use super::linear::{Kernel, Linear};
use super::norm::Norm;
use super::sums::Sums;
use super::{Floats, give_back, tensor};

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

/// What a forward pass keeps of a block for the backward pass.
#[derive(Debug)]
pub enum Kept {
    /// The block's input: all else is made again, by the same operations.
    Input(Tensor),
    /// All that the backward pass needs.
    State(Box<BlockState>),
}

/// Which of them a forward pass keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: no gradient will pass.
    Nothing,
    /// [`Kept::Input`].
    Inputs,
    /// [`Kept::State`].
    States,
}

/// What the backward pass needs of a block.
#[derive(Debug)]
pub struct BlockState {
    x: Tensor,
    attention: AttentionState,
    /// The MLP's, run of rows by run of rows; empty where it is to be made again.
    mlp: Vec<MlpState>,
}

#[derive(Debug)]
struct AttentionState {
    spans: Vec<SpanState>,
    mixed: Tensor,
    h: Tensor,
}

#[derive(Debug)]
struct MlpState {
    normed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Vec<f32>,
}

/// Bytes of block states that a forward pass keeps, at most; where all of them would take more, it keeps inputs.
pub(crate) const STATES: usize = 1 << 26;

/// What a forward pass of that many rows through `blocks` keeps for the backward pass, by the sizes alone.
pub fn keep(blocks: &[Block], rows: usize) -> Keep {
    let values: usize = blocks.iter().map(Block::state_values).sum();
    if values * rows * size_of::<f32>() <= STATES { Keep::States } else { Keep::Inputs }
}

/// Values to a row of a [`BlockState`], by the widths of its rows, queries, keys and MLP.
pub(crate) fn state_values(hidden: usize, queries: usize, keys: usize, inner: usize) -> usize {
    3 * hidden + 2 * queries + 2 * keys + 3 * inner
}

/// Values between the MLP's layers that are worked on at a time, about: its rows are cut into runs, by the sizes alone.
const MLP_VALUES: usize = 1 << 21;
/// Rows of a run, at least: with fewer, adding to the weights' gradients costs more than multiplying.
const MLP_ROWS: usize = 256;

/// Rows of an MLP of that inner width that are worked on together.
pub(crate) fn mlp_rows(rows: usize, inner: usize) -> usize {
    let most = (MLP_VALUES / inner).max(MLP_ROWS);
    rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
}

impl Block {
    /// `x [R, H]` to `[R, H]`. `attend` maps the projected rows to rows of attended values, `[R, heads·d]`.
    pub fn forward<S>(
        &self,
        x: Tensor,
        kernel: Kernel,
        attend: impl FnOnce(Projected) -> Result<(Tensor, S)>,
    ) -> Result<(Tensor, S)> {
        let (mixed, attention) = self.attend(&x, kernel, attend)?;
        let h = self.after_attention(&x, &mixed, kernel)?;
        drop((mixed, x));
        let (y, _) = self.mlp(&h, kernel, false)?;
        Ok((y, attention))
    }

    /// [`Self::forward`] with what the backward pass needs.
    pub fn forward_keeping(&self, x: Tensor, plan: &Plan, keep: Keep) -> Result<(Tensor, Option<Kept>)> {
        if keep != Keep::States {
            let (y, _) = self.forward(x.clone(), Kernel::General, |projected| plan.forward(projected))?;
            return Ok((y, (keep == Keep::Inputs).then_some(Kept::Input(x))));
        }
        let attention = self.attention_state(&x, plan)?;
        let (y, mlp) = self.mlp(&attention.h, Kernel::General, true)?;
        Ok((y, Some(Kept::State(Box::new(BlockState { x, attention, mlp })))))
    }

    /// Values of a [`BlockState`] to a row.
    pub fn state_values(&self) -> usize {
        state_values(self.norm1.width(), self.heads.width(), self.heads.keys().width(), self.down.input())
    }

    /// The gradient of `x` where it is wanted (`below`), given that of `y`; the weights' are added to `sums`.
    pub fn backward(
        &self,
        kept: Kept,
        plan: &Plan,
        dy: Vec<f32>,
        below: bool,
        sums: &mut Sums,
    ) -> Result<Option<Vec<f32>>> {
        let BlockState { x, attention, mlp } = match kept {
            Kept::State(state) => *state,
            Kept::Input(x) => {
                give_back();
                BlockState { attention: self.attention_state(&x, plan)?, x, mlp: Vec::new() }
            }
        };
        let AttentionState { spans, mixed, h } = attention;
        let mut dx = dy;
        self.mlp_backward(&h, mlp, &mut dx, sums)?;
        drop(h);
        let shape = mixed.shape().clone();
        self.output.backward(&Floats::of(&mixed)?, &dx, sums)?;
        drop(mixed);
        let mut dmixed = vec![0.0; shape.elem_count()];
        self.output.backward_input(&dx, false, &mut dmixed)?;
        let (layers, widths, columns) = self.projection.layout(self.heads);
        let projected = plan.backward(spans, &tensor(dmixed, shape)?, &widths, columns)?;
        let normed = self.norm1.forward(&x)?;
        let normed = Floats::of(&normed)?;
        for (layer, dy) in layers.iter().zip(&projected) {
            layer.backward(&normed, dy, sums)?;
        }
        if !below {
            return Ok(None);
        }
        let mut dnormed = vec![0.0; normed.len()];
        for (index, (layer, dy)) in layers.iter().zip(&projected).enumerate() {
            layer.backward_input(dy, index > 0, &mut dnormed)?;
        }
        self.norm1.backward(&Floats::of(&x)?, &dnormed, &mut dx, sums)?;
        Ok(Some(dx))
    }

    /// What the attention makes of the normed rows.
    fn attend<S>(
        &self,
        x: &Tensor,
        kernel: Kernel,
        attend: impl FnOnce(Projected) -> Result<(Tensor, S)>,
    ) -> Result<(Tensor, S)> {
        let normed = self.norm1.forward(x)?;
        let (layers, _, columns) = self.projection.layout(self.heads);
        let products = layers.iter().map(|layer| layer.product(&normed, kernel)).collect::<Result<Vec<_>>>()?;
        let [q, k, v] =
            columns.map(|(layer, start)| Columns { rows: &products[layer], start, bias: layers[layer].bias() });
        attend(Projected { q, k, v })
    }

    fn after_attention(&self, x: &Tensor, mixed: &Tensor, kernel: Kernel) -> Result<Tensor> {
        let mut h = self.output.start(&Floats::of(x)?)?;
        self.output.add_to(&mut h, &Floats::of(mixed)?, kernel)?;
        tensor(h, x.shape())
    }

    fn attention_state(&self, x: &Tensor, plan: &Plan) -> Result<AttentionState> {
        let (mixed, spans) = self.attend(x, Kernel::General, |projected| plan.forward(projected))?;
        let h = self.after_attention(x, &mixed, Kernel::General)?;
        Ok(AttentionState { spans, mixed, h })
    }

    /// Values of `h` in a run of rows of the MLP.
    fn run(&self, rows: usize) -> usize {
        mlp_rows(rows, self.down.input()) * self.norm2.width()
    }

    /// `h + down(…)`, and the states of all runs of rows if they are to be kept.
    fn mlp(&self, h: &Tensor, kernel: Kernel, keep: bool) -> Result<(Tensor, Vec<MlpState>)> {
        let rows = Floats::of(h)?;
        let (mut y, mut states, run) = (self.down.start(&rows)?, Vec::new(), self.run(h.dim(0)?));
        for (y, h) in y.chunks_mut(run).zip(rows.chunks(run)) {
            let state = self.mlp_state(h, kernel)?;
            self.down.add_to(y, &state.gated, kernel)?;
            if keep {
                states.push(state);
            }
        }
        Ok((tensor(y, h.shape())?, states))
    }

    fn mlp_state(&self, h: &[f32], kernel: Kernel) -> Result<MlpState> {
        let normed = self.norm2.forward_of(h)?;
        let (gate, up) = (self.gate.product_of(&normed, kernel)?, self.up.product_of(&normed, kernel)?);
        let gated = swiglu(&gate, &up, &self.biases()?);
        Ok(MlpState { normed, gate, up, gated })
    }

    fn biases(&self) -> Result<Biases> {
        Biases::new(self.gate.bias(), self.up.bias(), self.down.input())
    }

    /// Turns the gradient of `y` into that of `h`, run of rows by run of rows.
    fn mlp_backward(&self, h: &Tensor, kept: Vec<MlpState>, dy: &mut [f32], sums: &mut Sums) -> Result<()> {
        let (biases, run, mut kept) = (self.biases()?, self.run(h.dim(0)?), kept.into_iter());
        for (h, dy) in Floats::of(h)?.chunks(run).zip(dy.chunks_mut(run)) {
            let state = kept.next().map_or_else(|| self.mlp_state(h, Kernel::General), Ok)?;
            let MlpState { normed, mut gate, mut up, mut gated } = state;
            self.down.backward(&gated, dy, sums)?;
            self.down.backward_input(dy, false, &mut gated)?;
            swiglu_backward(&mut gate, &mut up, &biases, &gated);
            drop(gated);
            self.gate.backward(&normed, &gate, sums)?;
            self.up.backward(&normed, &up, sums)?;
            let mut dnormed = normed;
            self.gate.backward_input(&gate, false, &mut dnormed)?;
            self.up.backward_input(&up, true, &mut dnormed)?;
            self.norm2.backward(h, &dnormed, dy, sums)?;
        }
        Ok(())
    }
}
