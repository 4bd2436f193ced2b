//! Training that is watched: the rows so far, the timings in the ledger, TensorBoard's files.

use evoq_artifacts::{Artifact, Location, timings, unfinished};
use evoq_schemas::{Rollout, Timing, Update};

use crate::work::{UPDATES, Work, wait_until};

#[test]
fn the_rows_so_far_are_the_first_of_the_rows_at_the_end() {
    let work = Work::new();
    let mut child = work.start("out", &["--checkpoint-every", "1000"]);
    wait_until(&mut child, || work.scratch("out").iter().any(|name| name.starts_with("updates/part-00004.")));
    child.kill().unwrap();
    child.wait().unwrap();
    let root = Location::open(&work.folder.at("out")).unwrap();
    let [step] = unfinished(&root).unwrap().try_into().unwrap();
    assert_eq!((step.live.step.stage.as_str(), step.live.total), ("grpo", UPDATES));
    assert!(step.live.done >= 4, "{}", step.live.done);
    let updates: Vec<Update> = step.parts("updates").iter().flat_map(|part| part.rows(&[]).unwrap()).collect();
    let rollouts: Vec<Rollout> = step.parts("rollouts").iter().flat_map(|part| part.rows(&[]).unwrap()).collect();
    work.run("out", &[]);
    let artifact = Artifact::open(&work.folder.at("out")).unwrap();
    let (all_updates, all_rollouts) = (artifact.rows::<Update>().unwrap(), artifact.rows::<Rollout>().unwrap());
    assert_eq!((updates.len() as u64, all_updates.len() as u64), (step.live.done, UPDATES));
    assert_eq!(updates, all_updates[..updates.len()]);
    assert!(!rollouts.is_empty() && rollouts.len() < all_rollouts.len());
    assert_eq!(rollouts, all_rollouts[..rollouts.len()]);
    assert!(unfinished(&root).unwrap().is_empty());
}

#[test]
fn every_phase_of_every_update_is_timed_in_the_ledger_and_nowhere_else() {
    let work = Work::new();
    work.run("out", &[]);
    let root = Location::open(&work.folder.at("out")).unwrap();
    let mut rows: Vec<Timing> = timings(&root).unwrap().iter().flat_map(|part| part.rows(&[]).unwrap()).collect();
    rows.sort_by_key(|row| row.update_index);
    for update in 0..UPDATES {
        let phases: Vec<&Timing> = rows.iter().filter(|row| u64::from(row.update_index) == update).collect();
        let names: Vec<&str> = phases.iter().map(|row| row.phase.as_str()).collect();
        assert_eq!(names[..4], ["sampling", "reference", "gradients", "step"], "update {update}");
        // A checkpoint after every second update.
        assert!(names[4..].iter().eq((update % 2 == 1).then_some(&"checkpoint")), "update {update}: {names:?}");
        assert!(phases[0].tokens > Some(0) && phases[3].peak_bytes > Some(0));
    }
    let manifest = Artifact::open(&work.folder.at("out")).unwrap().manifest;
    assert!(manifest.tables.keys().eq(["rollouts", "updates"]));
}

#[test]
fn a_log_has_the_pace_and_what_the_updates_earn() {
    let work = Work::new();
    let said = work.run("out", &[]);
    let line = said.lines().rfind(|line| line.starts_with("progress: updates")).unwrap();
    assert!(line.starts_with(&format!("progress: updates {UPDATES}/{UPDATES}, ")), "{line}");
    for word in [" s left; reward 0.", ", kl ", ", valid "] {
        assert!(line.contains(word), "{line}");
    }
}
