//! Views that people need, each one query in `views/`, with the meaning of what it adds.

/// A view over the tables of a run.
#[derive(Debug)]
pub(super) struct View {
    /// Its name.
    pub name: &'static str,
    /// What one row is.
    pub about: &'static str,
    /// The table that it is made of; without it there is no such view.
    pub table: &'static str,
    /// Its query.
    pub sql: &'static str,
    /// What its columns mean, where they are not columns of [`Self::table`] as they stand there.
    pub columns: &'static [(&'static str, &'static str)],
}

/// The views.
pub(super) const VIEWS: [View; 4] = [
    View {
        name: "pair_agreement",
        about: "What the votes about one pair say, and how far they agree.",
        table: "votes",
        sql: include_str!("views/pair_agreement.sql"),
        columns: &[
            ("votes_a", "Valid votes for `image_a`."),
            ("votes_b", "Valid votes for `image_b`."),
            ("votes_invalid", "Invalid votes."),
            ("agreement", "Share of the valid votes on the larger side, 0.5..1; null without a valid vote."),
            ("share_a", "Share of the valid votes for `image_a`."),
            ("share_a_first", "The same among votes that saw `image_a` first."),
            (
                "share_a_second",
                "The same among votes that saw `image_a` second: without a position bias both are alike.",
            ),
            (
                "probability_a",
                "The exact probability, 0..1, that a valid answer is for `image_a`, both orders alike; null for sampled votes.",
            ),
        ],
    },
    View {
        name: "position_bias",
        about: "How far a step's sampled votes lean to the picture that was shown first.",
        table: "votes",
        sql: include_str!("views/position_bias.sql"),
        columns: &[
            ("votes", "Votes."),
            ("valid", "Valid votes."),
            ("first", "Valid votes for the picture shown first."),
            (
                "first_rate",
                "Share of the valid votes for the picture shown first: 0.5 without a bias where orders are drawn or \
                 balanced. Its interval is in `label_report`.",
            ),
            ("share_a_first", "Share of the valid votes for `image_a` among those that saw it first."),
            ("share_a_second", "The same among those that saw it second."),
            (
                "effect",
                "`share_a_first - share_a_second`: what being shown first adds to a picture's share of the votes.",
            ),
        ],
    },
    View {
        name: "reward_spread",
        about: "The completions of one picture in one optimizer step: Eq. 4 lives on how far their rewards differ.",
        table: "rollouts",
        sql: include_str!("views/reward_spread.sql"),
        columns: &[
            ("completions", "Completions."),
            ("valid", "Those with a valid score."),
            ("reward_mean", "Mean of their rewards; an invalid one earns 0."),
            ("reward_spread", "Standard deviation of their rewards (ddof 1)."),
            ("reward_min", "The least reward."),
            ("reward_max", "The largest reward."),
            ("zero_spread", "Whether all rewards are one: then every advantage is 0 and the picture teaches nothing."),
            ("score_mean", "Mean of the valid scores."),
            ("score_spread", "Their standard deviation (ddof 1)."),
        ],
    },
    View {
        name: "contested_pairs",
        about: "A labelled pair with its place among the pairs of its step, the most evenly divided first.",
        table: "labels",
        sql: include_str!("views/contested_pairs.sql"),
        columns: &[(
            "place",
            "From 1: by the share of valid votes by which one side leads, then the larger number of votes, then the id.",
        )],
    },
];

/// The view `name`.
pub(super) fn view(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name)
}
