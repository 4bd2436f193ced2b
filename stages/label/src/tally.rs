//! Votes counted by pair, in the order in which the pairs first appear. Parts are counted one by one, then added up.

use std::collections::HashSet;

use evoq_schemas::{ImageId, Outcome, PairId, Presented, Vote};
use polars::prelude::{DataFrame, IntoLazy, PolarsResult, StringChunked, UInt32Chunked, col, df};

/// What identifies a pair in a frame.
const PAIR: [&str; 3] = ["pair_id", "image_a", "image_b"];
/// What is counted of it: votes for each side, invalid ones, and valid ones for the picture shown first.
const COUNTS: [&str; 4] = ["votes_a", "votes_b", "votes_invalid", "votes_first"];

/// The votes of one pair, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairVotes {
    /// The pair.
    pub pair_id: PairId,
    /// Its first picture as text.
    pub image_a: ImageId,
    /// Its other picture.
    pub image_b: ImageId,
    /// Valid votes for `image_a`.
    pub votes_a: u32,
    /// Valid votes for `image_b`.
    pub votes_b: u32,
    /// Invalid votes.
    pub votes_invalid: u32,
    /// Valid votes for the picture that was shown first.
    pub votes_first: u32,
}

/// The counts of `votes`, one row a pair.
pub fn count(votes: &[Vote]) -> PolarsResult<DataFrame> {
    let ones = |counts: fn(&Vote) -> bool| votes.iter().map(|vote| u32::from(counts(vote))).collect::<Vec<u32>>();
    let frame = df!(
        "pair_id" => votes.iter().map(|vote| vote.pair_id.as_str()).collect::<Vec<_>>(),
        "image_a" => votes.iter().map(|vote| vote.image_a.as_str()).collect::<Vec<_>>(),
        "image_b" => votes.iter().map(|vote| vote.image_b.as_str()).collect::<Vec<_>>(),
        "votes_a" => ones(|vote| vote.outcome == Outcome::A),
        "votes_b" => ones(|vote| vote.outcome == Outcome::B),
        "votes_invalid" => ones(|vote| vote.outcome == Outcome::Invalid),
        "votes_first" => ones(is_for_the_first),
    )?;
    by_pair(frame)
}

/// The counts of several parts together.
pub fn add(parts: impl IntoIterator<Item = DataFrame>) -> PolarsResult<DataFrame> {
    let mut all = count(&[])?;
    for part in parts {
        all.vstack_mut(&part)?;
    }
    by_pair(all)
}

/// The rows of a frame of counts. `Err` inside names a pair id that stands with two different pairs of pictures.
pub fn rows(counts: &DataFrame) -> PolarsResult<Result<Vec<PairVotes>, PairId>> {
    let text = |name: &str| counts.column(name)?.str();
    let number = |name: &str| counts.column(name)?.u32();
    let (pair_id, image_a, image_b) = (text("pair_id")?, text("image_a")?, text("image_b")?);
    let (votes_a, votes_b) = (number("votes_a")?, number("votes_b")?);
    let (votes_invalid, votes_first) = (number("votes_invalid")?, number("votes_first")?);
    let mut known = HashSet::new();
    let mut rows = Vec::with_capacity(counts.height());
    for row in 0..counts.height() {
        // No column of votes is null, so no count and no id is.
        let id = |column: &StringChunked| column.get(row).unwrap_or_default().to_owned();
        let number = |column: &UInt32Chunked| column.get(row).unwrap_or_default();
        let pair = PairVotes {
            pair_id: id(pair_id).into(),
            image_a: id(image_a).into(),
            image_b: id(image_b).into(),
            votes_a: number(votes_a),
            votes_b: number(votes_b),
            votes_invalid: number(votes_invalid),
            votes_first: number(votes_first),
        };
        if !known.insert(pair.pair_id.clone()) {
            return Ok(Err(pair.pair_id));
        }
        rows.push(pair);
    }
    Ok(Ok(rows))
}

fn by_pair(frame: DataFrame) -> PolarsResult<DataFrame> {
    frame.lazy().group_by_stable(PAIR.map(col)).agg(COUNTS.map(|name| col(name).sum())).collect()
}

fn is_for_the_first(vote: &Vote) -> bool {
    matches!((vote.presented, vote.outcome), (Presented::Ab, Outcome::A) | (Presented::Ba, Outcome::B))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evoq_schemas::Finish;
    use proptest::prelude::*;

    fn vote(pair: usize, presented: usize, outcome: usize) -> Vote {
        let (a, b) = (ImageId::from(format!("set/{pair}a")), ImageId::from(format!("set/{pair}b")));
        let outcome = Outcome::ALL[outcome];
        Vote {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            vote: 0,
            presented: Presented::ALL[presented],
            outcome,
            invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
            reply: String::new(),
            answer_logprob: None,
            tokens: 1,
            finish: Finish::Stop,
            prompt: String::new(),
            policy: String::new(),
            seed: 1,
        }
    }

    fn counted(parts: &[&[Vote]]) -> Vec<PairVotes> {
        rows(&add(parts.iter().map(|part| count(part).unwrap())).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn votes_are_counted_by_side_and_by_place() {
        let votes = [vote(1, 0, 0), vote(1, 1, 0), vote(1, 1, 1), vote(1, 0, 2), vote(1, 1, 2)];
        let pair = counted(&[&votes]).remove(0);
        assert_eq!((pair.votes_a, pair.votes_b, pair.votes_invalid, pair.votes_first), (2, 1, 2, 2));
    }

    #[test]
    fn pairs_stand_in_the_order_of_their_first_vote() {
        let votes = [vote(7, 0, 0), vote(2, 0, 0), vote(7, 0, 1), vote(5, 0, 0)];
        let order: Vec<_> = counted(&[&votes]).into_iter().map(|pair| pair.image_a.to_string()).collect();
        assert_eq!(order, ["set/7a", "set/2a", "set/5a"]);
    }

    #[test]
    fn a_pair_id_of_two_pairs_of_pictures_is_found() {
        let mut stray = vote(2, 0, 0);
        stray.pair_id = vote(1, 0, 0).pair_id;
        let counts = count(&[vote(1, 0, 0), stray.clone()]).unwrap();
        assert_eq!(rows(&counts).unwrap(), Err(stray.pair_id));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_counts_do_not_depend_on_how_votes_are_cut_into_parts(
            drawn in proptest::collection::vec((0usize..5, 0usize..2, 0usize..3), 0..40),
            cuts in (0.0f64..=1.0, 0.0f64..=1.0),
        ) {
            let votes: Vec<Vote> = drawn.into_iter().map(|(pair, order, outcome)| vote(pair, order, outcome)).collect();
            let place = |cut: f64| (cut * votes.len() as f64) as usize;
            let (low, high) = (place(cuts.0.min(cuts.1)), place(cuts.0.max(cuts.1)));
            let parts = counted(&[&votes[..low], &votes[low..high], &votes[high..]]);
            prop_assert_eq!(parts, counted(&[&votes]));
        }
    }
}
