//! The examples of one training step.

use evoq_schemas::{Demonstration, DemonstrationPrompt, draws};
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Args;
use crate::pool::{Pool, Variant};
use crate::words::{comparison, rating};

/// The mean rating of a clean picture, and how much a severity takes off.
const CLEAN: f64 = 4.6;
const PER_SEVERITY: f64 = 0.65;

/// The examples of step `step`: comparisons within an original, comparisons across originals, then ratings, all of the same
/// few pictures. The pool has passed its check.
pub(crate) fn examples(args: &Args, pool: &Pool, step: u32) -> Vec<Demonstration> {
    let key = draws::key(args.seed, "demonstrate", &[&step.to_string()]);
    let random = &mut ChaCha8Rng::from_seed(key);
    let pictures = pictures(args, pool, random);
    let mut examples = Vec::new();
    let (within, across) = pairs(&pictures);
    for (pairs, count) in [(within, args.within()), (across, args.across())] {
        for place in index::sample(random, pairs.len(), count) {
            let (a, b) = pairs[place];
            let (first, second) = if random.random_bool(0.5) { (a, b) } else { (b, a) };
            let reply = comparison(first, second);
            examples.push((DemonstrationPrompt::Compare, vec![first.id.clone(), second.id.clone()], reply, 1.0));
        }
    }
    for place in index::sample(random, pictures.len(), args.scores as usize) {
        let picture = pictures[place].1;
        let reply = rating(picture, label(args, picture.severity, random));
        examples.push((DemonstrationPrompt::Score, vec![picture.id.clone()], reply, args.score_weight));
    }
    let width = examples.len().saturating_sub(1).to_string().len().max(2);
    let rows = examples.into_iter().enumerate().map(|(example, (prompt, image_ids, reply, weight))| Demonstration {
        demonstration_id: format!("{step:06}-{example:0width$}"),
        prompt,
        image_ids,
        reply,
        weight,
    });
    rows.collect()
}

/// The step's pictures: the place of each one's original in the step, and the variant.
fn pictures<'a>(args: &Args, pool: &'a Pool, random: &mut ChaCha8Rng) -> Vec<(usize, &'a Variant)> {
    let variants = args.variants as usize;
    let mut pictures = Vec::new();
    for (place, reference) in pool.draw(args.pictures as usize, random).into_iter().enumerate() {
        let drawn = if random.random_bool(args.one_type) {
            reference.of_one_type(variants, random)
        } else {
            reference.of_mixed_types(variants, random)
        };
        pictures.extend(drawn.into_iter().map(|variant| (place, variant)));
    }
    pictures
}

/// A pair of pictures to compare.
type Pair<'a> = (&'a Variant, &'a Variant);

/// All pairs of different severity: of one original, and across originals.
fn pairs<'a>(pictures: &[(usize, &'a Variant)]) -> (Vec<Pair<'a>>, Vec<Pair<'a>>) {
    let (mut within, mut across) = (Vec::new(), Vec::new());
    for (place, (reference, first)) in pictures.iter().enumerate() {
        for (other, second) in &pictures[place + 1..] {
            if first.severity != second.severity {
                if reference == other { &mut within } else { &mut across }.push((*first, *second));
            }
        }
    }
    (within, across)
}

/// The rating that an example teaches, in hundredths, 100 to 500.
fn label(args: &Args, severity: u8, random: &mut ChaCha8Rng) -> u32 {
    if random.random_bool(args.uniform) {
        return random.random_range(100..=500);
    }
    let rating = CLEAN - PER_SEVERITY * f64::from(severity) + args.noise * normal(random);
    (100.0 * rating.clamp(1.0, 5.0)).round() as u32
}

/// A standard normal number (Box and Muller), the same on every machine.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    // From over 0 to 1, so that the logarithm is finite.
    let radius = (-2.0 * libm::log(1.0 - random.random::<f64>())).sqrt();
    radius * libm::cos(std::f64::consts::TAU * random.random::<f64>())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::pool::tests::grid;

    fn args(flags: &[&str]) -> Args {
        use clap::{Args as _, FromArgMatches};
        let command = Args::augment_args(clap::Command::new("demonstrate"));
        Args::from_arg_matches(&command.try_get_matches_from(std::iter::once(&"demonstrate").chain(flags)).unwrap())
            .unwrap()
    }

    fn pool() -> Pool {
        Pool::new(grid(30)).unwrap()
    }

    /// Original, type and severity of a variant's id.
    fn parts(id: &str) -> (&str, &str, u8) {
        let (reference, variant) = id.split_once('#').unwrap();
        let (distortion, severity) = variant.rsplit_once('-').unwrap();
        (reference, distortion, severity.parse().unwrap())
    }

    #[test]
    fn a_step_shows_twelve_originals_in_four_severities_each() {
        for step in 0..20 {
            let mut shown: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
            let (args, pool) = (args(&["--comparisons", "140", "--scores", "48"]), pool());
            let rows = examples(&args, &pool, step);
            let ids: BTreeSet<_> =
                rows.iter().flat_map(|row| &row.image_ids).map(evoq_schemas::ImageId::as_str).collect();
            assert_eq!(ids.len(), 48);
            for id in ids {
                let (reference, _, severity) = parts(id);
                assert!(shown.entry(reference).or_default().insert(severity), "{id}");
            }
            assert_eq!(shown.len(), 12);
            assert!(shown.values().all(|severities| severities.len() == 4));
        }
    }

    #[test]
    fn half_of_the_comparisons_are_within_an_original_and_severities_differ() {
        let rows = examples(&args(&[]), &pool(), 3);
        let compared: Vec<_> = rows.iter().filter(|row| row.prompt == DemonstrationPrompt::Compare).collect();
        let of = |place: usize| compared.iter().map(move |row| parts(row.image_ids[place].as_str()));
        let same = of(0).zip(of(1)).filter(|(a, b)| a.0 == b.0).count();
        assert_eq!((rows.len(), compared.len(), same), (44, 42, 21));
        assert!(of(0).zip(of(1)).all(|(a, b)| a.2 != b.2));
        let pairs: BTreeSet<_> = compared.iter().map(|row| row.image_ids.iter().collect::<BTreeSet<_>>()).collect();
        assert_eq!(pairs.len(), 42, "no pair comes twice");
    }

    #[test]
    fn the_answer_is_the_index_of_the_less_severe_picture_and_both_come_about_as_often() {
        let (args, pool) = (args(&["--scores", "0"]), pool());
        let mut second = 0;
        for row in (0..50).flat_map(|step| examples(&args, &pool, step)) {
            let severity = |place: usize| parts(row.image_ids[place].as_str()).2;
            let is_second = severity(1) < severity(0);
            assert!(row.reply.ends_with(if is_second { r"\boxed{1}" } else { r"\boxed{0}" }), "{row:?}");
            second += u32::from(is_second);
        }
        // 2100 comparisons: 1050 expected, standard deviation 23.
        assert!((950..1150).contains(&second), "{second}");
    }

    #[test]
    fn two_fifths_of_the_originals_come_in_one_type() {
        let (args, pool) = (args(&[]), pool());
        let random = &mut ChaCha8Rng::from_seed([1; 32]);
        let mut one_type = 0;
        for _ in 0..200 {
            let pictures = pictures(&args, &pool, random);
            let looks = pictures.chunks(4).map(|its| its.iter().map(|(_, it)| it.look).collect::<BTreeSet<_>>());
            one_type += looks.filter(|looks| looks.len() == 1).count();
        }
        // 2400 originals; of the mixed ones 1 in 27 falls on one of three types by chance: 1013 expected, deviation 24.
        assert!((910..1110).contains(&one_type), "{one_type}");
    }

    #[test]
    fn ratings_fall_with_severity_as_far_as_they_are_not_uniform() {
        let mean = |args: &Args, severity| {
            let random = &mut ChaCha8Rng::from_seed([2; 32]);
            (0..20_000).map(|_| f64::from(label(args, severity, random))).sum::<f64>() / 2e6
        };
        let informed = args(&["--uniform", "0", "--noise", "0.2"]);
        assert!((mean(&informed, 2) - 3.3).abs() < 0.01, "{}", mean(&informed, 2));
        assert_eq!(mean(&args(&["--uniform", "0", "--noise", "0"]), 5), 1.35);
        let random = args(&["--uniform", "1"]);
        assert!((mean(&random, 5) - 3.0).abs() < 0.03, "{}", mean(&random, 5));
        let wide = args(&["--uniform", "0", "--noise", "9"]);
        let labels: Vec<_> = (0..2000).map(|i| label(&wide, 0, &mut ChaCha8Rng::from_seed([i as u8; 32]))).collect();
        assert!(labels.iter().all(|it| (100..=500).contains(it)));
    }

    #[test]
    fn normals_have_mean_0_and_deviation_1() {
        let random = &mut ChaCha8Rng::from_seed([3; 32]);
        let drawn: Vec<f64> = (0..100_000).map(|_| normal(random)).collect();
        let moment = |power| drawn.iter().map(|it| it.powi(power)).sum::<f64>() / 1e5;
        assert!(moment(1).abs() < 0.015 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
        assert!((moment(4) - 3.0).abs() < 0.15, "{}", moment(4));
    }

    #[test]
    fn ids_ascend_through_steps_and_examples_and_steps_differ() {
        let (args, pool) = (args(&["--comparisons", "110"]), pool());
        let rows: Vec<_> = (0..3).flat_map(|step| examples(&args, &pool, step)).collect();
        assert!(rows.windows(2).all(|two| two[0].demonstration_id < two[1].demonstration_id));
        assert_eq!(rows[113].demonstration_id, "000001-001");
        assert_ne!(rows[0].image_ids, rows[112].image_ids);
    }

    #[test]
    fn a_step_depends_on_the_seed_and_on_its_number() {
        let pool = pool();
        let first = examples(&args(&[]), &pool, 5);
        assert_eq!(first, examples(&args(&["--steps", "7"]), &pool, 5));
        assert_ne!(first, examples(&args(&["--seed", "2"]), &pool, 5));
    }

    #[test]
    fn more_examples_than_a_step_has_are_refused() {
        for flags in [&["--comparisons", "145"][..], &["--pictures", "1", "--comparisons", "2"], &["--scores", "49"]] {
            assert!(args(flags).check().is_err(), "{flags:?}");
        }
        assert!(args(&["--comparisons", "0", "--scores", "0"]).check().is_err());
        assert!(args(&["--comparisons", "144", "--scores", "48"]).check().is_ok());
    }
}
