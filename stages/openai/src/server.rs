//! A server that was tried, and what it takes.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reqwest::Url;

use crate::flags::Key;

/// A server that answers, with what is known of it. Shared between threads.
#[derive(Debug)]
pub struct Server {
    /// Of chat completions.
    pub(crate) address: Url,
    pub(crate) model: String,
    pub(crate) client: reqwest::Client,
    pub(crate) key: Key,
    /// Requests at a time.
    pub(crate) concurrency: usize,
    /// How often a request is tried.
    pub(crate) tries: usize,
    /// The pause after the first try; each later one is twice the last, up to a minute, less a share by chance.
    pub(crate) first_pause: Duration,
    pub(crate) takes: Takes,
    /// Whether it ever gave a reply. Until then a wrong address is the likelier cause of a fault.
    pub(crate) has_replied: AtomicBool,
}

/// What a server takes beside what all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Takes {
    /// `n`, and gives as many choices, which differ.
    pub(crate) several: bool,
    /// `logprobs`, and gives them.
    pub(crate) logprobs: bool,
    /// `top_k`, `min_p` and `repetition_penalty`.
    pub(crate) more: bool,
}

impl Server {
    /// The policy behind it, as tables name it: `openai:MODEL`.
    pub fn policy(&self) -> String {
        format!("openai:{}", self.model)
    }

    /// The address, for messages.
    pub(crate) fn name(&self) -> &str {
        self.address.as_str().trim_end_matches("/chat/completions")
    }
}
