//! Whole-system tests: workflows end to end, the same bytes everywhere, S3, swapped stages, bad input, other readers.

mod arrows;
mod bad_input;
mod compatibility;
mod contract;
mod measures;
mod plans;
mod programs;
mod same_bytes;
mod slurm;
mod swapped;
mod trl;
mod whole_loop;
