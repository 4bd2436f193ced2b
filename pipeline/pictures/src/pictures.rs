//! The pictures of one or several `images` tables, by id.

use std::collections::HashMap;
use std::sync::Arc;

use evoq_artifacts::{Artifact, Error, Result};
use evoq_distortions::fit;
use evoq_schemas::{Image, ImageId};
use image::RgbImage;

use crate::cache::Cache;
use crate::pages::PartPictures;
use crate::{RECIPE, decode, variant};

/// How many bytes of references are kept decoded: 7,000 of 112 x 112 pixels, or 110 of 1024 x 768.
const CACHE_BYTES: usize = 256 << 20;

/// The pictures of one or several `images` tables that are read as one. Shared between threads.
#[derive(Debug)]
pub struct Pictures {
    rows: Vec<Image>,
    /// For each row, its part and its row there.
    places: Vec<(usize, usize)>,
    index: HashMap<ImageId, usize>,
    parts: Vec<PartPictures>,
    /// References, fitted, by row, short side and crop.
    references: Cache<(usize, Option<u32>, bool)>,
}

impl Pictures {
    /// Opens the tables `images` of `artifacts`. The rows are read, the pictures are not.
    pub fn open(artifacts: &[Artifact]) -> Result<Self> {
        let mut it = Self {
            rows: Vec::new(),
            places: Vec::new(),
            index: HashMap::new(),
            parts: Vec::new(),
            references: Cache::new(CACHE_BYTES),
        };
        for artifact in artifacts {
            for part in artifact.parts::<Image>()? {
                let read = part.rows::<Image>(&["image"])?;
                it.parts.push(PartPictures::new(part));
                for (row, image) in read.into_iter().enumerate() {
                    it.add(image, row)?;
                }
            }
        }
        Ok(it)
    }

    /// Adds row `row` of the last part.
    fn add(&mut self, image: Image, row: usize) -> Result<()> {
        if let Some(taken) = self.index.insert(image.image_id.clone(), self.rows.len()) {
            let what = format!(
                "has the picture `{}`, which is in {} already; ids are unique: give each table once, and make the variants \
                 of a picture with one step",
                image.image_id,
                self.uri(taken),
            );
            return Err(Error::Corrupt { uri: self.parts[self.parts.len() - 1].uri().to_owned(), what });
        }
        self.places.push((self.parts.len() - 1, row));
        self.rows.push(image);
        Ok(())
    }

    /// The rows of all tables in order; the column `image` is null in each.
    pub fn rows(&self) -> &[Image] {
        &self.rows
    }

    /// The row of the picture `id`; its column `image` is null.
    pub fn row(&self, id: &ImageId) -> Result<&Image> {
        self.position(id).map(|position| &self.rows[position])
    }

    /// The pixels of the picture `id`: decoded upright, or rendered from its recipe.
    pub fn load(&self, id: &ImageId) -> Result<RgbImage> {
        let position = self.position(id)?;
        let row = &self.rows[position];
        if row.format == RECIPE {
            let fitted = self.reference(row).map_err(|error| self.of_variant(position, error))?;
            variant(row, &fitted).map_err(|error| self.fault(position, &error.to_string()))
        } else {
            self.decode(position)
        }
    }

    /// The reference of the variant `row`, which need not stand in the tables, at the size at which it is distorted.
    pub fn reference(&self, row: &Image) -> Result<Arc<RgbImage>> {
        let id = row.reference_id.as_ref().unwrap_or(&row.image_id);
        let position = self.position(id)?;
        if self.rows[position].reference_id.is_some() {
            return Err(self.fault(position, "is a variant itself; the reference of a variant is an original"));
        }
        let crop = row.crop.unwrap_or(false);
        self.references.get_or((position, row.short_side, crop), || {
            self.decode(position).map(|reference| fit(&reference, row.short_side, crop))
        })
    }

    /// The file of the picture `id`, as it was found: one ranged read once its part's footer is known. A recipe has none.
    pub fn bytes(&self, id: &ImageId) -> Result<Vec<u8>> {
        self.file(self.position(id)?)
    }

    fn file(&self, position: usize) -> Result<Vec<u8>> {
        let (part, row) = self.places[position];
        self.parts[part].bytes(row)?.ok_or_else(|| self.fault(position, "has no bytes (column `image`)"))
    }

    fn decode(&self, position: usize) -> Result<RgbImage> {
        decode(&self.file(position)?).map(|it| it.picture).map_err(|error| self.fault(position, &error.to_string()))
    }

    fn position(&self, id: &ImageId) -> Result<usize> {
        self.index.get(id).copied().ok_or_else(|| {
            let mut parts: Vec<_> = self.parts.iter().map(PartPictures::uri).collect();
            if parts.len() > 3 {
                parts.truncate(3);
                parts.push("…");
            }
            Error::Corrupt {
                uri: parts.join(", "),
                what: format!(
                    "no picture `{id}` in these tables; give every table that has pictures of this run (recipes need their \
                     references too: --images once for each table)"
                ),
            }
        })
    }

    fn uri(&self, position: usize) -> &str {
        self.parts[self.places[position].0].uri()
    }

    /// The fault `what` of the picture at `position`.
    fn fault(&self, position: usize, what: &str) -> Error {
        let id = &self.rows[position].image_id;
        Error::Corrupt { uri: self.uri(position).to_owned(), what: format!("picture `{id}` {what}") }
    }

    /// A fault of the reference, said of the variant at `position`; a fault of the storage stays what it is.
    fn of_variant(&self, position: usize, error: Error) -> Error {
        if error.is_bad_input() {
            self.fault(position, &format!("cannot be rendered without its reference: {error}"))
        } else {
            error
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::{encode_png, render};
    use evoq_artifacts::{Draft, Header, Location};
    use evoq_schemas::{Picture, Table};

    /// A coloured picture with fine texture.
    pub(crate) fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let level = |by: u32| ((x * by + y * (by + 3) + x * y + seed * 17) % 256) as u8;
            image::Rgb([level(3), level(5), level(11)])
        })
    }

    /// A row with a picture's file.
    pub(crate) fn original(id: &str, bytes: Vec<u8>) -> Image {
        Image {
            image_id: id.into(),
            dataset: "set".to_owned(),
            name: id.trim_start_matches("set/").to_owned(),
            image: Some(Picture { bytes: Some(bytes), path: Some(id.to_owned()) }),
            width: 48,
            height: 40,
            format: "png".to_owned(),
            digest: String::new(),
            split: None,
            grey: false,
            reference_id: None,
            distortion: None,
            severity: None,
            distortion_seed: None,
            short_side: None,
            crop: None,
        }
    }

    /// A recipe.
    pub(crate) fn recipe(reference: &str, distortion: &str, severity: u8) -> Image {
        Image {
            image_id: format!("{reference}#{distortion}-{severity}").as_str().into(),
            image: None,
            format: RECIPE.to_owned(),
            reference_id: Some(reference.into()),
            distortion: Some(distortion.to_owned()),
            severity: Some(severity),
            distortion_seed: Some(1),
            crop: Some(false),
            ..original(reference, Vec::new())
        }
    }

    /// An artifact of `rows`.
    pub(crate) fn write(folder: &Path, rows: &[Image]) -> Artifact {
        let header = Header {
            stage: "ingest".to_owned(),
            stage_version: 1,
            fingerprint: "f".to_owned(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
        };
        let mut draft = Draft::new(&Location::open(folder.to_str().unwrap()).unwrap(), header);
        let mut writer = draft.table::<Image>();
        for row in rows {
            writer.push(row.clone()).unwrap();
        }
        draft.add(Image::NAME, writer.finish().unwrap());
        draft.commit().unwrap()
    }

    #[test]
    fn originals_and_recipes_of_two_tables_come_as_pixels() {
        let (photos, variants) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = encode_png(&picture(48, 40, 1));
        let row = recipe("set/a", "noise_speckle", 3);
        let tables = [
            write(
                photos.path(),
                &[original("set/a", file.clone()), original("set/b", encode_png(&picture(48, 40, 2)))],
            ),
            write(variants.path(), std::slice::from_ref(&row)),
        ];
        let pictures = Pictures::open(&tables).unwrap();
        assert_eq!(pictures.rows().len(), 3);
        assert_eq!(pictures.row(&row.image_id).unwrap().severity, Some(3));
        assert_eq!(pictures.load(&"set/b".into()).unwrap(), picture(48, 40, 2));
        assert_eq!(pictures.bytes(&"set/a".into()).unwrap(), file);
        assert!(pictures.bytes(&row.image_id).unwrap_err().to_string().contains("has no bytes"));
        assert_eq!(pictures.load(&row.image_id).unwrap(), render(&row, &file).unwrap());
    }

    #[test]
    fn a_recipe_without_its_reference_says_which_table_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let row = recipe("set/a", "blur_lens", 3);
        let pictures = Pictures::open(&[write(folder.path(), std::slice::from_ref(&row))]).unwrap();
        let error = pictures.load(&row.image_id).unwrap_err();
        assert!(error.is_bad_input());
        let text = error.to_string();
        assert!(text.contains("`set/a#blur_lens-3`") && text.contains("no picture `set/a`"), "{text}");
    }

    #[test]
    fn a_broken_picture_is_named_with_its_part() {
        let folder = tempfile::tempdir().unwrap();
        let pictures = Pictures::open(&[write(folder.path(), &[original("set/a", vec![0; 20])])]).unwrap();
        let error = pictures.load(&"set/a".into()).unwrap_err();
        assert!(error.is_bad_input());
        assert!(error.to_string().contains("part-00000") && error.to_string().contains("`set/a`"), "{error}");
    }

    #[test]
    fn an_id_that_comes_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let table = write(folder.path(), &[original("set/a", vec![0; 20])]);
        let error = Pictures::open(&[table.clone(), table]).unwrap_err();
        assert!(error.to_string().contains("`set/a`"), "{error}");
    }
}
