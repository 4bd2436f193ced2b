//! Asks an OpenAI-compatible server about pictures: many questions side by side, several replies each, repeated with back-off.
//!
//! What vote and score share when another program holds the policy. It knows no table and reads no meaning into a reply: a
//! sample is a [`Reply`] as it came, or [`Lost`] with a reason, never a guess.

mod ask;
mod connect;
mod flags;
#[cfg(test)]
mod mutations;
mod picture;
mod question;
mod reply;
mod send;
mod server;
#[cfg(test)]
mod tests;

pub use ask::ask;
pub use flags::{Engine, Flags};
pub use question::{Draws, Question, Sampling, first_seed};
pub use reply::{Lost, Reply, Sample};
pub use server::Server;
