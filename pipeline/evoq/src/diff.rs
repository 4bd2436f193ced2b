//! `evoq diff`: which steps of two runs differ, and why.

use clap::Args;
use evoq_artifacts::Location;

use crate::error::Result;
use crate::ledger::{self, PlanRecord, StepRecord};
use crate::print::{columns, say};
use crate::status::{name, round};
use crate::why::difference;

/// What `evoq diff` is given.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier run
    old: String,
    /// The later run
    new: String,
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
}

/// Prints which steps of two runs differ, and why.
pub fn run(args: &DiffArgs) -> Result<()> {
    let root = Location::open(&args.root)?;
    let plan = |run: &str| ledger::plan(&root, &ledger::chosen(&root, Some(run))?);
    say(&text(&plan(&args.old)?, &plan(&args.new)?))
}

fn text(old: &PlanRecord, new: &PlanRecord) -> String {
    // What is the same artifact is the same step, though one run had a value of the matrix and the other had several.
    let same = |a: &StepRecord, b: &StepRecord| {
        (&a.step, a.round) == (&b.step, b.round) && (a.variant == b.variant || a.fingerprint == b.fingerprint)
    };
    let mut rows = vec![["round", "step", "why"].map(str::to_owned).to_vec()];
    let mut alike = 0;
    for step in &new.steps {
        let known = || old.steps.iter().filter(|it| same(it, step));
        let before = known().find(|it| it.fingerprint == step.fingerprint).or_else(|| known().next());
        let why = match before {
            Some(before) if before.fingerprint == step.fingerprint => {
                alike += 1;
                continue;
            }
            Some(before) => {
                let why = difference(before, step);
                if why.is_empty() {
                    "another fingerprint; stage, version, parameters and inputs are alike".to_owned()
                } else {
                    why
                }
            }
            None => "only in the later run".to_owned(),
        };
        rows.push(vec![round(step), name(step), why]);
    }
    for step in old.steps.iter().filter(|step| !new.steps.iter().any(|it| same(it, step))) {
        rows.push(vec![round(step), name(step), "only in the earlier run".to_owned()]);
    }
    let others = rows.len() - 1;
    if others == 0 {
        return format!("all {alike} steps are the same\n");
    }
    format!("{alike} steps are the same, {others} differ\n{}", columns(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{plan, step};

    #[test]
    fn steps_that_differ_are_told_with_the_reason_and_others_are_counted() {
        let (old, mut new) = (plan(), plan());
        assert_eq!(text(&old, &new), "all 5 steps are the same\n");
        "other".clone_into(&mut new.steps[2].fingerprint);
        new.steps[2].parameters.insert("samples".to_owned(), 16.into());
        "third".clone_into(&mut new.steps[3].fingerprint);
        new.steps[3].inputs.insert("votes".to_owned(), vec!["other".to_owned()]);
        new.steps.remove(4);
        new.steps.push(step("scores", Some(1), "score", &[]));
        insta::assert_snapshot!(text(&old, &new));
    }
}
