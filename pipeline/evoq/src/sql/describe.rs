//! What `DESCRIBE` and `SHOW TABLES` answer: tables and columns with their meaning.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Schema};
use evoq_schemas::{RunRow, RunStepRow, Table, TableInfo, Timing};

use super::parts::ORIGIN;
use super::views::view;
use super::{Answer, Known};

/// The columns of the table or view `name`, which has this schema.
pub(super) fn describe(name: &str, schema: &Schema) -> Answer {
    let fields = schema.fields().iter();
    let columns: [(&str, Vec<String>); 4] = [
        ("column", fields.clone().map(|field| field.name().clone()).collect()),
        ("type", fields.clone().map(|field| type_name(field.data_type())).collect()),
        ("null", fields.clone().map(|field| if field.is_nullable() { "yes" } else { "no" }.to_owned()).collect()),
        ("meaning", fields.map(|field| meaning(name, field.name())).collect()),
    ];
    answer(columns.map(|(name, words)| (name, Arc::new(StringArray::from(words)) as ArrayRef)))
}

/// All tables and views that can be asked, with what one row is.
pub(super) fn overview(known: &[Known]) -> Answer {
    let names = known.iter().map(|it| Some(it.name.as_str()));
    let rows: UInt64Array = known.iter().map(|it| it.rows).collect();
    let meaning = known.iter().map(|it| Some(about(&it.name)));
    answer([
        ("table", Arc::new(names.collect::<StringArray>()) as ArrayRef),
        ("rows", Arc::new(rows)),
        ("one_row_is", Arc::new(meaning.collect::<StringArray>())),
    ])
}

fn answer<const N: usize>(columns: [(&str, ArrayRef); N]) -> Answer {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    Answer { schema: batch.schema(), batches: vec![batch] }
}

/// What one row of the table or view `name` is.
fn about(name: &str) -> &'static str {
    let table = evoq_schemas::tables().into_iter().find(|table| table.name == name).map(|table| table.about);
    let ledger = [(RunRow::NAME, RunRow::ABOUT), (RunStepRow::NAME, RunStepRow::ABOUT), (Timing::NAME, Timing::ABOUT)];
    let ledger = ledger.into_iter().find(|(table, _)| *table == name).map(|(_, about)| about);
    table.or(ledger).or(view(name).map(|view| view.about)).unwrap_or_default().trim()
}

/// What `column` of the table or view `name` means; empty where nobody has said it.
pub(super) fn meaning(name: &str, column: &str) -> String {
    if ORIGIN.contains(&column) {
        return of_schema(&RunStepRow::schema(), column);
    }
    if let Some(view) = view(name) {
        let own = view.columns.iter().find(|(name, _)| *name == column);
        return own.map_or_else(|| meaning(view.table, column), |(_, meaning)| (*meaning).to_owned());
    }
    match name {
        RunRow::NAME => of_schema(&RunRow::schema(), column),
        RunStepRow::NAME => of_schema(&RunStepRow::schema(), column),
        Timing::NAME => of_schema(&Timing::schema(), column),
        name => {
            let table: Option<TableInfo> = evoq_schemas::tables().into_iter().find(|table| table.name == name);
            table.map(|table| of_schema(&(table.schema)(), column)).unwrap_or_default()
        }
    }
}

fn of_schema(schema: &Schema, column: &str) -> String {
    let field = schema.field_with_name(column).ok();
    let about = field.and_then(|field| field.metadata().get("evoq.about"));
    about.map(|about| about.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// A type as SQL speaks of it: enumerations are text to those who ask.
fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Dictionary(_, value) => type_name(value),
        DataType::List(item) => format!("list of {}", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
            format!("struct({})", fields.collect::<Vec<_>>().join(", "))
        }
        kind => kind.to_string().to_lowercase(),
    }
}
