//! Whole-system tests: workflows end to end, the same bytes everywhere, S3, swapped stages, bad input.

mod arrows;
mod bad_input;
mod contract;
mod programs;
mod same_bytes;
mod swapped;
mod whole_loop;
