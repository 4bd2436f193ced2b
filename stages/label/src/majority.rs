//! Eq. 1: the pseudo-label of a pair from its valid votes.

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
    }

    #[test]
    fn a_pair_without_a_valid_vote_has_no_label() {
        assert_eq!(preference(0, 0, 1), None);
        assert_eq!(preference(0, 0, 0), None);
    }

    #[test]
    fn a_pair_below_the_quorum_has_no_label() {
        assert_eq!(preference(3, 1, 5), None);
        assert_eq!(preference(3, 2, 5), Some(1.0));
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
    }
}
