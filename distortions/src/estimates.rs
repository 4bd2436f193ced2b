//! Levels from sums of single floats: where rounding may have led to another level than in double precision, it is said.

use std::ops::Range;

use crate::cpu::kernels;

/// What rounding to a single float may take from or add to a level, at most.
pub(crate) const ROUNDING: f64 = 255.0 / (1 << 24) as f64;

kernels! {
    /// Sets levels to those under `sums`, and notes the samples of which an error of the sum could make it another.
    pub(crate) fn take_levels(sums: &[f32], error: f32, levels: &mut [u8], doubtful: &mut Vec<usize>) {
        const STRIP: usize = 64;
        // One rounding more is that of these differences.
        let error = error + ROUNDING as f32;
        let (lower, upper) = (|sum| level_near(sum - (0.5 + error)), |sum| level_near(sum - (0.5 - error)));
        let (strips, rest) = sums.as_chunks::<STRIP>();
        let (level_strips, level_rest) = levels.as_chunks_mut::<STRIP>();
        for (strip, (sums, levels)) in strips.iter().zip(level_strips).enumerate() {
            let mut differ = 0;
            for (level, &sum) in levels.iter_mut().zip(sums) {
                *level = upper(sum);
                differ |= *level ^ lower(sum);
            }
            if differ != 0 {
                let differs = |i: &usize| levels[*i] != lower(sums[*i]);
                doubtful.extend((0..STRIP).filter(differs).map(|i| strip * STRIP + i));
            }
        }
        for (i, (level, &sum)) in level_rest.iter_mut().zip(rest).enumerate() {
            *level = upper(sum);
            if *level != lower(sum) {
                doubtful.push(strips.len() * STRIP + i);
            }
        }
    }
}

/// The level nearest to a number; either of two.
#[inline]
fn level_near(number: f32) -> u8 {
    // At 2^23 a number is rounded to a whole one, which is then its lowest bits.
    (number.clamp(0.0, 255.0) + (1_u32 << 23) as f32).to_bits() as u8
}

/// Runs of pixels that cover the samples noted; the notes are cleared.
pub(crate) fn runs(samples: &mut Vec<usize>) -> Vec<Range<usize>> {
    /// Pixels between two samples in one run, at most.
    const GAP: usize = 8;
    /// Pixels in a run, at most.
    const LENGTH: usize = 128;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for sample in samples.drain(..) {
        let pixel = sample / 3;
        match runs.last_mut() {
            Some(run) if pixel < run.end + GAP && pixel < run.start + LENGTH => run.end = pixel + 1,
            _ => runs.push(pixel..pixel + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_in_doubt_within_the_error_of_a_whole_number_and_nowhere_else() {
        for error in [1e-4, 1e-3] {
            let sums: Vec<f32> = (0..255_500).map(|i| i as f32 / 1000.0 + 0.000_25).collect();
            let (mut levels, mut doubtful) = (vec![0; sums.len()], Vec::new());
            take_levels(&sums, error, &mut levels, &mut doubtful);
            for (i, (&level, &sum)) in levels.iter().zip(&sums).enumerate() {
                let [low, high] = [sum - error, sum + error].map(|bound| bound.clamp(0.0, 255.0) as u8);
                if low == high {
                    assert_eq!(level, low, "{sum}");
                }
                assert_eq!(doubtful.binary_search(&i).is_ok(), low != high, "{sum}");
            }
        }
    }

    #[test]
    fn runs_join_what_is_near_and_cover_every_sample() {
        let mut samples = vec![0, 4, 29, 300, 302];
        assert_eq!(runs(&mut samples), [0..10, 100..101]);
        assert!(samples.is_empty());
        let mut samples: Vec<usize> = (0..3000).collect();
        let runs = runs(&mut samples);
        assert!(runs.windows(2).all(|pair| pair[0].end == pair[1].start) && runs.len() > 5);
        assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, 1000));
    }
}
