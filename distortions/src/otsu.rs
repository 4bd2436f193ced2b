//! Quantisation by Otsu's method: the thresholds that maximise the variance between classes of levels.

use std::array;

use image::RgbImage;

use crate::Severity;
use crate::levels::{Counts, counts_by_channel, mapped_by_channel};

/// Bins of a channel's histogram, from its darkest to its brightest level.
const BINS: usize = 30;

/// The sum of what cannot be chosen.
const IMPOSSIBLE: f32 = f32::NEG_INFINITY;

/// Classes of levels in each channel, found by Otsu's method; each is put on its lower bound of equal steps from the
/// darkest level to the brightest, so that the picture darkens.
///
/// A channel that occupies fewer bins than there are classes is given as many classes as bins; the reference gives up
/// there.
pub(crate) fn quantized(picture: &RgbImage, severity: Severity) -> RgbImage {
    let classes = severity.pick([15, 11, 8, 5, 3]);
    mapped_by_channel(picture, &counts_by_channel(picture).map(|counts| table(&counts, classes)))
}

/// For each level the one that it is put on.
fn table(counts: &Counts, classes: usize) -> [u8; 256] {
    let mut table = [0; 256];
    let occupied = |level: &u8| counts[usize::from(*level)] > 0;
    let (Some(darkest), Some(brightest)) = ((0..=255).find(occupied), (0..=255).rev().find(occupied)) else {
        return table;
    };
    let edges = edges(darkest, brightest);
    let bin = |level: u8| edges[1..BINS].partition_point(|&edge| edge <= f32::from(level));
    let mut bins = [0_u32; BINS];
    for level in darkest..=brightest {
        bins[bin(level)] += counts[usize::from(level)];
    }
    let classes = classes.min(bins.iter().filter(|&&count| count > 0).count());
    let thresholds: Vec<f32> =
        last_bins(&bins, classes).into_iter().map(|bin| f32::midpoint(edges[bin], edges[bin + 1])).collect();
    for level in darkest..=brightest {
        let class = thresholds.partition_point(|&threshold| threshold <= f32::from(level));
        table[usize::from(level)] = darkest + (class * usize::from(brightest - darkest) / classes) as u8;
    }
    table
}

/// The bounds of the bins, in single precision as `NumPy` has them for an image of single floats.
fn edges(darkest: u8, brightest: u8) -> [f32; BINS + 1] {
    let (first, last) = (f64::from(darkest), f64::from(brightest));
    // One level alone lies in the middle of a range of 1.
    let (first, last) = if darkest == brightest { (first - 0.5, last + 0.5) } else { (first, last) };
    let step = (last - first) / BINS as f64;
    let mut edges = array::from_fn(|bin| (bin as f64 * step + first) as f32);
    edges[BINS] = last as f32;
    edges
}

/// The last bin of each class but the last one.
fn last_bins(bins: &[u32; BINS], classes: usize) -> Vec<usize> {
    let occupied = (0..BINS).filter(|&bin| bins[bin] > 0);
    if occupied.clone().count() == classes {
        return occupied.take(classes - 1).collect();
    }
    Variances::new(bins).best_last_bins(classes)
}

/// The variance between classes that each range of bins adds, as a class of its own.
struct Variances([[f32; BINS]; BINS]);

impl Variances {
    /// In the single precision of the reference, and with its slip: the second bin weighs as much as the first.
    fn new(bins: &[u32; BINS]) -> Self {
        let pixels: u32 = bins.iter().sum();
        let share = bins.map(|count| (f64::from(count) / f64::from(pixels)) as f32);
        let (mut weight, mut moment) = ([share[0]; BINS], [share[0]; BINS]);
        for bin in 1..BINS {
            weight[bin] = weight[bin - 1] + share[bin];
            moment[bin] = moment[bin - 1] + bin as f32 * share[bin];
        }
        let mut variances = [[0.0; BINS]; BINS];
        for first in 0..BINS {
            let (weight_before, moment_before) =
                if first == 0 { (0.0, 0.0) } else { (weight[first - 1], moment[first - 1]) };
            for last in first.max(1)..BINS {
                let (weight, moment) = (weight[last] - weight_before, moment[last] - moment_before);
                if weight > 0.0 {
                    variances[first][last] = moment * moment / weight;
                }
            }
        }
        Self(variances)
    }

    /// The first, in the order of their thresholds, of the choices with the largest sum of variances.
    ///
    /// The reference tries them all, 78 million with 15 classes. Its sums are rounded, so their order counts: the first
    /// class, the last one, and then those between from left to right. Rounding keeps order, so that for one last class
    /// the best sum so far is part of a best sum; which of the best comes first is found from the left, a threshold at a
    /// time, by asking whether the best can still be reached.
    fn best_last_bins(&self, classes: usize) -> Vec<usize> {
        let thresholds = classes - 1;
        let best_with = |last| {
            let sums = array::from_fn(|first| if first < last { self.outer_sum(first, last) } else { IMPOSSIBLE });
            self.best_sum(sums, thresholds - 1, last)
        };
        let sums: Vec<(usize, f32)> = (thresholds - 1..BINS - 1).map(|last| (last, best_with(last))).collect();
        let best = sums.iter().map(|&(_, sum)| sum).fold(IMPOSSIBLE, f32::max);
        let lasts = sums.into_iter().filter(|&(_, sum)| sum == best).map(|(last, _)| last);
        lasts
            .filter_map(|last| self.first_choice(best, thresholds, last))
            .min()
            .expect("one of the choices is the best")
    }

    /// The sum of the first class, which ends at `first`, and the last one, which begins after `last`.
    fn outer_sum(&self, first: usize, last: usize) -> f32 {
        self.0[0][first] + self.0[last + 1][BINS - 1]
    }

    /// The largest sum to be had with `classes` more classes up to bin `last`, from what `sums` has for the bin before them.
    fn best_sum(&self, sums: [f32; BINS], classes: usize, last: usize) -> f32 {
        let mut best = sums;
        for _ in 0..classes {
            let before = best;
            best = [IMPOSSIBLE; BINS];
            for start in 1..=last {
                for (best, variance) in best[start..=last].iter_mut().zip(&self.0[start][start..=last]) {
                    *best = best.max(before[start - 1] + variance);
                }
            }
        }
        best[last]
    }

    /// The first choice of thresholds that ends at bin `last` and has the sum `best`, if there is one.
    fn first_choice(&self, best: f32, thresholds: usize, last: usize) -> Option<Vec<usize>> {
        let mut choice = Vec::with_capacity(thresholds);
        let mut sum = 0.0;
        let mut next = 0;
        while choice.len() < thresholds {
            let classes = thresholds - choice.len() - 1;
            let sum_with = |end| if next == 0 { self.outer_sum(end, last) } else { sum + self.0[next][end] };
            let reaches_best = |&end: &usize| {
                let mut sums = [IMPOSSIBLE; BINS];
                sums[end] = sum_with(end);
                self.best_sum(sums, classes, last) == best
            };
            let end = (next..=last).find(reaches_best)?;
            sum = sum_with(end);
            choice.push(end);
            next = end + 1;
        }
        Some(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every choice tried in order, as the reference does it.
    fn enumerated(variances: &Variances, classes: usize) -> Vec<usize> {
        fn with_more(variances: &Variances, thresholds: usize, choice: &mut Vec<usize>, best: &mut (f32, Vec<usize>)) {
            let Some(&last) = choice.last().filter(|_| choice.len() == thresholds) else {
                let next = choice.last().map_or(0, |last| last + 1);
                for end in next..BINS - thresholds + choice.len() {
                    choice.push(end);
                    with_more(variances, thresholds, choice, best);
                    choice.pop();
                }
                return;
            };
            let between = choice.windows(2).map(|ends| variances.0[ends[0] + 1][ends[1]]);
            let sum = between.fold(variances.outer_sum(choice[0], last), |sum, variance| sum + variance);
            if sum > best.0 {
                *best = (sum, choice.clone());
            }
        }
        let mut best = (0.0, Vec::new());
        with_more(variances, classes - 1, &mut Vec::new(), &mut best);
        best.1
    }

    #[test]
    fn the_choice_is_the_first_best_of_all() {
        let mut number = 1_u32;
        let mut next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number >> 8
        };
        for round in 0..60 {
            // Few and small counts make sums equal: with 1 to 3 pixels a bin, many choices are as good as the best.
            let most = [3, 50, 40_000][round % 3];
            let bins = std::array::from_fn(|_| if next() % 4 == 0 { 0 } else { next() % most });
            let variances = Variances::new(&bins);
            for classes in [3, 5] {
                assert_eq!(variances.best_last_bins(classes), enumerated(&variances, classes), "{classes} of {bins:?}");
            }
        }
        let even = Variances::new(&[7; BINS]);
        assert_eq!(even.best_last_bins(6), enumerated(&even, 6));
    }

    #[test]
    fn as_many_bins_as_classes_are_a_class_each() {
        let mut counts = [0; 256];
        for level in [10, 20, 250] {
            counts[level] = 5;
        }
        let table = table(&counts, 3);
        assert_eq!([table[10], table[20], table[250]], [10, 90, 170]);
    }

    #[test]
    fn too_few_levels_lower_the_number_of_classes() {
        let mut counts = [0; 256];
        counts[77] = 9;
        assert_eq!(table(&counts, 15)[77], 77);
        counts[177] = 1;
        let table = table(&counts, 15);
        assert_eq!([table[77], table[177]], [77, 127]);
    }
}
