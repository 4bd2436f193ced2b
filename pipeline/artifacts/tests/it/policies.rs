//! Checkpoint folders to a bucket and back.

use evoq_artifacts::{content_digest, write_file};

use crate::roles::{Role, plays, role};
use evoq_test_support::servers::{Kind, Server};

/// More than one piece, and a rest.
const WEIGHTS: usize = (20 << 20) + 12_345;

#[test]
fn a_policy_comes_back_from_a_bucket_as_it_was_put() {
    for kind in [Kind::MiniStack, Kind::Moto] {
        let folder = tempfile::tempdir().unwrap();
        let Some(server) = Server::start(kind, &folder.path().join("server")) else { continue };
        let checkpoint = folder.path().join("checkpoint");
        let weights: Vec<u8> = (0..WEIGHTS as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        write_file(&checkpoint.join("model.safetensors"), &weights).unwrap();
        write_file(&checkpoint.join("config.json"), b"{}").unwrap();
        write_file(&checkpoint.join("empty.txt"), b"").unwrap();
        let at = |name: &str, uri: &str| {
            let mut command = role(name, uri, server.port());
            command.env("FOLDER", &checkpoint).env("EVOQ_CACHE", folder.path().join("cache"));
            command
        };
        let mut writer = Role::start(&mut at("put policy", "s3://evoq/a"));
        assert_eq!(writer.says(), "ready");
        writer.go();
        assert_eq!(writer.says(), format!("2 0 {WEIGHTS}"), "{kind:?}");
        assert_eq!(plays(&mut at("verify", "s3://evoq/a")), "1 artifacts, 3 files, bad []");
        let brought = plays(&mut at("bring policy", "s3://evoq/a"));
        assert_eq!(content_digest(brought.as_ref()).unwrap(), content_digest(&checkpoint).unwrap(), "{kind:?}");
        assert_eq!(plays(&mut at("bring policy", "s3://evoq/a")), brought);

        // What was damaged on its way or in the store is not used.
        plays(&mut role("put", "s3://evoq/a/policy/config.json", server.port()));
        write_file(&std::path::Path::new(&brought).join("config.json"), b"[]").unwrap();
        let said = plays(&mut at("bring policy", "s3://evoq/a"));
        assert!(said.contains("config.json"), "{said}");
        let said = plays(&mut at("verify", "s3://evoq/a"));
        assert!(said.contains("has 7 bytes; its manifest states 2"), "{said}");
    }
}

#[test]
fn of_two_runs_with_other_policies_one_commits_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(Kind::MiniStack, &folder.path().join("server")) else { return };
    let checkpoint = folder.path().join("checkpoint");
    let begin = |text: &[u8]| {
        write_file(&checkpoint.join("config.json"), text).unwrap();
        let mut writer = Role::start(role("put policy", "s3://evoq/a", server.port()).env("FOLDER", &checkpoint));
        assert_eq!(writer.says(), "ready");
        writer
    };
    // The second puts its files over those of the first before the first commits: it is the one.
    let mut first = begin(b"first");
    let mut second = begin(b"the second");
    first.go();
    let said = first.says();
    assert!(said.contains("policy/config.json: another run of this step wrote here at the same time"), "{said}");
    assert!(said.ends_with("nothing is committed: run the step again"), "{said}");
    second.go();
    assert_eq!(second.says(), "10");
    // The third finds a manifest, and touches nothing.
    let mut third = begin(b"3");
    third.go();
    assert_eq!(third.says(), "10");
    assert_eq!(plays(&mut role("verify", "s3://evoq/a", server.port())), "1 artifacts, 1 files, bad []");
}
