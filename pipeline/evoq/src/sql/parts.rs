//! A table over the Parquet parts of every step that wrote it, as one scan.
//!
//! Where rows come from (`run`, `round`, `workflow_step`, `variant`) is the same for all rows of a part: these columns cost nothing to
//! read, and a part that cannot hold what is asked for is not opened. Rows and sizes are known from the manifests, so that
//! nothing is listed and a count reads nothing. Columns, row groups and pages that are not needed are left where they are.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingTableUrl, PartitionedFile};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as EngineResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::TableProviderFilterPushDown;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;
use evoq_artifacts::Part;
use evoq_schemas::{RunStepRow, Table, TableInfo};

use super::place_url;
use crate::error::Result;

/// The columns of the ledger that stand in front of every table.
pub(super) const ORIGIN: [&str; 4] = ["run", "round", "workflow_step", "variant"];

/// Where rows come from: the values of [`ORIGIN`].
#[derive(Debug, Clone)]
pub(super) struct Origin<'a> {
    pub run: &'a str,
    pub round: Option<u32>,
    pub workflow_step: &'a str,
    pub variant: Option<String>,
}

/// The parts of one table, of all steps.
#[derive(Debug)]
pub(super) struct PartsTable {
    /// The columns as they are asked for: the origin's first.
    schema: SchemaRef,
    /// The columns as a scan of files counts them: the origin's last.
    layout: TableSchema,
    store: Option<ObjectStoreUrl>,
    files: Vec<PartitionedFile>,
    rows: u64,
}

impl PartsTable {
    /// The table `info`, without parts.
    pub(super) fn new(info: &TableInfo) -> Self {
        let columns = (info.schema)();
        let origin = origin();
        let all: Vec<FieldRef> = origin.iter().chain(columns.fields()).cloned().collect();
        Self {
            schema: Arc::new(Schema::new(all)),
            // Without the metadata of a schema: what a plan gives must be what was asked for, and that has none.
            layout: TableSchema::builder(Arc::new(Schema::new(columns.fields().clone())))
                .with_table_partition_cols(origin)
                .build(),
            store: None,
            files: Vec::new(),
            rows: 0,
        }
    }

    /// Adds the parts that a step wrote.
    pub(super) fn add(&mut self, origin: &Origin, parts: &[Part]) -> Result<()> {
        let origin = vec![
            ScalarValue::from(origin.run),
            ScalarValue::UInt32(origin.round),
            ScalarValue::from(origin.workflow_step),
            ScalarValue::Utf8(origin.variant.clone()),
        ];
        for part in parts {
            let (url, entry) = (place_url(part.location(), "")?, part.entry());
            let mut file = PartitionedFile::new(String::new(), entry.bytes).with_partition_values(origin.clone());
            file.object_meta.location = url.prefix().clone();
            file.statistics = Some(Arc::new(self.statistics(entry.rows, &origin)));
            self.store.get_or_insert_with(|| ListingTableUrl::object_store(&url));
            self.files.push(file);
            self.rows += entry.rows;
        }
        Ok(())
    }

    /// How many rows it has.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// What is known of a file before it is read: its rows, and the one value of each column of its origin.
    fn statistics(&self, rows: u64, origin: &[ScalarValue]) -> Statistics {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut all = Statistics::new_unknown(self.layout.file_schema());
        all.num_rows = Precision::Exact(rows);
        all.column_statistics.extend(origin.iter().map(|value| {
            if value.is_null() {
                return ColumnStatistics { null_count: Precision::Exact(rows), ..ColumnStatistics::new_unknown() };
            }
            ColumnStatistics {
                null_count: Precision::Exact(0),
                min_value: Precision::Exact(value.clone()),
                max_value: Precision::Exact(value.clone()),
                ..ColumnStatistics::new_unknown()
            }
        }));
        all
    }

    /// The files whose origin passes `filters`.
    fn chosen(&self, state: &dyn Session, filters: &[Expr]) -> EngineResult<Vec<PartitionedFile>> {
        if filters.is_empty() || self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let values = |column: usize| self.files.iter().map(move |file| file.partition_values[column].clone());
        let columns: Vec<ArrayRef> =
            (0..ORIGIN.len()).map(|it| ScalarValue::iter_to_array(values(it))).collect::<EngineResult<_>>()?;
        let schema = Arc::new(Schema::new(origin()));
        let origins = RecordBatch::try_new(schema.clone(), columns)?;
        let schema = DFSchema::try_from(schema)?;
        let mut is_chosen = vec![true; self.files.len()];
        for filter in filters {
            let passes = state.create_physical_expr(filter.clone(), &schema)?.evaluate(&origins)?;
            let passes = passes.into_array(self.files.len())?;
            for (chosen, passes) in is_chosen.iter_mut().zip(passes.as_boolean()) {
                *chosen &= passes == Some(true);
            }
        }
        Ok(self.files.iter().zip(is_chosen).filter(|it| it.1).map(|it| it.0.clone()).collect())
    }

    /// Column `index` of [`Self::schema`] as the layout counts it.
    fn position(&self, index: usize) -> usize {
        let columns = self.layout.file_schema().fields().len();
        if index < ORIGIN.len() { columns + index } else { index - ORIGIN.len() }
    }
}

/// The columns of [`ORIGIN`], with their meaning.
fn origin() -> Vec<FieldRef> {
    let ledger = RunStepRow::schema();
    let field = |name| ledger.fields().iter().find(|field| field.name() == name).cloned();
    ORIGIN.into_iter().map(|name| field(name).expect("the ledger says where a step's rows come from")).collect()
}

#[async_trait]
impl TableProvider for PartsTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters by origin are taken here: they choose files. The optimizer hands the others to the files' reader.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        let is_of_origin = |filter: &&Expr| {
            let columns = filter.column_refs();
            !filter.is_volatile() && columns.iter().all(|column| ORIGIN.contains(&column.name.as_str()))
        };
        let support = |filter| {
            if is_of_origin(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let files = self.chosen(state, filters)?;
        let wanted: Vec<usize> = match projection {
            Some(wanted) => wanted.iter().map(|index| self.position(*index)).collect(),
            None => (0..self.schema.fields().len()).map(|index| self.position(index)).collect(),
        };
        let format = ParquetFormat::default().with_options(state.table_options().parquet.clone());
        let mut known = Statistics::new_unknown(self.layout.table_schema());
        known.num_rows = files
            .iter()
            .filter_map(|file| file.statistics.as_ref())
            .fold(Precision::Exact(0), |sum, it| sum.add(&it.num_rows));
        let store = self.store.clone().unwrap_or_else(ObjectStoreUrl::local_filesystem);
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(store, format.file_source(self.layout.clone()))
            .with_file_groups(groups)
            .with_statistics(known)
            .with_projection_indices(Some(wanted))?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, config).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_where_the_files_have_them_and_the_origins_have_a_meaning() {
        for info in evoq_schemas::tables() {
            let table = PartsTable::new(&info);
            let layout = table.layout.table_schema();
            for (index, field) in table.schema.fields().iter().enumerate() {
                assert_eq!(layout.field(table.position(index)), field.as_ref());
                assert!(field.metadata().contains_key("evoq.about"), "{}", field.name());
            }
        }
    }
}
