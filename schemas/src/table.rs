//! A table: its row type, schema and check, and the list of all tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};

use crate::cell::{Cell, Value};

/// A row that does not fit its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A column of the table is not there.
    #[error("table `{table}`: column `{column}` is missing; expected it with type {expected}")]
    Missing {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// The type it should have.
        expected: String,
    },
    /// A column that the table does not have.
    #[error("table `{table}`: column `{column}` is not a column of this table; remove it")]
    Unknown {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
    },
    /// A column of another type.
    #[error("table `{table}`: column `{column}` has type {found}; expected {expected}")]
    Type {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// The type it has.
        found: String,
        /// The type it should have.
        expected: String,
    },
    /// A value outside what the column allows.
    #[error("table `{table}`, row {row}: {what}")]
    Value {
        /// The table.
        table: &'static str,
        /// The row, 0-based, within what was checked.
        row: usize,
        /// The column and what is wrong with it.
        what: String,
    },
}

/// A table's row type.
pub trait Table: Sized + Clone + Send + Sync + 'static {
    /// The table's name, a plural noun.
    const NAME: &'static str;
    /// The version of its schema.
    const VERSION: u32;
    /// What one row is.
    const ABOUT: &'static str;
    /// The columns, each with its meaning under the metadata key `evoq.about`.
    fn columns() -> Vec<Field>;
    /// A batch of `rows`.
    fn batch(rows: &[Self]) -> RecordBatch;
    /// The rows of `batch`, each checked.
    fn rows(batch: &RecordBatch) -> Result<Vec<Self>, RowError>;
    /// What the types of the columns cannot say: ranges, and which columns go together. The message starts with the column.
    fn check(&self) -> Result<(), String>;

    /// The schema, with the table's name and version in its metadata.
    fn schema() -> SchemaRef {
        let metadata = HashMap::from([
            ("evoq.table".to_owned(), Self::NAME.to_owned()),
            ("evoq.schema_version".to_owned(), Self::VERSION.to_string()),
        ]);
        Arc::new(Schema::new_with_metadata(Self::columns(), metadata))
    }
}

/// Declares a table: `Row = "name", version N { columns }`; the doc comments are what `DESCRIBE` shows.
macro_rules! table {
    ($(#[doc = $about:literal])+ $row:ident = $name:literal, version $version:literal {
        $($(#[doc = $doc:literal])+ $column:ident: $type:ty,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $row { $($(#[doc = $doc])+ pub $column: $type,)+ }

        impl $crate::Table for $row {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
            const ABOUT: &'static str = concat!($($about),+);
            fn columns() -> Vec<arrow_schema::Field> {
                vec![$($crate::table::column::<$type>(stringify!($column), concat!($($doc),+)),)+]
            }
            fn batch(rows: &[Self]) -> arrow_array::RecordBatch {
                let arrays = vec![$($crate::table::array(rows.iter().map(|row| &row.$column)),)+];
                arrow_array::RecordBatch::try_new(Self::schema(), arrays)
                    .expect("the arrays are made by the types that make the schema")
            }
            fn rows(batch: &arrow_array::RecordBatch) -> Result<Vec<Self>, $crate::RowError> {
                $(let mut $column = $crate::table::cells::<Self, $type>(batch, stringify!($column))?.into_iter();)+
                let mut rows = Vec::with_capacity(batch.num_rows());
                for row in 0..batch.num_rows() {
                    let (Some(it),) = ((|| Some($row { $($column: $column.next()?,)+ }))(),) else { break };
                    $crate::Table::check(&it).map_err(|what| $crate::RowError::Value { table: $name, row, what })?;
                    rows.push(it);
                }
                Ok(rows)
            }
            fn check(&self) -> Result<(), String> {
                self.checked()
            }
        }
    };
}
pub(crate) use table;

/// A column's field, its meaning in the metadata.
pub(crate) fn column<C: Cell>(name: &str, about: &str) -> Field {
    let metadata = HashMap::from([("evoq.about".to_owned(), about.trim().to_owned())]);
    Field::new(name, C::Value::data_type(), C::NULLABLE).with_metadata(metadata)
}

/// The array of a column.
pub(crate) fn array<'a, C: Cell + 'a>(cells: impl Iterator<Item = &'a C>) -> ArrayRef {
    C::Value::array(cells.map(Cell::value))
}

/// The cells of column `name` of `batch`.
pub(crate) fn cells<T: Table, C: Cell>(batch: &RecordBatch, name: &str) -> Result<Vec<C>, RowError> {
    let table = T::NAME;
    let expected = C::Value::data_type().to_string();
    let Some(array) = batch.column_by_name(name) else {
        return Err(RowError::Missing { table, column: name.to_owned(), expected });
    };
    if !C::Value::accepts(array.data_type()) {
        return Err(RowError::Type { table, column: name.to_owned(), found: array.data_type().to_string(), expected });
    }
    let values = C::Value::values(array).map_err(|(row, what)| RowError::Value {
        table,
        row,
        what: format!("column `{name}` {what}"),
    })?;
    values
        .into_iter()
        .enumerate()
        .map(|(row, value)| {
            C::cell(value).ok_or_else(|| RowError::Value {
                table,
                row,
                what: format!("column `{name}` is null; this column is never null"),
            })
        })
        .collect()
}

/// A table without its row type: what the workflow and SQL need of it.
#[derive(Clone, Copy)]
pub struct TableInfo {
    /// The table's name.
    pub name: &'static str,
    /// What one row is.
    pub about: &'static str,
    /// The version of its schema.
    pub version: u32,
    /// Its schema.
    pub schema: fn() -> SchemaRef,
    /// A batch of foreign make in this table's own layout, every row checked.
    pub conform: fn(&RecordBatch) -> Result<RecordBatch, RowError>,
}

/// A batch of foreign make (column order and text layouts may differ) in the table's own layout, every row checked.
pub fn conform<T: Table>(batch: &RecordBatch) -> Result<RecordBatch, RowError> {
    let schema = T::schema();
    if let Some(extra) = batch.schema().fields().iter().find(|field| schema.index_of(field.name()).is_err()) {
        return Err(RowError::Unknown { table: T::NAME, column: extra.name().clone() });
    }
    Ok(T::batch(&T::rows(batch)?))
}

fn info<T: Table>() -> TableInfo {
    TableInfo { name: T::NAME, about: T::ABOUT, version: T::VERSION, schema: T::schema, conform: conform::<T> }
}

/// Every table that a stage may write, in the order of the flow.
pub fn tables() -> Vec<TableInfo> {
    vec![
        info::<crate::Image>(),
        info::<crate::Rating>(),
        info::<crate::Reject>(),
        info::<crate::Pair>(),
        info::<crate::Vote>(),
        info::<crate::Label>(),
        info::<crate::LabelReport>(),
        info::<crate::Target>(),
        info::<crate::Demonstration>(),
        info::<crate::Rollout>(),
        info::<crate::Update>(),
        info::<crate::Reward>(),
        info::<crate::Score>(),
        info::<crate::Prediction>(),
        info::<crate::Correlation>(),
        info::<crate::Difference>(),
    ]
}

/// Checks that `value` is within `low..=high`.
pub(crate) fn within(column: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("column `{column}` is {value}; expected {low} to {high}"))
    }
}

/// Checks that `value` is a finite number.
pub(crate) fn finite(column: &str, value: f64) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(format!("column `{column}` is {value}; expected a finite number")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    fn target(pseudo_mos: Option<f64>, valid: u32) -> Target {
        Target { image_id: "set/a.png".into(), pseudo_mos, valid, invalid: 1 }
    }

    #[test]
    fn rows_come_back_from_a_batch_and_a_bad_one_is_named_with_its_row() {
        let rows = [target(Some(3.5), 2), target(None, 0)];
        assert_eq!(Target::rows(&Target::batch(&rows)).unwrap(), rows);
        let error = Target::rows(&Target::batch(&[target(Some(3.5), 2), target(Some(5.5), 2)])).unwrap_err();
        assert!(matches!(&error, RowError::Value { row: 1, what, .. } if what.contains("pseudo_mos")), "{error}");
    }

    #[test]
    fn every_table_has_a_name_of_its_own_and_says_what_its_columns_mean() {
        let tables = tables();
        let names: std::collections::BTreeSet<_> = tables.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), tables.len());
        for table in tables {
            for field in (table.schema)().fields() {
                assert!(!field.metadata()["evoq.about"].is_empty(), "{}.{}", table.name, field.name());
            }
        }
    }
}
