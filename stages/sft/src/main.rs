//! The `evoq-sft` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_sft::main()
}
