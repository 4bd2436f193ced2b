//! A Parquet part in the store, read by ranges.

use std::io::{Cursor, Read};

use bytes::Bytes;
use evoq_schemas::Table;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
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
}

impl Part {
    /// The part `entry` of the artifact at `prefix`.
    pub fn new(prefix: &Location, entry: PartEntry) -> Self {
        Self { location: prefix.join(&entry.name), entry }
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
        let fault = |source: ParquetError| Error::Corrupt {
            uri: self.location.uri().to_owned(),
            what: format!("cannot be read as Parquet: {source}"),
        };
        if without.is_empty() || self.entry.bytes <= SMALL {
            self.rows_from(self.location.get()?, without, fault)
        } else {
            self.rows_from(self.clone(), without, fault)
        }
    }

    fn rows_from<T: Table>(
        &self,
        file: impl ChunkReader + 'static,
        without: &[&str],
        fault: impl Fn(ParquetError) -> Error,
    ) -> Result<Vec<T>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(&fault)?;
        let columns = builder.schema().fields().iter().enumerate();
        let kept: Vec<usize> =
            columns.filter(|(_, field)| !without.contains(&field.name().as_str())).map(|(i, _)| i).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), kept);
        let reader = builder.with_projection(mask).with_batch_size(1024).build().map_err(&fault)?;
        let mut rows = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|source| fault(source.into()))?;
            let batch = with_nulls::<T>(&batch, without);
            let read = T::rows(&batch).map_err(|source| Error::Row { uri: self.location.uri().to_owned(), source })?;
            rows.extend(read);
        }
        Ok(rows)
    }
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
        self.location.get_range(start..start + length as u64).map_err(|error| ParquetError::External(Box::new(error)))
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
            let bytes = self.part.location.get_range(self.next..end).map_err(std::io::Error::other)?;
            self.next = end;
            self.chunk = Cursor::new(bytes);
        }
        self.chunk.read(into)
    }
}
