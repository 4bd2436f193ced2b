//! The table of distortions: each type's name, group and function, and the severities they come at.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;

use crate::draws::Draws;
use crate::{
    Error, blur, brightness, compression, contrast, equalization, noise, otsu, oversharpen, pixelate, quantization,
    saturation, zoom,
};

/// A type's function, by what it needs besides the picture and the severity.
pub(crate) enum Render {
    /// Nothing: the same picture gives the same samples.
    Fixed(fn(&RgbImage, Severity) -> RgbImage),
    /// Draws from the key.
    Drawn(fn(&RgbImage, Severity, &mut Draws) -> RgbImage),
    /// An angle in degrees, given or drawn from the key.
    Directed(fn(&RgbImage, Severity, f64) -> RgbImage),
}

/// Writes the enum and what hangs on a type from one row per type: doc, variant, id, group, function.
macro_rules! distortions {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $group:ident, $kind:ident($render:path);)*) => {
        /// A type of distortion.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Distortion {
            $($(#[$doc])* $variant,)*
        }

        impl Distortion {
            /// Every type, in the table's order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The id that is written to tables: the reference's, with its typo `shfit`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The group of kindred types that this one belongs to.
            pub fn group(self) -> Group {
                match self {
                    $(Self::$variant => Group::$group,)*
                }
            }

            pub(crate) fn render(self) -> Render {
                match self {
                    $(Self::$variant => Render::$kind($render),)*
                }
            }
        }
    };
}

distortions! {
    /// Gaussian blur.
    BlurGaussian, "blur_gaussian", Blur, Fixed(blur::gaussian);
    /// Blur along a line, fading to one side.
    BlurMotion, "blur_motion", Blur, Directed(blur::motion);
    /// Blur with pixels replaced by near ones.
    BlurGlass, "blur_glass", Blur, Drawn(blur::glass);
    /// Blur over a disk.
    BlurLens, "blur_lens", Blur, Fixed(blur::lens);
    /// Blur away from the middle.
    BlurZoom, "blur_zoom", Blur, Fixed(zoom::zoom);
    /// Pixels replaced by near ones.
    BlurJitter, "blur_jitter", Blur, Drawn(blur::jitter);
    /// Gaussian noise in RGB.
    NoiseGaussianRgb, "noise_gaussian_RGB", Noise, Drawn(noise::gaussian_rgb);
    /// Gaussian noise in `YCrCb`, stronger in chroma.
    NoiseGaussianYcrcb, "noise_gaussian_YCrCb", Noise, Drawn(noise::gaussian_ycrcb);
    /// Gaussian noise in proportion to the sample.
    NoiseSpeckle, "noise_speckle", Noise, Drawn(noise::speckle);
    /// Gaussian noise, blurred with the picture.
    NoiseSpatiallyCorrelated, "noise_spatially_correlated", Noise, Drawn(noise::spatially_correlated);
    /// Photon noise.
    NoisePoisson, "noise_poisson", Noise, Drawn(noise::poisson);
    /// Salt and pepper.
    NoiseImpulse, "noise_impulse", Noise, Drawn(noise::impulse);
    /// JPEG at low quality.
    CompressionJpeg, "compression_jpeg", Compression, Fixed(compression::jpeg);
    /// JPEG 2000 at a low signal-to-noise ratio.
    CompressionJpeg2000, "compression_jpeg_2000", Compression, Fixed(compression::jpeg_2000);
    /// A constant added to the value in HSV.
    BrightnessBrightenShiftHsv, "brightness_brighten_shfit_HSV", Brighten, Fixed(brightness::brighten_shift_hsv);
    /// A constant added in RGB.
    BrightnessBrightenShiftRgb, "brightness_brighten_shfit_RGB", Brighten, Fixed(brightness::brighten_shift_rgb);
    /// A power under 1 of the value in HSV.
    BrightnessBrightenGammaHsv, "brightness_brighten_gamma_HSV", Brighten, Fixed(brightness::brighten_gamma_hsv);
    /// A power under 1 in RGB.
    BrightnessBrightenGammaRgb, "brightness_brighten_gamma_RGB", Brighten, Fixed(brightness::brighten_gamma_rgb);
    /// A constant subtracted from the value in HSV.
    BrightnessDarkenShiftHsv, "brightness_darken_shfit_HSV", Darken, Fixed(brightness::darken_shift_hsv);
    /// A constant subtracted in RGB.
    BrightnessDarkenShiftRgb, "brightness_darken_shfit_RGB", Darken, Fixed(brightness::darken_shift_rgb);
    /// A power over 1 of the value in HSV.
    BrightnessDarkenGammaHsv, "brightness_darken_gamma_HSV", Darken, Fixed(brightness::darken_gamma_hsv);
    /// A power over 1 in RGB.
    BrightnessDarkenGammaRgb, "brightness_darken_gamma_RGB", Darken, Fixed(brightness::darken_gamma_rgb);
    /// Samples moved away from the mean luma.
    ContrastStrengthenScale, "contrast_strengthen_scale", ContrastStrengthen, Fixed(contrast::strengthen_scale);
    /// Samples pushed apart along a curve about the mean.
    ContrastStrengthenStretch, "contrast_strengthen_stretch", ContrastStrengthen, Fixed(contrast::strengthen_stretch);
    /// Samples moved towards the mean luma.
    ContrastWeakenScale, "contrast_weaken_scale", ContrastWeaken, Fixed(contrast::weaken_scale);
    /// Samples pulled together along a curve about the mean.
    ContrastWeakenStretch, "contrast_weaken_stretch", ContrastWeaken, Fixed(contrast::weaken_stretch);
    /// Saturation scaled up in HSV.
    SaturateStrengthenHsv, "saturate_strengthen_HSV", SaturateStrengthen, Fixed(saturation::strengthen_hsv);
    /// Chroma scaled up in `YCrCb`.
    SaturateStrengthenYcrcb, "saturate_strengthen_YCrCb", SaturateStrengthen, Fixed(saturation::strengthen_ycrcb);
    /// Saturation scaled down in HSV.
    SaturateWeakenHsv, "saturate_weaken_HSV", SaturateWeaken, Fixed(saturation::weaken_hsv);
    /// Chroma scaled down in `YCrCb`.
    SaturateWeakenYcrcb, "saturate_weaken_YCrCb", SaturateWeaken, Fixed(saturation::weaken_ycrcb);
    /// Unsharp masking, overdone.
    Oversharpen, "oversharpen", Oversharpen, Fixed(oversharpen::oversharpen);
    /// Blocks of one colour.
    Pixelate, "pixelate", Pixelate, Fixed(pixelate::pixelate);
    /// Few levels per channel, by Otsu's method.
    QuantizationOtsu, "quantization_otsu", Quantization, Fixed(otsu::quantized);
    /// Few levels per channel, by median cut.
    QuantizationMedian, "quantization_median", Quantization, Fixed(quantization::median);
    /// Few levels for all channels, by equalising their histogram.
    QuantizationHist, "quantization_hist", Quantization, Fixed(equalization::quantized);
}

impl Distortion {
    /// Whether the result depends on the key.
    pub fn random(self) -> bool {
        !matches!(self.render(), Render::Fixed(_))
    }

    /// Whether a grey picture is changed: to change the saturation of grey does nothing.
    pub fn changes_grey(self) -> bool {
        !matches!(self.group(), Group::SaturateStrengthen | Group::SaturateWeaken)
    }
}

impl fmt::Display for Distortion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Distortion {
    type Err = Error;

    /// Reads an id; `shift` is accepted for its `shfit`.
    fn from_str(name: &str) -> Result<Self, Error> {
        let id = name.replace("_shift_", "_shfit_");
        Self::ALL.into_iter().find(|distortion| distortion.name() == id).ok_or_else(|| {
            let mut near = Self::ALL.map(Self::name);
            near.sort_by_key(|other| edits(&id, other));
            Error::UnknownName { name: name.to_owned(), near: near[..3].to_vec() }
        })
    }
}

/// The least number of letters to insert, delete or replace that turns one name into the other.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

/// A group of kindred types, as the reference sorts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Lost detail.
    Blur,
    /// Random samples.
    Noise,
    /// Artefacts of coding.
    Compression,
    /// Brighter.
    Brighten,
    /// Darker.
    Darken,
    /// More contrast.
    ContrastStrengthen,
    /// Less contrast.
    ContrastWeaken,
    /// More colour.
    SaturateStrengthen,
    /// Less colour.
    SaturateWeaken,
    /// Halos at edges.
    Oversharpen,
    /// Blocks.
    Pixelate,
    /// Too few levels.
    Quantization,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 12] = [
        Self::Blur,
        Self::Noise,
        Self::Compression,
        Self::Brighten,
        Self::Darken,
        Self::ContrastStrengthen,
        Self::ContrastWeaken,
        Self::SaturateStrengthen,
        Self::SaturateWeaken,
        Self::Oversharpen,
        Self::Pixelate,
        Self::Quantization,
    ];

    /// The reference's name of the group.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blur => "blur",
            Self::Noise => "noise",
            Self::Compression => "compression",
            Self::Brighten => "brighten",
            Self::Darken => "darken",
            Self::ContrastStrengthen => "contrast_strengthen",
            Self::ContrastWeaken => "contrast_weaken",
            Self::SaturateStrengthen => "saturate_strengthen",
            Self::SaturateWeaken => "saturate_weaken",
            Self::Oversharpen => "oversharpen",
            Self::Pixelate => "pixelate",
            Self::Quantization => "quantization",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How strong a distortion is: 1, the mildest, to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(u8);

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 5] = [Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// Checks that `severity` is 1 to 5.
    ///
    /// # Errors
    /// [`Error::Severity`] otherwise.
    pub fn new(severity: u8) -> Result<Self, Error> {
        if (1..=5).contains(&severity) { Ok(Self(severity)) } else { Err(Error::Severity(severity)) }
    }

    /// The number, 1 to 5.
    pub fn get(self) -> u8 {
        self.0
    }

    /// This severity's one of five parameters.
    pub(crate) fn pick<T: Copy>(self, parameters: [T; 5]) -> T {
        parameters[usize::from(self.0 - 1)]
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for distortion in Distortion::ALL {
            assert_eq!(distortion.name().parse(), Ok(distortion));
        }
    }

    #[test]
    fn the_typo_may_be_spelt_right() {
        assert_eq!("brightness_darken_shift_RGB".parse(), Ok(Distortion::BrightnessDarkenShiftRgb));
        assert_eq!(Distortion::BrightnessDarkenShiftRgb.name(), "brightness_darken_shfit_RGB");
    }

    #[test]
    fn an_unknown_name_gets_its_neighbours() {
        let error = "blur_gausian".parse::<Distortion>().unwrap_err();
        assert!(matches!(&error, Error::UnknownName { near, .. } if near[0] == "blur_gaussian"), "{error}");
        assert!(error.to_string().starts_with("no distortion is named `blur_gausian`, did you mean blur_gaussian, "));
    }

    #[test]
    fn a_severity_is_one_to_five() {
        assert_eq!(Severity::new(0), Err(Error::Severity(0)));
        assert_eq!(Severity::new(6), Err(Error::Severity(6)));
        assert_eq!((1..=5).map(Severity::new).collect::<Result<Vec<_>, _>>(), Ok(Severity::ALL.to_vec()));
    }

    #[test]
    fn groups_have_the_references_numbers_of_types() {
        let types = |group| Distortion::ALL.into_iter().filter(|distortion| distortion.group() == group).count();
        assert_eq!(Group::ALL.map(types), [6, 6, 2, 4, 4, 2, 2, 2, 2, 1, 1, 3]);
        assert_eq!(Distortion::ALL.len(), 35);
    }

    #[test]
    fn nine_types_draw() {
        let random: Vec<_> = Distortion::ALL.into_iter().filter(|distortion| distortion.random()).collect();
        assert_eq!(random.len(), 9, "{random:?}");
        assert!(random.iter().all(|distortion| matches!(distortion.group(), Group::Blur | Group::Noise)));
    }
}
