//! From the scores of a batch to rewards and advantages, Eq. 2 to 4: plain numbers in and out. Training and what-if use it alike,
//! so that equal constants give equal bits.

use crate::advantage::advantages;
use crate::args::Constants;
use crate::reward::{Moments, agreement, closeness, probability};

/// A labelled comparison, seen from one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The partner, as an index into the batch's pictures.
    pub partner: usize,
    /// p*: 1 where this picture is better, 0.5 for a tie, 0 where the partner is.
    pub preference: f64,
}

/// What the pictures of a batch are rewarded for.
#[derive(Debug, Clone, PartialEq)]
pub enum Goals {
    /// For each picture, its labelled comparisons within the batch: `P_i` of Eq. 3.
    Preferences(Vec<Vec<Link>>),
    /// For each picture, its pseudo-score.
    Targets(Vec<f64>),
}

/// What the reward of a completion depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reply {
    /// The score it gives; none for an invalid one.
    pub score: Option<f64>,
    /// Whether it has the form that the prompt asks for.
    pub well_formed: bool,
}

/// A completion against one partner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The comparison.
    pub link: Link,
    /// `p_k(x_i, x_j)`, Eq. 2.
    pub probability: f64,
}

/// What a picture's completions earned.
#[derive(Debug, Clone, PartialEq)]
pub struct Earned {
    /// For each completion, Eq. 2 with each partner that has moments; empty for an invalid one, and for absolute rewards.
    pub comparisons: Vec<Vec<Comparison>>,
    /// `r_k`, Eq. 3.
    pub rewards: Vec<f64>,
    /// `a_k`, Eq. 4.
    pub advantages: Vec<f64>,
    /// Whether the picture takes part: it has two valid scores, and so has one of its partners where rewards compare.
    pub counts: bool,
}

/// What each picture's completions earned, by their scores and those of the other pictures.
pub fn earn(goals: &Goals, pictures: &[Vec<Reply>], constants: &Constants) -> Vec<Earned> {
    let scores = |replies: &Vec<Reply>| Moments::of(replies.iter().filter_map(|it| it.score), constants.ddof);
    let moments: Vec<Option<Moments>> = pictures.iter().map(scores).collect();
    let earned = pictures.iter().zip(&moments).enumerate().map(|(picture, (replies, own))| match (goals, own) {
        (_, None) => left_out(replies.len()),
        (Goals::Targets(targets), Some(_)) => towards(targets[picture], replies, constants),
        (Goals::Preferences(links), Some(own)) => {
            let partner = |link: &Link| Some((*link, moments[link.partner]?));
            let partners: Vec<(Link, Moments)> = links[picture].iter().filter_map(partner).collect();
            if partners.is_empty() { left_out(replies.len()) } else { against(&partners, *own, replies, constants) }
        }
    });
    earned.collect()
}

/// A picture that is left out of the update.
fn left_out(completions: usize) -> Earned {
    let nothing = vec![0.0; completions];
    Earned { comparisons: vec![Vec::new(); completions], rewards: nothing.clone(), advantages: nothing, counts: false }
}

/// Eq. 2 and 3: a picture against its partners, of which there is one at least.
fn against(partners: &[(Link, Moments)], own: Moments, replies: &[Reply], constants: &Constants) -> Earned {
    let compared = replies.iter().map(|reply| {
        let Some(score) = reply.score else { return Vec::new() };
        let compare = |(link, theirs): &(Link, Moments)| Comparison {
            link: *link,
            probability: probability(score, own, *theirs, constants.gamma),
        };
        partners.iter().map(compare).collect()
    });
    let comparisons: Vec<Vec<Comparison>> = compared.collect();
    let fidelity = |compared: &Vec<Comparison>| {
        let terms = compared.iter().map(|it| agreement(it.link.preference, it.probability, constants.root_epsilon));
        // Not `sum`, whose sum of nothing is −0: an invalid completion earns 0, the same number as one that is left out.
        terms.fold(0.0, |sum, term| sum + term) / compared.len().max(1) as f64
    };
    let rewards = comparisons.iter().map(fidelity).collect();
    weighed(comparisons, rewards, replies, constants)
}

/// A picture against its own pseudo-score.
fn towards(target: f64, replies: &[Reply], constants: &Constants) -> Earned {
    let reward = |it: &Reply| it.score.map_or(0.0, |score| closeness(score, target, constants.threshold));
    weighed(vec![Vec::new(); replies.len()], replies.iter().map(reward).collect(), replies, constants)
}

/// Adds the form's part to the rewards, and takes Eq. 4 of them.
fn weighed(
    comparisons: Vec<Vec<Comparison>>,
    mut rewards: Vec<f64>,
    replies: &[Reply],
    constants: &Constants,
) -> Earned {
    for (reward, reply) in rewards.iter_mut().zip(replies) {
        if reply.well_formed {
            *reward += constants.format_weight;
        }
    }
    let advantages = advantages(&rewards, constants.ddof, constants.advantage_epsilon);
    Earned { comparisons, rewards, advantages, counts: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Ties;
    use proptest::prelude::*;

    const PAPER: Constants = Constants {
        gamma: 1e-6,
        ddof: 1,
        root_epsilon: 0.0,
        advantage_epsilon: 1e-4,
        ties: Ties::Keep,
        quorum: 1,
        threshold: 0.35,
        format_weight: 0.0,
    };
    const ROOTED: Constants = Constants { root_epsilon: 1e-6, ..PAPER };

    fn replies(scores: &[f64]) -> Vec<Reply> {
        scores.iter().map(|score| Reply { score: Some(*score), well_formed: true }).collect()
    }

    /// One pair, both sides of it.
    fn pair(preference: f64) -> Goals {
        let link = |partner, preference| vec![Link { partner, preference }];
        Goals::Preferences(vec![link(1, preference), link(0, 1.0 - preference)])
    }

    /// The pair that the reference values are of.
    fn worked_out(preference: f64, constants: &Constants) -> Earned {
        let pictures = [replies(&[3.0, 3.5, 4.0, 2.5]), replies(&[2.0, 2.5, 3.0, 2.5])];
        earn(&pair(preference), &pictures, constants).remove(0)
    }

    fn close(got: &[f64], expected: [f64; 4]) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 1e-6, "{got} is not {expected}");
        }
    }

    #[test]
    #[expect(clippy::approx_constant, reason = "a reward of sqrt(1/2), as it stands among the others")]
    fn the_rewards_are_those_worked_out_for_the_paper() {
        close(&worked_out(1.0, &PAPER).rewards, [0.862_354, 0.951_202, 0.987_539, 0.707_107]);
        close(&worked_out(1.0, &ROOTED).rewards, [0.863_355, 0.952_202, 0.988_539, 0.708_107]);
        close(&worked_out(0.5, &ROOTED).rewards, [0.967_791, 0.890_796, 0.809_583, 1.000_002]);
        close(&worked_out(0.0, &ROOTED).rewards, [0.507_307, 0.309_571, 0.158_380, 0.708_107]);
    }

    #[test]
    fn the_advantages_are_those_worked_out_for_the_paper() {
        close(&worked_out(1.0, &ROOTED).advantages, [-0.117_567, 0.593_193, 0.883_880, -1.359_507]);
        close(&worked_out(0.5, &ROOTED).advantages, [0.596_070, -0.308_287, -1.262_195, 0.974_412]);
        close(&worked_out(0.0, &ROOTED).advantages, [0.361_732, -0.465_503, -1.098_020, 1.201_791]);
    }

    #[test]
    fn an_invalid_completion_earns_nothing_and_takes_no_part_in_the_moments() {
        let invalid = Reply { score: None, well_formed: false };
        let with = |own: Vec<Reply>| earn(&pair(1.0), &[own, replies(&[2.0, 2.5])], &PAPER).remove(0);
        let (valid, mixed) =
            (with(replies(&[3.0, 4.0])), with([replies(&[3.0]), vec![invalid], replies(&[4.0])].concat()));
        assert_eq!(mixed.rewards, [valid.rewards[0], 0.0, valid.rewards[1]]);
        assert!(mixed.comparisons[1].is_empty() && mixed.advantages[1] < 0.0);
        assert_eq!(mixed.rewards[1].to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_picture_with_one_valid_score_is_left_out_and_so_is_one_that_has_no_other_partner() {
        let alone = vec![Reply { score: Some(3.0), well_formed: true }, Reply { score: None, well_formed: true }];
        let earned = earn(&pair(1.0), &[alone.clone(), replies(&[2.0, 2.5])], &PAPER);
        assert!(earned.iter().all(|it| !it.counts && it.rewards == [0.0; 2] && it.advantages == [0.0; 2]));
        assert!(!earn(&Goals::Targets(vec![3.0]), &[alone], &PAPER)[0].counts);
    }

    #[test]
    fn the_reward_is_the_mean_over_partners() {
        let link = |partner, preference| Link { partner, preference };
        let goals = Goals::Preferences(vec![vec![link(1, 1.0), link(2, 0.0)], vec![link(0, 0.0)], vec![link(0, 1.0)]]);
        let pictures = [replies(&[3.0, 3.5]), replies(&[2.0, 2.5]), replies(&[4.0, 4.5])];
        let both = earn(&goals, &pictures, &PAPER).remove(0).rewards;
        let first = earn(&pair(1.0), &pictures[..2], &PAPER).remove(0).rewards;
        let second = earn(&pair(0.0), &[pictures[0].clone(), pictures[2].clone()], &PAPER).remove(0).rewards;
        for k in 0..2 {
            assert!((both[k] - f64::midpoint(first[k], second[k])).abs() < 1e-15);
        }
    }

    #[test]
    fn an_absolute_reward_is_one_near_the_pseudo_score() {
        let earned = earn(&Goals::Targets(vec![3.0]), &[replies(&[3.0, 3.34, 3.36, 2.66, 2.64])], &PAPER).remove(0);
        assert_eq!(earned.rewards, [1.0, 1.0, 0.0, 1.0, 0.0]);
        assert!(earned.counts && earned.comparisons.iter().all(Vec::is_empty));
    }

    #[test]
    fn the_form_earns_its_weight_beside_the_score() {
        let replies = [
            Reply { score: Some(3.0), well_formed: true },
            Reply { score: Some(3.0), well_formed: false },
            Reply { score: None, well_formed: true },
        ];
        let constants = Constants { format_weight: 0.5, ..PAPER };
        assert_eq!(earn(&Goals::Targets(vec![3.0]), &[replies.to_vec()], &constants)[0].rewards, [1.5, 1.0, 0.5]);
    }

    fn scores() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec((100..=500_u32).prop_map(|it| f64::from(it) / 100.0), 2..20)
    }

    proptest! {
        #[test]
        fn rewards_follow_a_permutation_of_the_completions(own in scores(), theirs in scores(), preference in 0..=2_u8) {
            let goals = pair(f64::from(preference) / 2.0);
            let there = earn(&goals, &[replies(&own), replies(&theirs)], &PAPER).remove(0);
            let back: Vec<f64> = own.into_iter().rev().collect();
            let back = earn(&goals, &[replies(&back), replies(&theirs)], &PAPER).remove(0);
            for (there, back) in there.rewards.iter().zip(back.rewards.iter().rev()) {
                prop_assert!((there - back).abs() < 1e-9);
            }
        }

        #[test]
        fn rewards_stay_where_both_pictures_shift_alike(own in scores(), theirs in scores(), by in 1.0f64..3.0) {
            let shifted = |scores: &[f64]| replies(&scores.iter().map(|it| it + by).collect::<Vec<_>>());
            let there = earn(&pair(1.0), &[replies(&own), replies(&theirs)], &PAPER).remove(0);
            let moved = earn(&pair(1.0), &[shifted(&own), shifted(&theirs)], &PAPER).remove(0);
            for (there, moved) in there.rewards.iter().zip(&moved.rewards) {
                prop_assert!((there - moved).abs() < 1e-6, "{there} {moved}");
            }
        }

        #[test]
        fn a_partner_that_is_rated_higher_lowers_the_reward_of_being_better(own in scores(), theirs in scores(), by in 0.0f64..3.0) {
            let shifted: Vec<f64> = theirs.iter().map(|it| it + by).collect();
            let there = earn(&pair(1.0), &[replies(&own), replies(&theirs)], &PAPER).remove(0);
            let harder = earn(&pair(1.0), &[replies(&own), replies(&shifted)], &PAPER).remove(0);
            for (there, harder) in there.rewards.iter().zip(&harder.rewards) {
                prop_assert!(*harder <= there + 1e-9);
            }
        }

        #[test]
        fn rewards_lie_from_nothing_to_one(own in scores(), theirs in scores(), preference in 0..=2_u8) {
            for earned in earn(&pair(f64::from(preference) / 2.0), &[replies(&own), replies(&theirs)], &PAPER) {
                prop_assert!(earned.rewards.iter().all(|it| (0.0..=1.0 + 1e-12).contains(it)));
            }
        }
    }
}
