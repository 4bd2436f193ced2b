//! `evoq report`: a run as one page of HTML that needs nothing else: no network, no script, no other file. Equal runs make
//! equal pages.

mod ask;
mod axis;
mod chart;
mod pairs;
mod pictures;
mod rating;
mod steps;
mod training;
mod votes;
#[cfg(test)]
mod whole;
mod worst;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use evoq_artifacts::Location;
use evoq_schemas::RunRow;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::graph::duration;
use crate::ledger;
use crate::print::{replace, tell};
use crate::sql::Database;

/// What `evoq report` is given.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
    /// The run to report [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The file to write, which is replaced
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

/// The facts of the head of the page.
#[derive(Debug, Serialize)]
struct Head {
    workflow: String,
    run: String,
    date: String,
    seed: u64,
    outcome: String,
    /// What all steps took.
    time: String,
    steps: usize,
    made: usize,
}

/// Writes the report of a run.
pub fn run(args: &ReportArgs) -> Result<()> {
    let root = Location::open(&args.root)?;
    let page = page(&root, args.run.as_deref())?;
    replace(&args.output, |out| Ok(out.write_all(page.as_bytes())?))?;
    tell(&format!("{} written, {}", args.output.display(), crate::verify::size(page.len() as u64)));
    Ok(())
}

/// The page of `run`, or of the latest run at `root`.
fn page(root: &Location, run: Option<&str>) -> Result<String> {
    let database = Database::open(root, &run.map(str::to_owned).into_iter().collect::<Vec<_>>())?;
    let run = database.runs().first().cloned().unwrap_or_default();
    let plan = ledger::plan(root, &run)?;
    let done = ledger::run_steps(root, &run)?;
    let row = ledger::run_row(root, &run)?.pop();
    let head = Head {
        workflow: plan.workflow.clone(),
        date: date(&run),
        seed: row.as_ref().map_or(0, |row| row.seed),
        outcome: row.map_or_else(|| "running".to_owned(), |row: RunRow| row.outcome),
        time: duration(done.iter().map(|row| row.seconds).sum()),
        steps: plan.steps.len(),
        made: done.iter().filter(|row| row.outcome == "done" && !row.cached).count(),
        run,
    };
    let content = json!({
        "style": include_str!("report/style.css"),
        "head": head,
        "rating": rating::rating(&database)?,
        "training": training::training(&database)?,
        "votes": votes::votes(&database)?,
        "pairs": pairs::pairs(&database, &plan, root)?,
        "worst": worst::worst(&database, &plan, root)?,
        "steps": steps::steps(&plan, &done),
    });
    drawn(&content).map_err(|error| Error::Query(format!("the page could not be drawn: {error:#}")))
}

/// The page with this content. What the template does not call safe is escaped.
fn drawn(content: &Json) -> std::result::Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("page.html", include_str!("report/page.html"))?;
    Ok(environment.get_template("page.html")?.render(value(content))?.trim_start().to_owned())
}

/// Plain data as a template takes it.
fn value(content: &Json) -> Value {
    match content {
        Json::Null => Value::from(()),
        Json::Bool(it) => Value::from(*it),
        Json::Number(it) => it.as_i64().map_or_else(|| Value::from(it.as_f64()), Value::from),
        Json::String(it) => Value::from(it.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(entries) => {
            Value::from(entries.iter().map(|(name, it)| (name.clone(), value(it))).collect::<BTreeMap<String, Value>>())
        }
    }
}

/// `2026-11-21 17:23 UTC` from the run's id, which is its time.
fn date(run: &str) -> String {
    let part = |range| run.get(range).unwrap_or_default();
    let is_date = run.len() == 19 && run.bytes().all(|it| it.is_ascii_digit() || it == b'-');
    if !is_date {
        return run.to_owned();
    }
    format!("{}-{}-{} {}:{} UTC", part(0..4), part(4..6), part(6..8), part(9..11), part(11..13))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_run_without_any_table_is_whole_and_its_texts_are_escaped() {
        let head = json!({ "workflow": "<script>alert(1)</script>", "run": "r\"'&" });
        let steps = json!({ "graph": "<svg></svg>", "table": [], "total": "0.0 s" });
        let page = drawn(&json!({ "style": "", "head": head, "steps": steps })).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        assert!(page.contains("<svg></svg>") && !page.contains("id=\"votes\""));
    }

    #[test]
    fn a_runs_id_tells_its_date() {
        assert_eq!(date("20261121-172314-173"), "2026-11-21 17:23 UTC");
        assert_eq!(date("another"), "another");
    }
}
