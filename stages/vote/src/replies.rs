//! What is asked about pairs and what comes back: all that the stage knows of where replies come from.

use evoq_schemas::{Finish, Pair, Presented};

/// Some of a pair's votes, all of which see it in one order. One prompt, as many replies as there are votes.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The pair.
    pub pair: &'a Pair,
    /// Which picture is shown first.
    pub presented: Presented,
    /// Which of the pair's votes these are, rising.
    pub ks: Vec<u16>,
}

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Its tokens, the end of turn included.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The log-probability of its answer's tokens, where there is an answer and it is known.
    pub answer_logprob: Option<f32>,
}

/// A reply, or the reason why there is none: a server failed at it.
pub type Replied = Result<Reply, &'static str>;

/// What every vote of a run states about whom it was cast by.
#[derive(Debug, Clone)]
pub struct Source {
    /// The prompt's hash.
    pub prompt: String,
    /// The policy's digest.
    pub policy: String,
    /// Fewest and most pixels of a picture as the policy sees it; none where that is not known.
    pub pixels: Option<[u64; 2]>,
}
