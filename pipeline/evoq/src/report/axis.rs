//! Axes: what they span, and round numbers on them.

use super::ask::number;

/// A span of numbers on a line of `length`, which begins at `start`.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// The least number.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// Numbers that are written at it, with their text.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// The axis from `low` to `high`, as it stands, with about `count` ticks.
    pub(super) fn fixed(low: f64, high: f64, count: usize) -> Self {
        let step = step((high - low) / count.max(1) as f64);
        let digits = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|tick| (tick as f64 * step, number(tick as f64 * step, digits))).collect();
        Self { low, high, ticks }
    }

    /// An axis that holds `values` and ends at round numbers.
    pub(super) fn around(values: impl Iterator<Item = f64>, count: usize) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-12 {
            let room = (low.abs() / 10.0).max(1e-3);
            (low, high) = (low - room, high + room);
        }
        let step = step((high - low) / count.max(1) as f64);
        Self::fixed((low / step + 1e-3).floor() * step, (high / step - 1e-3).ceil() * step, count)
    }

    /// Where `value` stands between `from` and `to`; what is beyond the axis stands at its end.
    pub(super) fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (to - from) * ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let digit = least / power;
    let digit = if digit <= 1.0 + 1e-9 {
        1.0
    } else if digit <= 2.0 + 1e-9 {
        2.0
    } else if digit <= 5.0 + 1e-9 {
        5.0
    } else {
        10.0
    };
    digit * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(words(&Axis::fixed(-0.2, 1.0, 5)), ["0.0", "0.5", "1.0"]);
        assert_eq!(words(&Axis::around([0.64, 0.78].into_iter(), 4)), ["0.60", "0.65", "0.70", "0.75", "0.80"]);
        assert_eq!(words(&Axis::around([0.0, 39.0].into_iter(), 4)), ["0", "10", "20", "30", "40"]);
    }

    #[test]
    fn one_value_and_none_have_an_axis_too() {
        let one = Axis::around([0.5].into_iter(), 3);
        assert!(one.low < 0.5 && one.high > 0.5 && one.ticks.len() > 1);
        let none = Axis::around(std::iter::empty(), 3);
        assert_eq!((none.low, none.high), (0.0, 1.0));
    }
}
