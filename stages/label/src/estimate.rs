//! Figures with their 95 % intervals, and Krippendorff's alpha. Pairs are taken as drawn independently; the votes of a pair
//! are not.

/// The normal distribution's 97.5 % point.
const Z: f64 = 1.959_963_984_540_054;

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// Over how many pairs, votes or triangles it is taken.
    pub n: u64,
    /// Its value; none where there is nothing to take it of.
    pub value: Option<f64>,
    /// Its 95 % interval, where one is given.
    pub interval: Option<[f64; 2]>,
}

/// The share `count` of `n` things that are drawn independently, with Wilson's interval.
pub fn share(count: u64, n: u64) -> Estimate {
    if n == 0 {
        return Estimate::default();
    }
    let (p, n_) = (count as f64 / n as f64, n as f64);
    let (centre, half) = (p + Z * Z / (2.0 * n_), Z * (p * (1.0 - p) / n_ + Z * Z / (4.0 * n_ * n_)).sqrt());
    let scale = 1.0 + Z * Z / n_;
    let interval = [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)];
    Estimate { n, value: Some(p), interval: Some(interval) }
}

/// The share of all votes that something holds of, from each pair's `(votes that it holds of, votes)`, with the interval of a
/// ratio of sums: votes of one pair hang together. With ones for votes it is the mean over pairs.
pub fn ratio(pairs: impl Iterator<Item = (f64, f64)>) -> Estimate {
    let pairs: Vec<(f64, f64)> = pairs.filter(|(_, votes)| *votes > 0.0).collect();
    let (held, votes) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    if pairs.is_empty() {
        return Estimate::default();
    }
    let value = held / votes;
    let squares: f64 = pairs.iter().map(|(held, votes)| (held - value * votes).powi(2)).sum();
    let n = pairs.len() as f64;
    let half = Z * (squares * n / (n - 1.0)).sqrt() / votes;
    let interval = (pairs.len() > 1).then(|| [(value - half).max(0.0), (value + half).min(1.0)]);
    Estimate { n: votes as u64, value: Some(value), interval }
}

/// Krippendorff's alpha of votes for two sides, nominal, from each pair's votes for either; those with fewer than two valid
/// votes have nothing to compare. 1 where all votes of a pair are one, 0 where they are as at chance; not defined where all
/// votes of all pairs are for one side. The interval is the jackknife's over pairs.
pub fn alpha(pairs: impl Iterator<Item = [u32; 2]>) -> Estimate {
    let comparable = |sides: &[f64; 2]| sides[0] + sides[1] >= 2.0;
    let pairs: Vec<[f64; 2]> = pairs.map(|sides| sides.map(f64::from)).filter(comparable).collect();
    // Votes for either side, and pairs of votes of a pair that disagree, each weighed by its pair's m - 1.
    let parts = |[a, b]: [f64; 2]| [a, b, 2.0 * a * b / (a + b - 1.0)];
    let all = pairs.iter().map(|sides| parts(*sides)).fold([0.0; 3], |sum, it| std::array::from_fn(|i| sum[i] + it[i]));
    let of = |[a, b, observed]: [f64; 3]| (a * b > 0.0).then(|| 1.0 - observed * (a + b - 1.0) / (2.0 * a * b));
    let without = pairs.iter().map(|sides| {
        let part = parts(*sides);
        of(std::array::from_fn(|i| all[i] - part[i]))
    });
    let without: Option<Vec<f64>> = without.collect();
    let value = of(all);
    let interval = value.zip(without.filter(|it| it.len() > 1)).map(|(value, without)| {
        let n = without.len() as f64;
        let mean = without.iter().sum::<f64>() / n;
        let squares: f64 = without.iter().map(|it| (it - mean).powi(2)).sum();
        let half = Z * (squares * (n - 1.0) / n).sqrt();
        [value - half, (value + half).min(1.0)]
    });
    Estimate { n: pairs.len() as u64, value, interval }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// `tests/reference.py` makes it, with numpy from the definition and with the package krippendorff.
    const REFERENCE: &str = include_str!("../tests/reference.json");

    #[test]
    fn figures_are_the_references() {
        let cases: serde_json::Value = serde_json::from_str(REFERENCE).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let pairs: Vec<[u32; 3]> = serde_json::from_value(case["pairs"].clone()).unwrap();
            let close = |found: Option<f64>, name: &str| {
                let (found, expected) = (found.unwrap(), case[name].as_f64().unwrap());
                assert!((found - expected).abs() < 1e-12, "{name}: {found} where the reference has {expected}");
            };
            let alpha = alpha(pairs.iter().map(|[a, b, _]| [*a, *b]));
            close(alpha.value, "alpha");
            close(alpha.interval.map(|it| it[0]), "alpha_low");
            close(alpha.interval.map(|it| it[1]), "alpha_high");
            let first = ratio(pairs.iter().map(|[a, b, first]| (f64::from(*first), f64::from(a + b))));
            close(first.value, "first_rate");
            close(first.interval.map(|it| it[0]), "first_rate_low");
            close(first.interval.map(|it| it[1]), "first_rate_high");
            let tied = pairs.iter().filter(|[a, b, _]| a == b).count();
            let ties = share(tied as u64, pairs.len() as u64);
            close(ties.interval.map(|it| it[0]), "ties_low");
            close(ties.interval.map(|it| it[1]), "ties_high");
        }
    }

    #[test]
    fn votes_that_all_agree_have_an_alpha_of_one_and_votes_at_chance_one_of_zero() {
        assert_eq!(alpha([[8, 0], [0, 8], [3, 0]].into_iter()).value, Some(1.0));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let votes = (0..4000).map(|_| {
            let a = (0..16).filter(|_| random.random_bool(0.5)).count() as u32;
            [a, 16 - a]
        });
        assert!(alpha(votes).value.unwrap().abs() < 0.01);
    }

    #[test]
    fn where_there_is_nothing_to_take_a_figure_of_there_is_none() {
        assert_eq!(alpha([[1, 0], [0, 0]].into_iter()), Estimate::default());
        // All for one side: nothing is expected to disagree.
        assert_eq!(alpha([[4, 0], [9, 0]].into_iter()).value, None);
        assert_eq!((share(0, 0), ratio([(0.0, 0.0)].into_iter())), (Estimate::default(), Estimate::default()));
        assert_eq!(ratio([(3.0, 4.0)].into_iter()), Estimate { n: 4, value: Some(0.75), interval: None });
    }

    #[test]
    fn nineteen_of_twenty_intervals_of_a_ratio_hold_the_truth() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut held = 0;
        for _ in 0..1000 {
            // Each pair has a rate of its own, so that its votes hang together; over all it is one half.
            let pairs: Vec<(f64, f64)> = (0..200)
                .map(|_| {
                    let rate: f64 = random.random();
                    ((0..16).filter(|_| random.random_bool(rate)).count() as f64, 16.0)
                })
                .collect();
            let [low, high] = ratio(pairs.into_iter()).interval.unwrap();
            held += i32::from(low <= 0.5 && 0.5 <= high);
        }
        assert!((925..=975).contains(&held), "{held} of 1000");
    }
}
