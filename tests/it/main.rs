//! Whole-system tests: workflows end to end, the same bytes everywhere, S3, swapped stages, bad input, other readers.

mod arrows;
mod bad_input;
mod commands;
mod compatibility;
mod contract;
mod held;
mod measures;
mod parameters;
mod plans;
mod programs;
mod same_bytes;
mod slurm;
mod stops;
mod swapped;
mod trl;
mod whole_loop;
