//! All coefficients of a group of pictures: over all of them at once, or within each distortion type and averaged.

use std::collections::BTreeMap;

use evoq_schemas::{Grouping, ImageId};

use crate::bootstrap::{Four, resampled};
use crate::correlation::{is_constant, kendall, pearson, rmse, spearman};

/// A picture with its truth, and its score where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The picture.
    pub image_id: ImageId,
    /// The distortion type of a variant.
    pub distortion: Option<String>,
    /// What the score is compared with; larger is better.
    pub truth: f64,
    /// The mean of the valid replies; `None` without one.
    pub score: Option<f64>,
    /// Valid replies.
    pub valid: u32,
    /// Replies.
    pub replies: u32,
}

/// The coefficients of scores against truth. `None` where one is not defined.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Coefficients {
    /// Pearson's linear correlation.
    pub plcc: Option<f64>,
    /// Spearman's rank correlation.
    pub srcc: Option<f64>,
    /// Kendall's tau-b.
    pub krcc: Option<f64>,
    /// Root mean square difference.
    pub rmse: Option<f64>,
}

/// The coefficients of `pictures`, those that have a score.
///
/// Within distortion types every type has the same weight. A type in which all truths are equal says nothing about a policy and
/// is left out. A type in which all scores are equal although the truths differ counts as a correlation of 0: leaving it out
/// would reward a policy for replying the same.
pub fn coefficients(pictures: &[&Judged], grouping: Grouping) -> Coefficients {
    let found: Vec<Coefficients> = strata(pictures, grouping)
        .values()
        .map(|pictures| {
            let (scores, truths) = lists(pictures);
            Coefficients {
                plcc: pearson(&scores, &truths),
                srcc: spearman(&scores, &truths),
                krcc: kendall(&scores, &truths),
                rmse: rmse(&scores, &truths),
            }
        })
        .collect();
    let mean = |value: fn(&Coefficients) -> Option<f64>| match grouping {
        Grouping::All => found.first().and_then(value),
        Grouping::WithinDistortion => {
            let sum: f64 = found.iter().map(|it| value(it).unwrap_or(0.0)).sum();
            (!found.is_empty()).then(|| sum / found.len() as f64)
        }
    };
    Coefficients {
        plcc: mean(|it| it.plcc),
        srcc: mean(|it| it.srcc),
        krcc: mean(|it| it.krcc),
        rmse: mean(|it| it.rmse),
    }
}

/// The coefficients in `resamples` resamples, drawn within each distortion type where they are taken within types. `policies`
/// holds the same pictures in the same order, one list a policy; all have scores. By policy, then by resample.
pub fn resampled_coefficients(
    policies: &[Vec<&Judged>],
    grouping: Grouping,
    seed: u64,
    set: &str,
    resamples: u32,
) -> Vec<Vec<Four>> {
    let strata: Vec<_> = policies.iter().map(|pictures| strata(pictures, grouping)).collect();
    let Some(first) = strata.first() else { return Vec::new() };
    let mut sums = vec![vec![[0.0; 4]; if first.is_empty() { 0 } else { resamples as usize }]; policies.len()];
    for (name, pictures) in first {
        let scores: Vec<Vec<f64>> = strata.iter().map(|it| lists(&it[name]).0).collect();
        let scores: Vec<&[f64]> = scores.iter().map(Vec::as_slice).collect();
        let found = resampled(&scores, &lists(pictures).1, seed, &format!("{set}/{name}"), resamples);
        for (sum, found) in sums.iter_mut().flatten().zip(found.into_iter().flatten()) {
            for (sum, found) in sum.iter_mut().zip(found) {
                *sum += match grouping {
                    Grouping::WithinDistortion if found.is_nan() => 0.0,
                    _ => found / first.len() as f64,
                };
            }
        }
    }
    sums
}

/// The pictures by the part over which a coefficient is taken: all at once, or each distortion type whose truths differ.
fn strata<'a>(pictures: &[&'a Judged], grouping: Grouping) -> BTreeMap<&'a str, Vec<&'a Judged>> {
    let mut strata: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    match grouping {
        Grouping::All => drop(strata.insert("", pictures.to_vec())),
        Grouping::WithinDistortion => {
            for picture in pictures {
                if let Some(distortion) = &picture.distortion {
                    strata.entry(distortion).or_default().push(picture);
                }
            }
            strata.retain(|_, pictures| !is_constant(&lists(pictures).1));
        }
    }
    strata
}

/// Scores and truths of the pictures that have a score.
pub fn lists(pictures: &[&Judged]) -> (Vec<f64>, Vec<f64>) {
    pictures.iter().filter_map(|it| Some((it.score?, it.truth))).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(distortion: &str, truth: f64, score: Option<f64>) -> Judged {
        let image_id = format!("{distortion}-{truth}").into();
        Judged { image_id, distortion: Some(distortion.to_owned()), truth, score, valid: 1, replies: 1 }
    }

    fn within(pictures: &[Judged]) -> Coefficients {
        coefficients(&pictures.iter().collect::<Vec<_>>(), Grouping::WithinDistortion)
    }

    #[test]
    fn within_types_the_level_of_a_type_does_not_matter() {
        let mut pictures = Vec::new();
        for (distortion, level) in [("blur", 0.0), ("noise", -3.0)] {
            pictures.extend((1..=4).map(|q| judged(distortion, f64::from(q), Some(f64::from(q) / 4.0 + 4.0 + level))));
        }
        assert!((within(&pictures).srcc.unwrap() - 1.0).abs() < 1e-12);
        let all: Vec<&Judged> = pictures.iter().collect();
        assert!(coefficients(&all, Grouping::All).srcc.unwrap() < 0.9);
    }

    #[test]
    fn a_type_with_equal_scores_counts_as_zero_and_one_with_equal_truths_not_at_all() {
        let mut pictures: Vec<Judged> = (1..=4).map(|q| judged("blur", f64::from(q), Some(f64::from(q)))).collect();
        pictures.extend((1..=4).map(|q| judged("noise", f64::from(q), Some(3.0))));
        pictures.extend((1..=4).map(|q| judged("jpeg", 2.0, Some(f64::from(q)))));
        assert!((within(&pictures).srcc.unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_picture_without_a_score_takes_no_part() {
        let mut pictures: Vec<Judged> = (1..=4).map(|q| judged("blur", f64::from(q), Some(f64::from(q)))).collect();
        let without = within(&pictures);
        pictures.push(judged("blur", 5.0, None));
        assert_eq!(within(&pictures), without);
    }

    #[test]
    fn resamples_within_types_average_over_the_types() {
        let mut pictures = Vec::new();
        for distortion in ["blur", "noise", "flat"] {
            let score = |q: u32| if distortion == "flat" { 3.0 } else { f64::from(q * q) };
            pictures.extend((1..=30).map(|q| judged(distortion, f64::from(q), Some(score(q)))));
        }
        let pictures: Vec<&Judged> = pictures.iter().collect();
        let found = resampled_coefficients(&[pictures], Grouping::WithinDistortion, 1, "set", 20);
        // Two types are followed exactly, the third counts as 0.
        assert!(found[0].iter().all(|it| (it[1] - 2.0 / 3.0).abs() < 1e-12), "{found:?}");
        assert!(found[0].iter().any(|it| it[0] != found[0][0][0]));
    }

    #[test]
    fn no_pictures_have_no_coefficients() {
        assert_eq!(coefficients(&[], Grouping::All), Coefficients::default());
        assert_eq!(within(&[]), Coefficients::default());
    }
}
