//! The balanced design: every picture in the same number of pairs up to one, connected, with triangles where asked for.

use evoq_schemas::draws;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::candidates::Candidates;
use crate::error::Error;
use crate::round_robin::round_robin;
use crate::triangles::plant;

/// How often pairs are drawn anew where triangles do not fit into the first ones, or equal pictures cannot be kept apart in
/// them. Both happen where there are few pictures and most of their pairs are asked for.
const ATTEMPTS: usize = 64;

/// `count` pairs of rows, no two alike, none of equal pixels, and `triangles` triangles without a common picture in them.
///
/// The pairs are drawn among numbered places, and pictures take places by their ids and the seed alone: the order of the
/// rows does not matter.
pub(crate) fn draw(
    candidates: &Candidates<'_>,
    count: u32,
    triangles: u32,
    seed: u64,
) -> Result<Vec<(usize, usize)>, Error> {
    candidates.suffice(count)?;
    check_triangles(candidates.rows().len(), count, triangles)?;
    let seats = seats(candidates, seed);
    let mut random = ChaCha8Rng::from_seed(draws::key(seed, "pairs", &["balanced"]));
    let mut attempts = 1;
    loop {
        match attempt(candidates, count, triangles, seats.clone(), &mut random) {
            Err(_) if attempts < ATTEMPTS => attempts += 1,
            done => return done,
        }
    }
}

fn attempt(
    candidates: &Candidates<'_>,
    count: u32,
    triangles: u32,
    mut seats: Vec<usize>,
    random: &mut ChaCha8Rng,
) -> Result<Vec<(usize, usize)>, Error> {
    let n = seats.len();
    let mut drawn = round_robin(n, count as usize, random);
    let planted = plant(n, &mut drawn, triangles as usize).len();
    if planted < triangles as usize {
        return Err(Error::NotPlanted { asked: triangles, planted, count, pictures: n });
    }
    part_equals(&mut seats, &drawn, candidates, count)?;
    Ok(drawn.into_iter().map(|(a, b)| (seats[a], seats[b])).collect())
}

/// Whether that many triangles can be asked for: with them, `n + triangles` pairs are what a connected graph with degrees of
/// two and three has.
fn check_triangles(pictures: usize, count: u32, triangles: u32) -> Result<(), Error> {
    let (asked, most) = (triangles, pictures / 3);
    if asked as usize > most {
        return Err(Error::TooManyTriangles { asked, pictures, most });
    }
    // Three pictures in one triangle are connected by its own pairs.
    let needed = if pictures == 3 { 3 } else { pictures + asked as usize };
    if asked > 0 && (count as usize) < needed {
        return Err(Error::TooFewForTriangles { count, triangles, pictures, needed });
    }
    Ok(())
}

/// The row at each place: the pictures in the order of their keys.
fn seats(candidates: &Candidates<'_>, seed: u64) -> Vec<usize> {
    let key = |row: usize| draws::key(seed, "pairs", &["balanced", candidates.rows()[row].image_id.as_str()]);
    let mut keyed: Vec<_> = (0..candidates.rows().len()).map(|row| (key(row), row)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, row)| row).collect()
}

/// Lets pictures change seats until no pair of places has equal pixels.
fn part_equals(
    seats: &mut [usize],
    drawn: &[(usize, usize)],
    candidates: &Candidates<'_>,
    count: u32,
) -> Result<(), Error> {
    if candidates.equal() == 0 {
        return Ok(());
    }
    let looks = candidates.looks();
    let mut neighbours = vec![Vec::new(); seats.len()];
    for (a, b) in drawn {
        neighbours[*a].push(*b);
        neighbours[*b].push(*a);
    }
    for (a, b) in drawn {
        if looks[seats[*a]] != looks[seats[*b]] {
            continue;
        }
        // Whether the picture that sits at `from` meets no equal at `to`, once the two have changed seats.
        let fits = |from: usize, to: usize| {
            neighbours[to].iter().all(|place| *place == from || looks[seats[*place]] != looks[seats[from]])
        };
        let others = (1..seats.len()).map(|step| (b + step) % seats.len());
        let other = others
            .into_iter()
            .find(|other| looks[seats[*other]] != looks[seats[*b]] && fits(*b, *other) && fits(*other, *b));
        let Some(other) = other else {
            return Err(Error::EqualPixels { count, picture: candidates.rows()[seats[*b]].image_id.clone() });
        };
        seats.swap(*b, other);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use evoq_schemas::{Design, Image};
    use proptest::prelude::*;

    use super::*;
    use crate::candidates::tests::{original, originals, variant};
    use crate::report::Report;
    use crate::unordered::pairs;

    fn drawn(rows: &[Image], count: u32, triangles: u32, seed: u64) -> Result<Vec<(usize, usize)>, Error> {
        draw(&Candidates::new(rows, Design::Balanced)?, count, triangles, seed)
    }

    /// The ids of the pairs.
    fn named(rows: &[Image], drawn: &[(usize, usize)]) -> Vec<evoq_schemas::Pair> {
        let candidates = Candidates::new(rows, Design::Balanced).unwrap();
        drawn.iter().map(|pair| candidates.row(*pair)).collect()
    }

    fn found(rows: &[Image], drawn: &[(usize, usize)]) -> HashSet<(String, String)> {
        named(rows, drawn).into_iter().map(|it| (it.image_a.to_string(), it.image_b.to_string())).collect()
    }

    proptest! {
        #[test]
        fn pairs_fit_their_table_and_are_balanced(n in 2..40_usize, share in 0.0..=1.0, seed: u64) {
            let rows = originals(n);
            let count = ((pairs(n) as f64 * share) as u32).max(1);
            let drawn = drawn(&rows, count, 0, seed).unwrap();
            for pair in named(&rows, &drawn) {
                prop_assert_eq!(evoq_schemas::Table::check(&pair), Ok(()));
                prop_assert_eq!(pair.design, Design::Balanced);
            }
            let report = Report::of(n, &drawn);
            prop_assert_eq!((report.pairs, found(&rows, &drawn).len()), (count as usize, count as usize));
            prop_assert!(report.most - report.least <= 1, "{:?}", report);
            prop_assert!(report.components == 1 || (count as usize) < n - 1, "{:?}", report);
        }

        #[test]
        fn triangles_fit_in_whatever_their_number((n, count, triangles, seed) in crate::triangles::tests::cases()) {
            let drawn = drawn(&originals(n), count as u32, triangles as u32, seed).unwrap();
            let report = Report::of(n, &drawn);
            prop_assert_eq!((report.pairs, report.components), (count, 1));
            prop_assert!(report.most - report.least <= 1 && report.triangles >= triangles as u64, "{:?}", report);
        }

        #[test]
        fn the_order_of_the_rows_does_not_matter(n in 9..30_usize, seed: u64, turn in 1..8_usize) {
            let rows = originals(n);
            let mut turned = rows.clone();
            turned.rotate_left(turn);
            turned.swap(0, n / 2);
            for triangles in [0, 2] {
                let count = (n + 2) as u32;
                let one = named(&rows, &drawn(&rows, count, triangles, seed).unwrap());
                prop_assert_eq!(one, named(&turned, &drawn(&turned, count, triangles, seed).unwrap()));
            }
        }

        #[test]
        fn equal_pixels_are_kept_apart_and_the_balance_stays(n in 12..40_usize, copies in 1..5_usize, seed: u64) {
            let mut rows = originals(n);
            for (copy, row) in rows[..copies].iter_mut().enumerate() {
                *row = Image { image_id: format!("set/copy{copy}").into(), ..original("copy") };
            }
            let count = (n + n / 3) as u32;
            let drawn = drawn(&rows, count, n as u32 / 6, seed).unwrap();
            prop_assert!(drawn.iter().all(|(a, b)| rows[*a].digest != rows[*b].digest));
            let report = Report::of(n, &drawn);
            prop_assert_eq!((report.pairs, report.components), (count as usize, 1));
            prop_assert!(report.most - report.least <= 1 && report.triangles >= n as u64 / 6, "{:?}", report);
        }
    }

    #[test]
    fn triangles_fit_in_among_few_pictures_in_every_case() {
        for n in 4..=9 {
            for triangles in 1..=n / 3 {
                for count in n + triangles..=n * (n - 1) / 2 {
                    let drawn = drawn(&originals(n), count as u32, triangles as u32, 7).unwrap();
                    assert!(Report::of(n, &drawn).triangles >= triangles as u64, "{n} {triangles} {count}");
                }
            }
        }
    }

    #[test]
    fn another_seed_draws_other_pairs() {
        let rows = originals(20);
        assert_eq!(drawn(&rows, 33, 4, 1), drawn(&rows, 33, 4, 1));
        assert_ne!(drawn(&rows, 33, 4, 1), drawn(&rows, 33, 4, 2));
    }

    #[test]
    fn every_pair_is_about_equally_likely() {
        let rows = originals(6);
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..3000 {
            for pair in found(&rows, &drawn(&rows, 7, 0, seed).unwrap()) {
                *counts.entry(pair).or_insert(0) += 1;
            }
        }
        // 7 of 15 pairs: 1400 expected of each, standard deviation 27.
        assert_eq!(counts.len(), 15);
        assert!(counts.values().all(|count| (1270..1530).contains(count)), "{counts:?}");
    }

    #[test]
    fn variants_of_one_severity_0_are_one_picture() {
        let rows: Vec<_> = ["a", "b", "c"].iter().map(|kind| variant("000", kind, 0)).chain(originals(7)).collect();
        let drawn = drawn(&rows, 12, 0, 5).unwrap();
        assert!(drawn.iter().all(|(a, b)| *a > 2 || *b > 2));
    }

    #[test]
    fn copies_that_cannot_be_kept_apart_are_refused_by_name() {
        let mut rows = originals(6);
        for (copy, row) in rows[..5].iter_mut().enumerate() {
            *row = Image { image_id: format!("set/copy{copy}").into(), ..original("copy") };
        }
        let error = drawn(&rows, 4, 0, 1).unwrap_err().to_string();
        assert!(error.contains("set/copy") && error.contains("--count 4"), "{error}");
    }

    #[test]
    fn triangles_that_cannot_be_planted_are_refused_with_the_numbers() {
        let rows = originals(12);
        let most = drawn(&rows, 30, 5, 1).unwrap_err();
        assert_eq!(most, Error::TooManyTriangles { asked: 5, pictures: 12, most: 4 });
        let few = drawn(&rows, 15, 4, 1).unwrap_err();
        assert_eq!(few, Error::TooFewForTriangles { count: 15, triangles: 4, pictures: 12, needed: 16 });
        assert!(Report::of(12, &drawn(&rows, 16, 4, 1).unwrap()).triangles >= 4);
        assert_eq!(Report::of(3, &drawn(&originals(3), 3, 1, 1).unwrap()).triangles, 1);
    }

    #[test]
    fn as_many_triangles_as_there_can_be_among_twenty_thousand_pairs() {
        let n = 10_073;
        let mut drawn = round_robin(n, 20_000, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(plant(n, &mut drawn, n / 3).len(), n / 3);
        let report = Report::of(n, &drawn);
        assert_eq!((report.components, report.least, report.most), (1, 3, 4));
        assert!(report.triangles >= n as u64 / 3);
    }
}
