//! How fast a folder of pictures is ingested, beside merely reading and decoding its files, and how fast one is read by its id.
//!
//! `cargo bench -p evoq-ingest --bench ingest -- FOLDER [ROUNDS]`. Wall time depends on what else the machine does; the CPU time
//! beside it hardly does. The best of some rounds counts, and one before them warms the file system's cache.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use evoq_artifacts::{Artifact, list_files, read_file};
use evoq_pictures::{Pictures, decode};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

const THREADS: usize = 2;
/// Pictures that are read by id.
const READS: usize = 2000;

/// Seconds of the clock and of the processor.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn main() {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let Some(folder) = arguments.first() else {
        eprintln!("expected a folder of pictures: cargo bench -p evoq-ingest --bench ingest -- FOLDER [ROUNDS]");
        return;
    };
    let rounds = arguments.get(1).map_or(3, |it| it.parse().expect("ROUNDS is a number"));
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global().expect("nothing ran before");
    decoding(folder);
    let (mut decodings, mut ingests, mut peak) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let scratch = tempfile::tempdir().expect("there is a place for temporary files");
        let out = scratch.path().join("out").display().to_string();
        let (mere, pictures) = decoding(folder);
        // The first of the two is what a user does; for the other, files that are known already are not read twice.
        let (first, memory) = ingest(folder, &out, &scratch.path().join("cache"));
        println!(
            "round {round}: reading and decoding {pictures} files {:.2} s (CPU {:.2} s), ingest {:.2} s (CPU {:.2} s), peak {} MiB",
            mere.wall,
            mere.cpu,
            first.wall,
            first.cpu,
            memory >> 10
        );
        decodings.push(mere);
        ingests.push(first);
        peak = peak.max(memory);
        if round + 1 == rounds {
            by_id(&out);
        }
    }
    let best = |of: &[Cost], which: fn(&Cost) -> f64| of.iter().map(which).fold(f64::INFINITY, f64::min);
    println!(
        "ingest runs at {:.1} % of the speed of reading and decoding by the clock, {:.1} % by the processor; peak {} MiB",
        100.0 * best(&decodings, |it| it.wall) / best(&ingests, |it| it.wall),
        100.0 * best(&decodings, |it| it.cpu) / best(&ingests, |it| it.cpu),
        peak >> 10,
    );
}

/// Reads and decodes every picture file below `folder`, and gives how many there are.
fn decoding(folder: &str) -> (Cost, usize) {
    let files = list_files(Path::new(folder)).expect("the folder can be listed");
    let (start, cpu) = (Instant::now(), cpu_seconds("utime"));
    let decoded = files.par_iter().filter(|name| {
        let bytes = read_file(&Path::new(folder).join(name)).expect("the file can be read");
        decode(&bytes).is_ok()
    });
    let count = decoded.count();
    (Cost { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds("utime") - cpu }, count)
}

/// Ingests `folder` with an empty cache of digests; gives the peak of memory in KiB as well.
fn ingest(folder: &str, out: &str, cache: &Path) -> (Cost, u64) {
    let (start, cpu) = (Instant::now(), cpu_seconds("cutime"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_evoq-ingest"))
        .args(["--source", folder, "--out", out, "--log", "warn", "--threads", &THREADS.to_string()])
        .env("EVOQ_CACHE", cache)
        .spawn()
        .expect("the program is there");
    let memory = peak(&mut child);
    assert!(child.wait().expect("it was started").success(), "the folder could not be ingested");
    (Cost { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds("cutime") - cpu }, memory)
}

/// The most memory that `child` ever held, in KiB, as the system counts it; asked until the child ends.
fn peak(child: &mut Child) -> u64 {
    let (mut peak, place) = (0, format!("/proc/{}/status", child.id()));
    while child.try_wait().expect("it was started").is_none() {
        let status = read_file(Path::new(&place)).unwrap_or_default();
        let status = String::from_utf8_lossy(&status).into_owned();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

/// Seconds of the processor that this process (`utime`) or its children that have ended (`cutime`) took, user's and system's.
fn cpu_seconds(whose: &str) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = String::from_utf8(read_file(Path::new("/proc/self/stat")).expect("this is Linux")).expect("it is text");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let first = if whose == "cutime" { 13 } else { 11 };
    fields[first..first + 2].iter().map(|it| it.parse::<f64>().expect("a number of ticks")).sum::<f64>()
        / TICKS_A_SECOND
}

/// Reads the files of pictures at random by their ids.
fn by_id(uri: &str) {
    let start = Instant::now();
    let pictures = Pictures::open(&[Artifact::open(uri).expect("it was ingested")]).expect("it was ingested");
    println!("the table of {} pictures is open after {:.2} s", pictures.rows().len(), start.elapsed().as_secs_f64());
    let mut random = ChaCha8Rng::from_seed([1; 32]);
    let mut times: Vec<f64> = (0..READS)
        .map(|_| {
            let row = &pictures.rows()[random.next_u64() as usize % pictures.rows().len()];
            let start = Instant::now();
            std::hint::black_box(pictures.bytes(&row.image_id).expect("it is in the table"));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
    println!(
        "bytes of a picture by its id: p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, slowest {:.3} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
