//! From replies to votes: who is asked what and how often, and the row of each reply.

use std::ops::Range;

use anyhow::ensure;
use evoq_policy::{InvalidReply, Side, parse_comparison};
use evoq_schemas::{Outcome, Pair, Presented, Vote};

use crate::order::Order;
use crate::replies::{Ask, Replied, Source};
use crate::rounds::{EarlyStop, in_rounds};

/// Votes that are asked for in one call: they are decoded side by side. What falls together follows from the pairs' positions
/// and their votes alone.
const SIDE_BY_SIDE: usize = 512;

const ORDERS: [Presented; 2] = [Presented::Ab, Presented::Ba];

/// How votes are cast.
pub struct Ballot {
    /// K: votes a pair.
    pub samples: u16,
    /// Which picture is shown first.
    pub order: Order,
    /// Whether votes are cast that cannot change a label.
    pub early_stop: EarlyStop,
    /// The fewest valid votes of a label.
    pub quorum: u16,
    /// The seed of orders and draws.
    pub seed: u64,
    /// Who votes.
    pub source: Source,
}

impl Ballot {
    /// The votes on each of `pairs`, in the order of k. `replies` gives as many replies to each ask as it has votes, in their
    /// order; `begun` is told of how many pairs the first votes are cast.
    ///
    /// # Errors
    /// Those of `replies`; another number of replies than was asked for.
    pub fn cast(
        &self,
        pairs: &[&Pair],
        mut replies: impl FnMut(&[Ask]) -> anyhow::Result<Vec<Vec<Replied>>>,
        begun: impl Fn(usize),
    ) -> anyhow::Result<Vec<Vec<Vote>>> {
        let outcome = |vote: &Vote| vote.outcome.unwrap_or(Outcome::Invalid);
        in_rounds(pairs.len(), self.samples, self.early_stop, self.quorum, outcome, |round| {
            let mut votes = Vec::with_capacity(round.len());
            for round in in_calls(round) {
                votes.extend(self.call(pairs, round, &mut replies)?);
                begun(round.iter().filter(|(_, ks)| ks.start == 0).count());
            }
            Ok(votes)
        })
    }

    /// The votes of one call.
    fn call(
        &self,
        pairs: &[&Pair],
        round: &[(usize, Range<u16>)],
        replies: &mut impl FnMut(&[Ask]) -> anyhow::Result<Vec<Vec<Replied>>>,
    ) -> anyhow::Result<Vec<Vec<Vote>>> {
        let (mut asks, mut places) = (Vec::new(), Vec::new());
        for (place, (pair, ks)) in round.iter().enumerate() {
            for presented in ORDERS {
                let shown = |k: &u16| self.order.presented(self.seed, &pairs[*pair].pair_id, *k) == presented;
                let ks: Vec<u16> = ks.clone().filter(shown).collect();
                if !ks.is_empty() {
                    asks.push(Ask { pair: pairs[*pair], presented, ks });
                    places.push(place);
                }
            }
        }
        let replied = replies(&asks)?;
        ensure!(replied.len() == asks.len(), "{} prompts got {} lists of replies", asks.len(), replied.len());
        let mut votes: Vec<Vec<Vote>> = round.iter().map(|_| Vec::new()).collect();
        for ((ask, place), replies) in asks.iter().zip(places).zip(replied) {
            let (asked, found) = (ask.ks.len(), replies.len());
            ensure!(asked == found, "pair `{}`: {asked} replies were asked for, {found} came", ask.pair.pair_id);
            votes[place].extend(ask.ks.iter().zip(replies).map(|(k, reply)| self.vote(ask, *k, reply)));
        }
        for votes in &mut votes {
            votes.sort_by_key(|vote| vote.vote);
        }
        Ok(votes)
    }

    /// The row of a reply: parsed, and turned back to the pair's own order.
    fn vote(&self, ask: &Ask, k: u16, reply: Replied) -> Vote {
        let parsed = match &reply {
            Ok(reply) => parse_comparison(&reply.text).map_err(InvalidReply::as_str),
            Err(lost) => Err(*lost),
        };
        let reply = reply.ok();
        let outcome = match (parsed, ask.presented) {
            (Ok(Side::First), Presented::Ab) | (Ok(Side::Second), Presented::Ba) => Outcome::A,
            (Ok(_), _) => Outcome::B,
            (Err(_), _) => Outcome::Invalid,
        };
        Vote {
            vote: k,
            samples: Some(self.samples),
            outcome: Some(outcome),
            invalid_reason: parsed.err().map(str::to_owned),
            answer_logprob: reply.as_ref().and_then(|it| it.answer_logprob),
            tokens: reply.as_ref().map_or(0, |it| it.tokens),
            finish: reply.as_ref().map(|it| it.finish),
            reply: reply.map(|it| it.text),
            ..self.row(ask)
        }
    }

    /// The two rows of each of `pairs`: what is exactly known of its answers in either order. `probabilities` gives those of
    /// the answers `0` and `1`.
    ///
    /// # Errors
    /// Those of `probabilities`.
    pub fn exact(
        &self,
        pairs: &[&Pair],
        probabilities: impl FnOnce(&[Ask]) -> anyhow::Result<Vec<[f64; 2]>>,
    ) -> anyhow::Result<Vec<Vec<Vote>>> {
        let asks = pairs.iter().flat_map(|pair| ORDERS.map(|presented| Ask { pair, presented, ks: vec![0] }));
        let asks: Vec<Ask> = asks.collect();
        let found = probabilities(&asks)?;
        let rows = asks.iter().zip(found).map(|(ask, [first, second])| {
            let (vote, [a, b]) = match ask.presented {
                Presented::Ab => (0, [first, second]),
                Presented::Ba => (1, [second, first]),
            };
            Vote { vote, probability_a: Some(a), probability_b: Some(b), ..self.row(ask) }
        });
        let rows: Vec<Vote> = rows.collect();
        Ok(rows.chunks(ORDERS.len()).map(<[Vote]>::to_vec).collect())
    }

    /// What all rows of a pair in one order have in common.
    fn row(&self, ask: &Ask) -> Vote {
        Vote {
            pair_id: ask.pair.pair_id.clone(),
            image_a: ask.pair.image_a.clone(),
            image_b: ask.pair.image_b.clone(),
            vote: 0,
            samples: None,
            presented: ask.presented,
            outcome: None,
            invalid_reason: None,
            reply: None,
            answer_logprob: None,
            tokens: 0,
            finish: None,
            probability_a: None,
            probability_b: None,
            prompt: self.source.prompt.clone(),
            policy: self.source.policy.clone(),
            min_pixels: self.source.pixels.map(|[min, _]| min),
            max_pixels: self.source.pixels.map(|[_, max]| max),
            seed: self.seed,
        }
    }
}

/// A round cut into calls of about [`SIDE_BY_SIDE`] votes.
fn in_calls(round: &[(usize, Range<u16>)]) -> impl Iterator<Item = &[(usize, Range<u16>)]> {
    let mut left = round;
    std::iter::from_fn(move || {
        let mut votes = 0;
        let fits = |(_, ks): &&(usize, Range<u16>)| {
            votes += ks.len();
            votes <= SIDE_BY_SIDE
        };
        let count = left.iter().take_while(fits).count().max(1).min(left.len());
        let (call, rest) = left.split_at(count);
        left = rest;
        (!call.is_empty()).then_some(call)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use evoq_schemas::{Design, Finish, ImageId, PairId};

    use super::*;
    use crate::replies::Reply;

    fn pair(number: usize) -> Pair {
        let (a, b) = (ImageId::from(format!("{number}/a")), ImageId::from(format!("{number}/b")));
        Pair { pair_id: PairId::of(&a, &b), image_a: a, image_b: b, design: Design::Random, reference_id: None }
    }

    fn ballot(order: Order, early_stop: EarlyStop) -> Ballot {
        let source = Source { prompt: "p".to_owned(), policy: "d".to_owned(), pixels: Some([4, 9]) };
        Ballot { samples: 32, order, early_stop, quorum: 1, seed: 1, source }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the ballot takes them")]
    fn reply(text: &str) -> Replied {
        Ok(Reply { text: text.to_owned(), tokens: 1, finish: Finish::Stop, answer_logprob: None })
    }

    /// Says that the picture shown first is better, always.
    #[expect(clippy::unnecessary_wraps, reason = "stands where a source of replies does, which may fail")]
    fn first(asks: &[Ask]) -> anyhow::Result<Vec<Vec<Replied>>> {
        Ok(asks.iter().map(|ask| vec![reply("\\boxed{0}"); ask.ks.len()]).collect())
    }

    #[test]
    fn a_reply_is_turned_back_to_the_pairs_own_order() {
        let pair = pair(1);
        let votes = ballot(Order::Balanced, EarlyStop::Off).cast(&[&pair], first, |_| ()).unwrap().remove(0);
        assert_eq!(votes.len(), 32);
        for vote in votes {
            assert_eq!(vote.presented, if vote.vote % 2 == 0 { Presented::Ab } else { Presented::Ba });
            assert_eq!(vote.outcome, Some(if vote.vote % 2 == 0 { Outcome::A } else { Outcome::B }));
            assert_eq!((vote.samples, vote.min_pixels, vote.max_pixels), (Some(32), Some(4), Some(9)));
            assert!(vote.is_for_the_first());
        }
    }

    #[test]
    fn a_stopped_pair_has_the_first_votes_and_what_is_not_cast_is_not_asked_for() {
        let pairs: Vec<Pair> = (0..40).map(pair).collect();
        let pairs: Vec<&Pair> = pairs.iter().collect();
        let (asked, begun) = (RefCell::new(0), RefCell::new(0));
        let cast = |early_stop| {
            let replies = |asks: &[Ask]| {
                *asked.borrow_mut() += asks.iter().map(|ask| ask.ks.len()).sum::<usize>();
                first(asks)
            };
            ballot(Order::Fixed, early_stop).cast(&pairs, replies, |pairs| *begun.borrow_mut() += pairs).unwrap()
        };
        let stopped = cast(EarlyStop::Lossless);
        assert!(stopped.iter().all(|votes| votes.len() == 17));
        assert_eq!((asked.take(), begun.take()), (40 * 17, 40));
        for (stopped, all) in stopped.iter().zip(cast(EarlyStop::Off)) {
            assert_eq!(stopped[..], all[..17]);
        }
    }

    #[test]
    fn too_few_replies_are_no_votes() {
        let pair = pair(1);
        let few = |asks: &[Ask]| Ok(asks.iter().map(|_| vec![reply("0")]).collect());
        let error = ballot(Order::Fixed, EarlyStop::Off).cast(&[&pair], few, |_| ()).unwrap_err();
        assert!(error.to_string().ends_with("32 replies were asked for, 1 came"), "{error}");
    }

    #[test]
    fn exact_rows_are_two_a_pair_and_turned_back() {
        let pairs = [pair(1), pair(2)];
        let rows = ballot(Order::Fixed, EarlyStop::Off)
            .exact(&pairs.each_ref(), |asks| Ok(asks.iter().map(|_| [0.75, 0.125]).collect()))
            .unwrap();
        assert_eq!(rows.len(), 2);
        for rows in rows {
            let known: Vec<_> = rows.iter().map(|it| (it.vote, it.presented, it.probability_a, it.outcome)).collect();
            assert_eq!(known, [(0, Presented::Ab, Some(0.75), None), (1, Presented::Ba, Some(0.125), None)]);
        }
    }

    #[test]
    fn a_round_is_cut_into_calls_of_about_512_votes() {
        let lengths = |round: &[(usize, Range<u16>)]| in_calls(round).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&vec![(0, 0..32); 40]), [16, 16, 8]);
        assert_eq!(lengths(&vec![(0, 17..19); 300]), [256, 44]);
        assert_eq!(lengths(&[(0, 0..1000), (1, 0..1000)]), [1, 1]);
        assert!(lengths(&[]).is_empty());
    }
}
