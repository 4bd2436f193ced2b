//! What the votes look like as a whole, for people: how many are valid, why the others are not.

use std::collections::BTreeMap;
use std::fmt;

use evoq_schemas::{Outcome, Presented, Vote};
use serde::{Deserialize, Serialize};

/// Counts over all votes so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    votes: u64,
    first: u64,
    invalid: BTreeMap<String, u64>,
    identical_pairs: usize,
}

impl Tally {
    /// Adds the votes of one pair.
    pub fn count(&mut self, votes: &[Vote]) {
        self.votes += votes.len() as u64;
        for vote in votes {
            let first =
                matches!((vote.presented, vote.outcome), (Presented::Ab, Outcome::A) | (Presented::Ba, Outcome::B));
            self.first += u64::from(first);
            if let Some(reason) = &vote.invalid_reason {
                *self.invalid.entry(reason.clone()).or_default() += 1;
            }
        }
        let same = votes.len() > 1 && votes.windows(2).all(|it| it[0].reply == it[1].reply);
        self.identical_pairs += usize::from(same);
    }

    /// Share of valid votes; 1 without a vote.
    pub fn valid_rate(&self) -> f64 {
        if self.votes == 0 { 1.0 } else { self.valid() as f64 / self.votes as f64 }
    }

    /// Pairs all of whose replies were the same.
    pub fn identical_pairs(&self) -> usize {
        self.identical_pairs
    }

    fn valid(&self) -> u64 {
        self.votes - self.invalid.values().sum::<u64>()
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum.votes += tally.votes;
            sum.first += tally.first;
            sum.identical_pairs += tally.identical_pairs;
            for (reason, count) in tally.invalid {
                *sum.invalid.entry(reason).or_default() += count;
            }
            sum
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = 100.0 * self.first as f64 / self.valid().max(1) as f64;
        write!(
            f,
            "{} of {} votes are valid ({:.1} %), {first:.1} % of them for the picture shown first",
            self.valid(),
            self.votes,
            100.0 * self.valid_rate(),
        )?;
        for (reason, count) in &self.invalid {
            write!(f, "; {count} {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use evoq_schemas::{Finish, ImageId, PairId};

    use super::*;

    fn vote(presented: Presented, outcome: Outcome, reply: &str) -> Vote {
        let (a, b) = (ImageId::from("set/a"), ImageId::from("set/b"));
        Vote {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            vote: 0,
            presented,
            outcome,
            invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
            reply: reply.to_owned(),
            answer_logprob: None,
            tokens: 1,
            finish: Finish::Stop,
            prompt: String::new(),
            policy: String::new(),
            seed: 1,
        }
    }

    #[test]
    fn invalid_votes_are_told_with_their_reasons_and_are_on_no_side() {
        let mut tally = Tally::default();
        let first = [vote(Presented::Ab, Outcome::A, "0"), vote(Presented::Ba, Outcome::B, "0")];
        let other = [vote(Presented::Ba, Outcome::A, "1"), vote(Presented::Ab, Outcome::Invalid, "?")];
        tally.count(&[first, other].concat());
        assert_eq!(tally.valid_rate(), 0.75);
        let line = tally.to_string();
        assert!(line.contains("3 of 4") && line.contains("66.7 % of them") && line.contains("1 no_answer"), "{line}");
    }

    #[test]
    fn a_pair_counts_as_identical_when_all_its_replies_are_the_same_text() {
        let mut tally = Tally::default();
        tally.count(&[vote(Presented::Ab, Outcome::A, "0"), vote(Presented::Ba, Outcome::B, "0")]);
        tally.count(&[vote(Presented::Ab, Outcome::A, "0"), vote(Presented::Ab, Outcome::A, "0.")]);
        tally.count(&[vote(Presented::Ab, Outcome::A, "0")]);
        assert_eq!(tally.identical_pairs(), 1);
    }
}
