//! The `evoq-grpo` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_grpo::main()
}
