//! The logistic fits that the field takes before PLCC and RMSE, by Levenberg-Marquardt.
//!
//! A fit can turn an inverted predictor round, run away on an affine one, or end in one of several valleys: it is always told
//! beside the raw coefficient, with its direction and whether it converged.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::{ArrayStorage, Const, DVector, Dyn, OMatrix, SVector, U1, VecStorage};

use crate::correlation::{is_constant, pearson, rmse};

/// A fitted curve of `P` parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit<const P: usize> {
    /// Its parameters, in the order of its formula.
    pub parameters: [f64; P],
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
/// From there the search can end in a curve that rises between two neighbouring scores, or beyond all of them: nothing in the
/// data says where and how steeply. It is therefore started from the quartiles of x in place of the mean as well, and of the
/// curves that have at least two different scores on their slope, the one that lies closest to the truths is taken (of those
/// that converged, if any did); a curve without is taken only where all are.
///
/// `None` for fewer scores than parameters, or where scores or truths are all equal.
pub fn logistic4(scores: &[f64], truths: &[f64]) -> Option<Fit<4>> {
    let (mean, spread) = mean_and_spread(scores);
    let largest = truths.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = truths.iter().copied().fold(f64::INFINITY, f64::min);
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quartile = |quarters: usize| sorted.get(sorted.len() * quarters / 4).copied().unwrap_or(mean);
    let starts = [mean, quartile(1), quartile(2), quartile(3)];
    let fits = starts
        .into_iter()
        .filter_map(|place| fit(scores, truths, [largest, smallest, place, spread / 4.0], value_and_slopes4));
    fits.min_by(|one, other| {
        let faults = |fit: &Fit<4>| (!has_a_slope(scores, fit.parameters), !fit.converged);
        faults(one).cmp(&faults(other)).then(one.rmse.total_cmp(&other.rmse))
    })
}

/// `b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5`, from 10, 0, mean y, 0.1, 0.1: near the straight line, and from there only.
///
/// `None` for fewer scores than parameters, or where scores or truths are all equal.
pub fn logistic5(scores: &[f64], truths: &[f64]) -> Option<Fit<5>> {
    let (mean, _) = mean_and_spread(truths);
    fit(scores, truths, [10.0, 0.0, mean, 0.1, 0.1], value_and_slopes5)
}

/// The value of the 5-parameter curve at the score `x`.
pub fn value5(x: f64, parameters: [f64; 5]) -> f64 {
    value_and_slopes5(x, parameters).0
}

/// The share of its rise that the 4-parameter curve has behind it at the score `x`.
fn risen(x: f64, [_, _, c, d]: [f64; 4]) -> f64 {
    1.0 / (1.0 + libm::exp(-(x - c) / d.abs()))
}

/// Whether at least two different scores lie where the curve rises: fewer cannot tell the place of the rise from its width.
fn has_a_slope(scores: &[f64], parameters: [f64; 4]) -> bool {
    let mut on_it = scores.iter().filter(|x| (0.001..=0.999).contains(&risen(**x, parameters)));
    on_it.next().is_some_and(|first| on_it.any(|other| other != first))
}

fn value_and_slopes4(x: f64, [a, b, c, d]: [f64; 4]) -> (f64, [f64; 4]) {
    let (width, height) = (d.abs(), a - b);
    let place = (x - c) / width;
    let step = risen(x, [a, b, c, d]);
    let slope = height * step * (1.0 - step) / width;
    (b + height * step, [step, 1.0 - step, -slope, -slope * place * d.signum()])
}

fn value_and_slopes5(x: f64, [b1, b2, b3, b4, b5]: [f64; 5]) -> (f64, [f64; 5]) {
    let step = 1.0 / (1.0 + libm::exp(b2 * (x - b3)));
    let slope = b1 * step * (1.0 - step);
    (b1 * (0.5 - step) + b4 * x + b5, [0.5 - step, slope * (x - b3), -slope * b2, x, 1.0])
}

fn fit<const P: usize>(
    scores: &[f64],
    truths: &[f64],
    start: [f64; P],
    curve: fn(f64, [f64; P]) -> (f64, [f64; P]),
) -> Option<Fit<P>> {
    if scores.len() < P || is_constant(scores) || is_constant(truths) {
        return None;
    }
    let problem = Curve { scores, truths, parameters: SVector::from(start), value_and_slopes: curve };
    let search = LevenbergMarquardt::<f64>::new().with_ftol(TOLERANCE).with_xtol(TOLERANCE).with_patience(PATIENCE);
    let (found, report) = search.minimize(problem);
    let parameters = found.parameters.into();
    let fitted: Vec<f64> = scores.iter().map(|x| curve(*x, parameters).0).collect();
    let direction = pearson(scores, &fitted).unwrap_or(0.0);
    Some(Fit {
        parameters,
        plcc: pearson(&fitted, truths),
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
    use crate::correlation::tests::golden;

    /// The cases of scipy's that have fits, as name, scores, truths and the fits.
    fn cases() -> Vec<(String, Vec<f64>, Vec<f64>, Value)> {
        let cases: Value = serde_json::from_str(include_str!("../tests/correlations.json")).unwrap();
        let cases = cases.as_array().unwrap().iter().filter(|case| case.get("fit4").is_some());
        let list = |case: &Value, name: &str| -> Vec<f64> {
            case[name].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
        };
        cases.map(|it| (it["name"].to_string(), list(it, "x"), list(it, "y"), it.clone())).collect()
    }

    /// PLCC, RMSE, whether it converged, and the direction.
    fn told<const P: usize>(fit: Option<Fit<P>>) -> (f64, f64, bool, i8) {
        let fit = fit.unwrap();
        (fit.plcc.unwrap(), fit.rmse, fit.converged, fit.sign)
    }

    #[test]
    fn the_fits_are_scipys() {
        for (name, x, y, case) in cases() {
            for (kind, found) in [("fit4", told(logistic4(&x, &y))), ("fit5", told(logistic5(&x, &y)))] {
                let (plcc, rmse, converged, sign) = found;
                let number = |key: &str| case[kind][key].as_f64().unwrap();
                assert!(converged, "{name} {kind}");
                assert!((plcc - number("plcc")).abs() < 1e-6, "{name} {kind}: {found:?}");
                assert!((rmse - number("rmse")).abs() < 1e-5, "{name} {kind}: {found:?}");
                assert_eq!(f64::from(sign), number("sign"), "{name} {kind}");
            }
        }
    }

    #[test]
    fn the_fits_are_those_of_the_golden_cases() {
        for case in golden().as_array().into_iter().flatten() {
            let list = |name: &str| -> Vec<f64> {
                case[name].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
            };
            let (x, y) = (list("x"), list("y"));
            for (kind, found) in [("fit4", told(logistic4(&x, &y))), ("fit5", told(logistic5(&x, &y)))] {
                // Where scipy gave up there is nothing to compare with.
                let Some(expected) = case[kind]["plcc"].as_f64() else { continue };
                assert!((found.0 - expected).abs() < 1e-6, "{} {kind}: {found:?} is not {expected}", case["name"]);
            }
        }
    }

    #[test]
    fn a_step_between_two_neighbours_is_no_fit_where_a_curve_is_to_be_had() {
        // A curve from 2 to 4, and one outlier at the lowest score: a step right behind it lies closer to the truths.
        let x: Vec<f64> = (0..30).map(f64::from).collect();
        let y: Vec<f64> =
            x.iter().map(|x| if *x == 0.0 { 12.0 } else { 2.0 + 2.0 * risen(*x, [0.0, 0.0, 20.0, 2.0]) }).collect();
        let step = |x: f64| if x == 0.0 { 12.0 } else { y[1..].iter().sum::<f64>() / 29.0 };
        let fit = logistic4(&x, &y).unwrap();
        assert!(rmse(&x.iter().map(|x| step(*x)).collect::<Vec<_>>(), &y).unwrap() < fit.rmse);
        assert!(has_a_slope(&x, fit.parameters), "{fit:?}");
    }

    #[test]
    fn two_scores_alone_are_fitted_by_a_step() {
        let fit = logistic4(&[1.0, 1.0, 1.0, 5.0, 5.0], &[1.0, 2.0, 1.5, 4.0, 5.0]).unwrap();
        assert!(
            (fit.plcc.unwrap() - pearson(&[1.0, 1.0, 1.0, 5.0, 5.0], &[1.0, 2.0, 1.5, 4.0, 5.0]).unwrap()).abs() < 1e-6
        );
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
