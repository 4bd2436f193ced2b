//! Unordered pairs as numbers: the pairs of `n` things are `0..pairs(n)`.

/// How many unordered pairs `n` things have.
pub(crate) fn pairs(n: usize) -> u64 {
    let n = n as u64;
    n * n.saturating_sub(1) / 2
}

/// The pair of number `index`, as `(i, j)` with `i < j`: (0,1), (0,2), (1,2), (0,3), …
///
/// `index` is below 2^60, which is the number of pairs of a thousand million things.
pub(crate) fn pair(index: u64) -> (usize, usize) {
    // The largest j with j (j - 1) / 2 <= index, exactly: isqrt rounds down.
    let j = u64::midpoint(1, (8 * index + 1).isqrt());
    ((index - j * (j - 1) / 2) as usize, j as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_the_count_are_the_pairs_each_once() {
        let expected: Vec<_> = (1..60).flat_map(|j| (0..j).map(move |i| (i, j))).collect();
        assert_eq!((0..pairs(60)).map(pair).collect::<Vec<_>>(), expected);
        assert_eq!((pairs(0), pairs(1), pairs(2)), (0, 0, 1));
    }

    proptest::proptest! {
        #[test]
        fn a_pair_has_its_number_also_among_millions(i in 0..50_000_000_usize, more in 1..50_000_000_usize) {
            let j = i + more;
            proptest::prop_assert_eq!(pair(pairs(j) + i as u64), (i, j));
        }
    }
}
