//! Triangles planted into balanced pairs, by trading pairs so that every place stays in as many as before, or nearly.

use std::collections::HashMap;

/// A pair of places, the smaller first.
type Edge = (usize, usize);

/// Trades some of `drawn`, balanced pairs of `n` places, until there are `asked` triangles without a common place, and
/// gives them: `asked`, or fewer where no more can be planted.
///
/// The first `n - 1` pairs are a path through all places, which stays and keeps them connected. Two of its pairs in a row,
/// `a b` and `b c`, make a triangle with the pair `a c`, which is traded in. The numbers of pairs that places are in still
/// differ by one at most.
pub(crate) fn plant(n: usize, drawn: &mut [Edge], asked: usize) -> Vec<[usize; 3]> {
    if asked == 0 || n < 3 {
        return Vec::new();
    }
    let path = path(n, &drawn[..n - 1]);
    let mut trade = Trade::new(n, drawn);
    let (mut planted, mut at) = (Vec::new(), 0);
    while planted.len() < asked && at + 2 < n {
        if trade.bring(path[at], path[at + 2]) {
            planted.push([path[at], path[at + 1], path[at + 2]]);
            at += 3;
        } else {
            at += 1;
        }
    }
    planted
}

/// The places of the path that `edges` are, from one end to the other.
fn path(n: usize, edges: &[Edge]) -> Vec<usize> {
    let mut neighbours = vec![Vec::new(); n];
    for (a, b) in edges {
        neighbours[*a].push(*b);
        neighbours[*b].push(*a);
    }
    let start = (0..n).find(|place| neighbours[*place].len() == 1).expect("a path has two ends");
    let mut path = vec![start];
    let mut before = start;
    while let Some(next) = neighbours[path[path.len() - 1]].iter().find(|place| **place != before) {
        before = path[path.len() - 1];
        path.push(*next);
    }
    path
}

/// Pairs that are being traded.
struct Trade<'a> {
    edges: &'a mut [Edge],
    /// Where each pair stands in `edges`.
    slots: HashMap<Edge, usize>,
    /// Whether a pair stays: it is of the path or of a triangle.
    stays: Vec<bool>,
    /// For each place, its neighbours by pairs that may go.
    free: Vec<Vec<usize>>,
    /// For each place, how many pairs it is in beyond those that every place is in.
    extra: Vec<i64>,
}

impl<'a> Trade<'a> {
    fn new(n: usize, edges: &'a mut [Edge]) -> Self {
        let least = (2 * edges.len() / n) as i64;
        let mut degrees = vec![0; n];
        let mut free = vec![Vec::new(); n];
        for (slot, (a, b)) in edges.iter().enumerate() {
            degrees[*a] += 1;
            degrees[*b] += 1;
            if slot >= n - 1 {
                free[*a].push(*b);
                free[*b].push(*a);
            }
        }
        let slots = edges.iter().enumerate().map(|(slot, edge)| (*edge, slot)).collect();
        let stays = (0..edges.len()).map(|slot| slot < n - 1).collect();
        Self { slots, stays, free, extra: degrees.into_iter().map(|degree| degree - least).collect(), edges }
    }

    /// Sees to it that the pair of `a` and `c` is there and stays, by the first of four ways that can be gone.
    fn bring(&mut self, a: usize, c: usize) -> bool {
        let done = self.has(a, c) || self.switch_two(a, c) || self.move_one(a, c) || self.switch_three(a, c);
        if done {
            self.stays[self.slots[&edge(a, c)]] = true;
            self.free[a].retain(|place| *place != c);
            self.free[c].retain(|place| *place != a);
        }
        done
    }

    /// `a x` and `c y` become `a c` and `x y`.
    fn switch_two(&mut self, a: usize, c: usize) -> bool {
        // `x` and `y` of one round stand next but one on the path, as `a` and `c` do: another triangle, which nobody asked for.
        let both = self.free[a].iter().flat_map(|x| self.free[c].iter().rev().map(move |y| (*x, *y)));
        let Some((x, y)) = both.into_iter().find(|(x, y)| x != y && !self.has(*x, *y)) else { return false };
        self.replace(edge(a, x), edge(a, c));
        self.replace(edge(c, y), edge(x, y));
        true
    }

    /// A pair becomes `a c`, and what it was a pair of had one more than the least, or is `a` or `c`.
    fn move_one(&mut self, a: usize, c: usize) -> bool {
        let can_give = |place: &usize| self.extra[*place] == 1;
        let old = match (self.extra[a], self.extra[c]) {
            (0, 0) => self.free_edges().find(|(x, y)| can_give(x) && can_give(y)),
            (1, 0) => self.free[a].iter().find(|x| can_give(x)).map(|x| edge(a, *x)),
            (0, 1) => self.free[c].iter().find(|y| can_give(y)).map(|y| edge(c, *y)),
            _ => None,
        };
        old.is_some_and(|old| {
            self.replace(old, edge(a, c));
            true
        })
    }

    /// `a x`, `c y` and `z w` become `a c`, `x z` and `y w`.
    fn switch_three(&mut self, a: usize, c: usize) -> bool {
        let (Some(x), Some(y)) = (self.free[a].first().copied(), self.free[c].first().copied()) else { return false };
        let fits = |z: usize, w: usize| {
            let kept = edge(z, w) != edge(a, x) && edge(z, w) != edge(c, y);
            let new = x != z && y != w && !self.has(x, z) && !self.has(y, w) && edge(x, z) != edge(y, w);
            kept && new && edge(x, z) != edge(a, c) && edge(y, w) != edge(a, c)
        };
        let either_way = self.free_edges().flat_map(|(z, w)| [(z, w), (w, z)]);
        let Some((z, w)) = either_way.into_iter().find(|(z, w)| fits(*z, *w)) else { return false };
        self.replace(edge(a, x), edge(a, c));
        self.replace(edge(c, y), edge(x, z));
        self.replace(edge(z, w), edge(y, w));
        true
    }

    fn has(&self, a: usize, b: usize) -> bool {
        self.slots.contains_key(&edge(a, b))
    }

    /// The pairs that may go, the last first: there, the places that are in one more than the least meet.
    fn free_edges(&self) -> impl Iterator<Item = Edge> {
        self.edges.iter().zip(&self.stays).rev().filter(|(_, stays)| !**stays).map(|(edge, _)| *edge)
    }

    /// Puts the pair `new`, which was not there, where `old` stood.
    fn replace(&mut self, old: Edge, new: Edge) {
        let slot = self.slots.remove(&old).expect("a pair that goes was there");
        self.slots.insert(new, slot);
        self.edges[slot] = new;
        for (place, other) in [old, (old.1, old.0)] {
            self.free[place].retain(|it| *it != other);
            self.extra[place] -= 1;
        }
        for (place, other) in [new, (new.1, new.0)] {
            self.free[place].push(other);
            self.extra[place] += 1;
        }
    }
}

fn edge(a: usize, b: usize) -> Edge {
    (a.min(b), a.max(b))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::report::Report;
    use crate::round_robin::round_robin;

    /// A number of places, one of pairs, one of triangles that may be asked of them, and a seed.
    pub(crate) fn cases() -> impl Strategy<Value = (usize, usize, usize, u64)> {
        (4..60_usize).prop_flat_map(|n| {
            let triangles = 0..=n / 3;
            triangles.prop_flat_map(move |triangles| {
                let counts = (n + triangles).min(n * (n - 1) / 2)..=n * (n - 1) / 2;
                (Just(n), counts, Just(triangles), any::<u64>())
            })
        })
    }

    proptest! {
        #[test]
        fn planted_pairs_are_different_balanced_connected_and_hold_the_triangles((n, count, asked, seed) in cases()) {
            let mut drawn = round_robin(n, count, &mut ChaCha8Rng::seed_from_u64(seed));
            let planted = plant(n, &mut drawn, asked);
            let has: HashSet<_> = drawn.iter().copied().collect();
            prop_assert_eq!(has.len(), count);
            prop_assert!(drawn.iter().all(|(a, b)| a < b && *b < n));
            for [a, b, c] in &planted {
                prop_assert!([edge(*a, *b), edge(*b, *c), edge(*a, *c)].iter().all(|it| has.contains(it)));
            }
            prop_assert_eq!(planted.iter().flatten().collect::<HashSet<_>>().len(), 3 * planted.len());
            prop_assert!(planted.len() <= asked);
            let report = Report::of(n, &drawn);
            prop_assert_eq!(report.components, 1);
            prop_assert!(report.most - report.least <= 1, "{:?}", report);
        }
    }
}
