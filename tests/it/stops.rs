//! Ctrl-C, once and again.

use std::io::{BufRead, BufReader};

use evoq_test_support::servers::{Kind, Server};

use crate::held::{Held, interrupt};

#[test]
fn the_second_ctrl_c_ends_a_run_that_waits_for_a_store_that_is_away() {
    let held = Held::new();
    let store = held.path("store");
    std::fs::create_dir(&store).unwrap();
    let Some(mut server) = Server::start(Kind::MiniStack, &store) else { return };
    let mut run = server.known_to(&mut held.run("s3://evoq/root")).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    held.begins();
    server.kill();
    interrupt(&run);
    // The command has ended; what is left is to enter that in a ledger that cannot be reached.
    assert!(lines.any(|line| line.contains("held") && line.ends_with("stopped")));
    interrupt(&run);
    let said: Vec<String> = lines.collect();
    assert!(said.last().is_some_and(|line| line.starts_with("error: stopped")), "{said:?}");
    assert_eq!(run.wait().unwrap().code(), Some(130));
}
