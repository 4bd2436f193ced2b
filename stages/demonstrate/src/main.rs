//! The `evoq-demonstrate` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_demonstrate::main()
}
