//! What a set of pairs is like as a graph: which pictures it leaves out, how often it takes the others, what it connects.

use std::fmt;

/// The figures of a design, pictures being places and pairs being edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// How many pictures there are.
    pub(crate) pictures: usize,
    /// How many pairs.
    pub(crate) pairs: usize,
    /// How many pictures are in no pair.
    pub(crate) orphans: usize,
    /// The fewest pairs that a picture is in.
    pub(crate) least: usize,
    /// The most.
    pub(crate) most: usize,
    /// How many sets of pictures there are that no pair connects; an orphan is one of its own.
    pub(crate) components: usize,
    /// How many pictures are in the largest of them.
    pub(crate) largest: usize,
    /// How many times three pictures have all three pairs.
    pub(crate) triangles: u64,
}

impl Report {
    /// The figures of `drawn`, different pairs of the places `0..pictures`.
    pub(crate) fn of(pictures: usize, drawn: &[(usize, usize)]) -> Self {
        let mut degrees = vec![0; pictures];
        for (a, b) in drawn {
            degrees[*a] += 1;
            degrees[*b] += 1;
        }
        let sizes = component_sizes(pictures, drawn);
        Self {
            pictures,
            pairs: drawn.len(),
            orphans: degrees.iter().filter(|degree| **degree == 0).count(),
            least: degrees.iter().min().copied().unwrap_or(0),
            most: degrees.iter().max().copied().unwrap_or(0),
            components: sizes.len(),
            largest: sizes.into_iter().max().unwrap_or(0),
            triangles: triangles(&degrees, drawn),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pictures: {}", self.pictures)?;
        writeln!(f, "pairs: {}", self.pairs)?;
        writeln!(f, "orphans (pictures in no pair): {}", self.orphans)?;
        writeln!(f, "degrees (pairs a picture is in): {} to {}", self.least, self.most)?;
        writeln!(f, "components: {}, the largest of {} pictures", self.components, self.largest)?;
        write!(f, "triangles (three pictures with all three pairs): {}", self.triangles)
    }
}

/// How many places each component has, by joining the two trees of every pair.
fn component_sizes(places: usize, drawn: &[(usize, usize)]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..places).collect();
    for (a, b) in drawn {
        let (a, b) = (root(&mut parents, *a), root(&mut parents, *b));
        parents[a] = b;
    }
    let mut sizes = vec![0; places];
    for place in 0..places {
        sizes[root(&mut parents, place)] += 1;
    }
    sizes.retain(|size| *size > 0);
    sizes
}

/// The root of the tree that `place` is in. Halves the way to it.
fn root(parents: &mut [usize], mut place: usize) -> usize {
    while parents[place] != place {
        parents[place] = parents[parents[place]];
        place = parents[place];
    }
    place
}

/// How many triangles there are. Each is counted at its pair of the two smallest places, by (degree, place): no list of
/// neighbours that are larger is longer than the square root of twice the pairs.
fn triangles(degrees: &[usize], drawn: &[(usize, usize)]) -> u64 {
    let rank = |place: usize| (degrees[place], place);
    let mut larger: Vec<Vec<usize>> = vec![Vec::new(); degrees.len()];
    for (a, b) in drawn {
        let (small, large) = if rank(*a) < rank(*b) { (*a, *b) } else { (*b, *a) };
        larger[small].push(large);
    }
    let mut marked = vec![usize::MAX; degrees.len()];
    let mut count = 0;
    for place in 0..degrees.len() {
        for other in &larger[place] {
            marked[*other] = place;
        }
        for third in larger[place].iter().flat_map(|other| &larger[*other]) {
            count += u64::from(marked[*third] == place);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_triangle_with_a_tail_beside_a_pair_and_an_orphan() {
        let report = Report::of(7, &[(0, 1), (1, 2), (0, 2), (2, 3), (4, 5)]);
        let expected =
            Report { pictures: 7, pairs: 5, orphans: 1, least: 0, most: 3, components: 3, largest: 4, triangles: 1 };
        assert_eq!(report, expected);
    }

    #[test]
    fn no_pictures_have_no_pairs() {
        assert_eq!(Report::of(0, &[]).components, 0);
        assert_eq!(Report::of(2, &[]).orphans, 2);
    }

    #[test]
    fn the_report_reads_as_plain_lines() {
        let text = Report::of(4, &[(0, 1), (1, 2), (0, 2)]).to_string();
        let expected = "pictures: 4\npairs: 3\norphans (pictures in no pair): 1\ndegrees (pairs a picture is in): 0 to 2\n\
                        components: 2, the largest of 3 pictures\n\
                        triangles (three pictures with all three pairs): 1";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn triangles_are_as_many_as_counted_one_by_one(n in 3..12_usize, bits: u128) {
            let all: Vec<_> = (0..n).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
            let has = |index: usize| bits >> (index % 128) & 1 == 1;
            let drawn: Vec<_> = all.iter().enumerate().filter(|(i, _)| has(*i)).map(|(_, pair)| *pair).collect();
            let is = |a: usize, b: usize| drawn.contains(&(a, b));
            let by_one = all.iter().flat_map(|(a, b)| (b + 1..n).map(move |c| (*a, *b, c)));
            let by_one = by_one.filter(|(a, b, c)| is(*a, *b) && is(*b, *c) && is(*a, *c)).count();
            prop_assert_eq!(Report::of(n, &drawn).triangles, by_one as u64);
        }
    }
}
