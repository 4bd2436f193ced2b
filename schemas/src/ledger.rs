//! The ledger: what differs from run to run, outside the artifacts.

use crate::table::table;

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
    RunStepRow = "run_steps", version 1 {
        /// The run.
        run: String,
        /// The step's name in the workflow.
        workflow_step: String,
        /// The round, 0 for the start; null for a step outside the rounds.
        round: Option<u32>,
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
        /// The machine.
        host: String,
    }
}

impl RunStepRow {
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "every table has this check")]
    fn checked(&self) -> Result<(), String> {
        Ok(())
    }
}
