//! The `evoq-vote` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_vote::main()
}
