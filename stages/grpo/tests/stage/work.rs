//! A small training for the tests: twelve pictures, each noisier than the one before, and labels that say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use evoq_artifacts::{Artifact, content_digest, list_files};
use evoq_schemas::{Image, Label, Target};
use evoq_test_support::{Folder, Program, label, rows, stored};
use image::{Rgb, RgbImage};

pub(crate) const GRPO: Program = Program(env!("CARGO_BIN_EXE_evoq-grpo"));
/// Updates of the training.
pub(crate) const UPDATES: u64 = 12;

/// A training's inputs, and a place for its outputs.
pub(crate) struct Work {
    pub(crate) folder: Folder,
    pub(crate) images: String,
    pub(crate) labels: String,
    policy: String,
}

impl Work {
    /// With the tiny policy.
    pub(crate) fn new() -> Self {
        Self::with(&repository("workflows/tiny-policy"))
    }

    /// With the policy in the folder `policy`.
    pub(crate) fn with(policy: &Path) -> Self {
        let folder = Folder::new();
        let pictures: Vec<_> = (0..12).map(|level| stored(&format!("{level:02}.png"), &noisy(level))).collect();
        let pairs = (0..12).flat_map(|a| (a + 1..12).step_by(3).map(move |b| (a, b)));
        let labels = pairs.map(|(a, b): (usize, usize)| label(&pictures[a], &pictures[b]));
        let labels: Vec<Label> = labels.take(2 * UPDATES as usize).collect();
        let (images, labels) = (folder.table("images", &pictures), folder.table("labels", &labels));
        Self { folder, images, labels, policy: policy.display().to_string() }
    }

    /// A pseudo-score for each picture.
    pub(crate) fn targets(&self) -> String {
        let pictures = rows::<Image>(&self.images).into_iter().enumerate();
        let target = |(level, picture): (usize, Image)| Target {
            image_id: picture.image_id,
            pseudo_mos: Some(4.5 - 0.25 * level as f64),
            valid: 8,
            invalid: 0,
        };
        self.folder.table("targets", &pictures.map(target).collect::<Vec<_>>())
    }

    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of the training at the place `name`, with `flags`. Most tests want a checkpoint every second update.
    pub(crate) fn arguments(&self, name: &str, flags: &[&str]) -> Vec<String> {
        self.arguments_to(&self.folder.at(name), flags)
    }

    /// The arguments of the training that goes to `out`, with `flags`.
    pub(crate) fn arguments_to(&self, out: &str, flags: &[&str]) -> Vec<String> {
        let fixed = [
            "--images",
            &self.images,
            "--labels",
            &self.labels,
            "--policy",
            &self.policy,
            "--out",
            out,
            "--pairs-per-update",
            "2",
            "--max-tokens",
            "14",
        ];
        let mut all: Vec<String> = fixed.iter().chain(flags).map(|it| (*it).to_owned()).collect();
        let defaults = [
            ("--samples", "4"),
            ("--checkpoint-every", "2"),
            ("--live-every", "1"),
            ("--learning-rate", "3e-4"),
            ("--check-pairs", "0"),
        ];
        for (flag, value) in defaults.iter().filter(|(flag, _)| !flags.contains(flag)) {
            all.extend([*flag, *value].map(str::to_owned));
        }
        all
    }

    /// Starts the training at the place `name`; what it says is piped.
    pub(crate) fn start(&self, name: &str, flags: &[&str]) -> Child {
        let arguments = self.arguments(name, flags);
        let mut command = GRPO.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("TMPDIR", self.folder.path()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the training at the place `name` to a good end; gives what it said.
    pub(crate) fn run(&self, name: &str, flags: &[&str]) -> String {
        let (code, said) = self.ends(name, flags);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Runs the training at the place `name` to a good end, with `flags` in the place of its labels.
    pub(crate) fn run_without_labels(&self, name: &str, flags: &[&str]) {
        let mut arguments = self.arguments(name, flags);
        let labels = arguments.iter().position(|it| it == "--labels").unwrap();
        arguments.drain(labels..labels + 2);
        GRPO.done(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Runs the training at the place `name` to any end; gives its code and what it said.
    pub(crate) fn ends(&self, name: &str, flags: &[&str]) -> (Option<i32>, String) {
        let output = self.start(name, flags).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Kills a training at the place `name` once it has the checkpoint of four updates.
    pub(crate) fn killed_at_four(&self, name: &str, flags: &[&str]) {
        let mut child = self.start(name, flags);
        wait_until(&mut child, || self.checkpoints(name).contains(&4));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The digests of all that the artifact at the place `name` consists of, by file.
    pub(crate) fn bytes(&self, name: &str) -> BTreeMap<String, String> {
        let place = self.place(name);
        let manifest = Artifact::open(&self.folder.at(name)).unwrap().manifest;
        let parts = manifest.tables.values().flat_map(|table| &table.parts).map(|part| part.name.clone());
        let policy = manifest.policy.iter().map(|file| format!("policy/{}", file.name));
        let names = parts.chain(policy).chain(["manifest.json".to_owned()]);
        names
            .map(|name| (content_digest(&place.join(&name)).unwrap(), name))
            .map(|(digest, name)| (name, digest))
            .collect()
    }

    /// The names of the files in scratch at the place `name`, those that are half written too.
    pub(crate) fn scratch(&self, name: &str) -> Vec<String> {
        // Files come and go while they are listed.
        let names = list_files(&self.place(name).join("scratch")).unwrap_or_default();
        names.iter().map(|name| name.split_once('/').unwrap().1.to_owned()).collect()
    }

    /// The updates of the checkpoints at the place `name`.
    pub(crate) fn checkpoints(&self, name: &str) -> Vec<u64> {
        let names = self.scratch(name);
        names.iter().filter_map(|name| name.strip_prefix("checkpoints/")?.strip_suffix(".json")?.parse().ok()).collect()
    }
}

/// A folder of the repository.
pub(crate) fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name).canonicalize().unwrap()
}

/// The line that says why a program failed.
pub(crate) fn fault(said: &str) -> String {
    assert!(!said.contains("panicked"), "{said}");
    let faults: Vec<&str> = said.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(faults.len(), 1, "{said}");
    faults[0].to_owned()
}

/// Waits until `is_so`, while `child` runs.
pub(crate) fn wait_until(child: &mut Child, is_so: impl Fn() -> bool) {
    while !is_so() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        std::thread::yield_now();
    }
}

fn noisy(level: u32) -> RgbImage {
    let noise = |x: u32, y: u32| (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)).wrapping_mul(2_654_435_761) >> 26;
    RgbImage::from_fn(112, 112, |x, y| {
        let tone = |by: u32| (60 + (x * by + y) / 6 % 80 + noise(x, y) * level / 6) as u8;
        Rgb([tone(2), tone(3), tone(5)])
    })
}
