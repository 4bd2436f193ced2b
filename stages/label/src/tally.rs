//! Votes counted by pair, in the order in which the pairs first appear. Parts are counted one by one, then added up.

use std::collections::{BTreeMap, HashSet};

use evoq_schemas::{ImageId, Outcome, PairId, Presented, Vote};
use polars::prelude::{Column, DataFrame, IntoLazy, PolarsResult, StringChunked, col, df};

/// What identifies a pair in a frame.
const PAIR: [&str; 3] = ["pair_id", "image_a", "image_b"];

/// A column, and what a vote adds to its pair's row.
type Added<T> = (&'static str, fn(&Vote) -> T);

/// What is counted of a pair.
const COUNTS: [Added<u32>; 11] = [
    ("a_ab", |vote| is(vote, Presented::Ab, Outcome::A)),
    ("b_ab", |vote| is(vote, Presented::Ab, Outcome::B)),
    ("a_ba", |vote| is(vote, Presented::Ba, Outcome::A)),
    ("b_ba", |vote| is(vote, Presented::Ba, Outcome::B)),
    ("a_half", |vote| u32::from(is_of_first_half(vote) && vote.outcome == Some(Outcome::A))),
    ("b_half", |vote| u32::from(is_of_first_half(vote) && vote.outcome == Some(Outcome::B))),
    ("invalid", |vote| u32::from(vote.outcome == Some(Outcome::Invalid))),
    // A pair has one vote 0 of each run that asked about it, and that states how many were asked for.
    ("asked", |vote| if vote.vote == 0 { vote.samples.map_or(0, u32::from) } else { 0 }),
    ("cast", |vote| u32::from(vote.outcome.is_some())),
    ("exact_ab", |vote| u32::from(vote.probability_a.is_some() && vote.presented == Presented::Ab)),
    ("exact_ba", |vote| u32::from(vote.probability_a.is_some() && vote.presented == Presented::Ba)),
];

/// What is added up of a pair's exact probabilities.
const SUMS: [Added<Option<f64>>; 4] = [
    ("probability_a_ab", |vote| vote.probability_a.filter(|_| vote.presented == Presented::Ab)),
    ("probability_b_ab", |vote| vote.probability_b.filter(|_| vote.presented == Presented::Ab)),
    ("probability_a_ba", |vote| vote.probability_a.filter(|_| vote.presented == Presented::Ba)),
    ("probability_b_ba", |vote| vote.probability_b.filter(|_| vote.presented == Presented::Ba)),
];

/// The votes of one pair, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct PairVotes {
    /// The pair.
    pub pair_id: PairId,
    /// Its first picture as text.
    pub image_a: ImageId,
    /// Its other picture.
    pub image_b: ImageId,
    /// Valid votes for `image_a` and for `image_b`, where `image_a` was shown first and where `image_b` was.
    pub by_order: [[u32; 2]; 2],
    /// Valid votes for `image_a` and for `image_b`, of the one half of the votes and of the other.
    pub by_half: [[u32; 2]; 2],
    /// Invalid votes.
    pub invalid: u32,
    /// Votes that were to be cast.
    pub asked: u32,
    /// Votes that were cast.
    pub cast: u32,
    /// Exact probabilities of an answer for `image_a` and for `image_b`, where `image_a` was shown first and where `image_b` was,
    /// where they are known.
    pub exact: Option<[[f64; 2]; 2]>,
}

impl PairVotes {
    /// Valid votes for `image_a` and for `image_b`.
    pub fn sides(&self) -> [u32; 2] {
        let [ab, ba] = self.by_order;
        [ab[0] + ba[0], ab[1] + ba[1]]
    }

    /// Valid votes.
    pub fn valid(&self) -> u32 {
        self.sides().iter().sum()
    }

    /// Valid votes for the picture that was shown first.
    pub fn first(&self) -> u32 {
        self.by_order[0][0] + self.by_order[1][1]
    }

    /// Votes that were not cast.
    pub fn absent(&self) -> u32 {
        self.asked.saturating_sub(self.cast)
    }
}

/// Why a pair's rows cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A pair id stands with two different pairs of pictures.
    TwoPairs(PairId),
    /// More votes were cast than were asked for: the pair's vote 0 is not among them.
    NoVote0(PairId),
    /// Exact probabilities are there for one order only.
    OneOrder(PairId),
}

/// The counts of `votes`, one row a pair.
pub fn count(votes: &[Vote]) -> PolarsResult<DataFrame> {
    let mut frame = df!(
        "pair_id" => votes.iter().map(|vote| vote.pair_id.as_str()).collect::<Vec<_>>(),
        "image_a" => votes.iter().map(|vote| vote.image_a.as_str()).collect::<Vec<_>>(),
        "image_b" => votes.iter().map(|vote| vote.image_b.as_str()).collect::<Vec<_>>(),
    )?;
    for (name, adds) in COUNTS {
        frame.with_column(Column::new(name.into(), votes.iter().map(adds).collect::<Vec<u32>>()))?;
    }
    for (name, adds) in SUMS {
        let sums: Vec<f64> = votes.iter().map(|vote| adds(vote).unwrap_or(0.0)).collect();
        frame.with_column(Column::new(name.into(), sums))?;
    }
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

/// Adds the invalid votes of each reason to `reasons`.
pub fn add_reasons(reasons: &mut BTreeMap<String, u64>, votes: &[Vote]) {
    for reason in votes.iter().filter_map(|vote| vote.invalid_reason.as_ref()) {
        match reasons.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(reasons.insert(reason.clone(), 1)),
        }
    }
}

/// The rows of a frame of counts; the fault inside names the pair.
pub fn rows(counts: &DataFrame) -> PolarsResult<Result<Vec<PairVotes>, Fault>> {
    let text = |name: &str| counts.column(name)?.str();
    let (pair_id, image_a, image_b) = (text("pair_id")?, text("image_a")?, text("image_b")?);
    let columns: Vec<_> = COUNTS.iter().map(|(name, _)| counts.column(name)?.u32()).collect::<PolarsResult<_>>()?;
    let sums: Vec<_> = SUMS.iter().map(|(name, _)| counts.column(name)?.f64()).collect::<PolarsResult<_>>()?;
    let mut known = HashSet::new();
    let mut rows = Vec::with_capacity(counts.height());
    for row in 0..counts.height() {
        // No column of votes is null, so no count and no id is.
        let id = |column: &StringChunked| column.get(row).unwrap_or_default().to_owned();
        let mut numbers = [0; COUNTS.len()];
        for (number, column) in numbers.iter_mut().zip(&columns) {
            *number = column.get(row).unwrap_or_default();
        }
        let [a_ab, b_ab, a_ba, b_ba, a_half, b_half, invalid, asked, cast, exact_ab, exact_ba] = numbers;
        let sum = |of: usize, rows: u32| sums[of].get(row).unwrap_or_default() / f64::from(rows);
        let pair = PairVotes {
            pair_id: id(pair_id).into(),
            image_a: id(image_a).into(),
            image_b: id(image_b).into(),
            by_order: [[a_ab, b_ab], [a_ba, b_ba]],
            by_half: [[a_half, b_half], [a_ab + a_ba - a_half, b_ab + b_ba - b_half]],
            invalid,
            asked,
            cast,
            exact: (exact_ab > 0).then(|| [[sum(0, exact_ab), sum(1, exact_ab)], [sum(2, exact_ba), sum(3, exact_ba)]]),
        };
        if !known.insert(pair.pair_id.clone()) {
            return Ok(Err(Fault::TwoPairs(pair.pair_id)));
        }
        if cast > asked {
            return Ok(Err(Fault::NoVote0(pair.pair_id)));
        }
        if exact_ab != exact_ba {
            return Ok(Err(Fault::OneOrder(pair.pair_id)));
        }
        rows.push(pair);
    }
    Ok(Ok(rows))
}

fn by_pair(frame: DataFrame) -> PolarsResult<DataFrame> {
    let names = COUNTS.iter().map(|(name, _)| *name).chain(SUMS.iter().map(|(name, _)| *name));
    let sums: Vec<_> = names.map(|name| col(name).sum()).collect();
    frame.lazy().group_by_stable(PAIR.map(col)).agg(sums).collect()
}

fn is(vote: &Vote, presented: Presented, outcome: Outcome) -> u32 {
    u32::from(vote.presented == presented && vote.outcome == Some(outcome))
}

/// Two votes go to the one half, two to the other: with `--order balanced` each half sees both orders alike.
fn is_of_first_half(vote: &Vote) -> bool {
    (vote.vote >> 1) & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use evoq_schemas::Finish;
    use proptest::prelude::*;

    fn vote(pair: usize, k: u16, presented: usize, outcome: usize) -> Vote {
        let (a, b) = (ImageId::from(format!("set/{pair}a")), ImageId::from(format!("set/{pair}b")));
        let outcome = Outcome::ALL[outcome];
        Vote {
            pair_id: PairId::of(&a, &b),
            image_a: a,
            image_b: b,
            vote: k,
            samples: Some(8),
            presented: Presented::ALL[presented],
            outcome: Some(outcome),
            invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
            reply: None,
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

    fn exact(presented: usize, a: f64, b: f64) -> Vote {
        let (probability_a, probability_b) = (Some(a), Some(b));
        let vote = vote(1, presented as u16, presented, 0);
        Vote { samples: None, outcome: None, finish: None, probability_a, probability_b, ..vote }
    }

    fn counted(parts: &[&[Vote]]) -> Result<Vec<PairVotes>, Fault> {
        rows(&add(parts.iter().map(|part| count(part).unwrap())).unwrap()).unwrap()
    }

    #[test]
    fn votes_are_counted_by_side_order_and_half() {
        let votes = [vote(1, 0, 0, 0), vote(1, 1, 1, 0), vote(1, 2, 1, 1), vote(1, 3, 0, 2), vote(1, 4, 1, 2)];
        let pair = counted(&[&votes]).unwrap().remove(0);
        assert_eq!(pair.by_order, [[1, 0], [1, 1]]);
        assert_eq!(pair.by_half, [[2, 0], [0, 1]]);
        assert_eq!((pair.sides(), pair.valid(), pair.first(), pair.invalid), ([2, 1], 3, 2, 2));
        assert_eq!((pair.asked, pair.cast, pair.absent(), pair.exact), (8, 5, 3, None));
        let mut reasons = BTreeMap::new();
        add_reasons(&mut reasons, &votes);
        assert_eq!(reasons, BTreeMap::from([("no_answer".to_owned(), 2)]));
    }

    #[test]
    fn votes_of_two_runs_count_together() {
        let votes: Vec<Vote> = (0..4).map(|k| vote(1, k % 2, 0, 0)).collect();
        let pair = counted(&[&votes[..2], &votes[2..]]).unwrap().remove(0);
        assert_eq!((pair.asked, pair.cast), (16, 4));
    }

    #[test]
    fn exact_probabilities_are_kept_by_order_and_averaged_over_runs() {
        let pair = counted(&[&[exact(0, 0.75, 0.25), exact(1, 0.25, 0.5)]]).unwrap().remove(0);
        assert_eq!((pair.exact, pair.cast, pair.asked), (Some([[0.75, 0.25], [0.25, 0.5]]), 0, 0));
        let runs = [exact(0, 0.75, 0.25), exact(1, 0.25, 0.5), exact(1, 0.75, 0.25), exact(0, 0.25, 0.25)];
        let pair = counted(&[&runs]).unwrap().remove(0);
        assert_eq!(pair.exact, Some([[0.5, 0.25], [0.5, 0.375]]));
        let one = counted(&[&[exact(0, 0.75, 0.25)]]).unwrap_err();
        assert_eq!(one, Fault::OneOrder(exact(0, 0.0, 0.0).pair_id));
    }

    #[test]
    fn pairs_stand_in_the_order_of_their_first_vote() {
        let votes = [vote(7, 0, 0, 0), vote(2, 0, 0, 0), vote(7, 1, 0, 1), vote(5, 0, 0, 0)];
        let order: Vec<_> = counted(&[&votes]).unwrap().into_iter().map(|pair| pair.image_a.to_string()).collect();
        assert_eq!(order, ["set/7a", "set/2a", "set/5a"]);
    }

    #[test]
    fn a_pair_id_of_two_pairs_of_pictures_is_found() {
        let mut stray = vote(2, 0, 0, 0);
        stray.pair_id = vote(1, 0, 0, 0).pair_id;
        assert_eq!(counted(&[&[vote(1, 0, 0, 0), stray.clone()]]), Err(Fault::TwoPairs(stray.pair_id)));
    }

    #[test]
    fn votes_without_the_first_one_are_found() {
        let stray = vote(2, 1, 0, 0);
        assert_eq!(counted(&[std::slice::from_ref(&stray)]), Err(Fault::NoVote0(stray.pair_id)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_counts_do_not_depend_on_how_votes_are_cut_into_parts(
            drawn in proptest::collection::vec((0usize..5, 0usize..2, 0usize..3), 0..40),
            cuts in (0.0f64..=1.0, 0.0f64..=1.0),
        ) {
            let votes: Vec<Vote> = drawn.into_iter().map(|(pair, order, outcome)| vote(pair, 0, order, outcome)).collect();
            let place = |cut: f64| (cut * votes.len() as f64) as usize;
            let (low, high) = (place(cuts.0.min(cuts.1)), place(cuts.0.max(cuts.1)));
            let parts = counted(&[&votes[..low], &votes[low..high], &votes[high..]]);
            prop_assert_eq!(parts, counted(&[&votes]));
        }
    }
}
