//! Many writers at one artifact.

use std::process::Command;

use crate::roles::{Role, plays, role};
use evoq_test_support::servers::{Kind, Server};

/// How many race.
const WRITERS: usize = 16;

/// What `WRITERS` processes say that play `name` at `uri` all at once, sorted.
fn race(name: &str, uri: &str, port: u16) -> Vec<String> {
    let writer = |i: usize| Role::start(role(name, uri, port).env("WRITER", i.to_string()));
    let mut writers: Vec<Role> = (0..WRITERS).map(writer).collect();
    for writer in &mut writers {
        assert_eq!(writer.says(), "ready");
    }
    writers.iter_mut().for_each(Role::go);
    let mut said: Vec<String> = writers.iter_mut().map(Role::says).collect();
    said.sort();
    said
}

/// Lets writers race at `uri`, for an artifact and for the units of another one.
fn is_won_once(uri: &str, port: u16) {
    let mut expected = vec!["found it done"; WRITERS - 1];
    expected.push("won");
    let artifact = format!("{uri}/artifact");
    let at = |name: &str, uri: &str| plays(&mut role(name, uri, port));
    assert_eq!(race("write", &artifact, port), expected);
    assert_eq!(at("verify", &artifact), "1 artifacts, 1 files, bad []");
    // The others' parts are there, each under its own name.
    assert_eq!(at("collect", &artifact), (WRITERS - 1).to_string());
    assert_eq!(at("verify", &artifact), "1 artifacts, 1 files, bad []");

    let units = format!("{uri}/units");
    assert_eq!(race("units", &units, port), vec!["400 rows"; WRITERS]);
    assert_eq!(at("verify", &units), "1 artifacts, 4 files, bad []");
}

#[test]
fn of_sixteen_writers_in_a_folder_one_wins_and_fifteen_find_it_done() {
    let folder = tempfile::tempdir().unwrap();
    is_won_once(folder.path().to_str().unwrap(), 1);
}

#[test]
fn of_sixteen_writers_in_a_bucket_one_wins_and_fifteen_find_it_done() {
    for kind in [Kind::MiniStack, Kind::Moto] {
        let folder = tempfile::tempdir().unwrap();
        let Some(server) = Server::start(kind, folder.path()) else { continue };
        is_won_once("s3://evoq/root", server.port());
    }
}

#[test]
fn a_server_that_is_killed_and_started_again_amid_the_writes_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(Kind::MiniStack, folder.path()) else { return };
    let mut command: Command = role("units", "s3://evoq/root", server.port());
    let mut writer = Role::start(command.env("UNITS", "60"));
    assert_eq!(writer.says(), "ready");
    writer.go();
    for objects in [10, 60] {
        while server.objects("").len() < objects {
            assert!(writer.is_playing(), "the writer ended before the server was killed");
            std::thread::yield_now();
        }
        server.kill();
        server.restart();
    }
    assert_eq!(writer.says(), "6000 rows");
    let verified = plays(&mut role("verify", "s3://evoq/root", server.port()));
    assert_eq!(verified, "1 artifacts, 60 files, bad []");
}
