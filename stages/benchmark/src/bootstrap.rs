//! Bootstrap intervals, paired by picture: each resample draws pictures with replacement and takes all coefficients of all
//! policies on them, so that differences between two policies have an interval of their own.
//!
//! A resample is kept as the number of times that each picture was drawn. Ranks within it then follow from the ranks of the
//! whole set without sorting, and a coefficient costs O(n), Kendall's O(n log n).

use evoq_schemas::draws;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::correlation::dense_ranks;

/// The coefficients of a resample, in this order everywhere: PLCC, SRCC, KRCC, RMSE.
pub type Four = [f64; 4];

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end: the 2.5th percentile of the resamples.
    pub low: f64,
    /// Its upper end: the 97.5th percentile.
    pub high: f64,
}

/// Values of a set's pictures, prepared for resampling.
#[derive(Debug)]
struct Values {
    /// Centred on the mean and divided by the spread of the whole set: sums of squares lose nothing.
    scaled: Vec<f64>,
    /// The rank of each value, from 0, without gaps.
    ranks: Vec<u32>,
    /// How many different values there are.
    distinct: usize,
}

impl Values {
    fn new(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let spread = (values.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / count).sqrt();
        let spread = if spread > 0.0 { spread } else { 1.0 };
        let ranks: Vec<u32> = dense_ranks(values).into_iter().map(|it| it as u32).collect();
        Self {
            scaled: values.iter().map(|it| (it - mean) / spread).collect(),
            distinct: ranks.iter().max().map_or(0, |it| *it as usize + 1),
            ranks,
        }
    }
}

/// The scores of one policy beside the truth, prepared for resampling.
#[derive(Debug)]
struct Scored {
    values: Values,
    /// Squared difference of score and truth.
    squares: Vec<f64>,
    /// The pictures in ascending order of their scores.
    order: Vec<u32>,
}

/// What a thread keeps between resamples.
#[derive(Default)]
struct Scratch {
    drawn: Vec<u32>,
    of_truth: Ranks,
    of_scores: Ranks,
    seen: Heads,
}

/// How many pictures of a resample have each rank, and the average rank that they share.
#[derive(Default)]
struct Ranks {
    counts: Vec<u32>,
    /// Centred on the mean rank.
    averages: Vec<f64>,
    /// Sum of the squared averages over the resample.
    squares: f64,
    /// Pairs of equal values.
    tied: f64,
}

impl Ranks {
    fn fill(&mut self, values: &Values, drawn: &[u32]) {
        self.counts.clear();
        self.counts.resize(values.distinct, 0);
        for (rank, times) in values.ranks.iter().zip(drawn) {
            self.counts[*rank as usize] += times;
        }
        let middle = f64::midpoint(drawn.len() as f64, 1.0);
        let (mut before, mut squares, mut tied) = (0.0, 0.0, 0.0);
        self.averages.clear();
        for count in &self.counts {
            let count = f64::from(*count);
            let average = before + f64::midpoint(count, 1.0) - middle;
            self.averages.push(average);
            before += count;
            squares += count * average * average;
            tied += count * (count - 1.0) / 2.0;
        }
        (self.squares, self.tied) = (squares, tied);
    }
}

/// Counts by rank, of which any head can be summed fast: a tree of sixteen branches, of which each level is summed in one masked
/// vector step, without a branch that the processor could guess wrong.
#[derive(Default)]
struct Heads {
    /// The counts by rank, then sums of sixteen, of 256 and so on, until sixteen hold all.
    levels: Vec<Vec<u32>>,
}

/// The branches of a node of [`Heads`].
const BRANCHES: usize = 16;

/// The first `k` branches, as masks.
const HEAD: [[u32; BRANCHES]; BRANCHES] = {
    let mut masks = [[0; BRANCHES]; BRANCHES];
    let mut place = 0;
    while place < BRANCHES * BRANCHES {
        let (head, branch) = (place / BRANCHES, place % BRANCHES);
        masks[head][branch] = if branch < head { u32::MAX } else { 0 };
        place += 1;
    }
    masks
};

impl Heads {
    fn clear(&mut self, ranks: usize) {
        let mut nodes = ranks.div_ceil(BRANCHES).max(1);
        let mut depth = 0;
        loop {
            if self.levels.len() == depth {
                self.levels.push(Vec::new());
            }
            self.levels[depth].clear();
            self.levels[depth].resize(nodes * BRANCHES, 0);
            depth += 1;
            if nodes == 1 {
                break self.levels.truncate(depth);
            }
            nodes = nodes.div_ceil(BRANCHES);
        }
    }

    fn add(&mut self, mut rank: usize, times: u32) {
        for level in &mut self.levels {
            level[rank] += times;
            rank /= BRANCHES;
        }
    }

    /// How many have the rank `rank`.
    fn at(&self, rank: usize) -> u32 {
        self.levels[0][rank]
    }

    /// How many have a rank below `rank`.
    fn below(&self, mut rank: usize) -> u32 {
        let mut sums = [0; BRANCHES];
        for level in &self.levels {
            let (node, branch) = (rank / BRANCHES, rank % BRANCHES);
            let counts = &level[node * BRANCHES..][..BRANCHES];
            for ((sum, count), mask) in sums.iter_mut().zip(counts).zip(&HEAD[branch]) {
                *sum += count & mask;
            }
            rank = node;
        }
        sums.iter().sum()
    }
}

/// The coefficients of `scores` (one list a policy) with `truths` in `resamples` resamples; a resample in which one is not
/// defined, because all its values are equal, has NaN there. By policy, then by resample.
///
/// `set` names the data set: resamples are drawn by (seed, set, number), whatever the policies and the threads.
pub fn resampled(scores: &[&[f64]], truths: &[f64], seed: u64, set: &str, resamples: u32) -> Vec<Vec<Four>> {
    let truth = Values::new(truths);
    let scored: Vec<Scored> = scores
        .iter()
        .map(|scores| {
            let values = Values::new(scores);
            let mut order: Vec<u32> = (0..scores.len() as u32).collect();
            order.sort_by_key(|picture| values.ranks[*picture as usize]);
            let squares = scores.iter().zip(truths).map(|(x, y)| (x - y) * (x - y)).collect();
            Scored { values, squares, order }
        })
        .collect();
    let drawn: Vec<Vec<Four>> = (0..resamples)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, number| {
            draw(seed, set, number, truths.len(), &mut scratch.drawn);
            scratch.of_truth.fill(&truth, &scratch.drawn);
            scored.iter().map(|scored| coefficients(scored, &truth, scratch)).collect()
        })
        .collect();
    (0..scored.len()).map(|policy| drawn.iter().map(|it| it[policy]).collect()).collect()
}

/// How many times each of `pictures` pictures is drawn in a resample.
fn draw(seed: u64, set: &str, number: u32, pictures: usize, drawn: &mut Vec<u32>) {
    let mut random = ChaCha8Rng::from_seed(draws::key(seed, "bootstrap", &[set, &number.to_string()]));
    drawn.clear();
    drawn.resize(pictures, 0);
    for _ in 0..pictures {
        let place = (u64::from(random.next_u32()) * pictures as u64) >> 32;
        drawn[place as usize] += 1;
    }
}

fn coefficients(scored: &Scored, truth: &Values, scratch: &mut Scratch) -> Four {
    let Scratch { drawn, of_truth, of_scores, seen } = scratch;
    of_scores.fill(&scored.values, drawn);
    let count = drawn.len() as f64;
    let (mut x, mut y, mut xx, mut yy, mut xy, mut squares, mut ranks) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (picture, times) in drawn.iter().enumerate() {
        let times = f64::from(*times);
        let (a, b) = (scored.values.scaled[picture], truth.scaled[picture]);
        x += times * a;
        y += times * b;
        xx += times * a * a;
        yy += times * b * b;
        xy += times * a * b;
        squares += times * scored.squares[picture];
        let (a, b) = (scored.values.ranks[picture], truth.ranks[picture]);
        ranks += times * of_scores.averages[a as usize] * of_truth.averages[b as usize];
    }
    let one_value = [&of_scores.counts, &of_truth.counts].iter().any(|it| it.iter().filter(|it| **it > 0).count() < 2);
    let rmse = (squares / count).sqrt();
    if one_value {
        return [f64::NAN, f64::NAN, f64::NAN, rmse];
    }
    let plcc = (xy - x * y / count) / ((xx - x * x / count).sqrt() * (yy - y * y / count).sqrt());
    let srcc = ranks / (of_scores.squares.sqrt() * of_truth.squares.sqrt());
    let pairs = count * (count - 1.0) / 2.0;
    let krcc = surplus(scored, truth, drawn, seen) / ((pairs - of_scores.tied).sqrt() * (pairs - of_truth.tied).sqrt());
    [plcc.clamp(-1.0, 1.0), srcc.clamp(-1.0, 1.0), krcc.clamp(-1.0, 1.0), rmse]
}

/// Concordant pairs less discordant ones.
fn surplus(scored: &Scored, truth: &Values, drawn: &[u32], seen: &mut Heads) -> f64 {
    seen.clear(truth.distinct);
    let (mut surplus, mut total) = (0_i64, 0_i64);
    // Pictures of equal scores make no pair with one another: they are counted in when all of them have been compared.
    for equal in scored.order.chunk_by(|a, b| scored.values.ranks[*a as usize] == scored.values.ranks[*b as usize]) {
        for picture in equal {
            let (times, rank) = (i64::from(drawn[*picture as usize]), truth.ranks[*picture as usize] as usize);
            if times > 0 {
                let (below, same) = (i64::from(seen.below(rank)), i64::from(seen.at(rank)));
                surplus += times * (below - (total - below - same));
            }
        }
        for picture in equal {
            let times = drawn[*picture as usize];
            seen.add(truth.ranks[*picture as usize] as usize, times);
            total += i64::from(times);
        }
    }
    surplus as f64
}

/// The 95 % percentile interval of `values`, those that are not NaN; `None` without any.
pub fn interval(values: impl Iterator<Item = f64>) -> Option<Interval> {
    let mut values: Vec<f64> = values.filter(|it| !it.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    // Between two values in proportion, as numpy's `percentile` does.
    let at = |share: f64| {
        let place = share * last as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        values[low] + part * (values[(low + 1).min(last)] - values[low])
    };
    Some(Interval { low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::{kendall, pearson, rmse, spearman};

    /// Scores on a coarse grid, with many ties, that follow the truth loosely.
    fn lists(count: usize) -> (Vec<f64>, Vec<f64>) {
        let mut random = ChaCha8Rng::from_seed([3; 32]);
        let mut uniform = || f64::from(random.next_u32()) / f64::from(u32::MAX);
        (0..count)
            .map(|_| {
                let truth = uniform() * 4.0 + 1.0;
                (((truth + uniform() * 3.0) * 4.0).round() / 4.0, (truth * 20.0).round() / 20.0)
            })
            .unzip()
    }

    #[test]
    fn a_resamples_coefficients_are_those_of_its_pictures_written_out() {
        let (scores, truths) = lists(157);
        let found = resampled(&[&scores], &truths, 5, "set", 20);
        for (number, found) in found[0].iter().enumerate() {
            let mut drawn = Vec::new();
            draw(5, "set", number as u32, truths.len(), &mut drawn);
            let written = |values: &[f64]| -> Vec<f64> {
                values.iter().zip(&drawn).flat_map(|(it, times)| std::iter::repeat_n(*it, *times as usize)).collect()
            };
            let (x, y) = (written(&scores), written(&truths));
            let expected = [pearson(&x, &y), spearman(&x, &y), kendall(&x, &y), rmse(&x, &y)];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected.unwrap()).abs() < 1e-12, "{found} is not {expected:?}");
            }
        }
    }

    #[test]
    fn each_picture_is_drawn_once_on_average_and_as_often_as_chance_has_it() {
        let (mut drawn, mut never) = (Vec::new(), 0);
        for number in 0..200 {
            draw(1, "set", number, 500, &mut drawn);
            assert_eq!(drawn.iter().sum::<u32>(), 500);
            never += drawn.iter().filter(|it| **it == 0).count();
        }
        // (1 - 1/500)^500 = 0.3675 of 100,000; the standard deviation is about 99.
        assert!((36_300..37_200).contains(&never), "{never}");
    }

    #[test]
    fn policies_are_compared_on_the_same_resamples() {
        let (scores, truths) = lists(60);
        let found = resampled(&[&scores, &scores], &truths, 1, "set", 50);
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0], resampled(&[&scores], &truths, 1, "set", 50)[0]);
        assert_ne!(found[0], resampled(&[&scores], &truths, 2, "set", 50)[0]);
    }

    #[test]
    fn a_resample_of_one_value_has_no_correlation() {
        let found = resampled(&[&[2.0; 10]], &[1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1, "set", 3);
        assert!(found[0].iter().all(|it| it[0].is_nan() && it[1].is_nan() && it[2].is_nan() && it[3] > 0.0));
    }

    #[test]
    fn the_interval_is_numpys() {
        // numpy.percentile(numpy.arange(11) ** 2, [2.5, 97.5])
        let found = interval((0..11).map(|it| f64::from(it * it))).unwrap();
        assert!((found.low - 0.25).abs() < 1e-12 && (found.high - 95.25).abs() < 1e-12, "{found:?}");
        assert_eq!(interval([f64::NAN].into_iter()), None);
    }
}
