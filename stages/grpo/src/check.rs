//! Whether the policy still does what it is used for: ratings that can be read, and, every so many updates, a few comparisons,
//! which the training holds on to by no term of its own.

use evoq_pictures::Pictures;
use evoq_policy::sample::{Asked, Draw, Request, Sampling};
use evoq_policy::{Answerer, Features, Question, Side, parse_comparison};
use evoq_schemas::ImageId;
use evoq_schemas::draws::key;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Votes on each pair of a check, half of them in either order.
const VOTES: usize = 8;

/// Why training ends before its last update: too few replies are valid. The policy of this moment is not worth keeping.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "{valid} of {asked} {what} are valid, fewer than --min-valid-rate {least} asks for: the policy forgets how \
     to reply; lower --learning-rate or raise --beta, or go on from here with a lower --min-valid-rate"
)]
pub(crate) struct Collapse {
    /// What was asked for, in words.
    pub(crate) what: &'static str,
    /// Valid replies.
    pub(crate) valid: usize,
    /// All replies.
    pub(crate) asked: usize,
    /// The share that was asked for.
    pub(crate) least: f64,
}

impl Collapse {
    /// Fails where `valid` of `asked` replies are a smaller share than `least`. What was not asked has not collapsed.
    pub(crate) fn check(what: &'static str, valid: usize, asked: usize, least: f64) -> Result<(), Self> {
        if (valid as f64) < least * asked as f64 { Err(Self { what, valid, asked, least }) } else { Ok(()) }
    }
}

/// Why training ends before its last update: the votes of a check tell pictures apart no more.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "the votes of a check have {entropy:.3} bits of entropy a pair, more than --max-vote-entropy {most} allows: the policy forgets \
     how to compare; lower --learning-rate or raise --beta, or go on from here with a higher --max-vote-entropy"
)]
pub(crate) struct Undecided {
    /// What was found; see [`Votes::entropy`].
    entropy: f64,
    /// What was allowed.
    most: f64,
}

/// `count` of `items`, or all of fewer, drawn under `seed`.
pub(crate) fn drawn<T>(mut items: Vec<T>, count: usize, seed: u64) -> Vec<T> {
    items.shuffle(&mut ChaCha8Rng::from_seed(key(seed, "grpo check pairs", &[])));
    items.truncate(count);
    items
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Votes {
    /// Valid votes.
    pub(crate) valid: usize,
    /// All votes.
    pub(crate) asked: usize,
    /// Mean over the pairs with valid votes of their entropy in bits; `None` without such a pair.
    pub(crate) entropy: Option<f64>,
}

impl Votes {
    /// Fails where fewer than a share `least` is valid, or where the valid ones have more than `most` bits of entropy.
    pub(crate) fn hold(&self, least: f64, most: f64) -> anyhow::Result<()> {
        Collapse::check("votes", self.valid, self.asked, least)?;
        match self.entropy {
            Some(entropy) if entropy > most => Err(Undecided { entropy, most }.into()),
            _ => Ok(()),
        }
    }
}

/// The votes of `policy` on `pairs`. A check asks the same with the same draws each time, so that what changes is the policy.
pub(crate) fn votes(
    policy: &Answerer,
    pictures: &Pictures,
    pairs: &[[ImageId; 2]],
    question: &Question,
    sampling: &Sampling,
    seed: u64,
) -> anyhow::Result<Votes> {
    let look = |id: &ImageId| Ok(policy.look(&policy.pixels(&pictures.load(id)?)?)?);
    let looked: Vec<Features> = pairs.as_flattened().par_iter().map(look).collect::<anyhow::Result<_>>()?;
    let mut asked = Vec::with_capacity(pairs.len() * 2);
    for features in looked.chunks_exact(2) {
        for shown in [[&features[0], &features[1]], [&features[1], &features[0]]] {
            asked.push((policy.prompt(question, &shown.map(|it| it.grid))?, shown));
        }
    }
    let orders = pairs.iter().flat_map(|pair| [(pair, "ab"), (pair, "ba")]);
    let requests = orders.zip(&asked).map(|(([a, b], order), (prompt, shown))| Request {
        asked: Asked { prompt, features: shown.to_vec() },
        draws: (0..VOTES / 2)
            .map(|k| Draw::Key(key(seed, "grpo check", &[a.as_str(), b.as_str(), order, &k.to_string()])))
            .collect(),
    });
    let replies = policy.sample(&requests.collect::<Vec<_>>(), sampling)?;
    let said = replies.iter().map(|it| it.iter().map(|reply| parse_comparison(&reply.text).ok()).collect::<Vec<_>>());
    let said: Vec<Vec<Option<Side>>> = said.collect();
    Ok(tally(&said))
}

/// Counts the sides of votes; two lists belong to a pair, the pictures the other way round in the second.
fn tally(said: &[Vec<Option<Side>>]) -> Votes {
    let count = |votes: &[Option<Side>], side| votes.iter().filter(|it| **it == Some(side)).count();
    let (mut valid, mut entropies) = (0, Vec::new());
    for orders in said.chunks_exact(2) {
        let a = count(&orders[0], Side::First) + count(&orders[1], Side::Second);
        let b = count(&orders[0], Side::Second) + count(&orders[1], Side::First);
        valid += a + b;
        if a + b > 0 {
            entropies.push(entropy(a as f64 / (a + b) as f64));
        }
    }
    let entropy = (!entropies.is_empty()).then(|| entropies.iter().sum::<f64>() / entropies.len() as f64);
    Votes { valid, asked: said.iter().map(Vec::len).sum(), entropy }
}

/// The entropy in bits of a choice between two sides.
fn entropy(share: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * libm::log2(p) } else { 0.0 };
    part(share) + part(1.0 - share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<Side> = Some(Side::First);
    const SECOND: Option<Side> = Some(Side::Second);

    #[test]
    fn votes_are_turned_back_before_they_are_counted() {
        let agreed = tally(&[vec![FIRST; 4], vec![SECOND; 4]]);
        assert_eq!(agreed, Votes { valid: 8, asked: 8, entropy: Some(0.0) });
    }

    #[test]
    fn a_policy_that_always_says_the_first_is_split_evenly() {
        assert_eq!(tally(&[vec![FIRST; 4], vec![FIRST; 4]]).entropy, Some(1.0));
    }

    #[test]
    fn an_invalid_vote_counts_as_asked_alone() {
        let votes = tally(&[vec![FIRST, None], vec![None, None], vec![None; 2], vec![None; 2]]);
        assert_eq!(votes, Votes { valid: 1, asked: 8, entropy: Some(0.0) });
        assert_eq!(tally(&[vec![None; 4], vec![None; 4]]).entropy, None);
    }

    #[test]
    fn fewer_valid_replies_than_asked_for_are_a_collapse_and_none_asked_are_none() {
        assert_eq!(Collapse::check("votes", 2, 8, 0.25), Ok(()));
        assert_eq!(Collapse::check("votes", 0, 0, 0.25), Ok(()));
        let collapse = Collapse::check("votes", 1, 8, 0.25).unwrap_err();
        assert!(collapse.to_string().starts_with("1 of 8 votes are valid"), "{collapse}");
    }

    #[test]
    fn votes_that_are_split_evenly_hold_unless_less_entropy_is_allowed() {
        let split = tally(&[vec![FIRST; 4], vec![FIRST; 4]]);
        assert!(split.hold(0.25, 1.0).is_ok());
        let error = split.hold(0.25, 0.9).unwrap_err().to_string();
        assert!(error.starts_with("the votes of a check have 1.000 bits of entropy a pair, more than"), "{error}");
        assert!(tally(&[vec![None; 4], vec![None; 4]]).hold(0.0, 0.0).is_ok());
    }

    #[test]
    fn the_pairs_of_a_check_are_the_seeds() {
        let drawn = |seed| drawn((0..100).collect::<Vec<_>>(), 5, seed);
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(drawn(1).len(), 5);
    }
}
