//! Quantisation by histogram equalisation: few levels, spread evenly over the pixels.

use image::RgbImage;

use crate::Severity;
use crate::levels::{Counts, counts_by_channel, mapped};

/// Equalises a histogram of few bins over all channels together; each sample takes the level of a bin.
///
/// The bin whose level a sample takes is the nearest by its centre, not the one that counted it, so the levels are not
/// where the counts say; and a picture within one bin turns black. So does the reference.
pub(crate) fn quantized(picture: &RgbImage, severity: Severity) -> RgbImage {
    let bins = severity.pick([24, 16, 8, 6, 4]);
    let levels = equalized(&counts_by_channel(picture), bins);
    // Halves go to the even bin.
    mapped(picture, |level| levels[(f64::from(level) / 255.0 * (bins - 1) as f64).round_ties_even() as usize])
}

/// The level of each bin: in proportion to the samples up to and with it, from 0 at the first bin that has any.
fn equalized(channels: &[Counts; 3], bins: usize) -> Vec<u8> {
    let mut counts = vec![0_u64; bins];
    for (level, &count) in channels.iter().flat_map(|counts| counts.iter().enumerate()) {
        counts[(level * bins / 255).min(bins - 1)] += u64::from(count);
    }
    let below = counts.iter().find(|&&count| count > 0).copied().unwrap_or(0);
    let above = counts.iter().sum::<u64>() - below;
    let mut sum = 0_u64;
    let level = |count| {
        sum += count;
        (sum.saturating_sub(below) * 255).checked_div(above).unwrap_or(0) as u8
    };
    counts.into_iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_take_levels_in_proportion_to_the_samples_up_to_them() {
        // Bins of 63.75 levels: 0 to 63, to 127, to 191 and the rest.
        let mut counts = [0; 256];
        for (level, count) in [(63, 3), (64, 1), (127, 1), (192, 4)] {
            counts[level] = count;
        }
        // 0, 2, 2 and 6 of the 6 samples beyond the first bin.
        assert_eq!(equalized(&[counts, [0; 256], [0; 256]], 4), [0, 85, 85, 255]);
    }

    #[test]
    fn a_flat_picture_turns_black() {
        let flat = RgbImage::from_pixel(40, 40, image::Rgb([200; 3]));
        for severity in Severity::ALL {
            assert!(quantized(&flat, severity).iter().all(|&level| level == 0));
        }
    }
}
