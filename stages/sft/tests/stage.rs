//! The binary `evoq-sft`, run as the workflow and people run it: killed and begun anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};

use evoq_artifacts::{Artifact, content_digest, list_files};
use evoq_schemas::{Demonstration, DemonstrationPrompt, Image, Update};
use evoq_test_support::{Folder, Program, original, stored, texture, variant};

const SFT: Program = Program(env!("CARGO_BIN_EXE_evoq-sft"));
/// Steps of the training.
const STEPS: usize = 8;

/// Starts to teach the tiny policy a rating a step, with the probe beside it, at the place `name` in `folder`.
fn start(folder: &Folder, name: &str, flags: &[&str]) -> Child {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy");
    let [images, demonstrations, out] = ["images", "demonstrations", name].map(|name| folder.at(name));
    let inputs = ["--images", &images, "--demonstrations", &demonstrations, "--policy", policy.to_str().unwrap()];
    let more = ["--out", &out, "--probe", "0.5", "--checkpoint-every", "2", "--live-every", "1"];
    let mut command = SFT.command(&[&inputs[..], &more, flags].concat());
    command.env("TMPDIR", folder.path()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs the training to a good end; gives what it said.
fn run(folder: &Folder, name: &str, flags: &[&str]) -> String {
    let output = start(folder, name, flags).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// A folder with the inputs: pictures with known flaws, and a rating of each.
fn inputs() -> Folder {
    let folder = Folder::new();
    let pictures: Vec<Image> = (0..4)
        .flat_map(|i| {
            let photo = stored(&format!("{i}.png"), &texture(112, 112, i));
            let severity = 1 + (i as u8);
            let row = variant(&original("set", &photo.name), "blur_gaussian", severity);
            [photo, row]
        })
        .collect();
    let demonstration = |step: usize| Demonstration {
        demonstration_id: format!("{step:03}-0"),
        prompt: DemonstrationPrompt::Score,
        image_ids: vec![pictures[step % pictures.len()].image_id.clone()],
        reply: format!("<think> blur </think> \\boxed{{{}}}", 1 + step % 5),
        weight: 1.0,
    };
    folder.table("images", &pictures);
    folder.table("demonstrations", &(0..STEPS).map(demonstration).collect::<Vec<_>>());
    folder
}

/// The digests of the manifest and of the policy's files at the place `name`.
fn bytes(folder: &Folder, name: &str) -> BTreeMap<String, String> {
    let manifest = Artifact::open(&folder.at(name)).unwrap().manifest;
    let names = manifest.policy.iter().map(|file| format!("policy/{}", file.name)).chain(["manifest.json".to_owned()]);
    names
        .map(|file| (content_digest(&folder.path().join(name).join(&file)).unwrap(), file))
        .map(|(a, b)| (b, a))
        .collect()
}

/// Whether there is a checkpoint of `steps` steps at the place `name`.
fn is_saved(folder: &Folder, name: &str, steps: usize) -> bool {
    // Files come and go while they are listed.
    let names = list_files(&folder.path().join(name).join("scratch")).unwrap_or_default();
    names.iter().any(|it| it.ends_with(&format!("checkpoints/{steps:08}.json")))
}

#[test]
fn a_warm_start_that_is_killed_goes_on_and_ends_in_the_same_bytes() {
    let folder = inputs();
    run(&folder, "one", &[]);
    assert_eq!(Artifact::open(&folder.at("one")).unwrap().rows::<Update>().unwrap().len(), STEPS);
    for steps in [2, 6] {
        let name = format!("killed-at-{steps}");
        let mut child = start(&folder, &name, &[]);
        while !is_saved(&folder, &name, steps) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let said = run(&folder, &name, &[]);
        assert!(said.contains(" goes on from step "), "{said}");
        assert_eq!(bytes(&folder, &name), bytes(&folder, "one"));
    }
}
