//! Bad input: refused with one line that names what is wrong and what to do, and exit code 2.
#![expect(clippy::disallowed_methods, reason = "tests make files as a user would")]

use std::path::{Path, PathBuf};
use std::process::Command;

use image::codecs::jpeg::JpegEncoder;
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::programs::{ends_with, fault, program, repository, said};

/// The workflow `text` as `flow.yaml` in `folder`, to be run on `root` below the folder.
fn flow_on(root: &str, folder: &TempDir, text: &str) -> Command {
    let file = folder.path().join("flow.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = program("evoq");
    command.arg("run").arg(file).arg("--root").arg(folder.path().join(root));
    command
}

fn flow(folder: &TempDir, text: &str) -> Command {
    flow_on("root", folder, text)
}

/// `photos` in `folder`, ingested by hand.
fn ingest(folder: &TempDir) -> Command {
    let mut command = program("evoq-ingest");
    command.arg("--source").arg(photos(folder)).arg("--out").arg(folder.path().join("out"));
    command
}

fn photos(folder: &TempDir) -> PathBuf {
    let photos = folder.path().join("photos");
    std::fs::create_dir_all(&photos).unwrap();
    photos
}

const PHOTOS: &str = "
evoq: 1
name: flow
steps:
  photos: { uses: ingest, with: { source: ./photos } }
";

#[test]
fn a_truncated_jpeg_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, (7 * x) as u8]));
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&picture).unwrap();
    std::fs::write(photos(&folder).join("whole.jpg"), &jpeg).unwrap();
    std::fs::write(photos(&folder).join("cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();

    let by_hand = ends_with(&mut ingest(&folder), 2);
    let in_a_flow = ends_with(&mut flow(&folder, PHOTOS), 2);
    assert!(fault(&in_a_flow).starts_with("error: step photos failed: "), "{}", said(&in_a_flow));
    for fault in [fault(&by_hand), fault(&in_a_flow)] {
        let remedy = "cut.jpg is a jpeg file that is cut short";
        assert!(fault.contains(remedy) && fault.contains("fetch it again or leave it out"), "{fault}");
        assert!(!fault.contains("whole.jpg"), "{fault}");
    }
    assert!(!folder.path().join("out/manifest.json").exists());

    std::fs::remove_file(photos(&folder).join("cut.jpg")).unwrap();
    ends_with(&mut flow(&folder, PHOTOS), 0);
}

#[test]
fn an_empty_folder_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let source = photos(&folder).display().to_string();
    for output in [ends_with(&mut ingest(&folder), 2), ends_with(&mut flow(&folder, PHOTOS), 2)] {
        let fault = fault(&output);
        assert!(fault.contains(&source) && fault.contains("no picture in this folder"), "{fault}");
        assert!(fault.contains("expected PNG, JPEG"), "{fault}");
    }
}

#[test]
fn an_unknown_parameter_is_told_with_its_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
evoq: 1
name: flow
steps:
  photos: { uses: ingest, with: { source: 'procedural:4' } }
  pairs:
    uses: pair
    in: { images: photos }
    with: { cuont: 3 }
";
    let output = ends_with(&mut flow(&folder, text), 2);
    let fault = fault(&output);
    assert!(fault.contains("step `pairs`: pair has no parameter `cuont`; did you mean `count`?"), "{fault}");
    assert!(said(&output).contains("flow.yaml:8:13\n"), "{}", said(&output));
    // Nothing had run.
    assert!(!folder.path().join("root").exists());
}

#[test]
fn what_must_stand_beside_a_parameter_is_told_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
evoq: 1
name: flow
steps:
  photos: { uses: ingest, with: { source: 'procedural:4' } }
  variants: { uses: distort, in: { images: photos }, with: { crop: true } }
";
    let output = ends_with(&mut flow(&folder, text), 2);
    let fault = fault(&output);
    assert!(fault.ends_with("arguments were not provided: --short-side <N>"), "{fault}");
}

#[test]
fn a_card_that_is_not_there_is_told_as_a_matter_of_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let source = ["--source", "procedural:3", "--size", "32"];
    ends_with(program("evoq-ingest").args(source).arg("--out").arg(place("photos")), 0);
    let images = |stage: &str| {
        let mut command = program(stage);
        command.arg("--images").arg(place("photos"));
        command
    };
    ends_with(images("evoq-pair").args(["--count", "2"]).arg("--out").arg(place("pairs")), 0);
    let (mut vote, mut score) = (images("evoq-vote"), images("evoq-score"));
    vote.arg("--pairs").arg(place("pairs"));
    for command in [&mut vote, &mut score] {
        command.arg("--policy").arg(repository().join("tests/fixtures/policy/checkpoint"));
        let output = ends_with(command.args(["--device", "cuda"]).arg("--out").arg(place("out")), 2);
        assert!(fault(&output).contains("error: --device: no CUDA device: "), "{}", fault(&output));
    }
}

#[test]
fn a_cycle_is_told_by_the_steps_that_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
evoq: 1
name: flow
steps:
  photos: { uses: ingest, with: { source: 'procedural:4' } }
  variants: { uses: distort, in: { images: [photos, again] } }
  again: { uses: distort, in: { images: variants } }
";
    let output = ends_with(&mut flow(&folder, text), 2);
    let fault = fault(&output);
    assert!(fault.contains("a cycle: `variants` reads `again` reads `variants`"), "{fault}");
    assert!(said(&output).contains("flow.yaml:6:41\n"), "{}", said(&output));
    assert!(said(&output).contains("`previous.STEP`"), "{}", said(&output));
    assert!(!folder.path().join("root").exists());
}

/// A copy of the fixture's checkpoint in `folder`, without the tensor `name`.
fn policy_without(name: &str, folder: &Path) {
    let whole = repository().join("tests/fixtures/policy/checkpoint");
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(whole).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let weights = folder.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let before = tensors.len();
    tensors.retain(|(tensor, _)| tensor != name);
    assert_eq!(tensors.len(), before - 1);
    std::fs::write(&weights, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn a_policy_without_a_tensor_is_refused_by_the_tensors_name() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = "model.layers.0.mlp.up_proj.weight";
    policy_without(tensor, &folder.path().join("policy"));
    let text = "\
evoq: 1
name: flow
steps:
  photos: { uses: ingest, with: { source: 'procedural:4', size: 32 } }
  pairs: { uses: pair, in: { images: photos }, with: { count: 2 } }
  votes: { uses: vote, in: { images: photos, pairs: pairs, policy: ./policy } }
";
    let fault = fault(&ends_with(&mut flow(&folder, text), 2));
    assert!(fault.starts_with("error: step votes failed: --policy: "), "{fault}");
    assert!(fault.contains(&folder.path().join("policy").display().to_string()), "{fault}");
    assert!(fault.contains(&format!("tensor `{tensor}` is missing")), "{fault}");
    assert!(fault.contains("config.json and the weights must be of the same model"), "{fault}");
}

#[test]
fn a_root_that_cannot_be_written_is_refused_by_its_name() {
    // Below a file nobody can make a folder, not even root.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let place = folder.path().join("file/root").display().to_string();
    let mut stage = program("evoq-ingest");
    stage.args(["--source", "procedural:4", "--out", &place]);
    for (flag, mut command) in [("--root", flow_on("file/root", &folder, PHOTOS)), ("--out", stage)] {
        let fault = fault(&ends_with(&mut command, 1));
        assert!(fault.contains(&format!("{flag} {place} cannot be used")), "{fault}");
        assert!(fault.contains("give a folder or a bucket that can be read and written"), "{fault}");
    }
}
