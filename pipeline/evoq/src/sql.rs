//! SQL over the tables of a run, on `DataFusion`: every table by name, all rounds, on a folder or a bucket.
//!
//! A table is one scan over the Parquet parts of every step that wrote one of that name, with `run`, `round`,
//! `workflow_step` and `variant` in front, which come from the ledger. `runs` and `run_steps` hold all runs of the root. Views stand on them.

mod args;
mod describe;
mod parts;
mod prompt;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::catalog::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as Ast;
use evoq_artifacts::{Artifact, Location, unfinished};
use evoq_schemas::{RunRow, RunStepRow, Table, Timing};
use futures::StreamExt;
use tokio::runtime::Runtime;
use url::Url;

pub use args::{SqlArgs, run};
pub use rows::{Answer, Format};

use crate::error::{Error, Result};
use crate::ledger;
use crate::problem::suggestion;
use parts::{Origin, PartsTable};
use views::VIEWS;

/// The tables of some runs, to be queried.
pub struct Database {
    context: SessionContext,
    /// What there is, in the order of the flow.
    known: Vec<Known>,
    runs: Vec<String>,
    /// Queries are work for all cores; the storage's own runtime waits for the network.
    runtime: Runtime,
}

/// A table or view that can be asked.
#[derive(Debug)]
struct Known {
    name: String,
    /// Its rows, where that is known without asking.
    rows: Option<u64>,
}

/// The rows of a result, as they come.
pub struct Rows<'a> {
    /// The columns.
    pub schema: SchemaRef,
    source: Source<'a>,
}

enum Source<'a> {
    Stream(SendableRecordBatchStream, &'a Runtime),
    Held(std::vec::IntoIter<RecordBatch>),
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Held(batches) => batches.next().map(Ok),
            Source::Stream(stream, runtime) => {
                runtime.block_on(stream.next()).map(|batch| batch.map_err(|error| fault(&error)))
            }
        }
    }
}

impl From<Answer> for Rows<'_> {
    fn from(answer: Answer) -> Self {
        Self { schema: answer.schema, source: Source::Held(answer.batches.into_iter()) }
    }
}

impl Database {
    /// The tables of `runs`, or of the latest run at `root` where none is named.
    pub fn open(root: &Location, runs: &[String]) -> Result<Self> {
        Self::with(root, runs, false)
    }

    /// The same, with the rows that steps which are not finished have written so far.
    pub fn live(root: &Location, runs: &[String]) -> Result<Self> {
        Self::with(root, runs, true)
    }

    fn with(root: &Location, runs: &[String], is_live: bool) -> Result<Self> {
        let all = ledger::runs(root)?;
        let runs = match runs {
            [] => vec![ledger::chosen(root, None)?],
            runs => runs.iter().map(|run| ledger::chosen(root, Some(run))).collect::<Result<_>>()?,
        };
        let mut config = SessionConfig::new().with_information_schema(true);
        // What a predicate leaves out is not decoded: replies and pictures are most of a table's bytes.
        config.options_mut().execution.parquet.pushdown_filters = true;
        config.options_mut().execution.parquet.reorder_filters = true;
        let context = SessionContext::new_with_config(config);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut database = Self { context, known: Vec::new(), runs, runtime };
        database.register_store(root)?;
        database.register_tables(root, is_live)?;
        database.register_ledger(root, &all)?;
        database.register_views()?;
        Ok(database)
    }

    /// The results of the statements in `sql`, which can read and cannot write.
    pub fn query(&self, sql: &str) -> Result<Vec<Answer>> {
        let rows =
            Self::statements(sql)?.into_iter().map(|statement| self.rows(statement)).collect::<Result<Vec<_>>>()?;
        rows.into_iter()
            .map(|rows| Ok(Answer { schema: rows.schema.clone(), batches: rows.collect::<Result<_>>()? }))
            .collect()
    }

    /// The statements in `sql`.
    fn statements(sql: &str) -> Result<Vec<Statement>> {
        let statements = DFParser::parse_sql(sql).map_err(|error| fault(&error))?;
        Ok(statements.into())
    }

    /// The result of one statement.
    fn rows(&self, statement: Statement) -> Result<Rows<'_>> {
        if matches!(&statement, Statement::Statement(ast) if matches!(**ast, Ast::ShowTables { .. })) {
            return Ok(describe::overview(&self.known).into());
        }
        let state = self.context.state();
        let names = state.resolve_table_references(&statement).map_err(|error| fault(&error))?;
        for table in &names {
            let is_system = table.schema() == Some("information_schema");
            if !is_system && !self.has(table.table()) {
                return Err(self.unknown(table.table()));
            }
        }
        self.runtime
            .block_on(async {
                let plan = state.statement_to_plan(statement).await?;
                let only_reads =
                    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
                only_reads.verify_plan(&plan)?;
                if let (LogicalPlan::DescribeTable(plan), [table]) = (&plan, names.as_slice()) {
                    return Ok(describe::describe(table.table(), &plan.schema).into());
                }
                let frame = self.context.execute_logical_plan(plan).await?;
                let stream = frame.execute_stream().await?;
                Ok(Rows { schema: stream.schema(), source: Source::Stream(stream, &self.runtime) })
            })
            .map_err(|error: DataFusionError| fault(&error))
    }

    /// The runs that are looked at.
    pub fn runs(&self) -> &[String] {
        &self.runs
    }

    /// The same for people.
    fn title(&self) -> String {
        format!("{} {}", if self.runs.len() == 1 { "run" } else { "runs" }, self.runs.join(", "))
    }

    /// The names of all tables, views and their columns.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for known in &self.known {
            let table = self.runtime.block_on(self.context.table(&known.name)).map_err(|error| fault(&error))?;
            names.push(known.name.clone());
            names.extend(table.schema().fields().iter().map(|field| field.name().clone()));
        }
        Ok(names)
    }

    /// Whether there is a table or view of this name.
    pub fn has(&self, name: &str) -> bool {
        self.known.iter().any(|known| known.name == name)
    }

    fn unknown(&self, name: &str) -> Error {
        let runs = self.runs.join(" and ");
        if let Some(view) = views::view(name) {
            return Error::BadInput(format!(
                "run {runs} has no table `{}`, which the view `{name}` is made of",
                view.table
            ));
        }
        let is_table = evoq_schemas::tables().iter().any(|table| table.name == name);
        let elsewhere =
            if is_table { " (--live adds what unfinished steps have written, --run names another run)" } else { "" };
        let near = suggestion(name, self.known.iter().map(|known| known.name.as_str()));
        Error::BadInput(format!("run {runs} has no table `{name}`{elsewhere}{near}"))
    }

    fn register_store(&self, root: &Location) -> Result<()> {
        let Some(rest) = root.uri().strip_prefix("s3://") else { return Ok(()) };
        let bucket = rest.split('/').next().unwrap_or_default();
        self.context.register_object_store(&url(&format!("s3://{bucket}"))?, root.store());
        Ok(())
    }

    fn register_tables(&mut self, root: &Location, is_live: bool) -> Result<()> {
        let known = evoq_schemas::tables();
        let mut tables: BTreeMap<usize, PartsTable> = BTreeMap::new();
        let unfinished = if is_live { unfinished(root)? } else { Vec::new() };
        for run in &self.runs {
            let done = ledger::run_steps(root, run)?;
            for step in done.iter().filter(|step| step.outcome == "done") {
                let artifact = Artifact::at(&root.join(&step.stage).join(&step.fingerprint))?;
                let variant = step.variant.clone();
                let origin = Origin { run, round: step.round, workflow_step: &step.workflow_step, variant };
                for (place, info) in known.iter().enumerate() {
                    if artifact.manifest.tables.contains_key(info.name) {
                        let table = tables.entry(place).or_insert_with(|| PartsTable::new(info));
                        table.add(&origin, &artifact.table_parts(info.name)?)?;
                    }
                }
            }
            let plan = if unfinished.is_empty() { Vec::new() } else { ledger::plan(root, run)?.steps };
            let is_done =
                |fingerprint: &str| done.iter().any(|row| row.fingerprint == fingerprint && row.outcome == "done");
            for step in plan.iter().filter(|step| !is_done(&step.fingerprint)) {
                let origin = Origin { run, round: step.round, workflow_step: &step.step, variant: step.variant.text() };
                for it in unfinished.iter().filter(|it| it.live.step.fingerprint == step.fingerprint) {
                    for (place, info) in known.iter().enumerate() {
                        let parts = it.parts(info.name);
                        if !parts.is_empty() {
                            tables.entry(place).or_insert_with(|| PartsTable::new(info)).add(&origin, &parts)?;
                        }
                    }
                }
            }
        }
        for (place, table) in tables {
            let (name, rows) = (known[place].name, table.rows());
            self.context.register_table(name, Arc::new(table)).map_err(|error| fault(&error))?;
            self.known.push(Known { name: name.to_owned(), rows: Some(rows) });
        }
        Ok(())
    }

    fn register_ledger(&mut self, root: &Location, runs: &[String]) -> Result<()> {
        let (mut rows, mut steps) = (Vec::new(), Vec::new());
        for run in runs {
            rows.extend(ledger::run_row(root, run)?);
            steps.extend(ledger::run_steps(root, run)?);
        }
        self.register_rows::<RunRow>(&rows)?;
        self.register_rows::<RunStepRow>(&steps)?;
        let place = place_url(&root.join("ledger").join(Timing::NAME), "/")?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
        let timings = ListingTableConfig::new(place).with_listing_options(options).with_schema(Timing::schema());
        let registered = ListingTable::try_new(timings)
            .and_then(|timings| self.context.register_table(Timing::NAME, Arc::new(timings)));
        registered.map_err(|error| fault(&error))?;
        self.known.push(Known { name: Timing::NAME.to_owned(), rows: None });
        Ok(())
    }

    fn register_rows<T: Table>(&mut self, rows: &[T]) -> Result<()> {
        let table = MemTable::try_new(T::schema(), vec![vec![T::batch(rows)]]).map_err(|error| fault(&error))?;
        self.context.register_table(T::NAME, Arc::new(table)).map_err(|error| fault(&error))?;
        self.known.push(Known { name: T::NAME.to_owned(), rows: Some(rows.len() as u64) });
        Ok(())
    }

    fn register_views(&mut self) -> Result<()> {
        for view in VIEWS.iter().filter(|view| self.has(view.table)).collect::<Vec<_>>() {
            let frame = self.runtime.block_on(self.context.sql(view.sql));
            let registered = frame.and_then(|frame| self.context.register_table(view.name, frame.into_view()));
            registered.map_err(|error| fault(&error))?;
            self.known.push(Known { name: view.name.to_owned(), rows: None });
        }
        Ok(())
    }
}

/// What is wrong with the text of `sql`, whatever tables there are.
pub fn syntax_fault(sql: &str) -> Option<String> {
    DFParser::parse_sql(sql).err().map(|error| fault(&error).to_string())
}

/// A place for `DataFusion`, a folder with the `end` `/`; a path as a file URL, in which no character means a pattern.
fn place_url(place: &Location, end: &str) -> Result<ListingTableUrl> {
    let mut url = match place.local() {
        Some(path) => {
            Url::from_file_path(path).map_err(|()| Error::Query(format!("{} is no absolute path", place.uri())))?
        }
        None => url(place.uri())?,
    };
    let whole = format!("{}{end}", url.path());
    url.set_path(&whole);
    ListingTableUrl::try_new(url, None).map_err(|error| fault(&error))
}

fn url(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|error| Error::BadInput(format!("{text}: {error}")))
}

/// An error of the engine: of the query's text, or of reading.
fn fault(error: &DataFusionError) -> Error {
    let text = error.strip_backtrace();
    // The engine asks for a report to its makers wherever a function is called with types that it does not take.
    let text = match (text.find("\nThis issue was likely caused by a bug"), text.find("No function matches")) {
        (Some(_), Some(told)) => &text[told..],
        (Some(end), None) => &text[..end],
        (None, _) => &text,
    };
    match error.find_root() {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_) => Error::BadInput(format!("the query cannot be understood: {text}")),
        _ => Error::Query(format!("the query failed: {text}")),
    }
}
