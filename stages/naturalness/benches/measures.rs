//! Scores of pictures and what they cost, on one thread. `against_pyiqa.py` beside this file runs it in turn with pyiqa and OpenCV.
//!
//!     measures NIQE.mat MODEL RANGE MODEL.yml RANGE.yml ROUNDS PICTURE…
//!
//! Each line that it prints is a JSON object: the scores of a picture, then the seconds that each measure took for all of them,
//! the best of the rounds, without decoding.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use cpu_time::ProcessTime;
use evoq_artifacts::read_file;
use evoq_naturalness::{Brisque, Niqe};
use image::RgbImage;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [niqe, model, range, opencv_model, opencv_range, rounds, pictures @ ..] = &arguments[..] else {
        println!("measures NIQE.mat MODEL RANGE MODEL.yml RANGE.yml ROUNDS PICTURE…");
        return Ok(());
    };
    let file = |path: &str| read_file(Path::new(path));
    let niqe = Niqe::read(&file(niqe)?)?;
    let release = Brisque::read(&file(model)?, &file(range)?)?;
    let opencv = Brisque::read(&file(opencv_model)?, &file(opencv_range)?)?;
    let decoded = |path: &String| Ok(image::load_from_memory(&file(path)?)?.into_rgb8());
    let decoded: Vec<RgbImage> = pictures.iter().map(decoded).collect::<Result<_, Box<dyn Error>>>()?;
    for (path, picture) in pictures.iter().zip(&decoded) {
        let (niqe, release, opencv) = (niqe.score(picture), release.score(picture), opencv.score(picture));
        println!("{}", json!({ "picture": path, "niqe": niqe.ok(), "brisque": release.ok(), "opencv": opencv.ok() }));
    }
    let rounds: usize = rounds.parse()?;
    cost("niqe", rounds, &decoded, |it| niqe.score(it).ok());
    cost("brisque", rounds, &decoded, |it| release.score(it).ok());
    cost("opencv", rounds, &decoded, |it| opencv.score(it).ok());
    Ok(())
}

/// Prints the least seconds of the clock and of the processor that `score` takes for all pictures.
fn cost(measure: &str, rounds: usize, pictures: &[RgbImage], score: impl Fn(&RgbImage) -> Option<f64>) {
    let (mut wall, mut cpu) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        let (clock, processor) = (Instant::now(), ProcessTime::now());
        for picture in pictures {
            black_box(score(picture));
        }
        wall = wall.min(clock.elapsed().as_secs_f64());
        cpu = cpu.min(processor.elapsed().as_secs_f64());
    }
    println!("{}", json!({ "measure": measure, "wall": wall, "cpu": cpu }));
}
