//! The variants that examples can show, by original and distortion type.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};

use evoq_schemas::{Image, ImageId};
use evoq_stage::bad_input;
use rand::seq::{IndexedRandom, SliceRandom, index};
use rand_chacha::ChaCha8Rng;

use crate::words::{look, shown_types};

/// A variant of an original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Its id.
    pub(crate) id: ImageId,
    /// The word for its distortion type.
    pub(crate) look: &'static str,
    /// Its severity, 0 to 5.
    pub(crate) severity: u8,
}

/// An original with its variants.
#[derive(Debug)]
pub(crate) struct Reference {
    id: ImageId,
    /// By the word for the type, then by severity.
    types: BTreeMap<&'static str, BTreeMap<u8, Variant>>,
}

/// All variants, by original in the order of the table.
#[derive(Debug)]
pub(crate) struct Pool {
    references: Vec<Reference>,
}

impl Pool {
    /// The variants among `rows`; originals are left out.
    pub(crate) fn new(rows: Vec<Image>) -> anyhow::Result<Self> {
        let mut references: Vec<Reference> = Vec::new();
        let mut places = HashMap::new();
        for row in rows {
            let (Some(reference), Some(distortion), Some(severity)) = (row.reference_id, row.distortion, row.severity)
            else {
                continue;
            };
            let Some(look) = look(&distortion) else {
                return Err(bad_input(format!(
                    "--images: `{}` is of the type {distortion}, for which there is no word; make variants with \
                     evoq-distort --types {}",
                    row.image_id,
                    shown_types()
                )));
            };
            let place = match places.entry(reference.clone()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    references.push(Reference { id: reference, types: BTreeMap::new() });
                    *new.insert(references.len() - 1)
                }
            };
            let id = row.image_id.clone();
            let variants = references[place].types.entry(look).or_default();
            if let Some(other) = variants.insert(severity, Variant { id: row.image_id, look, severity }) {
                return Err(bad_input(format!(
                    "--images: `{id}` and `{}` are the same type and severity of one original; give one table of variants",
                    other.id
                )));
            }
        }
        Ok(Self { references })
    }

    /// Refuses a pool from which a step of `pictures` originals with `variants` variants each cannot be drawn: each original
    /// needs so many severities, and where steps show variants of one type, a type that has so many.
    pub(crate) fn check(&self, pictures: usize, variants: usize, one_type: bool) -> anyhow::Result<()> {
        if self.references.len() < pictures {
            return Err(bad_input(format!(
                "--images: the tables have variants of {} originals; a step shows {pictures}: give more, or lower --pictures",
                self.references.len()
            )));
        }
        for reference in &self.references {
            let most = reference.types.values().map(BTreeMap::len).max().unwrap_or(0);
            let all = reference.by_severity().len();
            if all < variants || one_type && most < variants {
                return Err(bad_input(format!(
                    "--images: `{}` has variants of {all} severities, of one type {most} at most; a step shows {variants} of \
                     different severity: make them with evoq-distort --grid --severities 0-5, or lower --variants",
                    reference.id
                )));
            }
        }
        Ok(())
    }

    /// `count` originals, drawn without replacement. The pool has as many.
    pub(crate) fn draw(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<&Reference> {
        index::sample(random, self.references.len(), count).iter().map(|place| &self.references[place]).collect()
    }
}

impl Reference {
    /// `count` variants of one type and different severities, in a random order. A type has as many.
    pub(crate) fn of_one_type(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<&Variant> {
        let types: Vec<_> = self.types.values().filter(|variants| variants.len() >= count).collect();
        let mut variants: Vec<&Variant> =
            types.choose(random).into_iter().flat_map(|variants| variants.values()).collect();
        variants.shuffle(random);
        variants.truncate(count);
        variants
    }

    /// `count` variants of different severities, each of a type drawn for it, in a random order. There are as many.
    pub(crate) fn of_mixed_types(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<&Variant> {
        let mut severities: Vec<_> = self.by_severity().into_values().collect();
        severities.shuffle(random);
        severities.truncate(count);
        severities.iter().filter_map(|variants| variants.choose(random).copied()).collect()
    }

    fn by_severity(&self) -> BTreeMap<u8, Vec<&Variant>> {
        let mut severities: BTreeMap<u8, Vec<&Variant>> = BTreeMap::new();
        for variant in self.types.values().flat_map(BTreeMap::values) {
            severities.entry(variant.severity).or_default().push(variant);
        }
        severities
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The row of a variant.
    pub(crate) fn row(reference: &str, distortion: &str, severity: u8) -> Image {
        Image {
            image_id: format!("{reference}#{distortion}-{severity}").into(),
            dataset: "set".to_owned(),
            name: "a".to_owned(),
            image: None,
            width: 112,
            height: 112,
            format: "recipe".to_owned(),
            digest: "d".to_owned(),
            split: None,
            grey: false,
            reference_id: Some(reference.into()),
            distortion: Some(distortion.to_owned()),
            severity: Some(severity),
            distortion_seed: Some(1),
            short_side: None,
            crop: None,
        }
    }

    /// A grid of three types at severities 0 to 5 of `count` originals.
    pub(crate) fn grid(count: usize) -> Vec<Image> {
        let mut rows = Vec::new();
        for reference in 0..count {
            for distortion in ["noise_impulse", "blur_gaussian", "pixelate"] {
                rows.extend((0..=5).map(|severity| row(&format!("set/{reference}"), distortion, severity)));
            }
        }
        rows
    }

    #[test]
    fn originals_are_left_out() {
        let mut rows = grid(2);
        let mut original = row("set/0", "pixelate", 1);
        (original.reference_id, original.distortion, original.severity) = (None, None, None);
        rows.insert(0, original);
        assert_eq!(Pool::new(rows).unwrap().references.len(), 2);
    }

    #[test]
    fn a_type_without_a_word_is_refused_by_name() {
        let error = Pool::new(vec![row("set/a", "blur_lens", 2)]).unwrap_err().to_string();
        assert!(error.contains("blur_lens") && error.contains("blur_gaussian,"), "{error}");
    }

    #[test]
    fn the_same_variant_twice_is_refused() {
        let error = Pool::new(vec![row("set/a", "pixelate", 2), row("set/a", "pixelate", 2)]).unwrap_err();
        assert!(error.to_string().contains("set/a#pixelate-2"), "{error}");
    }

    #[test]
    fn a_pool_that_is_too_thin_says_what_is_missing() {
        let thin: Vec<_> =
            (1..=3).map(|it| row("set/a", "pixelate", it)).chain([row("set/a", "oversharpen", 4)]).collect();
        let pool = Pool::new(thin).unwrap();
        assert!(pool.check(1, 3, true).is_ok());
        assert!(pool.check(1, 4, false).is_ok());
        let error = pool.check(1, 4, true).unwrap_err().to_string();
        assert!(error.contains("`set/a`") && error.contains("--grid"), "{error}");
        assert!(pool.check(2, 1, false).unwrap_err().to_string().contains("1 originals"));
    }
}
