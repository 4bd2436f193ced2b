//! Cycles: three pictures of which each is preferred to the next. A judge who only ever compares one quality has none.

use std::collections::HashMap;

use evoq_schemas::ImageId;

/// What the triangles (three pictures with all three pairs labelled) are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Triangles {
    /// Triangles without a tie.
    pub strict: u64,
    /// Those of them that go round in a circle: a quarter where preferences are at chance.
    pub cyclic: u64,
}

/// The triangles of labelled pairs `(image_a, image_b, p*)`, each counted once.
pub fn triangles<'a>(labelled: impl Iterator<Item = (&'a ImageId, &'a ImageId, f64)>) -> Triangles {
    let mut places = HashMap::new();
    let mut edges = Vec::new();
    for (a, b, preference) in labelled.filter(|(.., preference)| *preference != 0.5) {
        let mut place = |id: &'a ImageId| {
            let next = places.len();
            *places.entry(id).or_insert(next)
        };
        let (a, b) = (place(a), place(b));
        edges.push(if preference > 0.5 { (a, b) } else { (b, a) });
    }
    let mut degrees = vec![0; places.len()];
    for (winner, loser) in &edges {
        degrees[*winner] += 1;
        degrees[*loser] += 1;
    }
    // Each is counted at its picture of the fewest pairs: then no list of neighbours is long.
    let rank = |place: usize| (degrees[place], place);
    let mut larger: Vec<Vec<(usize, bool)>> = vec![Vec::new(); places.len()];
    for (winner, loser) in &edges {
        if rank(*winner) < rank(*loser) {
            larger[*winner].push((*loser, true));
        } else {
            larger[*loser].push((*winner, false));
        }
    }
    let mut found = Triangles::default();
    let mut marked: Vec<Option<(usize, bool)>> = vec![None; places.len()];
    for (place, neighbours) in larger.iter().enumerate() {
        for (other, wins) in neighbours {
            marked[*other] = Some((place, *wins));
        }
        for (other, wins) in neighbours {
            for (third, other_wins) in &larger[*other] {
                let Some((_, wins_over_third)) = marked[*third].filter(|(of, _)| *of == place) else { continue };
                found.strict += 1;
                // Around from here: to the second, from there to the third, and back.
                found.cyclic += u64::from(wins == other_wins && wins_over_third != *wins);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(labels: &[(usize, usize, f64)]) -> Triangles {
        let id = |place: usize| ImageId::from(format!("{place:02}"));
        let ids: Vec<(ImageId, ImageId, f64)> = labels.iter().map(|(a, b, it)| (id(*a), id(*b), *it)).collect();
        triangles(ids.iter().map(|(a, b, it)| (a, b, *it)))
    }

    #[test]
    fn a_circle_is_a_cycle_an_order_is_none_and_a_tie_is_no_triangle() {
        assert_eq!(of(&[(0, 1, 1.0), (1, 2, 1.0), (0, 2, 0.0)]), Triangles { strict: 1, cyclic: 1 });
        assert_eq!(of(&[(0, 1, 0.0), (1, 2, 0.0), (0, 2, 1.0)]), Triangles { strict: 1, cyclic: 1 });
        assert_eq!(of(&[(0, 1, 1.0), (1, 2, 1.0), (0, 2, 1.0)]), Triangles { strict: 1, cyclic: 0 });
        assert_eq!(of(&[(0, 1, 1.0), (1, 2, 0.5), (0, 2, 0.0)]), Triangles::default());
        assert_eq!(of(&[(0, 1, 1.0), (1, 2, 1.0)]), Triangles::default());
    }

    proptest! {
        #[test]
        fn cycles_are_as_many_as_counted_one_by_one(
            n in 3..9_usize,
            drawn in proptest::collection::vec(0..4_usize, 36),
        ) {
            let all: Vec<_> = (0..n).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
            let labels: Vec<_> = all.iter().zip(drawn).filter(|(_, it)| *it < 3)
                .map(|((a, b), it)| (*a, *b, [0.0, 0.5, 1.0][it])).collect();
            // 1 where x beats y, -1 where y beats x, 0 where neither is known to.
            let beats = |x: usize, y: usize| labels.iter().map(|(a, b, it)| match (*a == x && *b == y, *a == y && *b == x) {
                (true, _) => (2.0 * it - 1.0) as i32,
                (_, true) => (1.0 - 2.0 * it) as i32,
                _ => 0,
            }).sum::<i32>();
            let mut expected = Triangles::default();
            for (x, y, z) in (0..n).flat_map(|x| (x + 1..n).flat_map(move |y| (y + 1..n).map(move |z| (x, y, z)))) {
                let round = [beats(x, y), beats(y, z), beats(z, x)];
                expected.strict += u64::from(round.iter().all(|it| *it != 0));
                expected.cyclic += u64::from(round == [1; 3] || round == [-1; 3]);
            }
            prop_assert_eq!(of(&labels), expected);
        }
    }
}
