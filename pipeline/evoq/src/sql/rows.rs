//! Results as they are written: a table for people, CSV, JSON and Parquet for programs, one batch at a time.

use std::io::Write;
use std::sync::Arc;

use arrow::csv;
use arrow::json::writer::{JsonFormat, LineDelimited, WriterBuilder};
use arrow::util::pretty::pretty_format_batches_with_schema;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchWriter, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with borders
    Table,
    /// CSV with a header
    Csv,
    /// A JSON array, one row a line
    Json,
    /// JSON lines: one object a line
    Jsonl,
    /// A Parquet file
    Parquet,
}

/// The result of a query.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
}

impl Answer {
    /// The result as text, with a line end.
    pub fn text(&self, format: Format) -> Result<String> {
        let mut text = Vec::new();
        write(&self.schema, self.batches.iter().cloned().map(Ok), format, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Writes a result as it comes. Only a table is held as a whole, as the widths of its columns depend on all rows.
pub(super) fn write(
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    format: Format,
    out: &mut (impl Write + Send),
) -> Result<()> {
    match format {
        Format::Table => {
            let batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
            let (schema, batches) = without_bytes(schema, &batches)?;
            let table = pretty_format_batches_with_schema(schema, &batches).map_err(refused)?;
            writeln!(out, "{table}")?;
            Ok(())
        }
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
            // The header comes with the first batch, even if that has no row.
            writer.write(&RecordBatch::new_empty(Arc::clone(schema))).map_err(refused)?;
            pour(batches, writer)
        }
        Format::Json => pour(batches, WriterBuilder::new().with_explicit_nulls(true).build::<_, RowsOfArray>(out)),
        Format::Jsonl => pour(batches, WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out)),
        Format::Parquet => {
            let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
            let writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties.build()));
            pour(batches, writer.map_err(|error| refused(error.into()))?)
        }
    }
}

fn pour(batches: impl Iterator<Item = Result<RecordBatch>>, mut writer: impl RecordBatchWriter) -> Result<()> {
    for batch in batches {
        writer.write(&batch?).map_err(refused)?;
    }
    writer.close().map_err(refused)
}

fn refused(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::Output(error),
        error => Error::BadInput(format!(
            "the result cannot be written: {error}; make room if that says so, else select columns that the format takes"
        )),
    }
}

/// A JSON array with one row a line.
#[derive(Debug, Default)]
struct RowsOfArray;

impl JsonFormat for RowsOfArray {
    fn start_stream<W: Write>(&self, out: &mut W) -> std::result::Result<(), ArrowError> {
        Ok(out.write_all(b"[")?)
    }
    fn start_row<W: Write>(&self, out: &mut W, is_first: bool) -> std::result::Result<(), ArrowError> {
        Ok(if is_first { Ok(()) } else { out.write_all(b",\n") }?)
    }
    fn end_stream<W: Write>(&self, out: &mut W) -> std::result::Result<(), ArrowError> {
        Ok(out.write_all(b"]\n")?)
    }
}

/// The same result with the size of each picture in place of its bytes, which would fill the terminal.
fn without_bytes(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            if holds_bytes(field.data_type()) {
                Arc::new(Field::new(field.name(), DataType::Utf8, true))
            } else {
                field.clone()
            }
        })
        .collect();
    let shown = Arc::new(Schema::new(fields));
    let batches = batches.iter().map(|batch| {
        let columns = batch
            .columns()
            .iter()
            .map(|column| if holds_bytes(column.data_type()) { sizes(column) } else { column.clone() });
        RecordBatch::try_new_with_options(
            shown.clone(),
            columns.collect(),
            &arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        )
    });
    let batches = batches.collect::<std::result::Result<_, _>>().map_err(refused)?;
    Ok((shown, batches))
}

fn holds_bytes(kind: &DataType) -> bool {
    match kind {
        DataType::Binary => true,
        DataType::Struct(fields) => fields.iter().any(|field| *field.data_type() == DataType::Binary),
        _ => false,
    }
}

fn sizes(column: &ArrayRef) -> ArrayRef {
    let files = match column.as_struct_opt() {
        Some(parts) => parts.columns().iter().find(|it| *it.data_type() == DataType::Binary).cloned(),
        None => Some(column.clone()),
    };
    let Some(files) = files else { return column.clone() };
    let files = files.as_binary::<i32>();
    let said = (0..column.len())
        .map(|row| (column.is_valid(row) && files.is_valid(row)).then(|| format!("{} bytes", files.value(row).len())));
    Arc::new(said.collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, Int64Array};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn answer(rows: usize) -> Answer {
        let fields = vec![Field::new("outcome", DataType::Utf8, true), Field::new("votes", DataType::Int64, false)];
        let schema = Arc::new(Schema::new(fields));
        let outcomes: StringArray = [Some("a"), None].into_iter().take(rows).collect();
        let votes: Int64Array = [Some(3), Some(4)].into_iter().take(rows).collect();
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(outcomes), Arc::new(votes)]).unwrap();
        Answer { schema, batches: if rows == 0 { Vec::new() } else { vec![batch] } }
    }

    #[test]
    fn each_format_is_what_its_readers_expect() {
        assert_eq!(answer(2).text(Format::Csv).unwrap(), "outcome,votes\na,3\n,4\n");
        let json = answer(2).text(Format::Json).unwrap();
        assert_eq!(json, "[{\"outcome\":\"a\",\"votes\":3},\n{\"outcome\":null,\"votes\":4}]\n");
        let lines = answer(2).text(Format::Jsonl).unwrap();
        assert_eq!(lines, "{\"outcome\":\"a\",\"votes\":3}\n{\"outcome\":null,\"votes\":4}\n");
        assert!(answer(2).text(Format::Table).unwrap().contains("| a       | 3     |"));
    }

    #[test]
    fn no_rows_are_a_header_an_empty_list_and_no_lines() {
        assert_eq!(answer(0).text(Format::Csv).unwrap(), "outcome,votes\n");
        assert_eq!(answer(0).text(Format::Json).unwrap(), "[]\n");
        assert_eq!(answer(0).text(Format::Jsonl).unwrap(), "");
        assert!(answer(0).text(Format::Table).unwrap().contains("outcome"));
    }

    #[test]
    fn parquet_comes_back_as_it_was() {
        for rows in [0, 2] {
            let (from, mut file) = (answer(rows), Vec::new());
            write(&from.schema, from.batches.iter().cloned().map(Ok), Format::Parquet, &mut file).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
            assert_eq!(reader.schema().fields(), from.schema.fields());
            assert_eq!(reader.build().unwrap().map(std::result::Result::unwrap).collect::<Vec<_>>(), from.batches);
        }
    }

    #[test]
    fn a_table_for_people_shows_the_size_of_a_picture_and_not_its_bytes() {
        let files: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(&b"12345"[..]), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("bytes", files, true)]).unwrap();
        let answer = Answer { schema: batch.schema(), batches: vec![batch] };
        assert!(answer.text(Format::Table).unwrap().contains("| 5 bytes |"));
    }
}
