//! Rows to Parquet parts: fixed batches, parts closed by size, names that carry the digest of what they hold.

use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use evoq_schemas::Table;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::{Error, Location, PartEntry, Result, TableParts};

/// Rows that are written at once: pages fall alike whatever the rows came from.
const BATCH: usize = 1024;
/// Rows of a row group.
const ROW_GROUP: usize = 64 * BATCH;
/// Rows that are written at once where a row may hold a picture.
const PICTURE_BATCH: usize = 8;
/// A row group that holds pictures is closed when it has grown past this many bytes: it is buffered in memory.
const PICTURE_GROUP_BYTES: usize = 8 << 20;
/// A part is closed when it has grown past this many bytes.
const PART_BYTES: usize = 64 << 20;

/// Writes the rows of one table below an artifact's prefix. The parts are nothing until the artifact is committed.
pub struct TableWriter<T> {
    prefix: Location,
    stage: String,
    /// What the names of the parts begin with, before their number.
    unit: String,
    metadata: Vec<KeyValue>,
    rows: Vec<T>,
    batch: usize,
    part_bytes: usize,
    open: Option<(ArrowWriter<Vec<u8>>, u64)>,
    /// The part that is being put, while the rows of the next one are encoded; it leaves its memory to be used again.
    underway: Option<JoinHandle<Result<Put>>>,
    /// Memory for a part's bytes: fresh memory costs as much as filling it.
    spare: Vec<u8>,
    /// Parts that were begun to be put.
    closed: usize,
    parts: TableParts,
    table: PhantomData<T>,
}

/// A part that was put, and the memory that held it.
struct Put {
    part: PartEntry,
    memory: Vec<u8>,
}

impl<T: Table> TableWriter<T> {
    /// A writer of the table `T` below `prefix`; `stage` is recorded in the files' metadata.
    pub fn new(prefix: &Location, stage: &str) -> Self {
        let batch = if holds_pictures::<T>() { PICTURE_BATCH } else { BATCH };
        Self {
            prefix: prefix.clone(),
            stage: stage.to_owned(),
            unit: String::new(),
            metadata: Vec::new(),
            rows: Vec::new(),
            batch,
            part_bytes: PART_BYTES,
            open: None,
            underway: None,
            spare: Vec::new(),
            closed: 0,
            parts: TableParts::default(),
            table: PhantomData,
        }
    }

    /// The same writer for the rows of one unit of work: its parts sort by unit, then by row.
    pub(crate) fn of_unit(mut self, unit: u32) -> Self {
        self.unit = format!("{unit:05}.");
        self
    }

    /// Records `key` in the metadata of the files that are begun from now on.
    pub fn metadata(&mut self, key: &str, value: impl Into<String>) {
        self.metadata.push(KeyValue::new(key.to_owned(), value.into()));
    }

    /// Appends a row.
    pub fn push(&mut self, row: T) -> Result<()> {
        row.check().map_err(|what| Error::Row {
            uri: self.prefix.join(T::NAME).uri().to_owned(),
            source: evoq_schemas::RowError::Value {
                table: T::NAME,
                row: (self.parts.rows + self.open.as_ref().map_or(0, |it| it.1)) as usize + self.rows.len(),
                what,
            },
        })?;
        self.rows.push(row);
        if self.rows.len() == self.batch { self.flush() } else { Ok(()) }
    }

    /// Writes what is left and gives the table's parts. A table without rows has one part without rows.
    pub fn finish(mut self) -> Result<TableParts> {
        if !self.rows.is_empty() || self.closed == 0 && self.open.is_none() {
            self.flush()?;
        }
        self.close()?;
        self.settle()?;
        Ok(self.parts)
    }

    fn flush(&mut self) -> Result<()> {
        let fault = self.fault();
        let batch = T::batch(&self.rows);
        let (mut writer, rows) = if let Some(open) = self.open.take() {
            open
        } else {
            let properties = properties::<T>(&self.stage, &self.metadata);
            (
                ArrowWriter::try_new(std::mem::take(&mut self.spare), file_schema::<T>(), Some(properties))
                    .map_err(&fault)?,
                0,
            )
        };
        writer.write(&batch).map_err(&fault)?;
        if holds_pictures::<T>() && writer.in_progress_size() >= PICTURE_GROUP_BYTES {
            writer.flush().map_err(&fault)?;
        }
        let grown = writer.bytes_written() + writer.in_progress_size();
        self.open = Some((writer, rows + self.rows.len() as u64));
        self.rows.clear();
        if grown >= self.part_bytes { self.close() } else { Ok(()) }
    }

    /// Closes the open part and begins to put it, once the one before is there.
    fn close(&mut self) -> Result<()> {
        let Some((writer, rows)) = self.open.take() else { return Ok(()) };
        let bytes = Bytes::from(writer.into_inner().map_err(self.fault())?);
        self.settle()?;
        let (prefix, start) = (self.prefix.clone(), format!("{}/part-{}{:05}", T::NAME, self.unit, self.closed));
        self.closed += 1;
        self.parts.rows += rows;
        self.underway = Some(thread::spawn(move || {
            let digest = blake3::hash(&bytes).to_hex().to_string();
            let (name, size) = (format!("{start}-{}.parquet", &digest[..16]), bytes.len() as u64);
            // The name carries the digest: putting it twice is harmless.
            prefix.join(&name).put(bytes.clone())?;
            let mut memory = bytes;
            memory.clear();
            Ok(Put { part: PartEntry { name, rows, bytes: size, digest }, memory: memory.into() })
        }));
        Ok(())
    }

    /// Waits for the part that is being put.
    fn settle(&mut self) -> Result<()> {
        let Some(underway) = self.underway.take() else { return Ok(()) };
        let Put { part, memory } = underway.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        self.parts.parts.push(part);
        self.spare = memory;
        Ok(())
    }

    fn fault(&self) -> impl Fn(parquet::errors::ParquetError) -> Error + use<T> {
        let uri = self.prefix.join(T::NAME).uri().to_owned();
        move |source| Error::Storage { uri: uri.clone(), what: "encoding", source: Box::new(source) }
    }
}

/// Whether the table's rows hold a picture's bytes.
fn holds_pictures<T: Table>() -> bool {
    T::NAME == evoq_schemas::Image::NAME
}

/// The table's schema as a file holds it. Where a file has an Arrow schema, pyarrow takes all metadata from it, and so does
/// `datasets`, which looks for its features there and not among the file's own.
fn file_schema<T: Table>() -> SchemaRef {
    let schema = T::schema();
    if !holds_pictures::<T>() {
        return schema;
    }
    let mut metadata = schema.metadata().clone();
    metadata.insert("huggingface".to_owned(), picture_features::<T>());
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

fn properties<T: Table>(stage: &str, more: &[KeyValue]) -> WriterProperties {
    let mut metadata = vec![
        KeyValue::new("evoq.table".to_owned(), T::NAME.to_owned()),
        KeyValue::new("evoq.schema_version".to_owned(), T::VERSION.to_string()),
        KeyValue::new("evoq.stage".to_owned(), stage.to_owned()),
    ];
    metadata.extend_from_slice(more);
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP));
    if holds_pictures::<T>() {
        metadata.push(KeyValue::new("huggingface".to_owned(), picture_features::<T>()));
        // A page is a picture: it can be read with one ranged read.
        let bytes = ColumnPath::new(vec!["image".to_owned(), "bytes".to_owned()]);
        builder = builder
            .set_column_dictionary_enabled(bytes.clone(), false)
            .set_column_statistics_enabled(bytes.clone(), EnabledStatistics::None)
            .set_column_compression(bytes.clone(), Compression::UNCOMPRESSED)
            .set_column_data_page_size_limit(bytes, 1)
            .set_write_batch_size(PICTURE_BATCH);
    }
    builder.set_key_value_metadata(Some(metadata)).build()
}

/// The feature metadata by which `datasets` decodes the picture column.
fn picture_features<T: Table>() -> String {
    let features: serde_json::Map<_, _> = T::schema()
        .fields()
        .iter()
        .map(|field| {
            let feature = match field.data_type() {
                arrow_schema::DataType::Struct(_) => serde_json::json!({ "_type": "Image" }),
                arrow_schema::DataType::Utf8 | arrow_schema::DataType::Dictionary(..) => {
                    serde_json::json!({ "dtype": "string", "_type": "Value" })
                }
                arrow_schema::DataType::Boolean => serde_json::json!({ "dtype": "bool", "_type": "Value" }),
                number => serde_json::json!({ "dtype": number.to_string().to_lowercase(), "_type": "Value" }),
            };
            (field.name().clone(), feature)
        })
        .collect();
    serde_json::json!({ "info": { "features": features } }).to_string()
}

#[cfg(test)]
mod tests {
    use evoq_schemas::Pair;

    use super::*;
    use crate::draft::tests::{header, pairs};
    use crate::faulty::{Fate, Faulty};
    use crate::{Artifact, Draft};

    /// Three parts of as many rows as are written at once.
    const ROWS: usize = 3 * BATCH;

    /// A writer at `place` that closes a part after each batch.
    fn of_small_parts(place: &Location) -> TableWriter<Pair> {
        let mut writer = TableWriter::new(place, "pair 1");
        writer.part_bytes = 1;
        writer
    }

    /// What comes of `rows` rows at a place where the puts have the fates `puts`.
    fn written(rows: usize, puts: &[Fate]) -> Result<TableParts> {
        let mut writer = of_small_parts(&Faulty::place(puts, &[]));
        pairs(rows).into_iter().try_for_each(|row| writer.push(row))?;
        writer.finish()
    }

    #[test]
    fn a_table_of_several_parts_has_all_its_rows_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        let mut draft = Draft::new(&place, header("f"));
        let mut writer = of_small_parts(&place);
        let rows = pairs(ROWS + 7);
        for row in &rows {
            writer.push(row.clone()).unwrap();
        }
        let parts = writer.finish().unwrap();
        assert_eq!(parts.parts.iter().map(|it| it.rows).collect::<Vec<_>>(), [1024, 1024, 1024, 7]);
        draft.add(Pair::NAME, parts);
        draft.commit().unwrap();
        assert_eq!(Artifact::at(&place).unwrap().rows::<Pair>().unwrap(), rows);
    }

    #[test]
    fn a_part_that_is_not_put_fails_the_table_whichever_it_is() {
        assert_eq!(written(ROWS, &[Fate::Done; 3]).unwrap().rows, ROWS as u64);
        for refused in 0..3 {
            let mut puts = [Fate::Done; 3];
            puts[refused] = Fate::Conflict;
            let error = written(ROWS, &puts).unwrap_err().to_string();
            assert!(error.contains(&format!("pairs/part-{refused:05}")), "{error}");
        }
    }

    #[test]
    fn a_row_that_is_refused_is_named_by_its_place_in_the_whole_table() {
        let mut writer = of_small_parts(&Faulty::place(&[], &[]));
        for row in pairs(ROWS + 5) {
            writer.push(row).unwrap();
        }
        let mut row = pairs(1).remove(0);
        row.image_b = row.image_a.clone();
        let error = writer.push(row).unwrap_err();
        assert!(
            matches!(&error, Error::Row { source: evoq_schemas::RowError::Value { row: 3077, .. }, .. }),
            "{error}"
        );
    }
}
