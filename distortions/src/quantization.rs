//! Quantisation: few levels per channel.

use std::cmp::Reverse;

use image::RgbImage;

use crate::Severity;
use crate::levels::{Counts, counts_by_channel, mapped_by_channel};

/// Median cut in each channel, as Pillow does it on a grey picture.
pub(crate) fn median(picture: &RgbImage, severity: Severity) -> RgbImage {
    let colours = severity.pick([20, 15, 10, 6, 3]);
    let tables = counts_by_channel(picture).map(|counts| nearest_entries(&counts, &median_cut(&counts, colours)));
    mapped_by_channel(picture, &tables)
}

/// Levels that share a palette entry: the occupied ones of `darkest..=brightest`.
#[derive(Clone, Copy)]
struct Levels {
    darkest: usize,
    brightest: usize,
    /// Pixels at these levels.
    pixels: u32,
}

impl Levels {
    /// Cuts at the first level, from the bright end, at which the bright part holds over half of the pixels; the darkest
    /// level always goes to the dark part. `None` when there is but one occupied level.
    fn cut(self, counts: &Counts) -> Option<(Self, Self)> {
        let mut pixels = 0;
        let mut occupied = (self.darkest..=self.brightest).rev().filter(|&level| counts[level] > 0);
        let mut last_bright = occupied.next()?;
        let mut next = occupied.next()?;
        pixels += counts[last_bright];
        while 2 * u64::from(pixels) <= u64::from(self.pixels) {
            let Some(after) = occupied.next() else { break };
            last_bright = next;
            pixels += counts[last_bright];
            next = after;
        }
        let bright = Self { darkest: last_bright, pixels, ..self };
        let dark = Self { brightest: next, pixels: self.pixels - pixels, ..self };
        Some((bright, dark))
    }
}

/// Cuts the occupied levels into at most `colours` sets, the set with the most pixels first; brightest set first.
fn median_cut(counts: &Counts, colours: usize) -> Vec<Levels> {
    let occupied = |level: &usize| counts[*level] > 0;
    let (Some(darkest), Some(brightest)) = ((0..256).find(occupied), (0..256).rev().find(occupied)) else {
        return Vec::new();
    };
    let mut heap = Heap::default();
    heap.push(Levels { darkest, brightest, pixels: counts.iter().sum() });
    let mut whole = Vec::new();
    while heap.0.len() + whole.len() < colours {
        let Some(largest) = heap.pop() else { break };
        match largest.cut(counts) {
            Some((bright, dark)) => {
                heap.push(bright);
                heap.push(dark);
            }
            None => whole.push(largest),
        }
    }
    whole.extend(heap.0);
    whole.sort_by_key(|set| Reverse(set.brightest));
    whole
}

/// A binary heap, most pixels on top, that orders equals as Pillow's does: the standard library's differs there.
#[derive(Default)]
struct Heap(Vec<Levels>);

impl Heap {
    fn push(&mut self, levels: Levels) {
        self.0.push(levels);
        let mut at = self.0.len() - 1;
        while at > 0 && levels.pixels > self.0[(at - 1) / 2].pixels {
            self.0[at] = self.0[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        self.0[at] = levels;
    }

    fn pop(&mut self) -> Option<Levels> {
        let last = self.0.pop()?;
        let Some(&top) = self.0.first() else {
            return Some(last);
        };
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= self.0.len() {
                break;
            }
            if child + 1 < self.0.len() && self.0[child].pixels < self.0[child + 1].pixels {
                child += 1;
            }
            if last.pixels > self.0[child].pixels {
                break;
            }
            self.0[at] = self.0[child];
            at = child;
        }
        self.0[at] = last;
        Some(top)
    }
}

/// For each level the palette entry it goes to: its own set's rounded mean, unless another is strictly nearer.
fn nearest_entries(counts: &Counts, sets: &[Levels]) -> [u8; 256] {
    let mean = |set: &Levels| {
        let sum: u64 = (set.darkest..=set.brightest).map(|level| level as u64 * u64::from(counts[level])).sum();
        (0.5 + sum as f64 / f64::from(set.pixels)) as u8
    };
    let palette: Vec<u8> = sets.iter().map(mean).collect();
    let mut table = [0; 256];
    for (set, &own) in sets.iter().zip(&palette) {
        // Entries near the own one come first, and the first of equals is taken: `sort` and `min` are both stable.
        let mut entries = palette.clone();
        entries.sort_by_key(|entry| entry.abs_diff(own));
        for (level, entry) in table.iter_mut().enumerate().take(set.brightest + 1).skip(set.darkest) {
            let nearest = entries.iter().min_by_key(|entry| entry.abs_diff(level as u8));
            *entry = *nearest.unwrap_or(&own);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(occupied: &[(usize, u32)]) -> [u32; 256] {
        let mut counts = [0; 256];
        for &(level, count) in occupied {
            counts[level] = count;
        }
        counts
    }

    #[test]
    fn a_cut_leaves_over_half_on_the_bright_side() {
        let counts = counts(&[(10, 3), (20, 1), (30, 4)]);
        let sets = median_cut(&counts, 2);
        let spans: Vec<_> = sets.iter().map(|set| (set.brightest, set.darkest, set.pixels)).collect();
        assert_eq!(spans, [(30, 20, 5), (10, 10, 3)]);
    }

    #[test]
    fn fewer_levels_than_colours_stay_as_they_are() {
        let counts = counts(&[(3, 5), (77, 1), (255, 9)]);
        let table = nearest_entries(&counts, &median_cut(&counts, 20));
        assert_eq!([table[3], table[77], table[255]], [3, 77, 255]);
    }

    #[test]
    fn a_level_moves_to_a_strictly_nearer_entry() {
        // Bright set 40 to 200 with a mean near 200; level 40 is nearer to the dark set's 10.
        let counts = counts(&[(10, 50), (40, 1), (200, 50)]);
        let table = nearest_entries(&counts, &median_cut(&counts, 2));
        assert_eq!([table[10], table[40], table[200]], [10, 10, 197]);
    }
}
