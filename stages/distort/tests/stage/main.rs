//! The binary `evoq-distort`, run as the workflow and people run it.

mod by_hand;
mod program;
mod restarts;
mod variants;
