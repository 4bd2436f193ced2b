//! Processes of their own: this test program, called again to play one role against a store.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use evoq_artifacts::{Artifact, Draft, Header, Location, Result, leftovers, remove, verify};
use evoq_schemas::{Design, ImageId, Pair, PairId};
use evoq_test_support::servers::known;

/// What lines of a role begin with, among those of the test program.
const MARK: &str = "> ";

/// A process that plays a role.
pub struct Role {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// The command of the role `name` at `uri`, with the S3 server at `port`.
pub fn role(name: &str, uri: &str, port: u16) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "roles::a_role_is_played_where_one_is_asked_for", "--nocapture"]);
    known(&mut command, port).env("ROLE", name).env("URI", uri);
    command.env_remove("EVOQ_CACHE");
    command
}

impl Role {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it says next.
    pub fn says(&mut self) -> String {
        let said =
            self.lines.by_ref().map(|line| line.unwrap()).find_map(|line| Some(line.strip_prefix(MARK)?.to_owned()));
        said.expect("a role says something before it ends")
    }

    /// Whether it has not ended yet.
    pub fn is_playing(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the role `name` says at its end.
pub fn plays(command: &mut Command) -> String {
    Role::start(command).says()
}

fn say(what: impl Display) {
    println!("\n{MARK}{what}");
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Waits until the test lets it go on.
fn wait() {
    say("ready");
    std::io::stdin().lines().next().unwrap().unwrap();
}

#[test]
fn a_role_is_played_where_one_is_asked_for() {
    let (Some(role), Some(uri)) = (variable("ROLE"), variable("URI")) else { return };
    let place = match Location::open(&uri) {
        Ok(place) => place,
        Err(error) => return say(error),
    };
    let begun = Instant::now();
    let played = match role.as_str() {
        "write" => write(&place),
        "units" => units(&place),
        "probe" => place.probe().map(|()| format!("fine, {} ms", begun.elapsed().as_millis())),
        "verify" => {
            verify(&place).map(|it| format!("{} artifacts, {} files, bad {:?}", it.artifacts, it.files, it.bad))
        }
        "collect" => {
            leftovers(&place, Duration::ZERO).and_then(|left| remove(&place, &left)).map(|count| count.to_string())
        }
        "open" => Artifact::at(&place).map(|it| it.fingerprint().to_owned()),
        "create" => place.create("content".into()).map(|created| format!("{created:?}")),
        "put" => place.put("content".into()).map(|()| "put".to_owned()),
        "put policy" => put_policy(&place),
        "bring policy" => Artifact::at(&place).and_then(|it| it.policy_folder()).map(|it| it.display().to_string()),
        role => panic!("there is no role `{role}`"),
    };
    match played {
        Ok(said) => say(said),
        Err(error) => say(format!("{} error: {error}", if error.is_bad_input() { "input" } else { "storage" })),
    }
}

fn draft(place: &Location) -> Draft {
    let header = Header {
        stage: "pair".to_owned(),
        stage_version: 1,
        fingerprint: "f".to_owned(),
        parameters: serde_json::Map::new(),
        inputs: std::collections::BTreeMap::new(),
    };
    Draft::new(place, header)
}

/// A row that tells who wrote it.
fn row(writer: &str, i: usize) -> Pair {
    let id = |side: char| ImageId::from(format!("{writer}/{i:06}{side}"));
    let (a, b) = (id('a'), id('b'));
    Pair { pair_id: PairId::of(&a, &b), image_a: a, image_b: b, design: Design::Random, reference_id: None }
}

/// Writes the table of one artifact with rows of its own, and commits when it is let. Says whether it won.
fn write(place: &Location) -> Result<String> {
    let writer = variable("WRITER").unwrap_or_default();
    let mut draft = draft(place);
    let mut table = draft.table::<Pair>();
    (0..1000).try_for_each(|i| table.push(row(&writer, i)))?;
    draft.add("pairs", table.finish()?);
    wait();
    let rows: Vec<Pair> = draft.commit()?.rows()?;
    let is_whole = rows.len() == 1000 && rows.iter().all(|it| it.image_a.to_string()[..] == row_of(&rows[0], it));
    assert!(is_whole, "the rows of one writer");
    Ok(if rows[0] == row(&writer, 0) { "won" } else { "found it done" }.to_owned())
}

/// The id that `row` has if its writer is that of `first`.
fn row_of(first: &Pair, row: &Pair) -> String {
    let writer = first.image_a.to_string();
    let name = row.image_a.to_string();
    format!("{}/{}", writer.split('/').next().unwrap(), name.split('/').nth(1).unwrap())
}

/// Does all units of a step with rows of its own, when it is let; says what it did with how many of them.
fn units(place: &Location) -> Result<String> {
    let writer = variable("WRITER").unwrap_or_default();
    let count: u32 = variable("UNITS").map_or(4, |count| count.parse().unwrap());
    let mut draft = draft(place);
    wait();
    for number in 0..count {
        let mut unit = draft.unit(number, count);
        (0..100).try_for_each(|i| unit.push(row(&writer, i + number as usize * 100)))?;
        draft.close_unit(unit)?;
    }
    let receipts = (0..count).map(|number| draft.receipt(number, count)).collect::<Result<Vec<_>>>()?;
    draft.add_units::<Pair>(&receipts)?;
    let rows = draft.commit()?.rows::<Pair>()?;
    Ok(format!("{} rows", rows.len()))
}

fn put_policy(place: &Location) -> Result<String> {
    let mut draft = draft(place);
    draft.put_policy(variable("FOLDER").unwrap_or_default().as_ref())?;
    wait();
    let artifact = draft.commit()?;
    Ok(artifact.manifest.policy.iter().map(|file| file.bytes.to_string()).collect::<Vec<_>>().join(" "))
}
