//! One binary that is each of the others, by the name it is called by: the whole-system tests link it under their names.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.as_str() {
        "evoq" => evoq::main(),
        "evoq-benchmark" => evoq_benchmark::main(),
        "evoq-demonstrate" => evoq_demonstrate::main(),
        "evoq-distort" => evoq_distort::main(),
        "evoq-grpo" => evoq_grpo::main(),
        "evoq-ingest" => evoq_ingest::main(),
        "evoq-label" => evoq_label::main(),
        "evoq-pair" => evoq_pair::main(),
        "evoq-score" => evoq_score::main(),
        "evoq-sft" => evoq_sft::main(),
        "evoq-vote" => evoq_vote::main(),
        _ => {
            eprintln!("all-of-evoq: called as `{name}`; link it under the name of one of evoq's programs");
            ExitCode::from(2)
        }
    }
}
