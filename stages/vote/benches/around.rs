//! What the stage costs around the policy: processor seconds of a whole run, beside those in which the policy loads, looks at
//! pictures and samples.
//!
//! `cargo bench --workspace --bench around -- [PAIRS]`, with `--profile dev` for what `cargo build` makes. The pictures are of the
//! quickstart's kind and number: 250 originals of 112 x 112 pixels, two variants of each, 320 pairs, 32 votes a pair, by the tiny
//! policy, on one thread.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use cpu_time::ProcessTime;
use evoq_schemas::{Design, Image, Pair, PairId, Vote};
use evoq_test_support::{Folder, Meter, rows, stored, variant};
use image::{Rgb, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tracing::{Dispatch, dispatcher};

const ORIGINALS: u32 = 250;
const TYPES: [&str; 20] = [
    "blur_gaussian",
    "noise_gaussian_RGB",
    "noise_impulse",
    "compression_jpeg",
    "pixelate",
    "brightness_darken_shfit_RGB",
    "brightness_brighten_shfit_RGB",
    "contrast_weaken_scale",
    "oversharpen",
    "saturate_strengthen_YCrCb",
    "blur_lens",
    "blur_motion",
    "blur_jitter",
    "noise_speckle",
    "noise_poisson",
    "noise_spatially_correlated",
    "noise_gaussian_YCrCb",
    "contrast_strengthen_scale",
    "brightness_darken_gamma_RGB",
    "quantization_median",
];

/// A picture with smooth parts, edges and some grain.
fn picture(number: u32) -> RgbImage {
    RgbImage::from_fn(112, 112, |x, y| {
        let edge = if (x + number * 7) % 61 < 20 && (y + number * 13) % 47 < 25 { 70 } else { 0 };
        let grain = (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729) ^ number).wrapping_mul(2_654_435_761) >> 29;
        Rgb([1, 2, 3].map(|by| (40 + (x * by + y * (4 - by) + number) / 4 % 120 + edge + grain) as u8))
    })
}

/// The tables `photos`, `variants` and `pairs` in `folder`.
fn tables(folder: &Folder, count: usize) -> [String; 3] {
    let originals: Vec<Image> = (0..ORIGINALS).map(|it| stored(&format!("{it:03}.png"), &picture(it))).collect();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let variants = originals.iter().enumerate().flat_map(|(number, original)| {
        [0, 1]
            .map(|which| variant(original, TYPES[(2 * number + which) % TYPES.len()], 1 + ((number + which) % 5) as u8))
    });
    let variants: Vec<Image> = variants.collect();
    let mut pair = || {
        let [a, b] = [0, 1].map(|_| &variants[random.random_range(0..variants.len())].image_id);
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        Pair {
            pair_id: PairId::of(a, b),
            image_a: a.clone(),
            image_b: b.clone(),
            design: Design::Random,
            reference_id: None,
        }
    };
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    while pairs.len() < count {
        let pair = pair();
        if pair.image_a != pair.image_b {
            pairs.insert(pair.pair_id.to_string(), pair);
        }
    }
    let pairs: Vec<Pair> = pairs.into_values().collect();
    [folder.table("photos", &originals), folder.table("variants", &variants), folder.table("pairs", &pairs)]
}

fn main() {
    // cargo adds `--bench`.
    let count =
        std::env::args().skip(1).find(|it| it != "--bench").map_or(320, |it| it.parse().expect("PAIRS is a number"));
    let (folder, meter) = (Folder::new(), Meter::of("evoq_vote"));
    let [photos, variants, pairs] = tables(&folder, count);
    let seconds = meter.seconds();
    let dispatch = Dispatch::new(meter);
    // The stage makes its own log for the whole process; spans are for this one on the threads that enter them.
    let worker = dispatch.clone();
    let metered = move |_| std::mem::forget(dispatcher::set_default(&worker));
    rayon::ThreadPoolBuilder::new().num_threads(1).start_handler(metered).build_global().expect("nothing ran before");

    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy").display().to_string();
    let out = folder.at("votes");
    let inputs = ["--images", &photos, "--images", &variants, "--pairs", &pairs, "--policy", &policy, "--out", &out];
    let flags = ["--samples", "32", "--order", "balanced", "--max-tokens", "14", "--min-valid-rate", "0"];
    let arguments = std::iter::once("evoq-vote").chain(inputs).chain(flags).map(OsString::from);
    let all = ProcessTime::now();
    dispatcher::with_default(&dispatch, || evoq_stage::main_from::<evoq_vote::Args>(arguments));
    let all = all.elapsed().as_secs_f64();

    let votes = rows::<Vote>(&out).len();
    assert_eq!(votes, 32 * count, "the run failed");
    let seconds = seconds.lock().expect("nobody panics with it");
    let [load, look, sample] = ["load", "look", "sample"].map(|name| seconds[name]);
    let around = all - load - look - sample;
    println!(
        "{votes} votes: {all:.3} processor seconds. The policy: {load:.3} to load, {look:.3} to look, {sample:.3} to sample. Around \
         it {around:.3}: {:.1} % of its looks and samples, {:.1} us a vote",
        100.0 * around / (look + sample),
        1e6 * around / votes as f64
    );
}
