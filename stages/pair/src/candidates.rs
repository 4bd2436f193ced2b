//! The pairs a design allows among the rows of `images`, and a uniform draw of some of them.

use std::collections::{HashMap, HashSet};

use evoq_schemas::{Design, Image, ImageId, Pair, PairId, draws};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::unordered::{pair, pairs};

/// The pairs a design allows: all pairs inside each of some groups of rows, less those of equal pixels.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    rows: &'a [Image],
    design: Design,
    groups: Vec<Vec<usize>>,
    /// For each group, the number of pairs in it and in those before it.
    ends: Vec<u64>,
    equal: u64,
}

impl<'a> Candidates<'a> {
    /// The pairs that `design` allows among `rows`, which have different ids.
    pub(crate) fn new(rows: &'a [Image], design: Design) -> Result<Self, Error> {
        let mut ids = HashSet::new();
        if let Some(twice) = rows.iter().find(|row| !ids.insert(&row.image_id)) {
            return Err(Error::Duplicate(twice.image_id.clone()));
        }
        let groups = match design {
            Design::Random | Design::Balanced => vec![(0..rows.len()).collect()],
            Design::WithinReference => variants_by_reference(rows),
        };
        let mut total = 0;
        let ends = groups.iter().map(|group| {
            total += pairs(group.len());
            total
        });
        let ends = ends.collect();
        let equal = groups.iter().map(|group| equal_pairs(group.iter().map(|row| &rows[*row]))).sum();
        Ok(Self { rows, design, groups, ends, equal })
    }

    /// How many pairs there are to choose from.
    pub(crate) fn count(&self) -> u64 {
        self.total() - self.equal
    }

    /// How many more there would be without those of equal pixels.
    pub(crate) fn equal(&self) -> u64 {
        self.equal
    }

    /// The rows of the tables given.
    pub(crate) fn rows(&self) -> &'a [Image] {
        self.rows
    }

    /// For each row, the number of its pixels: rows of one number are known to be equal.
    pub(crate) fn looks(&self) -> Vec<usize> {
        let mut numbers = HashMap::new();
        let number = |row| {
            let next = numbers.len();
            *numbers.entry(pixels(row)).or_insert(next)
        };
        self.rows.iter().map(number).collect()
    }

    /// Fails where there are fewer than `count` pairs to choose from.
    pub(crate) fn suffice(&self, count: u32) -> Result<(), Error> {
        if u64::from(count) <= self.count() {
            return Ok(());
        }
        let (asked, found, pictures, design) = (count, self.count(), self.rows.len(), self.design);
        let what = match design {
            Design::Random | Design::Balanced => "pictures",
            Design::WithinReference => "variants a reference",
        };
        Err(Error::TooFew { asked, found, pictures, design, what })
    }

    /// `count` different pairs of rows, each set of them equally likely, in the order drawn.
    pub(crate) fn draw(&self, count: u32, seed: u64) -> Result<Vec<(usize, usize)>, Error> {
        self.suffice(count)?;
        let key = draws::key(seed, "pairs", &[self.design.as_str()]);
        let mut random = ChaCha8Rng::from_seed(key);
        let mut drawn = Vec::with_capacity(count as usize);
        // The first steps of a shuffle of all numbers, of which only those that have moved are kept.
        let mut moved: HashMap<u64, u64> = HashMap::new();
        for first in 0..self.total() {
            if drawn.len() == count as usize {
                break;
            }
            let other = random.random_range(first..self.total());
            let index = moved.get(&other).copied().unwrap_or(other);
            let here = moved.remove(&first).unwrap_or(first);
            if other != first {
                moved.insert(other, here);
            }
            let (a, b) = self.pair(index);
            if pixels(&self.rows[a]) != pixels(&self.rows[b]) {
                drawn.push((a, b));
            }
        }
        Ok(drawn)
    }

    /// The row of `pairs` for two rows of `images`.
    pub(crate) fn row(&self, (a, b): (usize, usize)) -> Pair {
        let (a, b) = (&self.rows[a], &self.rows[b]);
        let (first, second) = if a.image_id < b.image_id { (a, b) } else { (b, a) };
        Pair {
            pair_id: PairId::of(&first.image_id, &second.image_id),
            image_a: first.image_id.clone(),
            image_b: second.image_id.clone(),
            design: self.design,
            reference_id: first.reference_id.clone().filter(|id| second.reference_id.as_ref() == Some(id)),
        }
    }

    fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The rows of the pair of number `index` of all groups' pairs, those of equal pixels among them.
    fn pair(&self, index: u64) -> (usize, usize) {
        let group = self.ends.partition_point(|end| *end <= index);
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        let (i, j) = pair(index - start);
        (self.groups[group][i], self.groups[group][j])
    }
}

/// The rows of variants, those of one reference together, in the order of the table.
fn variants_by_reference(rows: &[Image]) -> Vec<Vec<usize>> {
    let mut places = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (row, image) in rows.iter().enumerate() {
        let Some(reference) = &image.reference_id else { continue };
        let place = *places.entry(reference).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(row);
    }
    groups
}

/// What two pictures have in common if their pixels are known to be equal without looking at them.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Pixels<'a> {
    /// Severity 0: the reference at a size, whatever the type.
    Clean(&'a ImageId, Option<u32>, bool),
    /// Anything else: the digest of the bytes, or of recipe and reference.
    Digest(&'a str),
}

fn pixels(row: &Image) -> Pixels<'_> {
    match &row.reference_id {
        Some(reference) if row.severity == Some(0) => {
            Pixels::Clean(reference, row.short_side, row.crop.unwrap_or(false))
        }
        _ => Pixels::Digest(&row.digest),
    }
}

/// The number of pairs of equal pixels.
fn equal_pairs<'a>(rows: impl Iterator<Item = &'a Image>) -> u64 {
    let mut classes: HashMap<Pixels<'_>, usize> = HashMap::new();
    for row in rows {
        *classes.entry(pixels(row)).or_default() += 1;
    }
    classes.into_values().map(pairs).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn original(name: &str) -> Image {
        Image {
            image_id: format!("set/{name}").into(),
            dataset: "set".to_owned(),
            name: name.to_owned(),
            image: None,
            width: 64,
            height: 64,
            format: "png".to_owned(),
            digest: name.to_owned(),
            split: None,
            grey: false,
            reference_id: None,
            distortion: None,
            severity: None,
            distortion_seed: None,
            short_side: None,
            crop: None,
        }
    }

    pub(crate) fn variant(reference: &str, distortion: &str, severity: u8) -> Image {
        let name = format!("{reference}#{distortion}-{severity}");
        Image {
            reference_id: Some(format!("set/{reference}").into()),
            distortion: Some(distortion.to_owned()),
            severity: Some(severity),
            distortion_seed: Some(1),
            ..original(&name)
        }
    }

    pub(crate) fn originals(count: usize) -> Vec<Image> {
        (0..count).rev().map(|i| original(&format!("{i:03}"))).collect()
    }

    fn drawn(rows: &[Image], design: Design, count: u32, seed: u64) -> Result<Vec<Pair>, Error> {
        let candidates = Candidates::new(rows, design)?;
        Ok(candidates.draw(count, seed)?.into_iter().map(|pair| candidates.row(pair)).collect())
    }

    proptest! {
        #[test]
        fn pairs_are_different_and_each_fits_its_table(n in 2..40_usize, share in 0.0..=1.0, seed: u64) {
            let rows = originals(n);
            let count = ((pairs(n) as f64 * share) as u32).max(1);
            let drawn = drawn(&rows, Design::Random, count, seed).unwrap();
            prop_assert_eq!(drawn.len(), count as usize);
            for pair in &drawn {
                prop_assert_eq!(evoq_schemas::Table::check(pair), Ok(()));
            }
            prop_assert_eq!(drawn.iter().map(|it| &it.pair_id).collect::<HashSet<_>>().len(), drawn.len());
        }

        #[test]
        fn fewer_pairs_are_the_first_of_more(less in 1..40_u32, seed: u64) {
            let rows = originals(10);
            let all = drawn(&rows, Design::Random, 45, seed).unwrap();
            prop_assert_eq!(&drawn(&rows, Design::Random, less, seed).unwrap()[..], &all[..less as usize]);
        }
    }

    #[test]
    fn every_pair_is_equally_likely_at_every_place() {
        let rows = originals(5);
        let mut counts: BTreeMap<(usize, PairId), usize> = BTreeMap::new();
        for seed in 0..5000 {
            for (place, pair) in drawn(&rows, Design::Random, 3, seed).unwrap().into_iter().enumerate() {
                *counts.entry((place, pair.pair_id)).or_default() += 1;
            }
        }
        // 10 pairs at 3 places: 500 expected of each, standard deviation 21.
        assert_eq!(counts.len(), 30);
        assert!(counts.values().all(|count| (400..600).contains(count)), "{counts:?}");
    }

    #[test]
    fn another_seed_draws_other_pairs() {
        let rows = originals(30);
        let of = |seed| drawn(&rows, Design::Random, 20, seed).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn within_a_reference_all_pairs_of_its_variants_and_no_pristine_one_are_drawn() {
        let mut rows = originals(3);
        for severity in 1..=5 {
            rows.push(variant("001", "blur_lens", severity));
        }
        rows.extend([variant("000", "blur_lens", 1), variant("002", "a", 1), variant("002", "b", 1)]);
        let drawn = drawn(&rows, Design::WithinReference, 11, 1).unwrap();
        let of = |id: &str| drawn.iter().filter(|pair| pair.reference_id == Some(id.into())).count();
        assert_eq!((of("set/001"), of("set/002")), (10, 1));
        assert!(drawn.iter().all(|pair| pair.image_a.as_str().contains('#') && pair.image_b.as_str().contains('#')));
    }

    #[test]
    fn within_references_pairs_not_references_are_equally_likely() {
        let mut rows: Vec<_> = (1..=5).map(|severity| variant("000", "a", severity)).collect();
        rows.extend([variant("001", "a", 1), variant("001", "a", 2)]);
        // 10 pairs of one reference, 1 of the other.
        let rare = (0..4000).filter(|seed| {
            drawn(&rows, Design::WithinReference, 1, *seed).unwrap()[0].reference_id == Some("set/001".into())
        });
        let rare = rare.count();
        assert!((300..430).contains(&rare), "{rare} of 4000; expected 364");
    }

    #[test]
    fn a_random_pair_names_a_reference_only_where_both_are_its_variants() {
        let rows = [original("0"), variant("0", "a", 1), variant("0", "b", 1), variant("1", "a", 1)];
        let drawn = drawn(&rows, Design::Random, 6, 1).unwrap();
        let shared: Vec<_> = drawn.iter().filter(|pair| pair.reference_id.is_some()).collect();
        assert_eq!(shared.len(), 1);
        assert_eq!((shared[0].image_a.as_str(), shared[0].image_b.as_str()), ("set/0#a-1", "set/0#b-1"));
    }

    #[test]
    fn equal_pixels_are_not_compared() {
        let twin = Image { image_id: "set/twin".into(), ..original("0") };
        let rows = [original("0"), twin, original("1")];
        let candidates = Candidates::new(&rows, Design::Random).unwrap();
        assert_eq!((candidates.count(), candidates.equal()), (2, 1));
        let drawn = candidates.draw(2, 1).unwrap();
        assert!(drawn.iter().all(|(a, b)| *a == 2 || *b == 2));
    }

    #[test]
    fn clean_variants_of_one_reference_at_one_size_are_equal_whatever_their_type() {
        let small = Image { short_side: Some(32), ..variant("0", "c", 0) };
        let rows = [variant("0", "a", 0), variant("0", "b", 0), small, variant("1", "a", 0)];
        let candidates = Candidates::new(&rows, Design::Random).unwrap();
        assert_eq!((candidates.count(), candidates.equal()), (5, 1));
    }

    #[test]
    fn too_few_pairs_are_refused_with_both_numbers() {
        let error = drawn(&originals(12), Design::Random, 67, 1).unwrap_err().to_string();
        assert!(error.contains("--count 67") && error.contains("make 66 different"), "{error}");
        let error = drawn(&originals(12), Design::WithinReference, 5, 1).unwrap_err().to_string();
        assert!(error.contains("--count 5") && error.contains("make 0 different"), "{error}");
        assert!(drawn(&[], Design::Random, 1, 1).is_err());
    }

    #[test]
    fn a_picture_given_twice_is_refused_by_name() {
        let error = drawn(&[original("0"), original("1"), original("0")], Design::Random, 1, 1).unwrap_err();
        assert!(error.to_string().contains("`set/0`"), "{error}");
    }
}
