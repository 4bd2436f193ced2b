//! A Parquet part in the store, read by ranges.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use evoq_schemas::Table;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::{Error, Location, PartEntry, Result};

/// How much is fetched when a reader asks for a stream of unknown length: enough for a page's header.
const CHUNK: u64 = 4 << 10;
/// A part up to this size is fetched whole even where some columns are not wanted.
const SMALL: u64 = 4 << 20;

/// One Parquet file of a table. As a [`ChunkReader`] it fetches just the ranges that are asked for.
#[derive(Debug, Clone)]
pub struct Part {
    location: Location,
    entry: PartEntry,
    /// Why bytes could not be fetched. Parquet's and Arrow's errors between here and the caller keep its text only.
    fault: Arc<Mutex<Option<Error>>>,
}

impl Part {
    /// The part `entry` of the artifact at `prefix`.
    pub fn new(prefix: &Location, entry: PartEntry) -> Self {
        Self { location: prefix.join(&entry.name), entry, fault: Arc::default() }
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Its rows, size and digest.
    pub fn entry(&self) -> &PartEntry {
        &self.entry
    }

    /// Its rows; the columns in `without`, which must be nullable, are not read and are null.
    pub fn rows<T: Table>(&self, without: &[&str]) -> Result<Vec<T>> {
        if without.is_empty() || self.entry.bytes <= SMALL {
            let bytes = self.location.get()?;
            let footer = self.footer(&bytes)?;
            return self.rows_from(bytes, footer, without);
        }
        let footer = self.footer(self)?;
        let columns = self.columns(&footer, without)?;
        self.rows_from(columns, footer, without)
    }

    fn footer(&self, file: &impl ChunkReader) -> Result<ArrowReaderMetadata> {
        ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(|source| self.error(source))
    }

    /// The columns but those `without`, of all row groups: fetched at once, as they lie scattered between pictures.
    fn columns(&self, footer: &ArrowReaderMetadata, without: &[&str]) -> Result<Columns> {
        let mask = mask(footer, without);
        let groups = footer.metadata().row_groups().iter();
        let chunks = groups.flat_map(|group| group.columns().iter().enumerate());
        let chunks = chunks.filter(|(leaf, _)| mask.leaf_included(*leaf)).map(|(_, chunk)| chunk.byte_range());
        let ranges: Vec<_> = chunks.map(|(start, length)| start..start + length).collect();
        let pieces = self.location.get_ranges(&ranges)?;
        let pieces = ranges.iter().map(|range| range.start).zip(pieces).collect();
        Ok(Columns { length: self.entry.bytes, pieces })
    }

    /// The error of a reader of this part: the store's, where bytes could not be fetched, else that the file is damaged.
    pub fn error(&self, source: impl std::fmt::Display) -> Error {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.unwrap_or_else(|| Error::Corrupt {
            uri: self.location.uri().to_owned(),
            what: format!("cannot be read as Parquet: {source}"),
        })
    }

    /// Some of its bytes. Why they could not be fetched is kept for [`Part::error`].
    fn fetch(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        self.location.get_range(range).map_err(|error| {
            let text = error.to_string();
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            std::io::Error::other(text)
        })
    }

    fn rows_from<T: Table>(
        &self,
        file: impl ChunkReader + 'static,
        footer: ArrowReaderMetadata,
        without: &[&str],
    ) -> Result<Vec<T>> {
        let mask = mask(&footer, without);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer);
        let reader = builder.with_projection(mask).with_batch_size(1024).build().map_err(|it| self.error(it))?;
        let mut rows = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|source| self.error(source))?;
            let batch = with_nulls::<T>(&batch, without);
            let read = T::rows(&batch).map_err(|source| Error::Row { uri: self.location.uri().to_owned(), source })?;
            rows.extend(read);
        }
        Ok(rows)
    }
}

/// All columns but those `without`.
fn mask(footer: &ArrowReaderMetadata, without: &[&str]) -> ProjectionMask {
    let columns = footer.schema().fields().iter().enumerate();
    let kept = columns.filter(|(_, field)| !without.contains(&field.name().as_str())).map(|(root, _)| root);
    ProjectionMask::roots(footer.parquet_schema(), kept)
}

/// `batch` with the columns `without` added, all null.
fn with_nulls<T: Table>(batch: &arrow_array::RecordBatch, without: &[&str]) -> arrow_array::RecordBatch {
    let schema = T::schema();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut arrays = batch.columns().to_vec();
    for name in without {
        if let Ok(field) = schema.field_with_name(name) {
            fields.push(std::sync::Arc::new(field.clone().with_nullable(true)));
            arrays.push(arrow_array::new_null_array(field.data_type(), batch.num_rows()));
        }
    }
    let schema = std::sync::Arc::new(arrow_schema::Schema::new(fields));
    arrow_array::RecordBatch::try_new(schema, arrays).expect("each array has its field's type and the batch's length")
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.entry.bytes
    }
}

impl ChunkReader for Part {
    type T = Stream;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Stream> {
        Ok(Stream { part: self.clone(), next: start, chunk: Cursor::new(Bytes::new()) })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.fetch(start..start + length as u64).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// A part's bytes from one place on, fetched a chunk at a time.
pub struct Stream {
    part: Part,
    next: u64,
    chunk: Cursor<Bytes>,
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.chunk.position() == self.chunk.get_ref().len() as u64 && self.next < self.part.len() {
            let end = self.part.len().min(self.next + CHUNK);
            let bytes = self.part.fetch(self.next..end)?;
            self.next = end;
            self.chunk = Cursor::new(bytes);
        }
        self.chunk.read(into)
    }
}

/// Some column chunks of a part, in memory, by where they start in it.
struct Columns {
    length: u64,
    pieces: BTreeMap<u64, Bytes>,
}

impl Columns {
    /// The bytes from `start` to the end of the chunk there.
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        let (at, piece) = self.pieces.range(..=start).next_back().unzip();
        let skipped = start - at.copied().unwrap_or(start);
        let piece = piece.filter(|piece| skipped <= piece.len() as u64);
        let missing = || ParquetError::General(format!("byte {start} is of no column that is there"));
        Ok(piece.ok_or_else(missing)?.slice(skipped as usize..))
    }
}

impl Length for Columns {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Columns {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        let short = || ParquetError::General(format!("a column ends before byte {}", start + length as u64));
        (length <= bytes.len()).then(|| bytes.slice(..length)).ok_or_else(short)
    }
}

#[cfg(test)]
mod tests {
    use evoq_schemas::{Image, ImageId, Picture};

    use super::*;
    use crate::draft::tests::header;
    use crate::faulty::{Fate, Faulty};
    use crate::{Artifact, Draft};

    /// An artifact of pictures that are too large to be fetched whole, in a store whose gets then have these fates.
    fn artifact(gets: &[Fate]) -> Artifact {
        // Two gets read the manifest, when it is made and when it is opened.
        let mut fates = vec![Fate::Done; 2];
        fates.extend_from_slice(gets);
        let mut draft = Draft::new(&Faulty::place(&[], &fates), header("f"));
        let mut table = draft.table::<Image>();
        for i in 0..60u8 {
            table
                .push(Image {
                    image_id: ImageId::from(format!("set/{i}")),
                    dataset: "set".to_owned(),
                    name: i.to_string(),
                    image: Some(Picture { bytes: Some(vec![i; 100_000]), path: Some(i.to_string()) }),
                    width: 1,
                    height: 1,
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
                })
                .unwrap();
        }
        draft.add("images", table.finish().unwrap());
        draft.commit().unwrap()
    }

    #[test]
    fn a_fault_of_the_store_is_not_taken_for_a_damaged_file() {
        let mut failed = 0;
        for before in 0.. {
            let mut fates = vec![Fate::Done; before];
            fates.push(Fate::Unknown);
            match artifact(&fates).rows_without::<Image>(&["image"]) {
                Ok(rows) => {
                    assert_eq!(rows.len(), 60);
                    break;
                }
                Err(error) => {
                    let said = error.to_string();
                    assert!(matches!(error, Error::Storage { .. }) && said.contains("the disk is on fire"), "{said}");
                    failed += 1;
                }
            }
        }
        // The end, the footer, and the columns on each side of the pictures.
        assert!(failed > 3, "{failed}");
    }

    #[test]
    fn columns_beside_pictures_are_fetched_without_the_pictures() {
        let artifact = artifact(&[]);
        let part = artifact.parts::<Image>().unwrap().remove(0);
        let columns = part.columns(&part.footer(&part).unwrap(), &["image"]).unwrap();
        assert!(part.entry().bytes > 6_000_000);
        assert!(columns.pieces.values().map(Bytes::len).sum::<usize>() < 10_000);
        let bare = artifact.rows::<Image>().unwrap().into_iter().map(|row| Image { image: None, ..row });
        assert!(artifact.rows_without::<Image>(&["image"]).unwrap() == bare.collect::<Vec<_>>());
        assert!(columns.get_bytes(4, 5_000_000).is_err());
    }
}
