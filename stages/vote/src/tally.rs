//! What the votes look like as a whole, for people: how many are valid, why the others are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use evoq_schemas::{Presented, Vote};
use serde::{Deserialize, Serialize};

/// Characters of an invalid reply that are shown.
const SHOWN: usize = 60;

/// Counts over all votes so far. What is exactly known of a reply counts by its probability.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    replies: u64,
    valid: f64,
    first: f64,
    invalid: BTreeMap<String, Invalid>,
    identical_pairs: usize,
    stopped_pairs: usize,
    exact: bool,
}

/// The invalid votes of one reason.
#[derive(Debug, Serialize, Deserialize)]
struct Invalid {
    count: u64,
    /// What one of them says.
    example: String,
}

impl Tally {
    /// Adds the votes of one pair.
    pub fn count(&mut self, votes: &[Vote]) {
        self.replies += votes.len() as u64;
        for vote in votes {
            if let (Some(a), Some(b)) = (vote.probability_a, vote.probability_b) {
                self.exact = true;
                self.valid += a + b;
                self.first += if vote.presented == Presented::Ab { a } else { b };
            } else {
                self.valid += f64::from(u8::from(vote.invalid_reason.is_none()));
                self.first += f64::from(u8::from(vote.is_for_the_first()));
            }
            if let Some(reason) = &vote.invalid_reason {
                let example = || vote.reply.iter().flat_map(|it| it.chars()).take(SHOWN).collect();
                let new = || Invalid { count: 0, example: example() };
                self.invalid.entry(reason.clone()).or_insert_with(new).count += 1;
            }
        }
        let replies: BTreeSet<_> = votes.iter().map(|vote| (vote.presented.as_str(), &vote.reply)).collect();
        let orders: BTreeSet<_> = replies.iter().map(|(presented, _)| presented).collect();
        let same = votes.len() > orders.len() && replies.len() == orders.len();
        self.identical_pairs += usize::from(same && !self.exact);
        let samples = votes.first().and_then(|vote| vote.samples);
        self.stopped_pairs += usize::from(samples.is_some_and(|samples| votes.len() < usize::from(samples)));
    }

    /// Share of valid votes; 1 without a vote.
    pub fn valid_rate(&self) -> f64 {
        if self.replies == 0 { 1.0 } else { self.valid / self.replies as f64 }
    }

    /// Pairs that got one and the same reply in each order, more than once in one of them.
    pub fn identical_pairs(&self) -> usize {
        self.identical_pairs
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum.replies += tally.replies;
            sum.valid += tally.valid;
            sum.first += tally.first;
            sum.identical_pairs += tally.identical_pairs;
            sum.stopped_pairs += tally.stopped_pairs;
            sum.exact |= tally.exact;
            for (reason, invalid) in tally.invalid {
                let new = || Invalid { count: 0, example: invalid.example };
                sum.invalid.entry(reason).or_insert_with(new).count += invalid.count;
            }
            sum
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (valid, first) = (100.0 * self.valid_rate(), 100.0 * self.first / self.valid.max(f64::MIN_POSITIVE));
        if self.exact {
            write!(
                f,
                "a reply begins with a valid answer with a probability of {valid:.1} % ({} prompts), {first:.1} % of it for the \
                 picture shown first; {:.1} % is on other first tokens",
                self.replies,
                100.0 - valid
            )
        } else {
            write!(
                f,
                "{} of {} votes are valid ({valid:.1} %), {first:.1} % of them for the picture shown first",
                { self.valid },
                self.replies
            )?;
            if self.stopped_pairs > 0 {
                write!(f, "; {} pairs were stopped early", self.stopped_pairs)?;
            }
            for (reason, Invalid { count, example }) in &self.invalid {
                write!(f, "; {count} {reason}, such as {example:?}")?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use evoq_schemas::{Finish, ImageId, Outcome, PairId};

    use super::*;

    fn vote(presented: Presented, outcome: Outcome, reply: &str) -> Vote {
        let (a, b) = (ImageId::from("set/a"), ImageId::from("set/b"));
        Vote {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            vote: 0,
            samples: Some(2),
            presented,
            outcome: Some(outcome),
            invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
            reply: Some(reply.to_owned()),
            answer_logprob: None,
            tokens: 1,
            finish: Some(Finish::Stop),
            probability_a: None,
            probability_b: None,
            prompt: String::new(),
            policy: String::new(),
            min_pixels: None,
            max_pixels: None,
            seed: 1,
        }
    }

    #[test]
    fn invalid_votes_are_told_with_their_reasons_and_are_on_no_side() {
        let mut tally = Tally::default();
        let first = [vote(Presented::Ab, Outcome::A, "0"), vote(Presented::Ba, Outcome::B, "0")];
        let other = [vote(Presented::Ba, Outcome::A, "1"), vote(Presented::Ab, Outcome::Invalid, "both\nare")];
        tally.count(&[first, other].concat());
        assert_eq!(tally.valid_rate(), 0.75);
        let line = tally.to_string();
        assert!(line.contains("3 of 4") && line.contains("66.7 % of them"), "{line}");
        assert!(line.ends_with(r#"; 1 no_answer, such as "both\nare""#), "{line}");
    }

    #[test]
    fn a_pair_counts_as_identical_when_all_its_replies_in_an_order_are_the_same_text() {
        let mut tally = Tally::default();
        let (ab, ba) = (Presented::Ab, Presented::Ba);
        tally.count(&[vote(ab, Outcome::A, "0"), vote(ba, Outcome::A, "1"), vote(ab, Outcome::A, "0")]);
        tally.count(&[vote(ab, Outcome::A, "0"), vote(ba, Outcome::B, "0"), vote(ab, Outcome::A, "0.")]);
        tally.count(&[vote(ab, Outcome::A, "0"), vote(ba, Outcome::B, "0")]);
        tally.count(&[vote(ab, Outcome::A, "0")]);
        assert_eq!(tally.identical_pairs(), 1);
        // The last pair had one vote of two.
        assert!(tally.to_string().contains("1 pairs were stopped early"), "{tally}");
    }

    #[test]
    fn what_is_exactly_known_counts_by_its_probability() {
        let row = |presented, a, b| Vote {
            samples: None,
            outcome: None,
            reply: None,
            probability_a: Some(a),
            probability_b: Some(b),
            ..vote(presented, Outcome::A, "")
        };
        let tally: Tally = [[row(Presented::Ab, 0.5, 0.25), row(Presented::Ba, 0.25, 0.5)]]
            .iter()
            .map(|rows| {
                let mut tally = Tally::default();
                tally.count(rows);
                tally
            })
            .sum();
        assert_eq!((tally.valid_rate(), tally.identical_pairs()), (0.75, 0));
        let line = tally.to_string();
        assert!(line.contains("75.0 %") && line.contains("66.7 %") && line.contains("25.0 % is on other"), "{line}");
    }
}
