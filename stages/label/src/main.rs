//! The `evoq-label` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_label::main()
}
