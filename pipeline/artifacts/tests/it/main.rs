//! The store on real S3 servers, through races, kills, busy servers and lost answers; and what it says when it is refused.

mod busy;
mod policies;
mod probes;
mod proxy;
mod races;
mod refusals;
mod roles;
