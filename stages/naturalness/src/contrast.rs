//! Local contrast: mean and deviation under a Gaussian window of 7 x 7 pixels (sigma 7/6), and the pixels normalised by them
//! (MSCN coefficients).

#![expect(clippy::inline_always, reason = "compiled once for each kind of vector unit, inside what dispatches to them")]

use pulp::Arch;

use crate::plane::Plane;

/// Pixels of the window on each side of its centre.
const REACH: usize = 3;
const WINDOW: usize = 2 * REACH + 1;
const SIGMA: f64 = 7.0 / 6.0;

/// A distance from the local mean that is rounding: where an area is even, what is left has a sign, and signs are counted.
pub(crate) const ROUNDING: f64 = 1e-9;

/// What lies beyond the border of a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// Zeros.
    Zero,
    /// The outermost pixels again.
    Repeated,
}

/// The MSCN coefficients of a plane: each pixel less its local mean, by its local deviation and 1 more. Distances below `least`
/// are none.
pub(crate) fn normalised(plane: &Plane, border: Border, least: f64) -> Plane {
    let mut values = vec![0.0; plane.values.len()];
    local(plane, border, |y, means, deviations| {
        let out = &mut values[y * plane.width..(y + 1) * plane.width];
        for (((out, value), mean), deviation) in out.iter_mut().zip(plane.row(y)).zip(means).zip(deviations) {
            let apart = value - mean;
            *out = if apart.abs() < least { 0.0 } else { apart / (deviation + 1.0) };
        }
    });
    Plane { width: plane.width, height: plane.height, values }
}

/// The local deviation of each pixel.
pub(crate) fn deviations(plane: &Plane, border: Border) -> Plane {
    let mut values = Vec::with_capacity(plane.values.len());
    local(plane, border, |_, _, deviations| values.extend_from_slice(deviations));
    Plane { width: plane.width, height: plane.height, values }
}

/// Gives the local means and deviations of each row in turn.
fn local(plane: &Plane, border: Border, mut row_done: impl FnMut(usize, &[f64], &[f64])) {
    let weights = weights();
    let arch = Arch::new();
    // The rows under the window, filtered along themselves: row y stands at y modulo the window's height.
    let mut rows: [Filtered; WINDOW] = std::array::from_fn(|_| Filtered::zeros(plane.width));
    let zeros = Filtered::zeros(plane.width);
    let mut padded = vec![0.0; plane.width + 2 * REACH];
    let mut out = Filtered::zeros(plane.width);
    let mut next = 0;
    for y in 0..plane.height {
        while next < plane.height && next <= y + REACH {
            pad(&mut padded, plane.row(next), border);
            arch.dispatch(|| rows[next % WINDOW].filter(&padded, &weights));
            next += 1;
        }
        let under: [&Filtered; WINDOW] = std::array::from_fn(|step| match (y + step).checked_sub(REACH) {
            Some(at) if at < plane.height => &rows[at % WINDOW],
            _ if border == Border::Zero => &zeros,
            Some(_) => &rows[(plane.height - 1) % WINDOW],
            None => &rows[0],
        });
        arch.dispatch(|| out.mix(&under, &weights));
        row_done(y, &out.means, &out.squares);
    }
}

/// The window along one side: half of it, from the centre outwards. The whole adds up to 1.
fn weights() -> [f64; REACH + 1] {
    let heights: [f64; REACH + 1] =
        std::array::from_fn(|step| libm::exp(-((step * step) as f64) / (2.0 * SIGMA * SIGMA)));
    let sum = heights[0] + 2.0 * heights[1..].iter().sum::<f64>();
    heights.map(|it| it / sum)
}

fn pad(padded: &mut [f64], row: &[f64], border: Border) {
    let width = row.len();
    let (first, last) = match border {
        Border::Zero => (0.0, 0.0),
        Border::Repeated => (row[0], row[width - 1]),
    };
    padded[..REACH].fill(first);
    padded[REACH..REACH + width].copy_from_slice(row);
    padded[REACH + width..].fill(last);
}

/// A row of local means, and of local means of squares.
struct Filtered {
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Filtered {
    fn zeros(width: usize) -> Self {
        Self { means: vec![0.0; width], squares: vec![0.0; width] }
    }

    /// Filters a row along itself. `padded` has what lies beyond the border on both sides.
    #[inline(always)]
    fn filter(&mut self, padded: &[f64], weights: &[f64; REACH + 1]) {
        let width = self.means.len();
        let shifted: [&[f64]; WINDOW] = std::array::from_fn(|step| &padded[step..step + width]);
        let (means, squares) = (&mut self.means[..width], &mut self.squares[..width]);
        for x in 0..width {
            let centre = shifted[REACH][x];
            let (mut mean, mut square) = (weights[0] * centre, weights[0] * (centre * centre));
            for step in 1..=REACH {
                let (a, b) = (shifted[REACH - step][x], shifted[REACH + step][x]);
                mean += weights[step] * (a + b);
                square += weights[step] * (a * a + b * b);
            }
            (means[x], squares[x]) = (mean, square);
        }
    }

    /// Filters across rows, and turns the means of squares into deviations.
    #[inline(always)]
    fn mix(&mut self, under: &[&Self; WINDOW], weights: &[f64; REACH + 1]) {
        let width = self.means.len();
        let (means, squares) = (&mut self.means[..width], &mut self.squares[..width]);
        let means_under: [&[f64]; WINDOW] = std::array::from_fn(|step| &under[step].means[..width]);
        let squares_under: [&[f64]; WINDOW] = std::array::from_fn(|step| &under[step].squares[..width]);
        for x in 0..width {
            let mut mean = weights[0] * means_under[REACH][x];
            let mut square = weights[0] * squares_under[REACH][x];
            for step in 1..=REACH {
                mean += weights[step] * (means_under[REACH - step][x] + means_under[REACH + step][x]);
                square += weights[step] * (squares_under[REACH - step][x] + squares_under[REACH + step][x]);
            }
            // Where a plane is even, the difference is rounding of either sign.
            (means[x], squares[x]) = (mean, (square - mean * mean).abs().sqrt());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and deviation at one pixel, by the definition.
    fn by_definition(plane: &Plane, border: Border, x: usize, y: usize) -> (f64, f64) {
        let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
        for dy in -3..=3_i64 {
            for dx in -3..=3_i64 {
                let weight = (-((dx * dx + dy * dy) as f64) / (2.0 * SIGMA * SIGMA)).exp();
                let (at_x, at_y) = (x as i64 + dx, y as i64 + dy);
                let (in_x, in_y) = (at_x.clamp(0, plane.width as i64 - 1), at_y.clamp(0, plane.height as i64 - 1));
                let outside = (in_x, in_y) != (at_x, at_y);
                let value =
                    if outside && border == Border::Zero { 0.0 } else { plane.row(in_y as usize)[in_x as usize] };
                sum += weight;
                mean += weight * value;
                square += weight * value * value;
            }
        }
        (mean / sum, (square / sum - (mean / sum).powi(2)).abs().sqrt())
    }

    #[test]
    fn an_even_area_without_rounding_has_no_contrast() {
        for level in [1.0, 77.0, 254.0] {
            let plane = Plane { width: 20, height: 9, values: vec![level; 180] };
            assert_eq!(normalised(&plane, Border::Repeated, ROUNDING).values, [0.0; 180]);
        }
    }

    #[test]
    fn means_and_deviations_are_those_of_the_definition_up_to_the_border() {
        for (width, height) in [(11, 9), (2, 12), (12, 2), (1, 1)] {
            let values = (0..width * height).map(|it| (it * it * 37 % 256) as f64).collect();
            let plane = Plane { width, height, values };
            for border in [Border::Zero, Border::Repeated] {
                local(&plane, border, |y, means, deviations| {
                    for x in 0..width {
                        let (mean, deviation) = by_definition(&plane, border, x, y);
                        assert!((means[x] - mean).abs() < 1e-9, "{border:?} {x} {y}");
                        assert!((deviations[x] - deviation).abs() < 1e-6, "{border:?} {x} {y}");
                    }
                });
            }
        }
    }
}
