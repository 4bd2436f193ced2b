//! What every stage must do, ours or a stranger's.

use std::process::Command;

use serde_json::Value;

use crate::programs::{PROGRAMS, ends_with, printed, program, said};

/// Checks the contract on the command that `new` makes anew for each call.
fn obeys_the_contract(new: impl Fn() -> Command) {
    let described = ends_with(new().arg("--describe"), 0);
    let it: Value =
        serde_json::from_str(&printed(&described)).expect("--describe prints JSON and nothing else on stdout");
    assert_eq!(it["evoq"], 1);
    for key in ["stage", "version", "about", "divides", "inputs", "outputs", "parameters"] {
        assert!(!it[key].is_null(), "--describe has no `{key}`");
    }
    for parameter in it["parameters"].as_array().unwrap() {
        let help = parameter["help"].as_str().unwrap();
        assert!(!help.is_empty(), "{} has no help", parameter["name"]);
    }
    for output in it["outputs"].as_array().unwrap() {
        let table = output["table"].as_str();
        assert!(table.is_none() || !output["columns"].as_array().unwrap().is_empty(), "{output} has no columns");
    }
    assert!(printed(&ends_with(new().arg("--help"), 0)).contains("--out"));
    ends_with(new().arg("--no-such-flag"), 2);
    // A required input that is not there is named, in one line, and nothing is made.
    let empty = tempfile::tempdir().unwrap();
    let mut command = new();
    for input in it["inputs"].as_array().unwrap() {
        let flag = format!("--{}", input["name"].as_str().unwrap());
        command.arg(flag).arg(empty.path().join("nothing-here"));
    }
    if it["stage"] == "ingest" {
        command.args(["--source", "/nothing-here"]);
    }
    let output = ends_with(command.arg("--out").arg(empty.path().join("out")), 2);
    assert_eq!(said(&output).trim().lines().count(), 1, "{}", said(&output));
    assert!(said(&output).contains("nothing-here"), "{}", said(&output));
    assert!(!empty.path().join("out").exists());
}

#[test]
fn every_stage_obeys_the_contract() {
    for name in PROGRAMS.into_iter().filter(|name| *name != "evoq") {
        obeys_the_contract(|| program(name));
    }
}

#[test]
fn evoq_starts_a_stage_by_its_name() {
    let output = ends_with(program("evoq").args(["label", "--describe"]), 0);
    assert!(printed(&output).contains("\"stage\": \"label\""));
}
