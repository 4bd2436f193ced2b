//! The command line: what `evoq` is asked, turned into what it does.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use evoq_artifacts::{Error as Fault, Location};
use serde_json::json;

use crate::diff::DiffArgs;
use crate::error::{Error, Result};
use crate::graph::GraphArgs;
use crate::plan::{Plan, PlannedStep, Work};
use crate::print::{columns, say};
use crate::problem::suggestion;
use crate::report::ReportArgs;
use crate::resources::bytes;
use crate::run::{How, SlurmHow, run};
use crate::select::{Selection, State};
use crate::show::ShowArgs;
use crate::sql::{Database, Format, SqlArgs};
use crate::stages::Stages;
use crate::status::{LogArgs, StatusArgs};
use crate::why::reasons;
use crate::workflow::Workflow;
use crate::{child, diff, gc, graph, report, schema, show, sql, status, verify};

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

/// The commands that are no stages.
const COMMANDS: [&str; 12] =
    ["plan", "run", "status", "log", "show", "diff", "graph", "report", "sql", "verify", "gc", "schema"];

#[derive(Debug, Subcommand)]
enum Order {
    /// Show what a run would do: each step, whether it is found or will run, and why
    Plan(ShowPlanArgs),
    /// Run a workflow; steps whose results are in the store are found, not run
    Run(RunArgs),
    /// Query the tables of a run: votes, labels, rollouts, updates, scores, correlations, images, pairs
    Sql(SqlArgs),
    /// Show how far a run has come
    Status(StatusArgs),
    /// Show how the steps of a run ended, or what a step said
    Log(LogArgs),
    /// Show what a step's artifact holds, what it was made from, and what reads it
    Show(ShowArgs),
    /// Show which steps of two runs differ, and why
    Diff(DiffArgs),
    /// Draw the steps of a run, or of a workflow file, and what they read
    Graph(GraphArgs),
    /// Write a run as one page of HTML: correlations, training, votes, pairs and pictures, steps and lineage
    Report(ReportArgs),
    /// Read every file that a manifest names, and tell which are missing or not what was written
    Verify(VerifyArgs),
    /// Remove what killed runs left behind: no manifest names it. Look at it with --dry-run first
    Gc(GcArgs),
    /// Print the JSON Schema of the workflow file, from which an editor checks and completes it
    Schema(SchemaArgs),
    /// Run a stage: `evoq vote …` is `evoq-vote …`
    #[command(external_subcommand)]
    Stage(Vec<OsString>),
}

#[derive(Debug, Args)]
struct ShowPlanArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// The form of the plan
    #[arg(long, value_enum, default_value = "table")]
    format: PlanFormat,
}

/// A form in which a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// A line for each step
    Table,
    /// A JSON list of the steps: what each needs and is made from
    Json,
}

#[derive(Debug, Args)]
struct SchemaArgs {
    /// Of what
    #[arg(value_enum)]
    of: SchemaOf,
}

/// What there is a JSON Schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SchemaOf {
    /// The workflow file, with the stages that are found and their parameters
    Workflow,
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
    /// Run these steps alone: names, `votes` or `votes@2` for one round, with commas between
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// Run these steps and what depends on them
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    from: Vec<String>,
    /// Make these steps again though they are in the store, and what depends on them
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    force: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Show what would run, as `evoq plan` does, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads a stage may use [default: all cores]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Cores for all steps together; on Slurm those of a step that takes all it gets [default: the machine's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cpus: Option<u16>,
    /// Memory for all steps together, such as 64GB [default: the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// After a failure, still start the steps that do not need the one that failed
    #[arg(long)]
    keep_going: bool,
    /// How often a step that failed is tried again; one that was given what it cannot use (exit code 2) is not
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Where steps run
    #[arg(long, value_enum, default_value = "local", help_heading = "Executor")]
    executor: ExecutorKind,
    /// Slurm: the partition [default: the cluster's]
    #[arg(long, value_name = "NAME", help_heading = "Executor")]
    partition: Option<String>,
    /// Slurm: tasks of the array job of a step whose work divides; results do not depend on it
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1000),
        help_heading = "Executor"
    )]
    shards: u32,
    /// Slurm: a folder that all nodes share, for scripts and status [default: below the root, where that is a folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Executor")]
    jobs: Option<PathBuf>,
    /// Trust that no other process writes below the root: for a store that cannot keep two writers apart
    #[arg(long, env = "EVOQ_SINGLE_WRITER")]
    single_writer: bool,
}

/// Where steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExecutorKind {
    /// As processes of this machine
    Local,
    /// As jobs of Slurm
    Slurm,
}

/// A size of memory.
fn size(text: &str) -> std::result::Result<u64, &'static str> {
    bytes(text).ok_or("expected a size with its unit, such as 64GB or 512MiB")
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
            Order::Plan(args) => {
                let root = args.plan.root.clone();
                show_plan(&args.plan, args.format, &stages).map_err(|error| of_root(error, &root))
            }
            Order::Run(args) => run_workflow(&args, &stages).map_err(|error| of_root(error, &args.plan.root)),
            Order::Sql(args) => sql::run(&args).map_err(|error| of_root(error, &args.root)),
            Order::Status(args) => status::status(&args).map_err(|error| of_root(error, &args.root)),
            Order::Log(args) => status::log(&args).map_err(|error| of_root(error, &args.root)),
            Order::Show(args) => show::run(&args).map_err(|error| of_root(error, &args.root)),
            Order::Diff(args) => diff::run(&args).map_err(|error| of_root(error, &args.root)),
            Order::Graph(args) => {
                let told = |error| match &args.root {
                    Some(root) => of_root(error, root),
                    None => error,
                };
                graph::run(&args, &stages).map_err(told)
            }
            Order::Report(args) => report::run(&args).map_err(|error| of_root(error, &args.root)),
            Order::Verify(args) => {
                let place = args.place.or(args.root).unwrap_or_default();
                verify::run(&place).map_err(|error| of_root(error, &place))
            }
            Order::Gc(args) => {
                gc::run(&args.root, args.older_than, args.dry_run).map_err(|error| of_root(error, &args.root))
            }
            Order::Schema(SchemaArgs { of: SchemaOf::Workflow }) => {
                let schema = schema::workflow(&stages)?;
                say(&format!("{}\n", serde_json::to_string_pretty(&schema).expect("a schema is plain data")))
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
    let mut plan = Plan::new(&workflow, &root, stages)?;
    let (only, from, force) = (args.only.clone(), args.from.clone(), args.force.clone());
    plan.select(&Selection { only, from, force })?;
    Ok((workflow, root, plan))
}

fn show_plan(args: &PlanArgs, format: PlanFormat, stages: &Stages) -> Result<()> {
    let (workflow, root, plan) = opened(args, stages)?;
    let why = reasons(&plan, &workflow.name, &root)?;
    match format {
        PlanFormat::Table => say(&plan_table(&plan, why)),
        PlanFormat::Json => say(&plan_json(&plan, &why)),
    }
}

fn plan_table(plan: &Plan, why: Vec<Option<String>>) -> String {
    let has_variants = plan.steps.iter().any(|step| !step.record.variant.is_empty());
    let row = |round: String, step: &str, variant: String, stage: &str, state: &str, why: String| {
        let variant = has_variants.then_some(variant);
        let start = [round, step.to_owned()].into_iter();
        start.chain(variant).chain([stage.to_owned(), state.to_owned(), why]).collect::<Vec<String>>()
    };
    let mut rows = vec![row("round".to_owned(), "step", "variant".to_owned(), "stage", "state", "why".to_owned())];
    for (step, why) in plan.steps.iter().zip(why) {
        let record = &step.record;
        let round = record.round.map_or_else(|| "-".to_owned(), |round| round.to_string());
        let variant = record.variant.text().unwrap_or_else(|| "-".to_owned());
        rows.push(row(round, &record.step, variant, &record.stage, step.state.word(), why.unwrap_or_default()));
    }
    columns(&rows)
}

fn plan_json(plan: &Plan, why: &[Option<String>]) -> String {
    let step = |(step, why): (&PlannedStep, &Option<String>)| {
        let record = &step.record;
        let divides = matches!(step.work, Work::Stage { divides: true, .. });
        json!({
            "step": record.step,
            "round": record.round,
            "variant": record.variant.text(),
            "stage": record.stage,
            "version": record.version,
            "fingerprint": record.fingerprint,
            "artifact": step.location.uri(),
            "state": step.state,
            "why": why,
            "needs": step.needs,
            "divides": divides,
            "resources": step.resources,
            "parameters": record.parameters,
            "inputs": record.inputs,
        })
    };
    let steps: Vec<String> = plan.steps.iter().zip(why).map(step).map(|it| it.to_string()).collect();
    format!("[{}]\n", steps.join(",\n"))
}

fn run_workflow(args: &RunArgs, stages: &Stages) -> Result<()> {
    if args.dry_run {
        return show_plan(&args.plan, PlanFormat::Table, stages);
    }
    let (workflow, root, plan) = opened(&args.plan, stages)?;
    child::watch_interrupts()?;
    let run = run(&workflow, &plan, &root, &how(args))?;
    if workflow.show.is_empty() {
        return Ok(());
    }
    let database = Database::open(&root, &[run])?;
    // A part of the steps need not make what is to be shown.
    let is_part = plan.steps.iter().any(|step| step.state == State::Left);
    for show in &workflow.show {
        let answers = match database.query(&show.sql) {
            Ok(answers) => answers,
            Err(error) if is_part => {
                eprintln!("not shown: {}: {error}", show.title);
                continue;
            }
            Err(error) => return Err(Error::BadInput(format!("show `{}`: {error}", show.title))),
        };
        say(&format!("\n{}\n", show.title))?;
        for answer in answers {
            say(&answer.text(Format::Table)?)?;
        }
    }
    Ok(())
}

fn how(args: &RunArgs) -> How {
    let (partition, shards, folder) = (args.partition.clone(), args.shards, args.jobs.clone());
    How {
        threads: args.threads.map(usize::from),
        cpus: args.cpus.map(usize::from),
        memory: args.memory,
        single_writer: args.single_writer,
        keep_going: args.keep_going,
        retries: args.retries,
        slurm: (args.executor == ExecutorKind::Slurm).then_some(SlurmHow { partition, shards, folder }),
    }
}

/// Becomes the stage's program: its exit code and signals are its own.
fn become_stage(arguments: &[OsString], stages: &Stages) -> Result<()> {
    let (stage, arguments) =
        arguments.split_first().ok_or_else(|| Error::BadInput("no command was given".to_owned()))?;
    let stage = stage.to_string_lossy();
    let Some(program) = stages.find(&stage) else {
        let names = stages.names();
        let known = names.iter().map(String::as_str).chain(COMMANDS);
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
