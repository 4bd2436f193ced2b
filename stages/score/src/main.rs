//! The `evoq-score` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_score::main()
}
