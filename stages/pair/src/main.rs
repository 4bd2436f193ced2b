//! The `evoq-pair` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_pair::main()
}
