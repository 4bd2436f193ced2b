//! `labels`: the pseudo-label of each pair.

use crate::cell::enumeration;
use crate::pairs::ordered;
use crate::table::{table, within};
use crate::{ImageId, PairId};

enumeration! {
    /// Where a label comes from.
    LabelMethod {
        /// The majority of the valid votes, Eq. 1.
        Majority = "majority",
        /// The side that the policy's exact probabilities lean to: Eq. 1 for a number of votes without end.
        Exact = "exact",
    }
}

enumeration! {
    /// Whether a control was applied to the labels.
    Control {
        /// The labels as voted.
        None = "none",
        /// The labels permuted over the labelled pairs.
        Shuffled = "shuffled",
    }
}

table! {
    /// The pseudo-label of a pair.
    Label = "labels", version 3 {
        /// The pair.
        pair_id: PairId,
        /// Its first picture as text.
        image_a: ImageId,
        /// Its other picture.
        image_b: ImageId,
        /// p*: 1 where `image_a` is better, 0 where `image_b` is, 0.5 for a tie; null without quorum.
        preference: Option<f64>,
        /// Valid votes for `image_a`.
        votes_a: u32,
        /// Valid votes for `image_b`.
        votes_b: u32,
        /// Invalid votes.
        votes_invalid: u32,
        /// Votes that were not cast, as they could not have changed the label.
        votes_absent: u32,
        /// Share of the valid votes on the larger side, 0.5..1; null without a valid vote. Votes stop early on the side of the leader: with `votes_absent` it is not the share that all votes would have had.
        agreement: Option<f64>,
        /// Share of the valid votes for the picture shown first; null without a valid vote.
        first_rate: Option<f64>,
        /// The exact probability, 0..1, that a valid answer is for `image_a`, both orders alike; null where it is not known.
        probability_a: Option<f64>,
        /// The probability, 0..1, that the majority of K votes with these exact probabilities prefers `image_a`, K and the order of the pictures being those that the label was made for; null where they are not known.
        chance_a: Option<f64>,
        /// The same for a tie. What the three leave of 1 is the probability of a pair without quorum.
        chance_tie: Option<f64>,
        /// The same for `image_b`.
        chance_b: Option<f64>,
        /// Where the label comes from.
        method: LabelMethod,
        /// The control applied.
        control: Control,
    }
}

impl Label {
    fn checked(&self) -> Result<(), String> {
        ordered(&self.image_a, &self.image_b)?;
        if let Some(preference) = self.preference.filter(|p| ![0.0, 0.5, 1.0].contains(p)) {
            return Err(format!("column `preference` is {preference}; expected 1, 0.5, 0 or null"));
        }
        self.agreement.map_or(Ok(()), |it| within("agreement", it, 0.5, 1.0))?;
        self.first_rate.map_or(Ok(()), |it| within("first_rate", it, 0.0, 1.0))?;
        self.probability_a.map_or(Ok(()), |it| within("probability_a", it, 0.0, 1.0))?;
        match [self.chance_a, self.chance_tie, self.chance_b] {
            [None, None, None] => Ok(()),
            [Some(a), Some(tie), Some(b)] => {
                within("chance_a", a, 0.0, 1.0)?;
                within("chance_tie", tie, 0.0, 1.0)?;
                within("chance_b", b, 0.0, 1.0)?;
                // Each is rounded by itself.
                within("chance_a + chance_tie + chance_b", a + tie + b, 0.0, 1.0 + 1e-6)
            }
            _ => Err("columns `chance_a`, `chance_tie` and `chance_b` are set together; expected all three or none"
                .to_owned()),
        }
    }
}
