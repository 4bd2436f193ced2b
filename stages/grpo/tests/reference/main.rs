//! The loss and its gradients against others' arithmetic: autograd's, finite differences, TRL's trainer.

#![expect(clippy::disallowed_methods, reason = "the tests read local fixtures, which the policy opens")]

#[path = "../../../policy/tests/it/fixture.rs"]
#[expect(dead_code, reason = "the policy's own tests use more of it")]
mod fixture;
#[path = "../../../policy/tests/it/sketch.rs"]
mod sketch;

mod batch;
mod differences;
mod objectives;
mod trl;
