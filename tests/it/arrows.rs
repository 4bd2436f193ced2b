//! Dependencies point one way: read off the manifests.

use std::collections::BTreeSet;

use crate::programs::{PROGRAMS, repository};

/// The crates of this workspace that the manifest in `folder` depends on at run time.
fn own_dependencies(folder: &str) -> BTreeSet<String> {
    let text =
        String::from_utf8(evoq_artifacts::read_file(&repository().join(folder).join("Cargo.toml")).unwrap()).unwrap();
    let section = text.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("evoq")).map(str::to_owned).collect()
}

/// The names of the stages, sorted.
fn stages() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().filter_map(|name| name.strip_prefix("evoq-"))
}

/// Checks that the crate in `folder` depends on none of this workspace's crates but `crates`.
fn allowed(folder: &str, crates: &[&str]) {
    let allowed: BTreeSet<String> = crates.iter().map(|it| format!("evoq-{it}")).collect();
    let found = own_dependencies(folder);
    let extra: Vec<_> = found.difference(&allowed).collect();
    assert!(extra.is_empty(), "{folder} depends on {extra:?}");
}

#[test]
fn the_lower_crates_know_nothing_above_them() {
    allowed("schemas", &[]);
    allowed("distortions", &[]);
    allowed("pipeline/artifacts", &["schemas"]);
    allowed("pipeline/pictures", &["schemas", "artifacts", "distortions"]);
    allowed("pipeline/stage", &["schemas", "artifacts"]);
    allowed("pipeline/evoq", &["schemas", "artifacts", "pictures", "stage"]);
}

#[test]
fn the_policy_knows_no_table_and_no_storage() {
    allowed("stages/policy", &["distortions"]);
}

#[test]
fn no_stage_uses_another() {
    let shared =
        ["schemas", "artifacts", "distortions", "mat5", "pictures", "stage", "policy", "openai", "naturalness"];
    allowed("stages/openai", &["schemas", "artifacts", "pictures", "stage"]);
    for stage in stages() {
        allowed(&format!("stages/{stage}"), &shared);
    }
}

#[test]
fn every_stage_in_the_repository_is_among_the_programs() {
    let folders = std::fs::read_dir(repository().join("stages")).unwrap();
    let mut found: Vec<String> = folders.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    // Libraries of the stages, not of them.
    found.retain(|name| !["naturalness", "openai", "policy"].contains(&name.as_str()));
    found.sort();
    assert_eq!(found, stages().collect::<Vec<_>>());
}
