//! Learning-rate schedules.

use std::f64::consts::PI;

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The peak at every step.
    Constant,
    /// From the peak at the first step in a straight line to 0 after the last, without a warm-up (the paper's trainer).
    Linear,
    /// Rises in a straight line over `warmup` steps, the last of which is at the peak, then falls as half a cosine to 0.
    Cosine {
        /// Steps of the rise; 0 for none.
        warmup: usize,
    },
}

impl Schedule {
    /// The learning rate of `step` (from 0) of `steps`; 0 from the end on, except when constant.
    pub fn learning_rate(self, peak: f64, step: usize, steps: usize) -> f64 {
        let left = |from: usize| (steps.saturating_sub(step)) as f64 / steps.saturating_sub(from).max(1) as f64;
        match self {
            Self::Constant => peak,
            Self::Linear => peak * left(0),
            Self::Cosine { warmup } if step < warmup => peak * (step + 1) as f64 / warmup as f64,
            Self::Cosine { warmup } => peak * 0.5 * (1.0 - libm::cos(PI * left(warmup))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_schedule_starts_at_the_peak_and_ends_at_zero() {
        let rates: Vec<f64> = (0..5).map(|step| Schedule::Linear.learning_rate(8.0, step, 4)).collect();
        assert_eq!(rates, [8.0, 6.0, 4.0, 2.0, 0.0]);
    }

    #[test]
    fn the_cosine_schedule_warms_up_to_the_peak_and_falls_to_zero() {
        let schedule = Schedule::Cosine { warmup: 2 };
        let rates: Vec<f64> = (0..7).map(|step| schedule.learning_rate(8.0, step, 6)).collect();
        let fall = |part: f64| 4.0 * (1.0 + (PI * part).cos());
        for (rate, expected) in rates.iter().zip([4.0, 8.0, 8.0, fall(0.25), fall(0.5), fall(0.75), 0.0]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn the_constant_schedule_stays_at_the_peak() {
        assert_eq!(Schedule::Constant.learning_rate(8.0, 3, 4), 8.0);
    }
}
