//! Stores that keep writers apart, and stores that do not.

use crate::proxy::{answers, refusal};
use crate::roles::{plays, role};
use evoq_test_support::servers::{Kind, Server};

/// What the probe says of a store; `None` where it is not installed.
fn probed(kind: Kind) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(kind, folder.path())?;
    let said = plays(&mut role("probe", "s3://evoq/root", server.port()));
    eprintln!("{kind:?}: {said}");
    if matches!(kind, Kind::MiniStack | Kind::Moto) {
        assert_eq!(server.objects(""), [""; 0], "{kind:?}");
    }
    Some(said)
}

#[test]
fn stores_that_honour_create_only_puts_are_fine() {
    for kind in [Kind::MiniStack, Kind::Moto] {
        assert!(probed(kind).is_none_or(|said| said.starts_with("fine")), "{kind:?}");
    }
}

#[test]
fn a_store_that_ignores_create_only_puts_is_refused() {
    let Some(said) = probed(Kind::Rclone) else { return };
    assert!(
        said.starts_with("input error: s3://evoq/root: this store does not honour create-only puts: 16 of 16"),
        "{said}"
    );
    assert!(said.ends_with("--single-writer if only one process ever writes there"), "{said}");
}

#[test]
fn a_store_that_loses_races_is_refused() {
    let Some(said) = probed(Kind::S3sFs) else { return };
    assert!(said.starts_with("input error: s3://evoq/root: this store does not honour create-only puts: "), "{said}");
}

#[test]
fn a_store_that_does_not_know_create_only_puts_is_refused_at_once() {
    let port = answers("501 Not Implemented", &refusal("NotImplemented", "A header you provided is not implemented."));
    let said = plays(&mut role("probe", "s3://evoq/root", port));
    assert!(said.starts_with("input error: s3://evoq/root: this store does not know create-only puts"), "{said}");
}
