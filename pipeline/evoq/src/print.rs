//! Query results as text: a table for people, CSV and JSON for programs.

use std::io::Write;
use std::sync::Arc;

use arrow::csv;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::pretty::pretty_format_batches_with_schema;
use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

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
        let made = match format {
            Format::Table => pretty_format_batches_with_schema(self.schema.clone(), &self.batches)
                .map(|table| format!("{table}\n").into_bytes()),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
        };
        let refused = |error: ArrowError| {
            Error::BadInput(format!("the result cannot be written in this format: {error}; select other columns"))
        };
        Ok(String::from_utf8_lossy(&made.map_err(refused)?).into_owned())
    }

    fn csv(&self) -> std::result::Result<Vec<u8>, ArrowError> {
        let mut writer = csv::WriterBuilder::new().with_header(true).build(Vec::new());
        // The header comes with the first batch, even if that has no row.
        writer.write(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        Ok(writer.into_inner())
    }

    fn json(&self) -> std::result::Result<Vec<u8>, ArrowError> {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        let lines = String::from_utf8_lossy(&writer.into_inner()).trim_end().replace('\n', ",\n");
        Ok(format!("[{lines}]\n").into_bytes())
    }
}

/// Writes to stdout. A reader that has gone away is no fault.
pub fn say(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Rows of words in columns as wide as they need to be.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|word| word.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(word, &width)| format!("{word:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

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
        assert!(answer(2).text(Format::Table).unwrap().contains("| a       | 3     |"));
    }

    #[test]
    fn no_rows_are_a_header_and_an_empty_list() {
        assert_eq!(answer(0).text(Format::Csv).unwrap(), "outcome,votes\n");
        assert_eq!(answer(0).text(Format::Json).unwrap(), "[]\n");
        assert!(answer(0).text(Format::Table).unwrap().contains("outcome"));
    }
}
