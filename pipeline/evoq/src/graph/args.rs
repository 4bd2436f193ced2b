//! `evoq graph` on the command line.

use clap::{Args, ValueEnum};
use evoq_artifacts::Location;

use super::{Graph, dot, mermaid, svg};
use crate::error::Result;
use crate::ledger;
use crate::print::say;

/// What `evoq graph` is given.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
    /// The run to draw [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
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

/// Prints the steps of a run and what they read.
pub fn run(args: &GraphArgs) -> Result<()> {
    let root = Location::open(&args.root)?;
    let run = ledger::chosen(&root, args.run.as_deref())?;
    let graph = Graph::new(&ledger::plan(&root, &run)?, &ledger::run_steps(&root, &run)?);
    say(&match args.format {
        GraphFormat::Mermaid => mermaid(&graph),
        GraphFormat::Dot => dot(&graph),
        GraphFormat::Svg => svg(&graph),
    })
}
