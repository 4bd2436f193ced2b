//! `images`: pictures and variants of pictures. No human score, ever.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields};

use crate::ImageId;
use crate::cell::{Value, enumeration, required};
use crate::table::table;

enumeration! {
    /// Which part of its data set a picture belongs to.
    Split {
        /// For training.
        Train = "train",
        /// For choosing constants.
        Validation = "validation",
        /// For the final figures.
        Test = "test",
    }
}

/// A picture's file: its bytes as found, and where they came from. The layout of an image column in `datasets`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    /// The file's bytes, untouched.
    pub bytes: Option<Vec<u8>>,
    /// The file's name, relative to its source.
    pub path: Option<String>,
}

impl Picture {
    fn fields() -> Fields {
        Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
    }
}

impl Value for Picture {
    fn data_type() -> DataType {
        DataType::Struct(Self::fields())
    }
    fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        let cells: Vec<_> = cells.collect();
        let files = || cells.iter().map(|cell| cell.and_then(|it| it.bytes.as_deref()));
        // With room for all from the start: growing would copy megabytes.
        let mut bytes = BinaryBuilder::with_capacity(cells.len(), files().flatten().map(<[u8]>::len).sum());
        bytes.extend(files());
        let path: StringArray = cells.iter().map(|cell| cell.and_then(|it| it.path.as_deref())).collect();
        let nulls: NullBuffer = cells.iter().map(Option::is_some).collect();
        Arc::new(StructArray::new(Self::fields(), vec![Arc::new(bytes.finish()), Arc::new(path)], Some(nulls)))
    }
    fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
        let cells = array.as_struct();
        let (bytes, path) = (cells.column(0).as_binary::<i32>(), cells.column(1).as_string::<i32>());
        let cell = |row: usize| {
            cells.is_valid(row).then(|| Self {
                bytes: bytes.is_valid(row).then(|| bytes.value(row).to_vec()),
                path: path.is_valid(row).then(|| path.value(row).to_owned()),
            })
        };
        Ok((0..cells.len()).map(cell).collect())
    }
}
required!(Picture);

table! {
    /// A picture, or a variant of one.
    Image = "images", version 1 {
        /// Unique in the table: `<dataset>/<path as found>`; a variant appends `#<type>-<severity>`.
        image_id: ImageId,
        /// The data set's name.
        dataset: String,
        /// The path as found, relative to the source, with forward slashes.
        name: String,
        /// The file's bytes, untouched, and its path; null for a recipe.
        image: Option<Picture>,
        /// Width in pixels, of the upright picture.
        width: u32,
        /// Height in pixels, of the upright picture.
        height: u32,
        /// The file's format (png, jpeg, webp, tiff, bmp); `recipe` for a variant that is rendered on demand.
        format: String,
        /// blake3 of the bytes in hex; for a recipe, of the recipe and its reference's digest.
        digest: String,
        /// Which part of the data set it belongs to.
        split: Option<Split>,
        /// Whether red, green and blue are equal throughout.
        grey: bool,
        /// The picture this is a variant of; null for an original.
        reference_id: Option<ImageId>,
        /// The distortion type; null for an original.
        distortion: Option<String>,
        /// Severity 0 (clean) to 5; null for an original.
        severity: Option<u8>,
        /// The seed of the distortion's draws; null for an original.
        distortion_seed: Option<u64>,
        /// The short side in pixels that the reference was brought to first; null for as it is.
        short_side: Option<u32>,
        /// Whether the centre square was cut; null for an original.
        crop: Option<bool>,
    }
}

impl Image {
    fn checked(&self) -> Result<(), String> {
        if let Some(severity) = self.severity.filter(|severity| *severity > 5) {
            return Err(format!("column `severity` is {severity}; expected 0 to 5"));
        }
        if self.width == 0 || self.height == 0 {
            return Err(format!(
                "column `width` or `height` is 0 ({} x {}); expected at least one pixel",
                self.width, self.height
            ));
        }
        let variant = [
            self.reference_id.is_some(),
            self.distortion.is_some(),
            self.severity.is_some(),
            self.distortion_seed.is_some(),
        ];
        if variant.iter().any(|set| *set != variant[0]) {
            return Err("column `reference_id`, `distortion`, `severity` and `distortion_seed` are set \
                        together, for a variant, or not at all"
                .to_owned());
        }
        Ok(())
    }
}
