//! The coefficients between scores and a truth: Pearson's (PLCC), Spearman's (SRCC), Kendall's tau-b (KRCC), and the RMSE.
//!
//! Both lists are of one length and finite. A coefficient is `None` where it is not defined: fewer than two pictures, or a
//! list whose values are all equal or too close to be told apart.

/// Pearson's linear correlation.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if is_constant(x) || is_constant(y) {
        return None;
    }
    let (x, y) = (centred(x), centred(y));
    let product: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    // Of values that differ by next to nothing the squares vanish.
    Some(product / norm(&x) / norm(&y)).filter(|it| it.is_finite()).map(|it| it.clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: Pearson's over ranks, equal values sharing the average of theirs.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&average_ranks(x), &average_ranks(y))
}

/// Kendall's tau-b, in O(n log n) by Knight's method: discordant pairs are the inversions of y in the order of x.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    if is_constant(x) || is_constant(y) {
        return None;
    }
    let mut ranks: Vec<(usize, usize)> = dense_ranks(x).into_iter().zip(dense_ranks(y)).collect();
    ranks.sort_unstable();
    let pairs = pairs_of(ranks.len());
    let tied_in_x = tied_pairs(ranks.iter().map(|(x, _)| x));
    let tied_in_both = tied_pairs(ranks.iter());
    let mut y: Vec<usize> = ranks.into_iter().map(|(_, y)| y).collect();
    let discordant = sort_counting_inversions(&mut y);
    let tied_in_y = tied_pairs(y.iter());
    let surplus = (pairs + tied_in_both) as f64 - (tied_in_x + tied_in_y + 2 * discordant) as f64;
    let untied = |tied: u64| ((pairs - tied) as f64).sqrt();
    Some((surplus / untied(tied_in_x) / untied(tied_in_y)).clamp(-1.0, 1.0))
}

/// The root mean square difference; `None` without a picture.
pub fn rmse(x: &[f64], y: &[f64]) -> Option<f64> {
    let squares: f64 = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
    (!x.is_empty()).then(|| (squares / x.len() as f64).sqrt())
}

/// Whether all values are equal, or there is one at most.
pub fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|it| it[0] == it[1])
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// The positions of `values` in ascending order, cut into runs of equal values.
fn runs(values: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order.chunk_by(|a, b| values[*a] == values[*b]).map(<[usize]>::to_vec).collect()
}

/// Ranks from 1; equal values share the average of theirs.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for run in runs(values) {
        let rank = before as f64 + (run.len() + 1) as f64 / 2.0;
        before += run.len();
        for position in run {
            ranks[position] = rank;
        }
    }
    ranks
}

/// Ranks from 0 without gaps; equal values have one rank.
pub(crate) fn dense_ranks(values: &[f64]) -> Vec<usize> {
    let mut ranks = vec![0; values.len()];
    for (rank, run) in runs(values).into_iter().enumerate() {
        for position in run {
            ranks[position] = rank;
        }
    }
    ranks
}

fn pairs_of(count: usize) -> u64 {
    let count = count as u64;
    count * count.saturating_sub(1) / 2
}

/// How many pairs of equal items a sorted sequence has.
fn tied_pairs<T: PartialEq>(sorted: impl Iterator<Item = T>) -> u64 {
    let mut tied = 0;
    let mut run: Option<(T, usize)> = None;
    for item in sorted {
        run = match run {
            Some((value, length)) if value == item => Some((value, length + 1)),
            ended => {
                tied += pairs_of(ended.map_or(0, |it| it.1));
                Some((item, 1))
            }
        };
    }
    tied + pairs_of(run.map_or(0, |it| it.1))
}

/// Sorts by merging, and counts the pairs that stood in descending order.
fn sort_counting_inversions(values: &mut [usize]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut inversions = sort_counting_inversions(left) + sort_counting_inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if left[i] <= right[j] {
            merged.push(left[i]);
            i += 1;
        } else {
            merged.push(right[j]);
            j += 1;
            inversions += (left.len() - i) as u64;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    values.copy_from_slice(&merged);
    inversions
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use evoq_artifacts::read_file;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Compares all four with the values of `cases` to `tolerance`. `within_root` is what the cases' RMSE adds to the mean
    /// square difference.
    fn check(cases: &Value, tolerance: f64, within_root: f64) {
        for case in cases.as_array().unwrap() {
            let list = |name: &str| -> Vec<f64> {
                case[name].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
            };
            let (x, y) = (list("x"), list("y"));
            let found = [
                ("plcc", pearson(&x, &y)),
                ("srcc", spearman(&x, &y)),
                ("krcc", kendall(&x, &y)),
                ("rmse", rmse(&x, &y).map(|it| (it * it + within_root).sqrt())),
            ];
            for (name, value) in found {
                let expected = case[name].as_f64().unwrap();
                let value = value.unwrap();
                let bound = tolerance * expected.abs().max(1.0);
                assert!((value - expected).abs() <= bound, "{} {name}: {value} is not {expected}", case["name"]);
            }
        }
    }

    #[test]
    fn the_coefficients_are_scipys() {
        check(&serde_json::from_str(include_str!("../tests/correlations.json")).unwrap(), 1e-13, 0.0);
    }

    /// The golden cases, scipy's; null, and said so, where they are not there.
    pub(crate) fn golden() -> Value {
        let shared = std::env::var_os("EVOQ_SHARED")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
        let path = shared.join("golden/corr/cases.json");
        let Ok(text) = read_file(&path) else {
            println!("SKIPPED: {} is not there (EVOQ_SHARED)", path.display());
            return Value::Null;
        };
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn the_coefficients_are_those_of_the_golden_cases() {
        let cases = golden();
        if !cases.is_null() {
            // These take their RMSE as sqrt(mean + 1e-8).
            check(&cases, 1e-12, 1e-8);
        }
    }

    #[test]
    fn a_list_without_spread_has_no_correlation() {
        for (x, y) in [(&[2.0; 3], &[1.0, 2.0, 3.0]), (&[1.0, 2.0, 3.0], &[2.0; 3])] {
            assert_eq!((pearson(x, y), spearman(x, y), kendall(x, y)), (None, None, None));
        }
        assert_eq!((pearson(&[], &[]), spearman(&[1.0], &[1.0]), kendall(&[], &[])), (None, None, None));
        assert_eq!(rmse(&[], &[]), None);
        // The squares of such differences vanish.
        assert_eq!(pearson(&[0.0, 1e-200, 2e-200], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn equal_values_share_the_average_of_their_ranks() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 0.0, 3.0]), [4.0, 2.0, 4.0, 1.0, 4.0]);
        assert_eq!(average_ranks(&[0.0, -0.0]), [1.5, 1.5]);
    }

    /// Tau-b by looking at every pair.
    fn kendall_slowly(x: &[f64], y: &[f64]) -> f64 {
        let sign = |a: f64, b: f64| f64::from(i8::from(a > b) - i8::from(a < b));
        let (mut surplus, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
        for i in 0..x.len() {
            for j in 0..i {
                let (dx, dy) = (sign(x[i], x[j]), sign(y[i], y[j]));
                surplus += dx * dy;
                untied_x += dx * dx;
                untied_y += dy * dy;
            }
        }
        surplus / f64::sqrt(untied_x) / f64::sqrt(untied_y)
    }

    /// Lists with many ties: what greedy replies give.
    fn lists() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
        let value = || (0i32..12).prop_map(|it| f64::from(it) / 4.0);
        proptest::collection::vec((value(), value()), 2..60).prop_map(|pairs| pairs.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn the_fast_tau_is_the_slow_one((x, y) in lists()) {
            prop_assume!(!is_constant(&x) && !is_constant(&y));
            prop_assert!((kendall(&x, &y).unwrap() - kendall_slowly(&x, &y)).abs() < 1e-12);
        }

        #[test]
        fn the_order_of_the_pictures_does_not_matter((x, y) in lists(), turn in 0usize..60) {
            let turned = |values: &[f64]| {
                let mut values = values.to_vec();
                let by = turn % values.len();
                values.rotate_left(by);
                values
            };
            for coefficient in [pearson, spearman, kendall, rmse] {
                let (here, there) = (coefficient(&x, &y), coefficient(&turned(&x), &turned(&y)));
                prop_assert_eq!(here.is_some(), there.is_some());
                prop_assert!((here.unwrap_or(0.0) - there.unwrap_or(0.0)).abs() < 1e-12);
            }
        }

        #[test]
        fn ranks_see_only_the_order_of_the_scores((x, y) in lists()) {
            let stretched: Vec<f64> = x.iter().map(|it| it * it * it + it).collect();
            prop_assert_eq!(spearman(&x, &y), spearman(&stretched, &y));
            prop_assert_eq!(kendall(&x, &y), kendall(&stretched, &y));
        }

        #[test]
        fn turning_the_scores_round_turns_the_sign((x, y) in lists()) {
            let turned: Vec<f64> = x.iter().map(|it| -it).collect();
            for coefficient in [pearson, spearman, kendall] {
                let (here, there) = (coefficient(&x, &y), coefficient(&turned, &y));
                prop_assert_eq!(here.is_some(), there.is_some());
                prop_assert!((here.unwrap_or(0.0) + there.unwrap_or(0.0)).abs() < 1e-12);
            }
        }
    }
}
