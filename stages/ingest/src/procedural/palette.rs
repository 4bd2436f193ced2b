//! Colours of one picture: a palette around one hue.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A palette: colours near one hue and saturation, of any brightness; now and then one of the opposite hue.
#[derive(Debug)]
pub(super) struct Palette {
    hue: f32,
    saturation: f32,
}

impl Palette {
    pub(super) fn draw(random: &mut ChaCha8Rng) -> Self {
        Self { hue: random.random_range(0.0..1.0), saturation: random.random_range(0.05..0.55) }
    }

    /// A colour, red, green and blue in 0..1.
    pub(super) fn colour(&self, random: &mut ChaCha8Rng) -> [f32; 3] {
        let opposite = if random.random_range(0.0..1.0) < 0.15 { 0.5 } else { 0.0 };
        let hue = self.hue + opposite + 0.07 * bell(random);
        let saturation = (self.saturation + 0.12 * bell(random)).clamp(0.0, 0.9);
        rgb(hue, saturation, random.random_range(0.12..0.95))
    }
}

/// A draw of about the normal distribution: mean 0, variance 1, within -3.5..3.5.
pub(super) fn bell(random: &mut ChaCha8Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| random.random_range(-1.0..1.0)).sum();
    sum * 0.866
}

/// The colour of a hue (in turns, wrapping), saturation and value.
fn rgb(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    [5.0_f32, 3.0, 1.0].map(|offset| {
        let k = (offset + 6.0 * (hue - hue.floor())) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn hues_are_where_they_should_be() {
        let near = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(rgb(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]));
        assert!(near(rgb(4.0 / 3.0, 1.0, 1.0), [0.0, 1.0, 0.0]));
        assert!(near(rgb(-1.0 / 3.0, 0.5, 0.8), [0.4, 0.4, 0.8]));
        assert!(near(rgb(0.7, 0.0, 0.3), [0.3, 0.3, 0.3]));
    }

    #[test]
    fn a_bell_has_mean_0_and_variance_1() {
        let mut random = ChaCha8Rng::from_seed([1; 32]);
        let draws: Vec<f32> = (0..20_000).map(|_| bell(&mut random)).collect();
        let mean = draws.iter().sum::<f32>() / 20_000.0;
        let variance = draws.iter().map(|it| it * it).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
