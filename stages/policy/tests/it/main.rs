//! The policy against reference values of `transformers` and torch, made by the scripts in `tests/fixtures`, and against
//! another implementation in Rust.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests read local fixtures and write local checkpoint folders, which is what the policy opens"
)]

mod adamw;
mod fixture;
mod gradients;
mod layouts;
mod many;
mod packed;
mod parity;
mod peer;
mod refused;
mod sketch;
mod text;
