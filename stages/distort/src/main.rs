//! The `evoq-distort` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_distort::main()
}
