//! A store that is busy, and lines that lose requests and answers.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::proxy::{Fate, line_to};
use crate::roles::{Role, plays, role};
use evoq_test_support::servers::{Kind, Server};

#[test]
fn a_busy_store_and_lost_answers_leave_everything_whole() {
    for kind in [Kind::MiniStack, Kind::Moto] {
        let folder = tempfile::tempdir().unwrap();
        let Some(server) = Server::start(kind, folder.path()) else { continue };
        let (port, troubled) = line_to(server.port(), |_, number| match (number, number % 7) {
            // A while in which nothing is answered, and troubles now and then.
            (20..26, _) | (_, 1) => Fate::Busy,
            (_, 3) => Fate::Lost,
            (_, 5) => Fate::AnswerLost,
            _ => Fate::Answered,
        });
        let mut writer = Role::start(role("units", "s3://evoq/root", port).env("UNITS", "12"));
        assert_eq!(writer.says(), "ready");
        writer.go();
        assert_eq!(writer.says(), "1200 rows", "{kind:?}");
        let verified = plays(&mut role("verify", "s3://evoq/root", server.port()));
        assert_eq!(verified, "1 artifacts, 12 files, bad []", "{kind:?}");
        let troubled = troubled.load(Ordering::Relaxed);
        eprintln!("{kind:?}: {troubled} requests were not answered");
        assert!(troubled > 20, "{kind:?}");
    }
}

#[test]
fn an_object_whose_creation_was_not_answered_is_found_by_reading_back() {
    for kind in [Kind::MiniStack, Kind::Moto] {
        let folder = tempfile::tempdir().unwrap();
        let Some(server) = Server::start(kind, folder.path()) else { continue };
        let first_answer_is_lost =
            line_to(
                server.port(),
                |request, number| {
                    if request.creates() && number == 0 { Fate::AnswerLost } else { Fate::Answered }
                },
            );
        // The client repeats the request and is told that the object is there: it is its own.
        assert_eq!(plays(&mut role("create", "s3://evoq/a", first_answer_is_lost.0)), "Same", "{kind:?}");
        assert_eq!(plays(&mut role("create", "s3://evoq/b", server.port())), "New", "{kind:?}");
        assert_eq!(plays(&mut role("create", "s3://evoq/b", server.port())), "Same", "{kind:?}");
    }
}

#[test]
fn a_server_that_is_away_when_a_program_begins_is_waited_for_if_it_has_answered_the_one_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(Kind::MiniStack, folder.path()) else { return };
    let (gone, _) = line_to(server.port(), |_, _| Fate::Lost);
    // Which words it gives up with depends on where in a request the line broke.
    let said = plays(&mut role("put", "s3://evoq/a", gone));
    assert!(said.starts_with("storage error: "), "{said}");
    // Longer than a server is tried that may not exist, from the first request on.
    let first = OnceLock::new();
    let is_away = move || first.get_or_init(Instant::now).elapsed() < Duration::from_secs(5);
    let (port, _) = line_to(server.port(), move |_, _| if is_away() { Fate::Lost } else { Fate::Answered });
    let told = ("EVOQ_S3_ANSWERED", format!("http://127.0.0.1:{port}"));
    assert_eq!(plays(role("put", "s3://evoq/a", port).env(told.0, told.1)), "put");
}
