//! Work that is killed, started again and shared between processes ends in the same bytes, and no reader sees half of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evoq_artifacts::{Artifact, Error, list_files, read_file};
use evoq_schemas::Image;
use evoq_test_support::Folder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::program::{DISTORT, originals};

/// How many kills a test is worth where `EVOQ_KILLS` does not say so.
const KILLS: usize = 5;

/// Twenty originals with all their types at all severities: over four thousand variants, nine units of work.
struct Work {
    folder: Folder,
    photos: String,
}

impl Work {
    fn new() -> Self {
        let folder = Folder::new();
        let photos = originals(&folder, 20);
        Self { folder, photos }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the program on the place `name`.
    fn start(&self, name: &str, flags: &[&str]) -> Child {
        let out = self.place(name).display().to_string();
        let arguments = ["--images", &self.photos, "--grid", "--severities", "0-5", "--as", "png", "--out", &out];
        DISTORT.command(&[&arguments[..], flags].concat()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs the program on the place `name` to its end.
    fn run(&self, name: &str, flags: &[&str]) {
        assert!(self.start(name, flags).wait().unwrap().success());
    }
}

/// The digests of the manifest's and every named part's bytes, by name.
fn digests(place: &Path) -> BTreeMap<String, String> {
    let artifact = Artifact::open(&place.display().to_string()).unwrap();
    let parts = artifact.manifest.tables.values().flat_map(|table| &table.parts).map(|part| part.name.clone());
    let digest = |name: &String| blake3::hash(&read_file(&place.join(name)).unwrap()).to_hex().to_string();
    parts.chain(["manifest.json".to_owned()]).map(|name| (name.clone(), digest(&name))).collect()
}

/// When a process is killed.
#[derive(Debug)]
enum Moment {
    /// This long after its start.
    After(Duration),
    /// Once the files at the place hold this many bytes.
    Bytes(u64),
    /// Once the manifest is there: the receipts may be, too.
    Committed,
}

impl Moment {
    /// A moment within the work that is left at `place`, where all of it takes `span` and makes `total` bytes.
    fn draw(random: &mut ChaCha8Rng, place: &Path, span: Duration, total: u64) -> Self {
        match random.random_range(0..5) {
            0 => Self::Committed,
            1 | 2 => Self::After(span.mul_f64(random.random())),
            _ => Self::Bytes(random.random_range(size(place).min(total)..=total)),
        }
    }

    fn has_come(&self, start: Instant, place: &Path) -> bool {
        match self {
            Self::After(time) => start.elapsed() >= *time,
            Self::Bytes(count) => size(place) >= *count,
            Self::Committed => place.join("manifest.json").exists(),
        }
    }
}

/// The bytes of all files below `place`, half-written ones too.
fn size(place: &Path) -> u64 {
    let sizes = list_files(place).unwrap_or_default();
    sizes.iter().filter_map(|name| Some(std::fs::metadata(place.join(name)).ok()?.len())).sum()
}

/// Kills the process when the moment has come; gives its status where it ends before.
fn kill(mut child: Child, moment: &Moment, place: &Path) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if moment.has_come(start, place) {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::yield_now();
    }
}

/// Reads the artifact again and again until it is told to stop: it must not be there, or be there whole. Gives how often it was.
fn watch(place: &Path, rows: usize, stop: &AtomicBool) -> usize {
    let mut seen = 0;
    // The last look is after the stop: it finds the artifact.
    loop {
        let last = stop.load(Ordering::Acquire);
        match Artifact::open(&place.display().to_string()) {
            Ok(artifact) => {
                assert_eq!(artifact.rows::<Image>().unwrap().len(), rows);
                seen += 1;
            }
            Err(Error::NoArtifact { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if last {
            return seen;
        }
        std::thread::yield_now();
    }
}

/// Kills the work on `place` at random moments and starts it again until it is done. Gives the number of kills.
fn killed_until_done(work: &Work, name: &str, random: &mut ChaCha8Rng, span: Duration, total: u64) -> usize {
    let place = work.place(name);
    let mut kills = 0;
    loop {
        let moment = Moment::draw(random, &place, span, total);
        if let Some(status) = kill(work.start(name, &[]), &moment, &place) {
            assert!(status.success(), "{moment:?}");
            return kills;
        }
        kills += 1;
    }
}

#[test]
fn killed_at_random_moments_and_started_again_it_ends_in_the_same_bytes_and_no_reader_sees_half() {
    let kills = std::env::var("EVOQ_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let work = Work::new();
    let start = Instant::now();
    work.run("undisturbed", &[]);
    let (span, total) = (start.elapsed(), size(&work.place("undisturbed")));
    let undisturbed = digests(&work.place("undisturbed"));
    let rows = Artifact::open(&work.place("undisturbed").display().to_string()).unwrap().manifest.tables["images"].rows;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut done = 0;
    for run in 0.. {
        let name = run.to_string();
        let place = work.place(&name);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| watch(&place, rows as usize, &stop));
            done += killed_until_done(&work, &name, &mut random, span, total);
            stop.store(true, Ordering::Release);
            assert!(reader.join().unwrap() > 0);
        });
        assert_eq!(digests(&place), undisturbed);
        if done >= kills {
            eprintln!("{done} kills in {} runs, all with the bytes of the undisturbed one", run + 1);
            return;
        }
    }
}

#[test]
fn shards_in_either_order_or_at_once_make_the_bytes_of_one_process() {
    let work = Work::new();
    work.run("one", &[]);
    let one = digests(&work.place("one"));
    for order in [["0/2", "1/2"], ["1/2", "0/2"]] {
        let name = format!("then-{}", order[1].replace('/', "-"));
        work.run(&name, &["--shard", order[0]]);
        assert!(Artifact::open(&work.place(&name).display().to_string()).is_err());
        work.run(&name, &["--shard", order[1]]);
        assert_eq!(digests(&work.place(&name)), one);
    }
    let both = ["0/2", "1/2"].map(|shard| work.start("at-once", &["--shard", shard]));
    for mut process in both {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(digests(&work.place("at-once")), one);
}

#[test]
fn two_processes_on_the_same_work_make_the_bytes_of_one() {
    let work = Work::new();
    work.run("one", &[]);
    let both = [work.start("two", &[]), work.start("two", &[])];
    for mut process in both {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(digests(&work.place("two")), digests(&work.place("one")));
}
