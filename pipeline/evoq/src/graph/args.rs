//! `evoq graph` on the command line.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use evoq_artifacts::Location;

use super::{End, Graph, dot, mermaid, svg};
use crate::error::Result;
use crate::ledger;
use crate::plan::Plan;
use crate::print::say;
use crate::stages::Stages;
use crate::workflow::Workflow;

/// What `evoq graph` is given.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// A workflow file, drawn as it stands: nothing need have run, and what it reads need not be there [default: a run is drawn]
    file: Option<PathBuf>,
    /// Where artifacts and the ledger are; with a file, its steps that are there are drawn as found
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT", required_unless_present = "file")]
    pub root: Option<String>,
    /// The run to draw [default: the latest]
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    run: Option<String>,
    /// Set a parameter of the file, or its seed
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "file")]
    sets: Vec<String>,
    /// The form of the drawing
    #[arg(long, value_enum, default_value = "mermaid")]
    format: GraphFormat,
}

/// A form of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// A flowchart that Markdown pages show
    Mermaid,
    /// Graphviz's language
    Dot,
    /// A picture, with the time of each step
    Svg,
}

/// Prints the steps of a run, or of a workflow file, and what they read.
pub fn run(args: &GraphArgs, stages: &Stages) -> Result<()> {
    let root = args.root.as_deref().map(Location::open).transpose()?;
    let graph = match (&args.file, &root) {
        (Some(file), root) => of_file(file, &args.sets, root.as_ref(), stages)?,
        (None, Some(root)) => {
            let run = ledger::chosen(root, args.run.as_deref())?;
            Graph::new(&ledger::plan(root, &run)?, &ledger::run_steps(root, &run)?)
        }
        (None, None) => unreachable!("clap asks for a root where no file is given"),
    };
    say(&match args.format {
        GraphFormat::Mermaid => mermaid(&graph),
        GraphFormat::Dot => dot(&graph),
        GraphFormat::Svg => svg(&graph),
    })
}

/// The steps of the workflow `file`; those that are found at `root`, where one is given, say so.
fn of_file(file: &Path, sets: &[String], root: Option<&Location>, stages: &Stages) -> Result<Graph> {
    let workflow = Workflow::open(file, sets)?;
    let plan = match root {
        Some(root) => Plan::new(&workflow, root, stages)?,
        None => Plan::sketch(&workflow, stages)?,
    };
    let mut graph = Graph::new(&plan.record(&workflow.name), &[]);
    // What comes from outside stands before the steps.
    for (node, step) in graph.nodes.iter_mut().rev().zip(plan.steps.iter().rev()) {
        node.end = step.found.then(|| End { outcome: "done".to_owned(), cached: true, seconds: 0.0 });
    }
    Ok(graph)
}
