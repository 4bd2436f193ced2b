//! How far policies lie apart: each coefficient less the baseline's, on the pictures that both have scores for, with a
//! bootstrap interval paired by picture. Without it a gap of a hundredth says nothing.

use std::collections::HashMap;

use evoq_schemas::{Coefficient, Decoding, Difference, Grouping, ImageId, Truth};
use evoq_stage::bad_input;

use crate::Args;
use crate::bootstrap::{Four, interval};
use crate::coefficients::{Coefficients, Judged, coefficients, resampled_coefficients};
use crate::groups::Group;
use crate::measure::{WEIGHTED_MEAN, weighted};
use crate::subset::{ALL, Subset};

/// The coefficients in the order of [`Four`].
const COEFFICIENTS: [Coefficient; 4] = [Coefficient::Plcc, Coefficient::Srcc, Coefficient::Krcc, Coefficient::Rmse];

/// The digest of the policy that the others are compared with: the one that begins with `digits`, or the first.
pub fn baseline(groups: &[Group], digits: Option<&str>) -> anyhow::Result<String> {
    let mut policies: Vec<&str> = Vec::new();
    for group in groups {
        if !policies.contains(&group.policy.as_str()) {
            policies.push(&group.policy);
        }
    }
    let Some(digits) = digits else {
        return Ok(policies.first().copied().unwrap_or_default().to_owned());
    };
    let found: Vec<&str> = policies.iter().copied().filter(|it| it.starts_with(digits)).collect();
    match found.as_slice() {
        [policy] => Ok((*policy).to_owned()),
        _ => Err(bad_input(format!(
            "--baseline {digits}: {} of the policies in --scores begin with it; they are {}",
            found.len(),
            policies.join(", ")
        ))),
    }
}

/// Two policies on a set: their coefficients, the resamples of the differences, and the set's weight.
struct Pairing {
    policy: String,
    decoding: Decoding,
    n: u32,
    values: [Option<f64>; 4],
    baseline_values: [Option<f64>; 4],
    resamples: Vec<Four>,
    weight: f64,
}

/// Each policy against the baseline: per set, subset and grouping, and over all sets.
pub fn differences(
    args: &Args,
    groups: &[Group],
    subsets: &[Subset],
    truth: Truth,
    baseline: &str,
) -> anyhow::Result<Vec<Difference>> {
    let mut rows = Vec::new();
    let mut whole: Vec<Pairing> = Vec::new();
    for group in groups.iter().filter(|group| group.policy != baseline) {
        let same = |it: &&Group| it.policy == baseline && it.dataset == group.dataset && it.decoding == group.decoding;
        // A set that the baseline was not scored on has nothing to be compared with.
        let Some(against) = groups.iter().find(same) else { continue };
        for subset in subsets {
            for grouping in [Grouping::All, Grouping::WithinDistortion] {
                let Some(pairing) = pairing(args, group, against, subset, grouping)? else { continue };
                let place = |coefficient| row(&pairing, coefficient, baseline, &group.dataset, truth, grouping, subset);
                rows.extend((0..COEFFICIENTS.len()).map(place));
                if grouping == Grouping::All && subset.name == ALL {
                    whole.push(pairing);
                }
            }
        }
    }
    rows.extend(over_sets(&whole, baseline, truth));
    Ok(rows)
}

fn pairing(
    args: &Args,
    group: &Group,
    against: &Group,
    subset: &Subset,
    grouping: Grouping,
) -> anyhow::Result<Option<Pairing>> {
    let others: HashMap<&ImageId, &Judged> = against.pictures.iter().map(|it| (&it.image_id, it)).collect();
    let of_part =
        |it: &&Judged| subset.has(it.distortion.as_deref()) && (grouping == Grouping::All || it.distortion.is_some());
    let both = group.pictures.iter().filter(of_part).filter_map(|it| {
        let other = *others.get(&it.image_id)?;
        (it.score.is_some() && other.score.is_some()).then_some((it, other))
    });
    let (ours, theirs): (Vec<&Judged>, Vec<&Judged>) = both.unzip();
    if ours.is_empty() {
        return Ok(None);
    }
    let n = ours.len();
    let values = four(coefficients(&ours, grouping));
    let baseline_values = four(coefficients(&theirs, grouping));
    let set = format!("{}/{}", group.dataset, subset.name);
    let resamples = resampled_coefficients(&[ours, theirs], grouping, args.seed, &set, args.resamples);
    let differences = match resamples.as_slice() {
        [ours, theirs] => {
            ours.iter().zip(theirs).map(|(a, b)| std::array::from_fn(|which| a[which] - b[which])).collect()
        }
        _ => Vec::new(),
    };
    Ok(Some(Pairing {
        policy: group.policy.clone(),
        decoding: group.decoding,
        n: n as u32,
        values,
        baseline_values,
        resamples: differences,
        weight: args.weights.of(&group.dataset, n)?,
    }))
}

fn four(found: Coefficients) -> [Option<f64>; 4] {
    [found.plcc, found.srcc, found.krcc, found.rmse]
}

fn row(
    pairing: &Pairing,
    which: usize,
    baseline: &str,
    dataset: &str,
    truth: Truth,
    grouping: Grouping,
    subset: &Subset,
) -> Difference {
    let (value, baseline_value) = (pairing.values[which], pairing.baseline_values[which]);
    let found = interval(pairing.resamples.iter().map(|it| it[which]));
    let difference = value.zip(baseline_value).map(|(a, b)| a - b);
    Difference {
        policy: pairing.policy.clone(),
        baseline: baseline.to_owned(),
        dataset: dataset.to_owned(),
        truth,
        grouping,
        subset: subset.name.clone(),
        decoding: pairing.decoding,
        coefficient: COEFFICIENTS[which],
        n: pairing.n,
        value,
        baseline_value,
        difference,
        low: found.map(|it| it.low),
        high: found.map(|it| it.high),
        distinguishable: found.map(|it| it.low > 0.0 || it.high < 0.0),
        gain: gain(value, baseline_value),
        gain_of_averages: None,
    }
}

/// The relative gain; `None` over a baseline of 0.
fn gain(value: Option<f64>, baseline: Option<f64>) -> Option<f64> {
    value.zip(baseline).map(|(value, baseline)| value / baseline - 1.0).filter(|it| it.is_finite())
}

/// Each policy and decoding that was compared on several sets: the weighted means. The two definitions of a gain part here: the
/// mean of the sets' own gains, and the gain of the means.
fn over_sets(whole: &[Pairing], baseline: &str, truth: Truth) -> Vec<Difference> {
    let mut rows = Vec::new();
    let mut seen: Vec<(&str, Decoding)> = Vec::new();
    for it in whole {
        let key = (it.policy.as_str(), it.decoding);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let sets: Vec<&Pairing> = whole.iter().filter(|it| (it.policy.as_str(), it.decoding) == key).collect();
        if sets.len() > 1 {
            rows.extend((0..COEFFICIENTS.len()).map(|which| mean_row(&sets, which, baseline, truth)));
        }
    }
    rows
}

fn mean_row(sets: &[&Pairing], which: usize, baseline: &str, truth: Truth) -> Difference {
    let weights: Vec<f64> = sets.iter().map(|it| it.weight).collect();
    let mean = |value: &dyn Fn(&Pairing) -> Option<f64>| {
        let values: Option<Vec<f64>> = sets.iter().map(|it| value(it)).collect();
        values.map(|values| weighted(&values, &weights))
    };
    let count = sets.iter().map(|it| it.resamples.len()).min().unwrap_or(0);
    let resample = |number: usize| {
        let values: Vec<f64> = sets.iter().map(|it| it.resamples[number][which]).collect();
        weighted(&values, &weights)
    };
    let pairing = Pairing {
        policy: sets[0].policy.clone(),
        decoding: sets[0].decoding,
        n: sets.iter().map(|it| it.n).sum(),
        values: std::array::from_fn(|at| if at == which { mean(&|it| it.values[which]) } else { None }),
        baseline_values: std::array::from_fn(
            |at| if at == which { mean(&|it| it.baseline_values[which]) } else { None },
        ),
        resamples: (0..count)
            .map(|number| std::array::from_fn(|at| if at == which { resample(number) } else { f64::NAN }))
            .collect(),
        weight: weights.iter().sum(),
    };
    let all = Subset { name: ALL.to_owned(), types: None };
    let row = row(&pairing, which, baseline, WEIGHTED_MEAN, truth, Grouping::All, &all);
    let gain_of_averages = row.gain;
    Difference { gain: mean(&|it| gain(it.values[which], it.baseline_values[which])), gain_of_averages, ..row }
}

/// Says in the log which policies can be told apart by SRCC.
pub fn say(rows: &[Difference]) {
    let told =
        |row: &&Difference| row.coefficient == Coefficient::Srcc && row.grouping == Grouping::All && row.subset == ALL;
    for row in rows.iter().filter(told) {
        let (Some(difference), Some(low), Some(high)) = (row.difference, row.low, row.high) else { continue };
        let verdict = if row.distinguishable == Some(true) { "" } else { ": not distinguishable" };
        let head = |digest: &str| digest.get(..8).unwrap_or(digest).to_owned();
        tracing::info!(
            "{}, {}: SRCC of {} less {}'s is {difference:+.4} ({low:+.4} to {high:+.4}, 95 %) over {} pictures{verdict}",
            row.dataset,
            row.decoding,
            head(&row.policy),
            head(&row.baseline),
            row.n
        );
    }
}
