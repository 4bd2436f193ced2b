//! The binary `evoq-grpo`, run as the workflow and people run it: killed, starved, led astray, watched.

mod faults;
mod live;
mod restarts;
mod step;
mod what_if;
mod work;
