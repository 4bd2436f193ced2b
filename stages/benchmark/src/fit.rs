//! The logistic fits that the field takes before PLCC and RMSE, by Levenberg-Marquardt.
//!
//! A fit can turn an inverted predictor round, run away on an affine one, or end in one of several valleys: it is always told
//! beside the raw coefficient, with its direction and whether it converged.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::{ArrayStorage, Const, DVector, Dyn, OMatrix, SVector, U1, VecStorage};

use crate::correlation::{is_constant, pearson, rmse};

/// A fitted curve, as far as it is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// PLCC of fitted scores with the truth; `None` where the curve is flat.
    pub plcc: Option<f64>,
    /// Root mean square difference of fitted scores and truth.
    pub rmse: f64,
    /// Whether the search ended in a valley, rather than at its limit.
    pub converged: bool,
    /// Whether larger scores are fitted to larger truths (1) or to smaller ones (-1); 0 for a flat curve.
    pub sign: i8,
}

/// Evaluations for each parameter and one more: scipy's limit.
const PATIENCE: usize = 200;
/// The relative change at which the search ends: scipy's.
const TOLERANCE: f64 = 1e-8;

/// `(a - b) / (1 + exp(-(x - c) / |d|)) + b`, from a = max y, b = min y, c = mean x, d = std x / 4.
///
/// `None` for fewer scores than parameters, or where scores or truths are all equal.
pub fn logistic4(scores: &[f64], truths: &[f64]) -> Option<Fit> {
    let (mean, spread) = mean_and_spread(scores);
    let largest = truths.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = truths.iter().copied().fold(f64::INFINITY, f64::min);
    fit(scores, truths, [largest, smallest, mean, spread / 4.0], |x, [a, b, c, d]| {
        let (width, height) = (d.abs(), a - b);
        let place = (x - c) / width;
        let step = 1.0 / (1.0 + libm::exp(-place));
        let slope = height * step * (1.0 - step) / width;
        (b + height * step, [step, 1.0 - step, -slope, -slope * place * d.signum()])
    })
}

/// `b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5`, from 10, 0, mean y, 0.1, 0.1.
///
/// `None` for fewer scores than parameters, or where scores or truths are all equal.
pub fn logistic5(scores: &[f64], truths: &[f64]) -> Option<Fit> {
    let (mean, _) = mean_and_spread(truths);
    fit(scores, truths, [10.0, 0.0, mean, 0.1, 0.1], |x, [b1, b2, b3, b4, b5]| {
        let step = 1.0 / (1.0 + libm::exp(b2 * (x - b3)));
        let slope = b1 * step * (1.0 - step);
        (b1 * (0.5 - step) + b4 * x + b5, [0.5 - step, slope * (x - b3), -slope * b2, x, 1.0])
    })
}

fn fit<const P: usize>(
    scores: &[f64],
    truths: &[f64],
    start: [f64; P],
    curve: fn(f64, [f64; P]) -> (f64, [f64; P]),
) -> Option<Fit> {
    if scores.len() < P || is_constant(scores) || is_constant(truths) {
        return None;
    }
    let problem = Curve { scores, truths, parameters: SVector::from(start), value_and_slopes: curve };
    let search = LevenbergMarquardt::<f64>::new().with_ftol(TOLERANCE).with_xtol(TOLERANCE).with_patience(PATIENCE);
    let (found, report) = search.minimize(problem);
    let fitted: Vec<f64> = scores.iter().map(|x| curve(*x, found.parameters.into()).0).collect();
    let direction = pearson(scores, &fitted).unwrap_or(0.0);
    Some(Fit {
        plcc: pearson(&fitted, truths).filter(|it| it.is_finite()),
        rmse: rmse(&fitted, truths)?,
        converged: report.termination.was_successful(),
        sign: if direction == 0.0 { 0 } else { direction.signum() as i8 },
    })
}

fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / count).sqrt())
}

/// A curve of `P` parameters through scores and truths: its value at a score, and the value's derivatives.
struct Curve<'a, const P: usize> {
    scores: &'a [f64],
    truths: &'a [f64],
    parameters: SVector<f64, P>,
    value_and_slopes: fn(f64, [f64; P]) -> (f64, [f64; P]),
}

impl<const P: usize> LeastSquaresProblem<f64, Dyn, Const<P>> for Curve<'_, P> {
    type ResidualStorage = VecStorage<f64, Dyn, U1>;
    type JacobianStorage = VecStorage<f64, Dyn, Const<P>>;
    type ParameterStorage = ArrayStorage<f64, P, 1>;

    fn set_params(&mut self, parameters: &SVector<f64, P>) {
        self.parameters = *parameters;
    }

    fn params(&self) -> SVector<f64, P> {
        self.parameters
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        let differences =
            self.scores.iter().zip(self.truths).map(|(x, y)| (self.value_and_slopes)(*x, self.parameters.into()).0 - y);
        Some(DVector::from_iterator(self.scores.len(), differences))
    }

    fn jacobian(&self) -> Option<OMatrix<f64, Dyn, Const<P>>> {
        let mut jacobian = OMatrix::<f64, Dyn, Const<P>>::zeros(self.scores.len());
        for (row, x) in self.scores.iter().enumerate() {
            let (_, slopes) = (self.value_and_slopes)(*x, self.parameters.into());
            slopes.iter().enumerate().for_each(|(column, slope)| jacobian[(row, column)] = *slope);
        }
        Some(jacobian)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The cases of scipy's that have fits, as name, scores, truths and the fits.
    fn cases() -> Vec<(String, Vec<f64>, Vec<f64>, Value)> {
        let cases: Value = serde_json::from_str(include_str!("../tests/correlations.json")).unwrap();
        let cases = cases.as_array().unwrap().iter().filter(|case| case.get("fit4").is_some());
        let list = |case: &Value, name: &str| -> Vec<f64> {
            case[name].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
        };
        cases.map(|it| (it["name"].to_string(), list(it, "x"), list(it, "y"), it.clone())).collect()
    }

    #[test]
    fn the_fits_are_scipys() {
        for (name, x, y, case) in cases() {
            for (kind, found) in [("fit4", logistic4(&x, &y)), ("fit5", logistic5(&x, &y))] {
                let (found, expected) = (found.unwrap(), &case[kind]);
                let number = |key: &str| expected[key].as_f64().unwrap();
                assert!(found.converged, "{name} {kind}");
                assert!((found.plcc.unwrap() - number("plcc")).abs() < 1e-6, "{name} {kind}: {found:?}");
                assert!((found.rmse - number("rmse")).abs() < 1e-5, "{name} {kind}: {found:?}");
                assert_eq!(f64::from(found.sign), number("sign"), "{name} {kind}");
            }
        }
    }

    #[test]
    fn a_fit_turns_an_inverted_predictor_round_and_says_so() {
        let (_, x, y, _) = cases().swap_remove(1);
        let fit = logistic4(&x, &y).unwrap();
        assert!(pearson(&x, &y).unwrap() < -0.9 && fit.plcc.unwrap() > 0.9);
        assert_eq!(fit.sign, -1);
    }

    #[test]
    fn what_has_no_spread_or_too_few_pictures_has_no_fit() {
        assert_eq!(logistic4(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(logistic5(&[1.0; 9], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]), None);
        assert_eq!(logistic4(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0; 5]), None);
    }
}
