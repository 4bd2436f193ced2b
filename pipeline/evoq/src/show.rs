//! `evoq show`: what an artifact holds, what it was made from, and what was made from it.

use std::collections::BTreeSet;

use clap::Args;
use evoq_artifacts::{Artifact, Error as Fault, Location, Manifest};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ledger::{self, PlanRecord, StepRecord};
use crate::print::{columns, say};
use crate::status::{asked_for, title};
use crate::verify::size;

/// Digits by which a fingerprint can be named.
const DIGITS: usize = 6;

/// What `evoq show` is given.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A step (`votes`, `votes@2`) or the beginning of a fingerprint
    what: String,
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
    /// The run to look at [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Prints what is known of a step's artifact.
pub fn run(args: &ShowArgs) -> Result<()> {
    let root = Location::open(&args.root)?;
    let run = ledger::chosen(&root, args.run.as_deref())?;
    let plan = ledger::plan(&root, &run)?;
    for step in found(&args.what, &plan, &run)? {
        let place = root.join(&step.stage).join(&step.fingerprint);
        let manifest = match Artifact::at(&place) {
            Ok(artifact) => Some(artifact.manifest),
            Err(Fault::NoArtifact { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        say(&text(step, &plan, place.uri(), manifest.as_ref()))?;
    }
    Ok(())
}

/// The steps that `what` names, each artifact once.
fn found<'a>(what: &str, plan: &'a PlanRecord, run: &str) -> Result<Vec<&'a StepRecord>> {
    let is_fingerprint = what.len() >= DIGITS && what.bytes().all(|it| it.is_ascii_hexdigit());
    let begins = |step: &&StepRecord| step.fingerprint.starts_with(what);
    let mut seen = BTreeSet::new();
    let named: Vec<&StepRecord> =
        plan.steps.iter().filter(begins).filter(|step| seen.insert(&step.fingerprint)).collect();
    match (is_fingerprint, named.as_slice()) {
        (true, [_]) => Ok(named),
        (true, [_, ..]) => {
            Err(Error::BadInput(format!("several fingerprints of run {run} begin with {what}; give more digits")))
        }
        _ => asked_for(what, plan),
    }
}

fn text(step: &StepRecord, plan: &PlanRecord, uri: &str, manifest: Option<&Manifest>) -> String {
    let mut text = format!("{}: {} version {}\n  {uri}\n", title(step), step.stage, step.version);
    let Some(manifest) = manifest else {
        text.push_str("  not in the store\n");
        return text + &made_from(step, plan);
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, table) in &manifest.tables {
        let bytes = table.parts.iter().map(|part| part.bytes).sum();
        rows.push(vec![
            format!("  {name}"),
            format!("{} rows", table.rows),
            format!("{} parts", table.parts.len()),
            size(bytes),
        ]);
    }
    if !manifest.policy.is_empty() {
        let bytes = manifest.policy.iter().map(|file| file.bytes).sum();
        rows.push(vec!["  policy".to_owned(), String::new(), format!("{} files", manifest.policy.len()), size(bytes)]);
    }
    text.push_str("holds\n");
    text.push_str(&columns(&rows));
    text + &made_from(step, plan)
}

fn made_from(step: &StepRecord, plan: &PlanRecord) -> String {
    let mut text = String::new();
    let called = |mark: &str| {
        let source = plan.steps.iter().find(|it| it.fingerprint == mark);
        source.map_or_else(|| "from outside".to_owned(), title)
    };
    let short = |mark: &str| mark.chars().take(12).collect::<String>();
    let reads: Vec<Vec<String>> = step
        .inputs
        .iter()
        .flat_map(|(name, marks)| marks.iter().map(move |mark| (name, mark)))
        .map(|(name, mark)| vec![format!("  {name}"), called(mark), short(mark)])
        .collect();
    if !reads.is_empty() {
        text.push_str("made from\n");
        text.push_str(&columns(&reads));
    }
    let reads_it = |it: &&StepRecord| it.inputs.values().flatten().any(|mark| *mark == step.fingerprint);
    let mut seen = BTreeSet::new();
    let readers: Vec<Vec<String>> = plan
        .steps
        .iter()
        .filter(reads_it)
        .filter(|it| seen.insert(&it.fingerprint))
        .map(|it| vec![format!("  {}", title(it)), short(&it.fingerprint)])
        .collect();
    if !readers.is_empty() {
        text.push_str("read by\n");
        text.push_str(&columns(&readers));
    }
    let parameters: Vec<Vec<String>> =
        step.parameters.iter().map(|(name, value)| vec![format!("  {name}"), shown(value)]).collect();
    if !parameters.is_empty() {
        text.push_str("with\n");
        text.push_str(&columns(&parameters));
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::plan;
    use evoq_artifacts::{PartEntry, TableParts};
    use std::collections::BTreeMap;

    #[test]
    fn a_step_is_shown_with_what_it_holds_what_it_was_made_from_and_what_reads_it() {
        let mut plan = plan();
        plan.steps[2].parameters.insert("samples".to_owned(), 32.into());
        let part = |rows| PartEntry { name: String::new(), rows, bytes: 70_000, digest: String::new() };
        let tables = BTreeMap::from([("votes".to_owned(), TableParts { rows: 12, parts: vec![part(5), part(7)] })]);
        let manifest = Manifest {
            evoq: 1,
            stage: "vote".to_owned(),
            stage_version: 1,
            fingerprint: "votes1".to_owned(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
            tables,
            policy: Vec::new(),
        };
        insta::assert_snapshot!(text(&plan.steps[2], &plan, "root/vote/votes1", Some(&manifest)));
    }

    #[test]
    fn an_artifact_is_found_by_the_beginning_of_its_fingerprint() {
        let mut plan = plan();
        for (step, mark) in plan.steps.iter_mut().zip(["abcdef01", "abcdef02", "bbcdef03", "cbcdef04", "dbcdef05"]) {
            mark.clone_into(&mut step.fingerprint);
        }
        assert_eq!(found("bbcdef", &plan, "r").unwrap()[0].step, "votes");
        assert!(found("abcdef", &plan, "r").unwrap_err().to_string().contains("more digits"));
        assert!(found("ffffff", &plan, "r").is_err());
        assert_eq!(found("labels", &plan, "r").unwrap().len(), 1);
    }
}
