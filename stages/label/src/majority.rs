//! Eq. 1: the pseudo-label of a pair from its valid votes, and whether it stands where votes were stopped early.

/// p*, Eq. 1: 1 where x has more votes, 0 where y has, 0.5 for a tie.
pub fn majority(k_x: u32, k_y: u32) -> f64 {
    match k_x.cmp(&k_y) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}

/// p* of a pair with at least `quorum` valid votes. A pair without a valid vote has no label whatever the quorum: nothing is
/// known of it, which is not a tie.
pub fn preference(k_x: u32, k_y: u32, quorum: u32) -> Option<f64> {
    (k_x.saturating_add(k_y) >= quorum.max(1)).then(|| majority(k_x, k_y))
}

/// Eq. 1 for a number of votes without end: p* from the exact probabilities of a vote for x and one for y.
pub fn exact_preference(p_x: f64, p_y: f64) -> Option<f64> {
    (p_x + p_y > 0.0).then(|| match p_x.total_cmp(&p_y) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    })
}

/// What votes that were not cast leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Who has more votes, or whether it is a tie.
    Majority,
    /// Whether there are as many valid votes as the quorum asks for.
    Quorum,
}

/// What `absent` votes leave open of a pair's label. Nothing where they could not change it, whatever they were.
pub fn open(k_x: u32, k_y: u32, absent: u32, quorum: u32) -> Option<Open> {
    if absent == 0 {
        return None;
    }
    let valid = k_x.saturating_add(k_y);
    if k_x.abs_diff(k_y) <= absent {
        Some(Open::Majority)
    } else if valid < quorum && quorum <= valid.saturating_add(absent) {
        Some(Open::Quorum)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_picture_with_more_votes_is_preferred() {
        assert_eq!(majority(17, 15), 1.0);
        assert_eq!(majority(15, 17), 0.0);
    }

    #[test]
    fn a_tied_pair_gets_one_half() {
        assert_eq!(majority(16, 16), 0.5);
        assert_eq!(exact_preference(0.25, 0.25), Some(0.5));
    }

    #[test]
    fn a_pair_without_a_valid_vote_has_no_label() {
        assert_eq!(preference(0, 0, 1), None);
        assert_eq!(preference(0, 0, 0), None);
        assert_eq!(exact_preference(0.0, 0.0), None);
    }

    #[test]
    fn a_pair_below_the_quorum_has_no_label() {
        assert_eq!(preference(3, 1, 5), None);
        assert_eq!(preference(3, 2, 5), Some(1.0));
    }

    #[test]
    fn exact_probabilities_lean_to_the_larger() {
        assert_eq!(exact_preference(0.3, 0.2), Some(1.0));
        assert_eq!(exact_preference(0.2, 0.3), Some(0.0));
    }

    proptest! {
        #[test]
        fn swapping_the_pictures_swaps_the_preference(k_x: u32, k_y: u32) {
            prop_assert_eq!(majority(k_x, k_y), 1.0 - majority(k_y, k_x));
        }

        #[test]
        fn one_more_vote_for_a_picture_never_counts_against_it(k_x in 0u32..1000, k_y in 0u32..1000) {
            prop_assert!(majority(k_x + 1, k_y) >= majority(k_x, k_y));
        }

        #[test]
        fn nothing_is_open_exactly_where_no_votes_could_change_the_label(
            k_x in 0u32..20, k_y in 0u32..20, absent in 0u32..20, quorum in 1u32..30,
        ) {
            // A vote may be for x, for y, or invalid.
            let ends = (0..=absent).flat_map(|x| (0..=absent - x).map(move |y| (k_x + x, k_y + y)));
            let labels: std::collections::HashSet<_> =
                ends.map(|(x, y)| preference(x, y, quorum).map(f64::to_bits)).collect();
            if open(k_x, k_y, absent, quorum).is_none() {
                prop_assert_eq!(labels.len(), 1);
            }
            // Below the quorum for good, who leads is of no matter, and refusing is merely strict.
            if k_x + k_y + absent >= quorum {
                prop_assert_eq!(open(k_x, k_y, absent, quorum).is_none(), labels.len() == 1);
            }
        }
    }
}
