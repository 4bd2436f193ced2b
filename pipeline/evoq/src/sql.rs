//! SQL over the tables of a run, on `DataFusion`: every table by name, all rounds, on a folder or a bucket.
//!
//! A table is a view over the Parquet parts of every step that wrote one of that name, with `run`, `round` and
//! `workflow_step` in front, which come from the ledger. `runs` and `run_steps` hold all runs of the root.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::MemTable;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{Expr, SessionConfig, SessionContext, ident, lit};
use datafusion::sql::parser::{DFParser, Statement};
use evoq_artifacts::{Artifact, Location, Part, block_on};
use evoq_schemas::{RunRow, RunStepRow, Table, TableInfo};
use url::Url;

use crate::error::{Error, Result};
use crate::ledger;
use crate::print::Answer;
use crate::problem::suggestion;

/// The tables of one run, to be queried.
pub struct Database {
    context: SessionContext,
    tables: Vec<String>,
    run: String,
}

impl Database {
    /// The tables of `run`, or of the latest run at `root`.
    pub fn open(root: &Location, run: Option<&str>) -> Result<Self> {
        let runs = ledger::runs(root)?;
        let run = match (run, runs.last()) {
            (Some(run), _) if runs.iter().any(|it| it == run) => run.to_owned(),
            (Some(run), _) => {
                let near = suggestion(run, runs.iter().map(String::as_str));
                return Err(Error::BadInput(format!("there is no run {run} at {}{near}", root.uri())));
            }
            (None, Some(latest)) => latest.clone(),
            (None, None) => {
                let message =
                    format!("{}: no run has been entered here; `evoq run FILE --root …` makes one", root.uri());
                return Err(Error::BadInput(message));
            }
        };
        let config = SessionConfig::new().with_information_schema(true);
        let mut database = Self { context: SessionContext::new_with_config(config), tables: Vec::new(), run };
        database.register_store(root)?;
        database.register_ledger(root, &runs)?;
        database.register_tables(root)?;
        Ok(database)
    }

    /// The results of the statements in `sql`, which can read and cannot write.
    pub fn query(&self, sql: &str) -> Result<Vec<Answer>> {
        let statements = DFParser::parse_sql(sql).map_err(|error| fault(&error))?;
        statements.into_iter().map(|statement| self.answer(statement)).collect()
    }

    fn answer(&self, statement: Statement) -> Result<Answer> {
        let state = self.context.state();
        for table in state.resolve_table_references(&statement).map_err(|error| fault(&error))? {
            let name = table.table();
            let is_system = table.schema() == Some("information_schema");
            if !is_system && !self.tables.iter().any(|known| known == name) {
                let near = suggestion(name, self.tables.iter().map(String::as_str));
                return Err(Error::BadInput(format!("run {} has no table `{name}`{near}", self.run)));
            }
        }
        let work = async {
            let plan = state.statement_to_plan(statement).await?;
            let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            only_reads.verify_plan(&plan)?;
            let frame = self.context.execute_logical_plan(plan).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            Ok(Answer { schema, batches: frame.collect().await? })
        };
        block_on(work).map_err(|error: DataFusionError| fault(&error))
    }

    fn register_store(&self, root: &Location) -> Result<()> {
        let Some(rest) = root.uri().strip_prefix("s3://") else { return Ok(()) };
        let bucket = rest.split('/').next().unwrap_or_default();
        self.context.register_object_store(&url(&format!("s3://{bucket}"))?, root.store());
        Ok(())
    }

    fn register_ledger(&mut self, root: &Location, runs: &[String]) -> Result<()> {
        let (mut rows, mut steps) = (Vec::new(), Vec::new());
        for run in runs {
            rows.extend(ledger::run_row(root, run)?);
            steps.extend(ledger::run_steps(root, run)?);
        }
        self.register_rows::<RunRow>(&rows)?;
        self.register_rows::<RunStepRow>(&steps)
    }

    fn register_rows<T: Table>(&mut self, rows: &[T]) -> Result<()> {
        let table = MemTable::try_new(T::schema(), vec![vec![T::batch(rows)]]).map_err(|error| fault(&error))?;
        self.context.register_table(T::NAME, Arc::new(table)).map_err(|error| fault(&error))?;
        self.tables.push(T::NAME.to_owned());
        Ok(())
    }

    fn register_tables(&mut self, root: &Location) -> Result<()> {
        let mut views: BTreeMap<&str, DataFrame> = BTreeMap::new();
        let known = evoq_schemas::tables();
        for step in ledger::run_steps(root, &self.run)?.iter().filter(|step| step.outcome == "done") {
            let artifact = Artifact::at(&root.join(&step.stage).join(&step.fingerprint))?;
            for info in &known {
                if !artifact.manifest.tables.contains_key(info.name) {
                    continue;
                }
                let frame = self.step_table(info, step, &artifact.table_parts(info.name)?)?;
                let view = match views.remove(info.name) {
                    Some(view) => view.union(frame).map_err(|error| fault(&error))?,
                    None => frame,
                };
                views.insert(info.name, view);
            }
        }
        for (name, view) in views {
            self.context.register_table(name, view.into_view()).map_err(|error| fault(&error))?;
            self.tables.push(name.to_owned());
        }
        Ok(())
    }

    /// One step's table, with where it comes from in front.
    fn step_table(&self, info: &TableInfo, step: &RunStepRow, parts: &[Part]) -> Result<DataFrame> {
        let urls: Result<Vec<ListingTableUrl>> = parts.iter().map(part_url).collect();
        let schema = (info.schema)();
        let mut columns: Vec<Expr> = vec![
            lit(step.run.clone()).alias("run"),
            lit(ScalarValue::UInt32(step.round)).alias("round"),
            lit(step.workflow_step.clone()).alias("workflow_step"),
        ];
        columns.extend(schema.fields().iter().map(|field| ident(field.name())));
        let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
        let config = ListingTableConfig::new_with_multi_paths(urls?).with_listing_options(options).with_schema(schema);
        ListingTable::try_new(config)
            .and_then(|table| self.context.read_table(Arc::new(table)))
            .and_then(|frame| frame.select(columns))
            .map_err(|error| fault(&error))
    }
}

/// What is wrong with the text of `sql`, whatever tables there are.
pub fn syntax_fault(sql: &str) -> Option<String> {
    DFParser::parse_sql(sql).err().map(|error| fault(&error).to_string())
}

/// A part's place for `DataFusion`; a path as a file URL, in which no character means a pattern.
fn part_url(part: &Part) -> Result<ListingTableUrl> {
    let place = part.location();
    let url = match place.local() {
        Some(path) => {
            Url::from_file_path(path).map_err(|()| Error::Query(format!("{} is no absolute path", place.uri())))?
        }
        None => url(place.uri())?,
    };
    ListingTableUrl::try_new(url, None).map_err(|error| fault(&error))
}

fn url(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|error| Error::BadInput(format!("{text}: {error}")))
}

/// An error of the engine: of the query's text, or of reading.
fn fault(error: &DataFusionError) -> Error {
    let text = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_) => Error::BadInput(format!("the query cannot be understood: {text}")),
        _ => Error::Query(format!("the query failed: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, PlanRecord};
    use crate::print::Format;
    use evoq_artifacts::{Draft, Header};
    use evoq_schemas::{Finish, ImageId, Outcome, PairId, Presented, Vote};

    fn vote(k: u16, outcome: Outcome) -> Vote {
        let (image_a, image_b) = (ImageId::from("s/a"), ImageId::from("s/b"));
        Vote {
            pair_id: PairId::of(&image_a, &image_b),
            image_a,
            image_b,
            vote: k,
            samples: Some(4),
            presented: Presented::Ab,
            outcome: Some(outcome),
            invalid_reason: (outcome == Outcome::Invalid).then(|| "no box".to_owned()),
            reply: Some(String::new()),
            answer_logprob: None,
            tokens: 1,
            finish: Some(Finish::Stop),
            probability_a: None,
            probability_b: None,
            prompt: String::new(),
            policy: String::new(),
            min_pixels: None,
            max_pixels: None,
            seed: 1,
        }
    }

    /// A root in which one run made votes in two rounds.
    fn root() -> (tempfile::TempDir, Location) {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().join("a [b] c").to_str().unwrap()).unwrap();
        let plan = PlanRecord { evoq: 1, workflow: "w".to_owned(), steps: Vec::new() };
        let mut ledger = Ledger::start(&root, &plan, 1).unwrap();
        for round in 1..=2 {
            let fingerprint = format!("f{round}");
            let header = Header {
                stage: "vote".to_owned(),
                stage_version: 1,
                fingerprint: fingerprint.clone(),
                parameters: serde_json::Map::new(),
                inputs: BTreeMap::new(),
            };
            let mut draft = Draft::new(&root.join("vote").join(&fingerprint), header);
            let mut writer = draft.table::<Vote>();
            for k in 0..4 {
                let outcome = if k < round { Outcome::A } else { Outcome::Invalid };
                writer.push(vote(k, outcome)).unwrap();
            }
            draft.add("votes", writer.finish().unwrap());
            draft.commit().unwrap();
            let step = RunStepRow {
                run: ledger.row.run.clone(),
                workflow_step: "votes".to_owned(),
                round: Some(u32::from(round)),
                stage: "vote".to_owned(),
                fingerprint,
                cached: false,
                started_ms: 0,
                seconds: 1.0,
                outcome: "done".to_owned(),
                host: "h".to_owned(),
            };
            ledger.step(step).unwrap();
        }
        (folder, root)
    }

    fn csv(root: &Location, sql: &str) -> Result<String> {
        let answers = Database::open(root, None)?.query(sql)?;
        answers.iter().map(|answer| answer.text(Format::Csv)).collect()
    }

    #[test]
    fn a_table_is_read_across_rounds_and_its_enumerations_compare_with_text() {
        let (_folder, root) = root();
        let sql = "SELECT round, workflow_step, count(*) AS votes FROM votes WHERE outcome = 'a' AND presented IN ('ab') \
                   GROUP BY round, workflow_step ORDER BY round";
        assert_eq!(csv(&root, sql).unwrap(), "round,workflow_step,votes\n1,votes,1\n2,votes,2\n");
    }

    #[test]
    fn the_ledger_is_a_table_and_a_table_is_described() {
        let (_folder, root) = root();
        assert_eq!(csv(&root, "SELECT count(*) AS n FROM run_steps WHERE stage = 'vote'").unwrap(), "n\n2\n");
        assert!(csv(&root, "DESCRIBE votes").unwrap().contains("answer_logprob,Float32,YES"));
    }

    #[test]
    fn a_query_that_cannot_be_is_refused_with_what_there_is() {
        let (_folder, root) = root();
        let told = |sql: &str| csv(&root, sql).unwrap_err();
        assert!(told("SELECT * FROM vote").to_string().ends_with("has no table `vote`; did you mean `votes`?"));
        assert!(told("SELECT * FROM rewards").to_string().ends_with("; there are runs, run_steps, votes"));
        assert_eq!(told("SELEC 1").exit_code(), 2);
        assert_eq!(told("SELECT nothing FROM votes").exit_code(), 2);
        assert_eq!(told("DROP TABLE votes").exit_code(), 2);
    }

    #[test]
    fn a_root_without_runs_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = Location::open(folder.path().to_str().unwrap()).unwrap();
        assert!(csv(&root, "SELECT 1").unwrap_err().to_string().contains("evoq run FILE"));
    }
}
