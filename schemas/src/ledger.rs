//! The ledger: what differs from run to run, outside the artifacts.

use crate::table::{finite, table};

table! {
    /// One run of a workflow.
    RunRow = "runs", version 1 {
        /// The run's id; later runs sort later.
        run: String,
        /// The workflow's name.
        workflow: String,
        /// The workflow's seed.
        seed: u64,
        /// When it started, milliseconds since 1970 (UTC).
        started_ms: u64,
        /// How it ended: `done`, `failed` or `stopped`; `running` where it goes on, or was killed.
        outcome: String,
    }
}

impl RunRow {
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "every table has this check")]
    fn checked(&self) -> Result<(), String> {
        Ok(())
    }
}

table! {
    /// One workflow step of a run.
    RunStepRow = "run_steps", version 3 {
        /// The run.
        run: String,
        /// The step's name in the workflow.
        workflow_step: String,
        /// The round, 0 for the start; null for a step outside the rounds.
        round: Option<u32>,
        /// In a workflow with a matrix, the combination: `arm=shuffled seed=2`, with the axes on which the step depends, in the
        /// order of the file; null where it depends on none.
        variant: Option<String>,
        /// The stage.
        stage: String,
        /// The artifact's fingerprint.
        fingerprint: String,
        /// Whether the artifact was found rather than made.
        cached: bool,
        /// When it started, milliseconds since 1970 (UTC).
        started_ms: u64,
        /// How long it took, in seconds.
        seconds: f64,
        /// How it ended: `done`, `failed` or `stopped`.
        outcome: String,
        /// The machine of the runner.
        host: String,
        /// Where its program ran: `local`, on that machine, or `slurm`, on a cluster's nodes; null where it was found, and before
        /// version 3.
        executor: Option<String>,
        /// How often it was tried: 0 where it was found, more than 1 where it failed and was tried again; null before version 3.
        attempts: Option<u32>,
    }
}

impl RunStepRow {
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "every table has this check")]
    fn checked(&self) -> Result<(), String> {
        Ok(())
    }
}

table! {
    /// One phase of one optimizer step, as the stage told it while it trained: below `ledger/timings/`.
    Timing = "timings", version 1 {
        /// The fingerprint of the step of the workflow.
        fingerprint: String,
        /// The stage.
        stage: String,
        /// When the process began that did it, milliseconds since 1970 (UTC): what a restart did again stands twice.
        started_ms: u64,
        /// The optimizer step, from 0.
        update_index: u32,
        /// The phase: `sampling`, `reference`, `gradients`, `step`, `votes`, `checkpoint`.
        phase: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// The tokens that it worked on; null where it did not count them.
        tokens: Option<u64>,
        /// The most memory that the process had had by then, in bytes; told with the last phase of a step and with a
        /// checkpoint, else null.
        peak_bytes: Option<u64>,
    }
}

impl Timing {
    fn checked(&self) -> Result<(), String> {
        finite("seconds", self.seconds)
    }
}
