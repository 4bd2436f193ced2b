//! All coefficients of a group of pictures: over all of them at once, or within each distortion type and averaged.

use std::collections::BTreeMap;

use crate::correlation::{is_constant, kendall, pearson, rmse, spearman};

/// A picture with its truth, and its score where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
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

/// The coefficients over all `pictures` that have a score.
pub fn overall(pictures: &[&Judged]) -> Coefficients {
    let (scores, truths) = lists(pictures);
    Coefficients {
        plcc: pearson(&scores, &truths),
        srcc: spearman(&scores, &truths),
        krcc: kendall(&scores, &truths),
        rmse: rmse(&scores, &truths),
    }
}

/// The mean over distortion types of the coefficients within each, every type with the same weight.
///
/// A type in which all truths are equal says nothing about a policy and is left out. A type in which all scores are equal
/// although the truths differ counts as a correlation of 0: leaving it out would reward a policy for replying the same.
pub fn within_distortion(pictures: &[&Judged]) -> Coefficients {
    let mut types: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for picture in pictures {
        if let Some(distortion) = &picture.distortion {
            types.entry(distortion).or_default().push(picture);
        }
    }
    let telling = types.values().filter(|pictures| !is_constant(&lists(pictures).1));
    let found: Vec<Coefficients> = telling.map(|pictures| overall(pictures)).collect();
    let mean = |value: fn(&Coefficients) -> Option<f64>| {
        let sum: f64 = found.iter().map(|it| value(it).unwrap_or(0.0)).sum();
        (!found.is_empty()).then(|| sum / found.len() as f64)
    };
    Coefficients {
        plcc: mean(|it| it.plcc),
        srcc: mean(|it| it.srcc),
        krcc: mean(|it| it.krcc),
        rmse: mean(|it| it.rmse),
    }
}

/// Scores and truths of the pictures that have a score.
fn lists(pictures: &[&Judged]) -> (Vec<f64>, Vec<f64>) {
    pictures.iter().filter_map(|it| Some((it.score?, it.truth))).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(distortion: &str, truth: f64, score: Option<f64>) -> Judged {
        Judged { distortion: Some(distortion.to_owned()), truth, score, valid: 1, replies: 1 }
    }

    fn within(pictures: &[Judged]) -> Coefficients {
        within_distortion(&pictures.iter().collect::<Vec<_>>())
    }

    #[test]
    fn within_types_the_level_of_a_type_does_not_matter() {
        let mut pictures = Vec::new();
        for (distortion, level) in [("blur", 0.0), ("noise", -3.0)] {
            pictures.extend((1..=4).map(|q| judged(distortion, f64::from(q), Some(f64::from(q) / 4.0 + 4.0 + level))));
        }
        assert!((within(&pictures).srcc.unwrap() - 1.0).abs() < 1e-12);
        let all: Vec<&Judged> = pictures.iter().collect();
        assert!(overall(&all).srcc.unwrap() < 0.9);
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
    fn no_pictures_have_no_coefficients() {
        assert_eq!(overall(&[]), Coefficients::default());
        assert_eq!(within(&[]), Coefficients::default());
    }
}
