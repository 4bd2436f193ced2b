//! The contract between stages: each table's row type, Arrow schema, and the meaning and check of every column.
//!
//! A table is declared once with [`table!`]; from that come the row struct, the Arrow schema with every column's meaning in
//! its field metadata, and the way from rows to record batches and back. Nothing here reads or writes files.

mod cell;
pub mod draws;
mod id;
mod table;

mod correlations;
mod demonstrations;
mod differences;
mod images;
mod label_report;
mod labels;
mod ledger;
mod pairs;
mod predictions;
mod ratings;
mod rejects;
mod rewards;
mod rollouts;
mod scores;
mod targets;
mod updates;
mod votes;

pub use arrow_schema::{Field, Schema};
pub use cell::{Cell, Value};
pub use correlations::{Correlation, Grouping, Truth};
pub use demonstrations::{Demonstration, DemonstrationPrompt};
pub use differences::{Coefficient, Difference};
pub use id::{ImageId, PairId};
pub use images::{Image, Picture, Split};
pub use label_report::{LabelFigure, LabelReport};
pub use labels::{Control, Label, LabelMethod};
pub use ledger::{RunRow, RunStepRow, Timing};
pub use pairs::{Design, Pair};
pub use predictions::Prediction;
pub use ratings::Rating;
pub use rejects::Reject;
pub use rewards::Reward;
pub use rollouts::{Partner, Rollout};
pub use scores::{Decoding, Score, ScoreMethod};
pub use table::{RowError, Table, TableInfo, conform, tables};
pub use targets::Target;
pub use updates::Update;
pub use votes::{Finish, Outcome, Presented, Vote};
