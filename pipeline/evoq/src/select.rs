//! What of a plan a run makes: all that is not in the store, or what `--only`, `--from` and `--force` say.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::plan::PlannedStep;
use crate::problem::suggestion;

/// What a run does with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its artifact is in the store: nothing is done.
    Cached,
    /// It is made.
    Run,
    /// Its artifact is in the store, and is removed and made again.
    Again,
    /// It was not asked for, and is not in the store.
    Left,
}

impl State {
    /// What a plan says.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Run | Self::Again => "will run",
            Self::Left => "left out",
        }
    }

    /// Whether the step is made by the run.
    pub fn runs(self) -> bool {
        matches!(self, Self::Run | Self::Again)
    }
}

/// Which steps are asked for, by name: `votes`, or `votes@2` for one round. A step that is in the store is found, whether it was
/// asked for or not.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// These steps; all where it is empty.
    pub only: Vec<String>,
    /// These steps and what depends on them; all where it is empty.
    pub from: Vec<String>,
    /// These steps, though they may be in the store, and what of the steps asked for depends on them.
    pub force: Vec<String>,
}

/// What a run does with each of `steps`, each of which comes after what it needs.
pub fn states(steps: &[PlannedStep], selection: &Selection) -> Result<Vec<State>> {
    let only = named("--only", &selection.only, steps)?;
    let from = depending(steps, &named("--from", &selection.from, steps)?);
    let forced = depending(steps, &named("--force", &selection.force, steps)?);
    let is_asked_for =
        |i: usize| (selection.only.is_empty() || only.contains(&i)) && (selection.from.is_empty() || from.contains(&i));
    let mut states = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        let state = match (step.found, is_asked_for(i)) {
            (true, true) if forced.contains(&i) => State::Again,
            (true, _) => State::Cached,
            (false, true) => State::Run,
            (false, false) => State::Left,
        };
        if state.runs()
            && let Some(&missing) = step.needs.iter().find(|&&need| states.get(need) == Some(&State::Left))
        {
            let (step, missing) = (step.title(), steps[missing].title());
            return Err(Error::BadInput(format!(
                "step {step} reads {missing}, which is not in the store and was not asked for; run that first, or ask for both"
            )));
        }
        states.push(state);
    }
    Ok(states)
}

/// The steps that `names` of the flag `flag` mean.
fn named(flag: &str, names: &[String], steps: &[PlannedStep]) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for name in names {
        let (step, round) = match name.split_once('@') {
            Some((step, round)) => {
                let number = round.parse::<u32>().map_err(|_| {
                    Error::BadInput(format!("{flag} {name}: `{round}` is not a round; expected STEP or STEP@ROUND"))
                })?;
                (step, Some(number))
            }
            None => (name.as_str(), None),
        };
        let is_meant = |it: &PlannedStep| it.record.step == step && (round.is_none() || it.record.round == round);
        let before = found.len();
        found.extend(steps.iter().enumerate().filter(|(_, it)| is_meant(it)).map(|(i, _)| i));
        if found.len() == before && !steps.iter().any(is_meant) {
            let known: BTreeSet<&str> = steps.iter().map(|it| it.record.step.as_str()).collect();
            let near = if known.contains(step) {
                let rounds: BTreeSet<String> = steps
                    .iter()
                    .filter(|it| it.record.step == step)
                    .filter_map(|it| Some(it.record.round?.to_string()))
                    .collect();
                if rounds.is_empty() {
                    "; it runs once: leave the round away".to_owned()
                } else {
                    format!("; it has the rounds {}", rounds.into_iter().collect::<Vec<_>>().join(", "))
                }
            } else {
                suggestion(step, known)
            };
            return Err(Error::BadInput(format!("{flag} {name}: the workflow has no such step{near}")));
        }
    }
    Ok(found)
}

/// `roots` and every step that reads one of them, over however many steps.
fn depending(steps: &[PlannedStep], roots: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut all = roots.clone();
    for (i, step) in steps.iter().enumerate() {
        if step.needs.iter().any(|need| all.contains(need)) {
            all.insert(i);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::step;

    /// photos → votes@1 → labels@1 → votes@2 → labels@2; the first `found` are in the store.
    fn chain(found: usize) -> Vec<PlannedStep> {
        let names =
            [("photos", None), ("votes", Some(1)), ("labels", Some(1)), ("votes", Some(2)), ("labels", Some(2))];
        let each = names.iter().enumerate().map(|(i, &(name, round))| PlannedStep {
            needs: if i == 0 { Vec::new() } else { vec![i - 1] },
            found: i < found,
            ..step(name, round)
        });
        each.collect()
    }

    /// The states as a word of letters: cached, run, again, left.
    fn told(found: usize, only: &[&str], from: &[&str], force: &[&str]) -> std::result::Result<String, String> {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let selection = Selection { only: list(only), from: list(from), force: list(force) };
        let letter = |state: &State| match state {
            State::Cached => 'c',
            State::Run => 'r',
            State::Again => 'a',
            State::Left => 'l',
        };
        states(&chain(found), &selection).map(|all| all.iter().map(letter).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_selection_everything_runs_that_is_not_there() {
        assert_eq!(told(2, &[], &[], &[]).unwrap(), "ccrrr");
    }

    #[test]
    fn only_runs_the_steps_it_names_and_from_what_depends_on_them_too() {
        assert_eq!(told(1, &["votes@1"], &[], &[]).unwrap(), "crlll");
        assert_eq!(told(1, &["votes", "labels@1"], &[], &[]).unwrap(), "crrrl");
        assert_eq!(told(3, &[], &["votes@2"], &[]).unwrap(), "cccrr");
        assert_eq!(
            told(1, &["labels", "votes@2"], &["votes"], &[]).unwrap_err(),
            "step labels (round 1) reads votes (round 1), which is not in the store and was not asked for; run that first, or ask for both"
        );
    }

    #[test]
    fn a_forced_step_is_made_again_and_so_is_what_read_it() {
        assert_eq!(told(5, &[], &[], &["labels@1"]).unwrap(), "ccaaa");
        assert_eq!(told(5, &["labels@1"], &[], &["labels@1"]).unwrap(), "ccacc");
    }

    #[test]
    fn a_step_that_is_not_there_cannot_be_asked_for() {
        let no = "the workflow has no such step";
        assert_eq!(told(5, &["vots"], &[], &[]).unwrap_err(), format!("--only vots: {no}; did you mean `votes`?"));
        assert_eq!(
            told(5, &[], &["votes@3"], &[]).unwrap_err(),
            format!("--from votes@3: {no}; it has the rounds 1, 2")
        );
        assert_eq!(
            told(5, &[], &[], &["photos@1"]).unwrap_err(),
            format!("--force photos@1: {no}; it runs once: leave the round away")
        );
        assert!(told(5, &["votes@x"], &[], &[]).unwrap_err().contains("expected STEP or STEP@ROUND"));
    }
}
