//! A policy on a data set: the row of the table `correlations`, and the resamples behind its intervals.

use evoq_schemas::{Correlation, Grouping, Truth};

use crate::Args;
use crate::bootstrap::{Four, interval};
use crate::coefficients::{Judged, coefficients, lists, resampled_coefficients};
use crate::fit::{logistic4, logistic5};
use crate::groups::Group;
use crate::subset::{ALL, Subset};

/// What the mean over sets stands under in the column `dataset`.
pub const WEIGHTED_MEAN: &str = "weighted-mean";

/// A row with the resamples of its coefficients.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The row.
    pub row: Correlation,
    resamples: Vec<Four>,
}

impl Measured {
    fn new(mut row: Correlation, resamples: Vec<Four>) -> Self {
        let ends = |which: usize| interval(resamples.iter().map(|it| it[which])).map(|it| (it.low, it.high)).unzip();
        (row.plcc_low, row.plcc_high) = ends(0);
        (row.srcc_low, row.srcc_high) = ends(1);
        (row.krcc_low, row.krcc_high) = ends(2);
        (row.rmse_low, row.rmse_high) = ends(3);
        Self { row, resamples }
    }
}

/// The rows of `subset`: over all its pictures, and within distortion types where it has variants.
pub fn measure(args: &Args, group: &Group, truth: Truth, subset: &Subset) -> anyhow::Result<Vec<Measured>> {
    let pictures: Vec<&Judged> = group.pictures.iter().filter(|it| subset.has(it.distortion.as_deref())).collect();
    let variants: Vec<&Judged> = pictures.iter().copied().filter(|it| it.distortion.is_some()).collect();
    let mut rows = vec![measured(args, group, truth, subset, Grouping::All, &pictures)?];
    if !variants.is_empty() {
        rows.push(measured(args, group, truth, subset, Grouping::WithinDistortion, &variants)?);
    }
    Ok(rows)
}

fn measured(
    args: &Args,
    group: &Group,
    truth: Truth,
    subset: &Subset,
    grouping: Grouping,
    pictures: &[&Judged],
) -> anyhow::Result<Measured> {
    let found = coefficients(pictures, grouping);
    let scored: Vec<&Judged> = pictures.iter().copied().filter(|it| it.score.is_some()).collect();
    let fits = (grouping == Grouping::All).then(|| {
        let (scores, truths) = lists(&scored);
        (logistic4(&scores, &truths), logistic5(&scores, &truths))
    });
    let (fit4, fit5) = fits.unwrap_or_default();
    let row = Correlation {
        policy: group.policy.clone(),
        dataset: group.dataset.clone(),
        truth,
        grouping,
        subset: subset.name.clone(),
        decoding: group.decoding,
        samples: group.samples,
        n: scored.len() as u32,
        n_invalid: (pictures.len() - scored.len()) as u32,
        replies_valid: pictures.iter().map(|it| it.valid).sum(),
        replies: pictures.iter().map(|it| it.replies).sum(),
        plcc: found.plcc,
        srcc: found.srcc,
        krcc: found.krcc,
        rmse: found.rmse,
        plcc_low: None,
        plcc_high: None,
        srcc_low: None,
        srcc_high: None,
        krcc_low: None,
        krcc_high: None,
        rmse_low: None,
        rmse_high: None,
        plcc_fit4: fit4.and_then(|it| it.plcc),
        rmse_fit4: fit4.map(|it| it.rmse),
        fit4_converged: fit4.map(|it| it.converged),
        plcc_fit5: fit5.and_then(|it| it.plcc),
        rmse_fit5: fit5.map(|it| it.rmse),
        fit5_converged: fit5.map(|it| it.converged),
        sign: fit4.map(|it| it.sign),
        weight: args.weights.of(&group.dataset, scored.len())?,
    };
    let set = format!("{}/{}", group.dataset, subset.name);
    let mut resamples = resampled_coefficients(&[scored], grouping, args.seed, &set, args.resamples);
    Ok(Measured::new(row, resamples.pop().unwrap_or_default()))
}

/// The mean over the sets of each policy and decoding that was measured on several: of their coefficients, and resample by
/// resample, so that it has an interval as well.
pub fn weighted_mean(measured: &[Measured]) -> Vec<Measured> {
    let whole = |it: &&Measured| it.row.subset == ALL && it.row.grouping == Grouping::All;
    let mut sets: Vec<Vec<&Measured>> = Vec::new();
    for it in measured.iter().filter(whole) {
        let same =
            |other: &Vec<&Measured>| other[0].row.policy == it.row.policy && other[0].row.decoding == it.row.decoding;
        match sets.iter_mut().find(|other| same(other)) {
            Some(sets) => sets.push(it),
            None => sets.push(vec![it]),
        }
    }
    sets.iter().filter(|sets| sets.len() > 1).map(|sets| mean_of(sets)).collect()
}

fn mean_of(sets: &[&Measured]) -> Measured {
    let weights: Vec<f64> = sets.iter().map(|it| it.row.weight).collect();
    // A set without a coefficient leaves the mean without one: it is not quietly a mean of the others.
    let mean = |value: fn(&Correlation) -> Option<f64>| {
        let values: Option<Vec<f64>> = sets.iter().map(|it| value(&it.row)).collect();
        values.map(|values| weighted(&values, &weights))
    };
    let sum = |value: fn(&Correlation) -> u32| sets.iter().map(|it| value(&it.row)).sum();
    let row = Correlation {
        dataset: WEIGHTED_MEAN.to_owned(),
        n: sum(|it| it.n),
        n_invalid: sum(|it| it.n_invalid),
        replies_valid: sum(|it| it.replies_valid),
        replies: sum(|it| it.replies),
        plcc: mean(|it| it.plcc),
        srcc: mean(|it| it.srcc),
        krcc: mean(|it| it.krcc),
        rmse: mean(|it| it.rmse),
        plcc_fit4: None,
        rmse_fit4: None,
        fit4_converged: None,
        plcc_fit5: None,
        rmse_fit5: None,
        fit5_converged: None,
        sign: None,
        weight: weights.iter().sum(),
        ..sets[0].row.clone()
    };
    let count = sets.iter().map(|it| it.resamples.len()).min().unwrap_or(0);
    let resample = |number: usize| {
        std::array::from_fn(|which| {
            let values: Vec<f64> = sets.iter().map(|it| it.resamples[number][which]).collect();
            weighted(&values, &weights)
        })
    };
    Measured::new(row, (0..count).map(resample).collect())
}

/// The mean of `values` by `weights`.
pub fn weighted(values: &[f64], weights: &[f64]) -> f64 {
    let sum: f64 = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
    sum / weights.iter().sum::<f64>()
}
