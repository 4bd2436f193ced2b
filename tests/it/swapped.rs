//! A stage swapped for Python: what it writes is checked, committed and read like any stage's.

use crate::programs::{ends_with, fault, printed, python, query, run, said};

#[test]
fn a_stage_in_python_is_a_stage() {
    let Some(python) = python("pyarrow") else { return };
    let root = tempfile::tempdir().unwrap();
    let uri = root.path().to_str().unwrap();
    let python = format!("python={}", python.display());

    ends_with(&mut run("swapped.yaml", uri, &[&python]), 0);
    // The next stage counted its votes, and they say what it meant.
    let labels = "SELECT count(*) AS pairs, sum(CASE WHEN (l.preference = 1) = (a.severity <= b.severity) THEN 1 ELSE 0 END) \
                  AS right_labels, sum(l.votes_a + l.votes_b) AS votes FROM labels l \
                  JOIN images a ON a.image_id = l.image_a JOIN images b ON b.image_id = l.image_b";
    assert_eq!(query(uri, labels), "pairs,right_labels,votes\n20,20,40\n");
    // Its table is in the store's own types, with the step's name for the stage's.
    assert_eq!(
        query(uri, "SELECT stage, workflow_step, cached FROM run_steps WHERE workflow_step = 'votes'"),
        "stage,workflow_step,cached\nvotes,votes,false\n"
    );

    let again = ends_with(&mut run("swapped.yaml", uri, &[&python]), 0);
    assert!(said(&again).contains("5 steps, 5 found, 0 to make"), "{}", said(&again));
}

#[test]
fn a_table_with_a_wrong_column_type_is_refused_by_name() {
    let Some(python) = python("pyarrow") else { return };
    let root = tempfile::tempdir().unwrap();
    let uri = root.path().to_str().unwrap();
    let python = format!("python={}", python.display());

    let output = ends_with(&mut run("swapped.yaml", uri, &[&python, "vote-type=int64"]), 2);
    let fault = fault(&output);
    assert!(fault.starts_with("error: step votes failed: "), "{fault}");
    assert!(fault.contains("table `votes`: column `vote` has type Int64; expected UInt16"), "{fault}");
    // Nothing of it is in the store, and nothing that reads it was made.
    assert_eq!(printed(&output), "");
    assert!(!root.path().join("label").exists());
    let steps = query(uri, "SELECT workflow_step, outcome FROM run_steps WHERE outcome <> 'done'");
    assert_eq!(steps, "workflow_step,outcome\nvotes,failed\n");
}
