//! Which types and severities an original gets.

use evoq_distortions::Distortion;
use evoq_schemas::{Image, draws};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::Args;

/// The types and severities of the variants of `original`, no two alike. A type that does not change a grey picture is not
/// used for one, so a grey picture may have fewer variants than were asked for.
///
/// With `--grid`: all, in the order of `--types`, each type from the mildest severity on. Otherwise in the order drawn: types
/// uniformly without replacement, a severity uniformly for each; once every type has come, all are drawn anew, each at one of
/// the severities that it has not had.
pub(crate) fn variants(args: &Args, original: &Image) -> Vec<(Distortion, u8)> {
    let severities: Vec<u8> = args.severities.iter().collect();
    let types = args.types.iter().map(|it| it.0).filter(|it| it.changes_grey() || !original.grey);
    if args.grid {
        return types.flat_map(|it| severities.iter().map(move |severity| (it, *severity))).collect();
    }
    let key = draws::key(args.seed, "variants", &[original.image_id.as_str()]);
    let mut random = ChaCha8Rng::from_seed(key);
    // Each type with its severities in an order of its own; the k-th time that the type is drawn it takes the k-th.
    let mut types: Vec<_> = types.map(|it| (it, severities.clone())).collect();
    for (_, severities) in &mut types {
        severities.shuffle(&mut random);
    }
    let mut drawn = Vec::with_capacity(args.variants);
    for time in 0..severities.len() {
        types.shuffle(&mut random);
        drawn.extend(types.iter().map(|(it, severities)| (*it, severities[time])));
    }
    drawn.truncate(args.variants);
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::variants::tests::{args, original};

    #[test]
    fn types_come_once_before_any_comes_again_and_no_variant_comes_twice() {
        let args = args(&["--variants", "45", "--severities", "0-5"]);
        for name in ["a", "b", "c"] {
            let drawn = variants(&args, &original(name, false));
            assert_eq!(drawn.len(), 45);
            assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 45);
            for pass in drawn.chunks(20) {
                assert_eq!(pass.iter().map(|(it, _)| it).collect::<BTreeSet<_>>().len(), pass.len());
            }
        }
    }

    #[test]
    fn severities_and_types_are_drawn_uniformly() {
        let args = args(&["--variants", "4"]);
        let (mut severities, mut types) = (BTreeMap::new(), BTreeMap::new());
        for picture in 0..2000 {
            for (it, severity) in variants(&args, &original(&picture.to_string(), false)) {
                *severities.entry(severity).or_insert(0) += 1;
                *types.entry(it).or_insert(0) += 1;
            }
        }
        assert_eq!((severities.len(), types.len()), (5, 20));
        // 8000 draws: 1600 and 400 expected, standard deviations 36 and 18.
        assert!(severities.values().all(|count| (1440..1760).contains(count)), "{severities:?}");
        assert!(types.values().all(|count| (310..490).contains(count)), "{types:?}");
    }

    #[test]
    fn a_pictures_variants_depend_on_seed_and_picture_only() {
        let (one, two) = (args(&[]), args(&["--seed", "2"]));
        let a = variants(&one, &original("a", false));
        assert_eq!(a, variants(&args(&["--originals", "7", "--short-side", "64"]), &original("a", false)));
        assert_ne!(a, variants(&two, &original("a", false)));
        assert_ne!(a, variants(&one, &original("b", false)));
    }

    #[test]
    fn a_grid_is_every_type_at_every_severity_in_order() {
        let args = args(&["--grid", "--types", "pixelate,blur_lens", "--severities", "0-1"]);
        let (first, second) = (Distortion::Pixelate, Distortion::BlurLens);
        let expected = [(first, 0), (first, 1), (second, 0), (second, 1)];
        assert_eq!(variants(&args, &original("a", false)), expected);
    }

    #[test]
    fn saturation_is_not_used_for_a_grey_picture() {
        let grey = original("a", true);
        for flags in [&["--grid"][..], &["--variants", "20"]] {
            let drawn = variants(&args(flags), &grey);
            assert!(drawn.iter().all(|(it, _)| it.changes_grey()), "{drawn:?}");
            assert!(drawn.len() >= 19);
        }
    }
}
