//! The command: workflow files, plan, run, SQL. It links no stage: it starts their programs.
//!
//! A workflow file is read into a tree in which everything knows its place (`tree`), its parameters are filled in (`params`), once
//! for each combination of its `matrix`, its sections and steps are read (`workflow`, `step`, `resources`), steps are spread over
//! rounds (`expand`) and checked (`check`) against what the stages say of themselves (`stages`, `call`, `foreign`). The `plan` gives
//! each step its fingerprint and names the axes of the matrix on which it depends (`uses`), `select` says which of them run and `why` for what reason; `schema` is for editors. `run` makes what
//! the store lacks and enters it in the `ledger`; `sql` reads the tables of a run, `report` makes a page of them, `status`, `show`,
//! `diff` and `graph` tell of its steps; `verify` and `gc` look after what is stored.

mod call;
mod check;
mod child;
mod command;
mod diff;
mod error;
mod executor;
mod expand;
#[cfg(test)]
mod faults;
mod foreign;
mod gc;
mod graph;
mod ledger;
mod matrix;
mod params;
mod plan;
mod print;
mod problem;
mod read;
mod report;
mod resources;
mod run;
mod schema;
mod select;
mod show;
mod sql;
mod stages;
mod status;
mod step;
mod tree;
mod uses;
mod verify;
mod why;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Does what the command line asks. Exit codes: 0 done, 1 failure, 2 bad input, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let cli = match command::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap writes help to stdout and faults to stderr itself; a closed pipe is no fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.execute(&called) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::tell(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}
