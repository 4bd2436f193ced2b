//! How long each type takes: wall and CPU milliseconds per picture, the shortest of several runs, as tab-separated rows.
//!
//! ```sh
//! cargo bench --workspace --bench distortions -- --threads 1,2 --pictures 4 blur_lens noise_poisson
//! ```
//! Flags, in any order, before the types (all, if none is named): `--picture FILE` in place of a generated one of 1024x768
//! pixels; `--threads N,N` for rows with as many threads; `--pictures N` to distort as many side by side, which is what
//! keeps several threads busy in the types that go through a picture in order.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use evoq_distortions::{Distortion, Severity, distort, resize};
use image::{ImageReader, Rgb, RgbImage};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

/// Runs of a type are repeated for so long, and three times at least.
const ENOUGH: Duration = Duration::from_millis(300);

struct Flags {
    picture: RgbImage,
    threads: Vec<usize>,
    pictures: usize,
    types: Vec<Distortion>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = flags()?;
    println!("type\tseverity\tthreads\twall_ms\tcpu_ms");
    let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
    for &distortion in &flags.types {
        for severity in Severity::ALL {
            for &threads in &flags.threads {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
                let (wall, cpu) = pool.install(|| shortest(&flags, distortion, severity));
                println!("{distortion}\t{severity}\t{threads}\t{wall:.3}\t{cpu:.3}");
                *sums.entry(threads).or_default() += wall;
            }
        }
    }
    for (threads, sum) in &sums {
        let ratio = sums.first_key_value().map_or(1.0, |(_, first)| first / sum);
        eprintln!("{threads} threads: {sum:.1} ms in all, {ratio:.2} times as fast as the first");
    }
    Ok(())
}

/// The shortest wall and CPU times of a picture, in milliseconds.
fn shortest(flags: &Flags, distortion: Distortion, severity: Severity) -> (f64, f64) {
    let start = Instant::now();
    let (mut wall, mut cpu) = (Duration::MAX, Duration::MAX);
    let mut runs = 0;
    while runs < 3 || start.elapsed() < ENOUGH {
        let (wall_start, cpu_start) = (Instant::now(), ProcessTime::now());
        (0..flags.pictures).into_par_iter().for_each(|i| {
            let distorted = distort(&flags.picture, distortion, severity, &[i as u8; 32], None);
            std::hint::black_box(distorted).expect("the picture is large enough");
        });
        wall = wall.min(wall_start.elapsed());
        cpu = cpu.min(cpu_start.elapsed());
        runs += 1;
    }
    let per_picture = |time: Duration| 1000.0 * time.as_secs_f64() / flags.pictures as f64;
    (per_picture(wall), per_picture(cpu))
}

fn flags() -> Result<Flags, Box<dyn Error>> {
    let mut flags = Flags { picture: RgbImage::default(), threads: vec![1], pictures: 1, types: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} has no value: give one after it"));
        match word.as_str() {
            // Cargo's own.
            "--bench" => (),
            "--picture" => flags.picture = ImageReader::open(value()?)?.decode()?.into_rgb8(),
            "--threads" => flags.threads = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--pictures" => flags.pictures = value()?.parse()?,
            name => flags.types.push(name.parse()?),
        }
    }
    if flags.types.is_empty() {
        flags.types = Distortion::ALL.to_vec();
    }
    if flags.picture.is_empty() {
        flags.picture = generated(1024, 768);
    }
    Ok(flags)
}

/// A picture with detail at every scale, as photographs have: noise of 4, 8, ... 512 pixels a side, enlarged and added.
fn generated(width: u32, height: u32) -> RgbImage {
    let mut number = 1_u32;
    let mut noise = |side| {
        RgbImage::from_fn(side, side, |_, _| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([number >> 24, number >> 16, number >> 8].map(|bits| bits as u8))
        })
    };
    let octaves = [4, 8, 16, 32, 64, 128, 256, 512].map(|side| resize::bicubic(&noise(side), width, height));
    let mut sum = RgbImage::new(width, height);
    for (i, sample) in sum.iter_mut().enumerate() {
        let weighted = (1..).zip(&octaves).map(|(octave, picture)| u32::from(picture.as_raw()[i]) >> octave);
        *sample = weighted.sum::<u32>() as u8;
    }
    sum
}
