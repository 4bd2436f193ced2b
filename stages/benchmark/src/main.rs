//! The `evoq-benchmark` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_benchmark::main()
}
