//! Which types and severities an original gets.

use evoq_distortions::{Distortion, Group};
use evoq_schemas::{Image, draws};
use rand::SeedableRng;
use rand::seq::{IndexedRandom, IteratorRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::Args;

/// How a type is drawn among those that a picture does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Draw {
    /// Every type alike: ten of 35, as the paper reads.
    Type,
    /// A group first, then one of its types, as `DepictQA` draws: types of small groups come more often.
    Group,
}

impl Draw {
    /// Puts `types` in the order in which they are drawn without replacement.
    fn order<T>(self, types: &mut [(Distortion, T)], random: &mut ChaCha8Rng) {
        match self {
            Self::Type => types.shuffle(random),
            Self::Group => {
                for place in 0..types.len() {
                    let mut groups: Vec<Group> = types[place..].iter().map(|it| it.0.group()).collect();
                    groups.sort_unstable();
                    groups.dedup();
                    let group = groups.choose(random);
                    let members = (place..types.len()).filter(|it| Some(&types[*it].0.group()) == group);
                    types.swap(place, members.choose(random).unwrap_or(place));
                }
            }
        }
    }
}

/// The types and severities of the variants of `original`, no two alike. A type that does not change a grey picture is not
/// used for one, so a grey picture may have fewer variants than were asked for.
///
/// With `--grid`: all, in the order of `--types`, each type from the mildest severity on. Otherwise in the order drawn: types
/// without replacement, a severity uniformly for each; once every type has come, all are drawn anew, each at one of the
/// severities that it has not had.
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
        if drawn.len() < args.variants {
            args.draw.order(&mut types, &mut random);
            drawn.extend(types.iter().map(|(it, severities)| (*it, severities[time])));
        }
    }
    drawn.truncate(args.variants);
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::variants::tests::{args, original};

    const TYPES: usize = Distortion::ALL.len();

    /// How often each severity, type and group comes in ten variants of each of 2000 pictures.
    #[derive(Default)]
    struct Counts {
        severities: BTreeMap<u8, i32>,
        types: BTreeMap<Distortion, i32>,
        /// Of the first type drawn for a picture only: the later ones depend on what is left.
        first_groups: BTreeMap<Group, i32>,
    }

    fn counts(flags: &[&str]) -> Counts {
        let args = args(flags);
        let mut counts = Counts::default();
        for picture in 0..2000 {
            let drawn = variants(&args, &original(&picture.to_string(), false));
            assert_eq!(drawn.len(), 10);
            *counts.first_groups.entry(drawn[0].0.group()).or_default() += 1;
            for (it, severity) in drawn {
                *counts.severities.entry(severity).or_default() += 1;
                *counts.types.entry(it).or_default() += 1;
            }
        }
        counts
    }

    #[test]
    fn types_come_once_before_any_comes_again_and_no_variant_comes_twice() {
        let count = (2 * TYPES + 5).to_string();
        for draw in ["type", "group"] {
            let args = args(&["--variants", &count, "--severities", "0-5", "--draw", draw]);
            for name in ["a", "b", "c"] {
                let drawn = variants(&args, &original(name, false));
                assert_eq!(drawn.len(), 2 * TYPES + 5);
                assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len());
                for pass in drawn.chunks(TYPES) {
                    assert_eq!(pass.iter().map(|(it, _)| it).collect::<BTreeSet<_>>().len(), pass.len());
                }
            }
        }
    }

    #[test]
    fn every_variant_can_be_drawn() {
        let all = (TYPES * 5).to_string();
        let mut drawn = variants(&args(&["--variants", &all]), &original("a", false));
        drawn.sort_unstable();
        assert_eq!(drawn, variants(&args(&["--grid"]), &original("a", false)));
    }

    #[test]
    fn severities_and_types_are_drawn_uniformly() {
        let counts = counts(&[]);
        // 20,000 draws: 4000 a severity, standard deviation 57; without replacement, a type has each picture with a chance
        // of 10 in TYPES.
        let (share, expected) = (10.0 / TYPES as f64, 20_000.0 / TYPES as f64);
        let deviation = (2000.0 * share * (1.0 - share)).sqrt();
        assert_eq!((counts.severities.len(), counts.types.len()), (5, TYPES));
        assert!(counts.severities.values().all(|count| (3770..4230).contains(count)), "{:?}", counts.severities);
        let fits = |count: &i32| (f64::from(*count) - expected).abs() < 4.0 * deviation;
        assert!(counts.types.values().all(fits), "{:?}", counts.types);
    }

    #[test]
    fn groups_are_drawn_uniformly_where_groups_are_drawn() {
        let by_group = counts(&["--draw", "group"]);
        // 2000 first draws in twelve groups: 167 expected, standard deviation 12.4; among types, blur has six in 35.
        assert_eq!(by_group.first_groups.len(), Group::ALL.len());
        assert!(by_group.first_groups.values().all(|count| (117..217).contains(count)), "{:?}", by_group.first_groups);
        assert!(counts(&[]).first_groups[&Group::Blur] > 280);
        // Pixelate is a group of its own; most pictures get it.
        assert!(by_group.types[&Distortion::Pixelate] > 1000);
        assert!(by_group.types[&Distortion::BlurLens] < 500);
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
        let count = TYPES.to_string();
        let changing = Distortion::ALL.iter().filter(|it| it.changes_grey()).count();
        assert!(changing < TYPES);
        for (flags, expected) in [(&["--grid"][..], changing * 5), (&["--variants", &count], TYPES)] {
            let drawn = variants(&args(flags), &grey);
            assert!(drawn.iter().all(|(it, _)| it.changes_grey()), "{drawn:?}");
            assert_eq!(drawn.len(), expected);
        }
    }
}
