//! The image processor: a picture becomes rows of normalised patches, with the sizes, samples and order of the
//! reference processor on Pillow (bit for bit).

use std::borrow::Cow;
use std::path::Path;

use evoq_distortions::resize::bicubic;
use image::RgbImage;
use serde_json::json;

use crate::checkpoint::{Json, read_json_if_present, write_json};
use crate::error::{Error, Result};

/// Mean of each colour channel, in units of full scale.
const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of each colour channel, in units of full scale.
const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// The reference code's bounds, for checkpoints whose files give none.
const DEFAULT_PIXELS: (usize, usize) = (56 * 56, 28 * 28 * 1280);
/// Longer pictures than this, side to side, are refused by the reference.
const MAX_ASPECT: f64 = 200.0;

/// Size bounds, patch sizes and normalisation of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Processor {
    /// Fewest pixels after resizing; smaller pictures are enlarged.
    pub min_pixels: usize,
    /// Most pixels after resizing; larger pictures are shrunk.
    pub max_pixels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
    /// Side of the square of patches that becomes one token.
    pub merge_size: usize,
    /// Mean of each channel, in units of full scale.
    pub mean: [f64; 3],
    /// Standard deviation of each channel, in units of full scale.
    pub std: [f64; 3],
}

/// A picture's size in patches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Grid {
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
}

impl Grid {
    /// Number of patches.
    pub fn patches(self) -> usize {
        self.height * self.width
    }

    /// Number of tokens, when squares of `merge` x `merge` patches become one.
    pub fn tokens(self, merge: usize) -> usize {
        self.patches() / (merge * merge)
    }
}

/// A picture as the vision tower reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// `[N, channels·frames·side²]`, row-major; the patches of one merged token stand together. Inside a row: channel,
    /// frame, y, x.
    pub patches: Vec<f32>,
    /// The picture's size in patches, `N` = height · width.
    pub grid: Grid,
}

impl Processor {
    /// A processor with the release's patches and normalisation.
    pub fn new(min_pixels: usize, max_pixels: usize) -> Self {
        Self { min_pixels, max_pixels, patch_size: 14, temporal_patch_size: 2, merge_size: 2, mean: MEAN, std: STD }
    }

    /// Reads `processor_config.json`, where it holds an image processor (5.x writes it so), else
    /// `preprocessor_config.json`. Of the two forms of the bounds, `min_pixels`/`max_pixels` win over `size`; where
    /// neither is given, the reference code's own bounds hold (3136 and 1003520 pixels).
    ///
    /// # Errors
    /// Neither file is there; a field of the wrong type, or a step that this crate does not take.
    pub fn load(folder: &Path) -> Result<Self> {
        let (nested_path, path) = (folder.join("processor_config.json"), folder.join("preprocessor_config.json"));
        if let Some(value) = read_json_if_present(&nested_path)?
            && let Some(processor) = Json::new(&nested_path, &value)?.object("image_processor")?
        {
            return Self::read(&processor);
        }
        match read_json_if_present(&path)? {
            Some(value) => Self::read(&Json::new(&path, &value)?),
            None => Err(Error::MissingFile { path }),
        }
    }

    fn read(file: &Json) -> Result<Self> {
        for step in ["do_resize", "do_rescale", "do_normalize"] {
            if file.truth(step)? == Some(false) {
                return Err(file.error(step, "found false; the step is always taken here"));
            }
        }
        if let Some(found) = file.integer("resample")?.filter(|&filter| filter != 3) {
            return Err(file.error("resample", format!("found {found}, expected 3 (bicubic)")));
        }
        if let Some(found) = file.number("rescale_factor")?.filter(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
            return Err(file.error("rescale_factor", format!("found {found}, expected 1/255")));
        }
        let size = file.object("size")?;
        let bound = |field, sized, default| match (file.integer(field)?, &size) {
            (Some(pixels), _) => Ok(pixels),
            (None, Some(size)) => Ok(size.integer(sized)?.unwrap_or(default)),
            (None, None) => Ok::<usize, Error>(default),
        };
        let positive = |field, default| match file.integer(field)?.unwrap_or(default) {
            0 => Err(file.error(field, "found 0, expected 1 or more")),
            found => Ok(found),
        };
        let min_pixels = bound("min_pixels", "shortest_edge", DEFAULT_PIXELS.0)?;
        let max_pixels = bound("max_pixels", "longest_edge", DEFAULT_PIXELS.1)?;
        if min_pixels == 0 || min_pixels > max_pixels {
            let problem = format!("found {min_pixels}, expected 1 or more and not above max_pixels ({max_pixels})");
            return Err(file.error("min_pixels", problem));
        }
        let std = file.three_numbers("image_std")?.unwrap_or(STD);
        if std.iter().any(|&deviation| deviation <= 0.0) {
            return Err(file.error("image_std", format!("found {std:?}, expected numbers above 0")));
        }
        Ok(Self {
            min_pixels,
            max_pixels,
            patch_size: positive("patch_size", 14)?,
            temporal_patch_size: positive("temporal_patch_size", 2)?,
            merge_size: positive("merge_size", 2)?,
            mean: file.three_numbers("image_mean")?.unwrap_or(MEAN),
            std,
        })
    }

    /// Writes `preprocessor_config.json`, in the release's form.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let value = json!({
            "min_pixels": self.min_pixels,
            "max_pixels": self.max_pixels,
            "patch_size": self.patch_size,
            "temporal_patch_size": self.temporal_patch_size,
            "merge_size": self.merge_size,
            "image_mean": self.mean,
            "image_std": self.std,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
        });
        write_json(&folder.join("preprocessor_config.json"), &value)
    }

    /// The size in patches that a picture of `width` x `height` pixels gets.
    ///
    /// # Errors
    /// A side of no pixels, or sides whose ratio is above 200.
    pub fn grid(&self, width: u32, height: u32) -> Result<Grid> {
        let (height, width) = self.smart_resize(width, height)?;
        Ok(Grid { height: height / self.patch_size, width: width / self.patch_size })
    }

    /// Height and width in pixels after resizing: multiples of a token's side, about the same shape, within the bounds.
    /// In double precision, halves rounded to even, as the reference has it.
    fn smart_resize(&self, width: u32, height: u32) -> Result<(usize, usize)> {
        let refuse = |problem: String| Err(Error::Picture { width, height, problem });
        if width == 0 || height == 0 {
            return refuse("a side has no pixels".to_owned());
        }
        let (h, w) = (f64::from(height), f64::from(width));
        let ratio = h.max(w) / h.min(w);
        if ratio > MAX_ASPECT {
            return refuse(format!(
                "one side is {ratio:.1} times the other, the model's processor takes {MAX_ASPECT} at most"
            ));
        }
        let factor = (self.patch_size * self.merge_size) as f64;
        let (min, max) = (self.min_pixels as f64, self.max_pixels as f64);
        let (mut rows, mut columns) =
            ((h / factor).round_ties_even() * factor, (w / factor).round_ties_even() * factor);
        if rows * columns > max {
            let shrink = (h * w / max).sqrt();
            rows = factor.max((h / shrink / factor).floor() * factor);
            columns = factor.max((w / shrink / factor).floor() * factor);
        } else if rows * columns < min {
            let enlarge = (min / (h * w)).sqrt();
            rows = (h * enlarge / factor).ceil() * factor;
            columns = (w * enlarge / factor).ceil() * factor;
        }
        Ok((rows as usize, columns as usize))
    }

    /// Resizes a picture and cuts it into normalised patches.
    ///
    /// # Errors
    /// As [`Processor::grid`].
    pub fn pixels(&self, picture: &RgbImage) -> Result<Pixels> {
        Ok(self.patches(&*self.resize(picture)?))
    }

    /// The same, for a model whose prompts have at most `limit` tokens.
    ///
    /// # Errors
    /// As [`Processor::grid`]; a picture that alone takes as many tokens, before anything is made of it.
    pub(crate) fn pixels_within(&self, picture: &RgbImage, limit: usize) -> Result<Pixels> {
        let (width, height) = picture.dimensions();
        let tokens = self.grid(width, height)?.tokens(self.merge_size);
        if tokens >= limit {
            let problem = format!("it takes {tokens} tokens, a prompt has {limit} at most; lower max_pixels");
            return Err(Error::Picture { width, height, problem });
        }
        self.pixels(picture)
    }

    /// The picture in the size in which the model sees it, its samples before normalisation.
    ///
    /// # Errors
    /// As [`Processor::grid`].
    pub fn resize<'a>(&self, picture: &'a RgbImage) -> Result<Cow<'a, RgbImage>> {
        let (height, width) = self.smart_resize(picture.width(), picture.height())?;
        if (picture.height() as usize, picture.width() as usize) == (height, width) {
            return Ok(Cow::Borrowed(picture));
        }
        Ok(Cow::Owned(bicubic(picture, width as u32, height as u32)))
    }

    /// Patches of a picture whose sides are multiples of a token's side.
    fn patches(&self, picture: &RgbImage) -> Pixels {
        let (side, merge) = (self.patch_size, self.merge_size);
        let (width, samples) = (picture.width() as usize, picture.as_raw());
        let grid = Grid { height: picture.height() as usize / side, width: width / side };
        let values = [0, 1, 2].map(|channel| self.normalised(channel));
        let mut patches = Vec::with_capacity(samples.len() * self.temporal_patch_size);
        for token in 0..grid.tokens(merge) {
            let (token_row, token_column) = (token / (grid.width / merge), token % (grid.width / merge));
            for patch in 0..merge * merge {
                let top = (token_row * merge + patch / merge) * side;
                let left = (token_column * merge + patch % merge) * side;
                for (channel, values) in values.iter().enumerate() {
                    let start = patches.len();
                    for y in top..top + side {
                        let row = &samples[(y * width + left) * 3..(y * width + left + side) * 3];
                        patches.extend(row.chunks_exact(3).map(|pixel| values[usize::from(pixel[channel])]));
                    }
                    let end = patches.len();
                    (1..self.temporal_patch_size).for_each(|_| patches.extend_from_within(start..end));
                }
            }
        }
        Pixels { patches, grid }
    }

    /// The normalised value of each of the 256 samples of a channel, with the reference's roundings: the rescaling in
    /// double precision, then single.
    fn normalised(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|sample| {
            let scaled = (sample as f64 * (1.0 / 255.0)) as f32;
            (scaled - self.mean[channel] as f32) / self.std[channel] as f32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(files: &[(&str, serde_json::Value)]) -> Result<Processor> {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        }
        Processor::load(folder.path())
    }

    fn bounds(files: &[(&str, serde_json::Value)]) -> (usize, usize) {
        let processor = load(files).unwrap();
        (processor.min_pixels, processor.max_pixels)
    }

    #[test]
    fn sizes_are_the_references() {
        let (file, code) = (Processor::new(3136, 12_845_056), Processor::new(3136, 1_003_520));
        // Width and height of the picture; after resizing by the release file's bounds; by the code's.
        for (from, by_file, by_code) in [
            ((512, 384), (504, 392), (504, 392)),
            ((1024, 768), (1036, 756), (1036, 756)),
            ((1920, 1080), (1932, 1092), (1316, 728)),
            ((4000, 3000), (4004, 2996), (1148, 840)),
            ((6000, 4000), (4368, 2912), (1204, 812)),
            ((28, 28), (56, 56), (56, 56)),
            ((30, 20), (84, 56), (84, 56)),
            ((100, 10), (196, 28), (196, 28)),
            ((98, 126), (112, 112), (112, 112)),
            ((42, 70), (56, 56), (56, 56)),
            ((10, 1999), (28, 812), (28, 812)),
        ] {
            let size = |processor: &Processor| {
                let (height, width) = processor.smart_resize(from.0, from.1).unwrap();
                (width, height)
            };
            assert_eq!(size(&file), by_file, "{from:?}");
            assert_eq!(size(&code), by_code, "{from:?}");
        }
    }

    #[test]
    fn equal_bounds_shrink_every_other_shape() {
        let tiny = Processor::new(12544, 12544);
        assert_eq!(tiny.smart_resize(112, 112).unwrap(), (112, 112));
        assert_eq!(tiny.smart_resize(112, 168).unwrap(), (112, 84));
        // 384 / (384 / 112) falls short of 112 by a rounding, in the reference as here.
        assert_eq!(tiny.smart_resize(384, 384).unwrap(), (84, 84));
        assert_eq!(tiny.grid(112, 112).unwrap().tokens(2), 16);
    }

    #[test]
    fn a_picture_without_pixels_or_too_long_is_refused() {
        let processor = Processor::new(3136, 12_845_056);
        assert!(processor.grid(0, 5).unwrap_err().to_string().contains("0x5 pixels"));
        assert!(processor.grid(2, 401).unwrap_err().to_string().contains("200.5 times"));
        assert!(processor.grid(2, 400).is_ok());
    }

    #[test]
    fn bounds_follow_the_references_precedence() {
        let pixels = json!({"min_pixels": 3136, "max_pixels": 12_845_056});
        let size = json!({"size": {"shortest_edge": 784, "longest_edge": 250_880}});
        let mut both = size.clone();
        both["max_pixels"] = json!(1_000_000);
        let nested =
            json!({"image_processor": {"size": {"shortest_edge": 1, "longest_edge": 9}}, "processor_class": "x"});
        let legacy = json!({"processor_class": "x"});
        let (file, processor) = ("preprocessor_config.json", "processor_config.json");
        assert_eq!(bounds(&[(file, pixels.clone())]), (3136, 12_845_056));
        assert_eq!(bounds(&[(file, size.clone())]), (784, 250_880));
        assert_eq!(bounds(&[(file, both)]), (784, 1_000_000));
        assert_eq!(bounds(&[(file, json!({}))]), (3136, 1_003_520));
        assert_eq!(bounds(&[(file, pixels.clone()), (processor, nested)]), (1, 9));
        assert_eq!(bounds(&[(file, pixels), (processor, legacy)]), (3136, 12_845_056));
    }

    #[test]
    fn what_is_saved_is_what_is_read_in_the_releases_digits() {
        let folder = tempfile::tempdir().unwrap();
        let processor = Processor::new(12544, 12544);
        processor.save(folder.path()).unwrap();
        assert_eq!(Processor::load(folder.path()).unwrap(), processor);
        let text = std::fs::read_to_string(folder.path().join("preprocessor_config.json")).unwrap();
        assert!(text.contains("0.48145466,") && text.contains("0.26130258,"), "{text}");
    }

    #[test]
    fn a_missing_file_and_a_foreign_step_are_named() {
        assert!(load(&[]).unwrap_err().to_string().contains("preprocessor_config.json"));
        for (field, value) in [
            ("resample", json!(2)),
            ("do_normalize", json!(false)),
            ("rescale_factor", json!(1.0)),
            ("patch_size", json!(0)),
            ("min_pixels", json!(0)),
            ("image_std", json!([1.0, 0.0, 1.0])),
            ("image_mean", json!([1.0])),
        ] {
            let message = load(&[("preprocessor_config.json", json!({ field: value }))]).unwrap_err().to_string();
            assert!(message.contains(&format!("field `{field}`")), "{message}");
        }
    }

    /// Values of transformers 5.23.0's `Qwen2VLImageProcessorPil` on Pillow 12.0.0 for this picture.
    #[test]
    fn every_value_is_the_references_on_pillow() {
        let sample = |x: u32, y: u32, c: u32| (x * 7 + y * 13 + c * 29 + x * y / 3) as u8;
        let picture = RgbImage::from_fn(101, 60, |x, y| image::Rgb([0, 1, 2].map(|c| sample(x, y, c))));
        let pixels = Processor::new(3136, 12_845_056).pixels(&picture).unwrap();
        assert_eq!(pixels.grid, Grid { height: 4, width: 8 });
        assert_eq!(pixels.patches.len(), 32 * 1176);
        assert_eq!(pixels.patches[..3], [-1.777_664_1, -1.690_073_5, -1.602_482_9]);
        assert_eq!(pixels.patches[1176], -0.493_002_56);
        // FNV-1a over the bits of all values.
        let hash = |hash: u64, value: &f32| (hash ^ u64::from(value.to_bits())).wrapping_mul(0x100_0000_01b3);
        assert_eq!(pixels.patches.iter().fold(0xcbf2_9ce4_8422_2325, hash), 0x255a_d8ee_784b_c76d);
    }

    #[test]
    fn patches_of_one_token_stand_together() {
        // Red tells the column, green the row: 4 x 6 patches of 14 pixels.
        let picture = RgbImage::from_fn(84, 56, |x, y| {
            image::Rgb([(x / 14) as u8, (y / 14) as u8, (x % 14 + 14 * (y % 14)) as u8])
        });
        let pixels = Processor::new(1, 1_000_000).pixels(&picture).unwrap();
        assert_eq!(pixels.grid, Grid { height: 4, width: 6 });
        let values = [0, 1, 2].map(|channel| Processor::new(1, 1).normalised(channel));
        let sample = |value: f32, channel: usize| values[channel].iter().position(|&v| v == value).unwrap();
        let places: Vec<(usize, usize)> =
            pixels.patches.chunks(1176).map(|row| (sample(row[392], 1), sample(row[0], 0))).collect();
        assert_eq!(places[..8], [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
        assert_eq!(places[12..14], [(2, 0), (2, 1)]);
        // Blue counts y and x inside a patch, twice: once a frame.
        let blue: Vec<usize> = pixels.patches[784..1176].iter().map(|&value| sample(value, 2)).collect();
        assert_eq!(blue, (0..196).chain(0..196).collect::<Vec<_>>());
    }
}
