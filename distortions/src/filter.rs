//! Linear filters with the borders and the order of additions of the libraries that the reference calls.

/// What lies beyond the edge of a picture.
#[derive(Clone, Copy)]
pub(crate) enum Border {
    /// The sample at the edge: aaa|abcd|ddd.
    Nearest,
    /// The picture mirrored about the sample at the edge: dcb|abcd|cba.
    Mirrored,
}

impl Border {
    /// The position inside a side of `length` that stands for `position`, at most one side away from it.
    pub(crate) fn index(self, position: i64, length: usize) -> usize {
        let last = length as i64 - 1;
        let inside = match self {
            Self::Nearest => position.clamp(0, last),
            Self::Mirrored => last - (last - position.abs()).abs(),
        };
        inside as usize
    }

    /// Fills the `reach` pixels on either side of a row of RGB pixels.
    pub(crate) fn extend<T: Copy>(self, padded: &mut [T], reach: usize) {
        let width = padded.len() / 3 - 2 * reach;
        for distance in 1..=reach {
            let left = self.index(-(distance as i64), width);
            let right = self.index((width + distance - 1) as i64, width);
            for (to, from) in [(reach - distance, left), (reach + width + distance - 1, right)] {
                padded.copy_within(3 * (reach + from)..3 * (reach + from) + 3, 3 * to);
            }
        }
    }
}

/// The sum of up to 128 numbers in `NumPy`'s order.
///
/// Flat areas make it matter: the last bit of a kernel's sum decides whether they keep their level or lose one.
pub(crate) fn pairwise_sum(numbers: &[f64]) -> f64 {
    let eights = numbers.chunks_exact(8);
    let rest = eights.remainder();
    let mut lanes = [0.0; 8];
    for eight in eights {
        for (lane, number) in lanes.iter_mut().zip(eight) {
            *lane += number;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, number| sum + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_repeat_or_mirror_the_edge() {
        let row = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        let reds = |border: Border| {
            let mut padded = vec![9; 24];
            padded[6..18].copy_from_slice(&row);
            border.extend(&mut padded, 2);
            padded.iter().step_by(3).copied().collect::<Vec<_>>()
        };
        assert_eq!(reds(Border::Nearest), [0, 0, 0, 1, 2, 3, 3, 3]);
        assert_eq!(reds(Border::Mirrored), [2, 1, 0, 1, 2, 3, 2, 1]);
    }
}
