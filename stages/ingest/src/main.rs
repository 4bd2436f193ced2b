//! The `evoq-ingest` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq_ingest::main()
}
