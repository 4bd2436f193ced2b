//! The `evoq` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    evoq::main()
}
