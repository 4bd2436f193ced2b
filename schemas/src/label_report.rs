//! `label_report`: what the votes are worth, one figure a row.

use crate::cell::enumeration;
use crate::table::{finite, table};

enumeration! {
    /// What a row of the report says.
    LabelFigure {
        /// Share of the pairs that have a label.
        Labelled = "labelled",
        /// Share of the labelled pairs whose label is a tie.
        Ties = "ties",
        /// Share of the pairs whose votes were stopped early.
        Stopped = "stopped",
        /// Mean number of votes cast about a pair.
        VotesCast = "votes_cast",
        /// Share of the votes that are valid.
        Valid = "valid",
        /// Share of the votes that are invalid for the reason `subset`.
        Invalid = "invalid",
        /// Share of the valid votes for the picture shown first: 0.5 without a bias where orders are drawn or balanced.
        FirstRate = "first_rate",
        /// The same within each pair that was seen in both orders, each order counted alike, then averaged over pairs: 0.5 without a bias whatever the orders and pictures.
        FirstRateWithinPairs = "first_rate_within_pairs",
        /// Mean over pairs of the share of valid votes on the larger side.
        Agreement = "agreement",
        /// How far the labels of one half of each pair's votes are those of the other half: the mean of 1 - |p* - p*'|.
        SplitHalf = "split_half",
        /// Krippendorff's alpha of the votes, nominal: 1 where all votes of a pair are one, 0 where they are as at chance.
        Alpha = "alpha",
        /// Share of the triangles (three pictures with all three pairs labelled, none a tie) whose labels go round in a circle; a quarter at chance.
        Cycles = "cycles",
        /// How far the label prefers the variant of lower severity: the mean of p*, taken from that variant's side.
        FollowsSeverity = "follows_severity",
        /// Mean probability that K votes with a pair's exact probabilities end in a tie.
        ExpectedTies = "expected_ties",
        /// Mean probability that K votes with a pair's exact probabilities prefer the other picture than these probabilities do.
        ExpectedFlips = "expected_flips",
    }
}

table! {
    /// A figure about the votes and labels as voted, before any control. It may know severities, and is no input of training.
    LabelReport = "label_report", version 2 {
        /// What the figure is.
        figure: LabelFigure,
        /// Of what: `all`, a reason, `type NAME` (pairs with a variant of that type), `gap N` (severities N apart).
        subset: String,
        /// Over how many pairs, votes or triangles.
        n: u64,
        /// The figure; null where there is nothing to take it of.
        value: Option<f64>,
        /// Lower end of its 95 % interval, pairs taken as drawn independently; null where none is given.
        low: Option<f64>,
        /// Upper end.
        high: Option<f64>,
    }
}

impl LabelReport {
    fn checked(&self) -> Result<(), String> {
        let figures = [("value", self.value), ("low", self.low), ("high", self.high)];
        figures.into_iter().try_for_each(|(column, it)| it.map_or(Ok(()), |it| finite(column, it)))
    }
}
