//! Against the reference library's output on one picture at two sizes, where the shared folder with it is at hand:
//! samples at 299x224, and statistics over the reference's seeds at both.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use evoq_distortions::{Distortion, Severity, distort, fit};
use image::{ImageReader, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The directions that the reference drew with its seeds 0 to 4, in degrees.
const ANGLES: [f64; 5] = [
    8.786_430_706_918_452,
    -14.936_039_153_536_683,
    -11.520_917_614_439_327,
    9.143_622_463_423_597,
    84.065_371_022_461_79,
];

/// The reference at one size.
struct Golden {
    name: &'static str,
    picture: RgbImage,
    statistics: Value,
    /// Where the distorted pictures lie, if they are kept.
    pictures: Option<PathBuf>,
    /// How many times wider than at the large size random types may spread.
    slack: f64,
}

/// The reference's folder, or nothing, said loudly.
fn folder() -> Option<PathBuf> {
    let shared = env::var_os("EVOQ_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = shared.join("golden/distortions");
    if folder.join("face_299x224.json").is_file() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no reference pictures at {}; set EVOQ_SHARED to compare with them", folder.display());
    None
}

fn open(path: &Path) -> RgbImage {
    ImageReader::open(path).unwrap().decode().unwrap().into_rgb8()
}

fn goldens() -> Option<[Golden; 2]> {
    let folder = folder()?;
    #[expect(clippy::disallowed_methods, reason = "this crate knows no storage, and its tests read the reference only")]
    let statistics = |name| serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    Some([
        Golden {
            name: "299x224",
            picture: open(&folder.join("face_299x224/reference.png")),
            statistics: statistics("face_299x224.json"),
            pictures: Some(folder.join("face_299x224")),
            slack: 3.0,
        },
        Golden {
            name: "1024x768",
            picture: open(&folder.join("face_1024x768_reference.png")),
            statistics: statistics("face_1024x768.json"),
            pictures: None,
            slack: 1.0,
        },
    ])
}

impl Golden {
    /// The reference's runs of a type: one, or one per seed.
    fn runs(&self, distortion: Distortion, severity: Severity) -> &[Value] {
        let records = self.statistics["records"].as_array().unwrap();
        let is_it = |record: &&Value| record["type"] == distortion.name() && record["severity"] == severity.get();
        records.iter().find(is_it).unwrap()["runs"].as_array().unwrap()
    }

    /// The mean of a number over the reference's runs; of three numbers, by channel, their mean.
    fn mean(&self, distortion: Distortion, severity: Severity, key: &str) -> f64 {
        let runs = self.runs(distortion, severity);
        let number = |run: &Value| match &run[key] {
            Value::Array(channels) => channels.iter().map(|x| x.as_f64().unwrap()).sum::<f64>() / channels.len() as f64,
            number => number.as_f64().unwrap(),
        };
        runs.iter().map(number).sum::<f64>() / runs.len() as f64
    }

    fn distorted(&self, distortion: Distortion, severity: Severity, seed: u8, angle: Option<f64>) -> RgbImage {
        let key = [seed.wrapping_mul(37).wrapping_add(severity.get()); 32];
        distort(&self.picture, distortion, severity, &key, angle).unwrap()
    }
}

fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a.iter().zip(b.iter()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares).log10()
}

/// The standard deviation of the difference, channel by channel, averaged.
fn residual_deviation(a: &RgbImage, b: &RgbImage) -> f64 {
    let deviation = |channel: usize| {
        let differences = a.iter().zip(b.iter()).skip(channel).step_by(3).map(|(&a, &b)| f64::from(a) - f64::from(b));
        let count = f64::from(a.width() * a.height());
        let (sum, squares) = differences.fold((0.0, 0.0), |(sum, squares), d| (sum + d, squares + d * d));
        (squares / count - (sum / count).powi(2)).sqrt()
    };
    (0..3).map(deviation).sum::<f64>() / 3.0
}

/// The share of equal samples and the largest difference in levels.
fn agreement(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    let equal = a.iter().zip(b.iter()).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
    (equal, a.iter().zip(b.iter()).map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0))
}

/// The least share of equal samples and the largest difference over the severities, at the size with pictures.
fn worst_agreement(golden: &Golden, distortion: Distortion, angle: Option<f64>) -> (f64, u8) {
    let folder = golden.pictures.as_ref().unwrap();
    let mut worst = (1.0_f64, 0);
    for severity in Severity::ALL {
        let expected = open(&folder.join(format!("{distortion}_{severity}.png")));
        let (equal, largest) = agreement(&golden.distorted(distortion, severity, 0, angle), &expected);
        worst = (worst.0.min(equal), worst.1.max(largest));
    }
    worst
}

/// The share of samples that are at least equal, and by how many levels the others may be off.
fn exactness(distortion: Distortion) -> (f64, u8) {
    match distortion {
        // OpenCV rounds the last columns of a picture whose width is no multiple of 32, and truncates the others.
        Distortion::BrightnessBrightenGammaHsv
        | Distortion::BrightnessDarkenGammaHsv
        | Distortion::SaturateStrengthenHsv
        | Distortion::SaturateWeakenHsv => (0.97, 1),
        _ => (1.0, 0),
    }
}

#[test]
fn fixed_types_give_the_references_samples() {
    let Some([small, large]) = goldens() else { return };
    for distortion in Distortion::ALL.into_iter().filter(|distortion| !distortion.random()) {
        let (equal, largest) = worst_agreement(&small, distortion, None);
        let is_same = |severity: &Severity| {
            let digest = Sha256::digest(large.distorted(distortion, *severity, 0, None).as_raw());
            let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digest: String = digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect();
            large.runs(distortion, *severity)[0]["sha256"] == digest
        };
        let same = Severity::ALL.iter().filter(|severity| is_same(severity)).count();
        println!(
            "{distortion}: at 299x224 {:.3} % equal, off by {largest} at most; at 1024x768 {same} of 5 the same",
            100.0 * equal
        );
        let (least, furthest) = exactness(distortion);
        assert!(equal >= least && largest <= furthest, "{distortion}: {equal} of the samples are equal");
        assert_eq!(same, 5, "{distortion}: pictures the same at 1024x768");
    }
}

#[test]
fn motion_gives_the_references_samples_along_its_angles() {
    let Some([small, large]) = goldens() else { return };
    let (equal, largest) = worst_agreement(&small, Distortion::BlurMotion, Some(ANGLES[0]));
    let mut statistics = 0.0_f64;
    for golden in [&small, &large] {
        for severity in Severity::ALL {
            for (angle, run) in ANGLES.into_iter().zip(golden.runs(Distortion::BlurMotion, severity)) {
                let distorted = golden.distorted(Distortion::BlurMotion, severity, 0, Some(angle));
                let difference = psnr(&distorted, &golden.picture) - run["psnr"].as_f64().unwrap();
                statistics = statistics.max(difference.abs());
            }
        }
    }
    println!("blur_motion: {:.3} % equal, off by {largest} at most, PSNR by {statistics:.5} dB", 100.0 * equal);
    assert!(equal >= 0.97 && largest <= 1, "{equal} of the samples are equal, off by {largest} at most");
    assert!(statistics <= 0.01, "PSNR is off by {statistics} dB");
}

/// How far a random type's means may lie from the reference's: PSNR in dB, residual deviation in proportion.
fn tolerance(distortion: Distortion) -> (f64, f64) {
    match distortion {
        Distortion::BlurGlass => (0.06, 0.01),
        Distortion::BlurJitter => (0.1, 0.015),
        Distortion::NoiseImpulse => (0.15, 0.04),
        _ => (0.05, 0.01),
    }
}

/// How far the means of a random type over five keys lie from the reference's, at most over the severities: PSNR in dB,
/// residual deviation in proportion, share of changed samples.
fn worst_differences(golden: &Golden, distortion: Distortion) -> [f64; 3] {
    let mut worst = [0.0_f64; 3];
    for severity in Severity::ALL {
        let mut means = [0.0; 3];
        for seed in 0..5 {
            let distorted = golden.distorted(distortion, severity, seed, None);
            means[0] += psnr(&distorted, &golden.picture) / 5.0;
            means[1] += residual_deviation(&distorted, &golden.picture) / 5.0;
            means[2] += (1.0 - agreement(&distorted, &golden.picture).0) / 5.0;
        }
        let expected = ["psnr", "res_std", "frac_changed"].map(|key| golden.mean(distortion, severity, key));
        let off = [means[0] - expected[0], means[1] / expected[1] - 1.0, means[2] - expected[2]];
        for (worst, off) in worst.iter_mut().zip(off) {
            *worst = worst.max(off.abs());
        }
    }
    worst
}

#[test]
fn random_types_have_the_references_strength() {
    let Some(goldens) = goldens() else { return };
    let drawn = |distortion: &Distortion| distortion.random() && *distortion != Distortion::BlurMotion;
    for distortion in Distortion::ALL.into_iter().filter(drawn) {
        let (decibels, deviation) = tolerance(distortion);
        let differences = goldens.each_ref().map(|golden| worst_differences(golden, distortion));
        let sizes = goldens.iter().zip(differences).map(|(golden, [psnr, deviation, changed])| {
            let share = format!("deviation by {:.3} %, changed samples by {:.3} %", 100.0 * deviation, 100.0 * changed);
            format!("at {} PSNR off by {psnr:.4} dB, {share}", golden.name)
        });
        println!("{distortion}: {}", sizes.collect::<Vec<_>>().join("; "));
        for (golden, [psnr_off, deviation_off, changed_off]) in goldens.iter().zip(differences) {
            let name = format!("{distortion} at {}", golden.name);
            assert!(psnr_off <= decibels * golden.slack, "{name}: PSNR off by {psnr_off} dB");
            assert!(deviation_off <= deviation * golden.slack, "{name}: deviation off by {deviation_off}");
            if distortion == Distortion::NoiseImpulse {
                assert!(changed_off <= 0.002 * golden.slack, "{name}: share of changed samples off by {changed_off}");
            }
        }
    }
}

#[test]
fn the_short_side_is_brought_to_224_as_the_reference_does() {
    let Some([small, large]) = goldens() else { return };
    assert!(fit(&large.picture, Some(224), false) == small.picture);
}
