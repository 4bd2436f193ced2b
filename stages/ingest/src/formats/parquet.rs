//! Parquet: columns of texts and numbers; others are left out.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Row, Sheet, contained};

/// The rows of a file, by number.
pub(crate) fn sheet(bytes: Vec<u8>) -> Result<Sheet, String> {
    contained(|| rows(bytes))
}

fn rows(bytes: Vec<u8>) -> Result<Sheet, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).map_err(|error| error.to_string())?;
    let is_text = |it: &DataType| matches!(it, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let taken = |it: &DataType| is_text(it) || it.is_numeric();
    let fields = builder.schema().fields().clone();
    let columns = fields.iter().enumerate().filter(|(_, field)| taken(field.data_type())).map(|(at, _)| at);
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
    let reader = builder.with_projection(mask).build().map_err(|error| error.to_string())?;
    let mut sheet: Option<Sheet> = None;
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let schema = batch.schema();
        let sheet = sheet.get_or_insert_with(|| Sheet::new(schema.fields().iter().map(|it| it.name())));
        let mut columns = Vec::new();
        for column in batch.columns() {
            columns.push(texts(column, is_text(column.data_type())).map_err(|error| error.to_string())?);
        }
        for row in 0..batch.num_rows() {
            let cells = columns.iter_mut().map(|column| column.get_mut(row).map(std::mem::take).unwrap_or_default());
            let line = sheet.rows.len() as u64 + 1;
            sheet.rows.push(Row { line, cells: cells.collect() });
        }
    }
    sheet.ok_or_else(|| "has no rows".to_owned())
}

/// The cells of a column as text; numbers as the double that they are.
fn texts(column: &dyn Array, is_text: bool) -> Result<Vec<String>, arrow::error::ArrowError> {
    if is_text {
        let column = cast(column, &DataType::Utf8)?;
        return Ok(column.as_string::<i32>().iter().map(|it| it.unwrap_or_default().trim().to_owned()).collect());
    }
    let column = cast(column, &DataType::Float64)?;
    let text = |it: Option<f64>| it.map(|it| it.to_string()).unwrap_or_default();
    Ok(column.as_primitive::<Float64Type>().iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::fixture;

    #[test]
    fn texts_and_numbers_of_all_row_groups_are_read_and_lists_left_out() {
        let sheet = sheet(fixture("table/scores.parquet")).unwrap();
        assert_eq!(sheet.columns, ["img_path", "score", "votes", "note"]);
        let rows: Vec<_> = sheet.rows.iter().map(|it| (it.line, it.cells.join("|"))).collect();
        let expected = ["a/1.png|3.5|3|x", "a/2.png|1.100000023841858||", "|2|5|"].map(str::to_owned);
        assert_eq!(rows, (1..).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_parquet_is_refused() {
        assert!(sheet(b"PAR1".to_vec()).is_err());
    }
}
