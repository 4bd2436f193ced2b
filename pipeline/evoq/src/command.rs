//! The command line: what `evoq` is asked, turned into what it does.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use evoq_artifacts::{Error as Fault, Location, read_file};

use crate::error::{Error, Result};
use crate::plan::{Plan, reasons};
use crate::print::{Format, columns, say};
use crate::problem::suggestion;
use crate::run::{How, run};
use crate::sql::Database;
use crate::stages::Stages;
use crate::workflow::Workflow;
use crate::{child, gc, verify};

/// Turns unlabelled pictures and a vision-language model into a better judge of picture quality
#[derive(Debug, Parser)]
#[command(name = "evoq", version, after_help = TEACHING, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    order: Order,
}

const TEACHING: &str = "\
A workflow file names steps; a step is a stage (a program evoq-STAGE) or any command. What a step writes is found by its
fingerprint: change one number, run again, and only what depends on it is made.

  evoq plan workflows/quickstart.yaml --root runs            what would run, and why
  evoq run  workflows/quickstart.yaml --root runs            run it
  evoq run  workflows/quickstart.yaml --root s3://bucket/q --set seed=2
  evoq sql  --root runs -c \"SELECT round, outcome, count(*) FROM votes GROUP BY round, outcome\"
  evoq vote --help                                           a stage by hand: ingest, distort, pair, vote, label,
                                                             demonstrate, sft, grpo, score, benchmark

Exit codes: 0 done, 1 failure, 2 bad input, 130 stopped by Ctrl-C.";

#[derive(Debug, Subcommand)]
enum Order {
    /// Show what a run would do: each step, whether it is found or will run, and why
    Plan(PlanArgs),
    /// Run a workflow; steps whose results are in the store are found, not run
    Run(RunArgs),
    /// Query the tables of a run: votes, labels, rollouts, updates, scores, correlations, images, pairs
    Sql(SqlArgs),
    /// Read every file that a manifest names, and tell which are missing or not what was written
    Verify(VerifyArgs),
    /// Remove what killed runs left behind: no manifest names it. Look at it with --dry-run first
    Gc(GcArgs),
    /// Run a stage: `evoq vote …` is `evoq-vote …`
    #[command(external_subcommand)]
    Stage(Vec<OsString>),
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// The workflow file
    file: PathBuf,
    /// Where artifacts and the ledger are: a folder, `file:///…` or `s3://bucket/…`
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    root: String,
    /// Set a parameter of the workflow, or its seed; a relative path counts from the current folder
    #[arg(long = "set", value_name = "NAME=VALUE")]
    sets: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Threads a stage may use [default: all cores]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Trust that no other process writes below the root: for a store that cannot keep two writers apart
    #[arg(long, env = "EVOQ_SINGLE_WRITER")]
    single_writer: bool,
}

#[derive(Debug, Args)]
struct SqlArgs {
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    root: String,
    /// The query; several are divided by `;`
    #[arg(short = 'c', long, value_name = "SQL", required_unless_present = "file")]
    command: Option<String>,
    /// A file with the query
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// The form of the result
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The run to look at [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// An artifact, or a place with artifacts below it [default: the root]
    #[arg(value_name = "URI", required_unless_present = "root")]
    place: Option<String>,
    /// Where artifacts are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    root: Option<String>,
}

#[derive(Debug, Args)]
struct GcArgs {
    /// Where artifacts are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    root: String,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// How long nothing was written below a prefix without a manifest for it to count: 30 min, 12h, 2d. A run under way looks like one
    #[arg(long, value_name = "AGE", value_parser = gc::age, default_value = "1d")]
    older_than: Duration,
}

impl Cli {
    /// Does what was asked by a program called as `called`.
    pub(crate) fn execute(self, called: &Path) -> Result<()> {
        let stages = Stages::new(called);
        match self.order {
            Order::Plan(args) => show_plan(&args, &stages).map_err(|error| of_root(error, &args.root)),
            Order::Run(args) => run_workflow(&args, &stages).map_err(|error| of_root(error, &args.plan.root)),
            Order::Sql(args) => query(&args).map_err(|error| of_root(error, &args.root)),
            Order::Verify(args) => {
                let place = args.place.or(args.root).unwrap_or_default();
                verify::run(&place).map_err(|error| of_root(error, &place))
            }
            Order::Gc(args) => {
                gc::run(&args.root, args.older_than, args.dry_run).map_err(|error| of_root(error, &args.root))
            }
            Order::Stage(arguments) => become_stage(&arguments, &stages),
        }
    }
}

/// A failure of the storage below the root is a failure of the root, whatever was being done there.
fn of_root(error: Error, root: &str) -> Error {
    let is_below = |uri: &str| Location::open(root).is_ok_and(|place| uri.starts_with(place.uri()));
    match error {
        Error::Artifacts(source) if matches!(&source, Fault::Storage { uri, .. } if is_below(uri)) => {
            Error::Root { root: root.to_owned(), source: Box::new(source) }
        }
        error => error,
    }
}

fn opened(args: &PlanArgs, stages: &Stages) -> Result<(Workflow, Location, Plan)> {
    let workflow = Workflow::open(&args.file, &args.sets)?;
    let root = Location::open(&args.root)?;
    let plan = Plan::new(&workflow, &root, stages)?;
    Ok((workflow, root, plan))
}

fn show_plan(args: &PlanArgs, stages: &Stages) -> Result<()> {
    let (workflow, root, plan) = opened(args, stages)?;
    let why = reasons(&plan, &workflow.name, &root)?;
    let mut rows = vec![["round", "step", "stage", "state", "why"].map(str::to_owned).to_vec()];
    for (step, why) in plan.steps.iter().zip(why) {
        let record = &step.record;
        let round = record.round.map_or_else(|| "-".to_owned(), |round| round.to_string());
        let state = if step.found { "cached" } else { "will run" }.to_owned();
        rows.push(vec![round, record.step.clone(), record.stage.clone(), state, why.unwrap_or_default()]);
    }
    say(&columns(&rows))
}

fn run_workflow(args: &RunArgs, stages: &Stages) -> Result<()> {
    let (workflow, root, plan) = opened(&args.plan, stages)?;
    child::watch_interrupts()?;
    let how = How { threads: args.threads.map(usize::from), single_writer: args.single_writer };
    let run = run(&workflow, &plan, &root, how)?;
    if workflow.show.is_empty() {
        return Ok(());
    }
    let database = Database::open(&root, Some(&run))?;
    for show in &workflow.show {
        let answers =
            database.query(&show.sql).map_err(|error| Error::BadInput(format!("show `{}`: {error}", show.title)))?;
        say(&format!("\n{}\n", show.title))?;
        for answer in answers {
            say(&answer.text(Format::Table)?)?;
        }
    }
    Ok(())
}

fn query(args: &SqlArgs) -> Result<()> {
    let sql = match (&args.command, &args.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) => String::from_utf8(read_file(file)?)
            .map_err(|_| Error::BadInput(format!("{}: this is not UTF-8 text; expected a query", file.display())))?,
        (None, None) => return Err(Error::BadInput("neither --command nor --file was given".to_owned())),
    };
    let database = Database::open(&Location::open(&args.root)?, args.run.as_deref())?;
    for answer in database.query(&sql)? {
        say(&answer.text(args.format)?)?;
    }
    Ok(())
}

/// Becomes the stage's program: its exit code and signals are its own.
fn become_stage(arguments: &[OsString], stages: &Stages) -> Result<()> {
    let (stage, arguments) =
        arguments.split_first().ok_or_else(|| Error::BadInput("no command was given".to_owned()))?;
    let stage = stage.to_string_lossy();
    let Some(program) = stages.find(&stage) else {
        let names = stages.names();
        let known = names.iter().map(String::as_str).chain(["plan", "run", "sql", "verify", "gc"]);
        let near = suggestion(&stage, known);
        return Err(Error::BadInput(format!("there is no command or stage `{stage}`{near}")));
    };
    let error = std::process::Command::new(&program).args(arguments).exec();
    Err(Error::Program(format!("{} could not be started: {error}", program.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_help_says_what_there_is_and_teaches_by_example() {
        Cli::command().debug_assert();
        insta::assert_snapshot!(Cli::command().render_help().to_string());
    }
}
