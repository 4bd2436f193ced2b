//! What a user asks about a run once it has ended, or was killed: every command that reads a root, in a folder and in a bucket.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use evoq_artifacts::{list_files, read_file, write_file};
use evoq_test_support::servers::{Kind, Server};

use crate::programs::{ends_with, killed_when, printed, program, repository, run, said};

/// A root, and how a program gets there.
struct Place {
    uri: String,
    server: Option<Server>,
    folder: PathBuf,
}

impl Place {
    /// A root in a folder below `folder`.
    fn local(folder: &Path) -> Self {
        let uri = folder.join("root").to_str().unwrap().to_owned();
        Self { uri, server: None, folder: folder.to_path_buf() }
    }

    /// A root in the bucket of a server that runs in `folder`; none, said loudly, where there is no server.
    fn bucket(folder: &Path) -> Option<Self> {
        let server = Server::start(Kind::MiniStack, folder)?;
        Some(Self { uri: "s3://evoq/root".to_owned(), server: Some(server), folder: folder.to_path_buf() })
    }

    /// Tells `command` how to get there.
    fn known_to(&self, command: &mut Command) {
        // Logs of a run in a bucket, and copies of what is read from there.
        command.env("TMPDIR", &self.folder).env("EVOQ_CACHE", self.folder.join("cache"));
        if let Some(server) = &self.server {
            server.known_to(command);
        }
    }

    /// `evoq run` of the small workflow.
    fn run(&self, flags: &[&str]) -> Command {
        let mut command = run("small.yaml", &self.uri, &[]);
        command.args(flags);
        self.known_to(&mut command);
        command
    }

    /// What `evoq WORDS --root …` ended with `code` gives.
    #[track_caller]
    fn ends(&self, words: &[&str], code: i32) -> Output {
        let mut command = program("evoq");
        command.args(words).args(["--root", &self.uri]);
        self.known_to(&mut command);
        ends_with(&mut command, code)
    }

    /// What `evoq WORDS --root …` prints.
    #[track_caller]
    fn tells(&self, words: &[&str]) -> String {
        printed(&self.ends(words, 0))
    }

    /// The names of what lies below `prefix` of the root.
    fn names(&self, prefix: &str) -> Vec<String> {
        match &self.server {
            Some(server) => server.objects(&format!("root/{prefix}")),
            None => list_files(&Path::new(&self.uri).join(prefix)).unwrap_or_default(),
        }
    }
}

/// The id in the line `run ID of small: …` or `run ID is done …`.
fn run_id(output: &Output) -> String {
    let said = said(output);
    let line = said.lines().find_map(|line| line.strip_prefix("run ")).unwrap();
    line.split(' ').next().unwrap().to_owned()
}

#[track_caller]
fn holds(text: &str, facts: &[&str]) {
    for fact in facts {
        assert!(text.contains(fact), "`{fact}` is not in:\n{text}");
    }
}

/// Checks that one line of `text` is these words, whatever the columns' widths.
#[track_caller]
fn has_line(text: &str, words: &str) {
    assert!(text.lines().any(|line| line.split_whitespace().eq(words.split(' '))), "`{words}` is no line of:\n{text}");
}

/// Asks every command about a run that ended well, and one that made one label anew.
fn tell_of_a_finished_run(place: &Place) {
    let first = run_id(&ends_with(&mut place.run(&[]), 0));

    let status = place.tells(&["status"]);
    holds(&status, &[&format!("run {first} of small: done; of 19 steps 19 made, 0 found, in ")]);
    assert_eq!(status.lines().filter(|line| line.contains(" made ")).count(), 19, "{status}");

    let log = place.tells(&["log"]);
    assert_eq!(log.lines().filter(|line| line.contains(": made in ")).count(), 19, "{log}");
    holds(log.lines().next().unwrap(), &["photos: made in "]);
    let words = place.tells(&["log", "votes@2"]);
    holds(&words, &["── votes (round 2)", "72 of 72 votes are valid", "votes: 72 rows"]);
    holds(&said(&place.ends(&["log", "vots"], 2)), &["no step `vots`; did you mean `votes`?"]);

    shows_steps(place);
    asks_in_sql(place);
    draws_the_steps(place);
    reports(place, &first);

    holds(&said(&place.ends(&["verify"], 0)), &["19 artifacts, "]);
    assert_eq!(place.tells(&["gc", "--dry-run", "--older-than", "0s"]), "");

    let second = run_id(&ends_with(&mut place.run(&["--set", "control=shuffled", "--only", "labels@1"]), 0));
    let diff = place.tells(&["diff", &first, &second]);
    // The same are pictures, pairs and the first votes, and what the start policy says; both labels and the rest differ.
    holds(&diff, &["10 steps are the same, 9 differ", "input `labels` changed"]);
    assert_eq!(diff.matches("parameter `control` none → shuffled").count(), 2, "{diff}");
    holds(&place.tells(&["diff", &first, &first]), &["all 19 steps are the same"]);
    holds(&place.tells(&["status"]), &[&format!("run {second} of small: done"), "not yet"]);
    holds(&place.tells(&["status", "--run", &first]), &["of 19 steps 19 made"]);
}

fn shows_steps(place: &Place) {
    let votes = place.tells(&["show", "votes@2"]);
    let artifact = format!("\n  {}/vote/", place.uri);
    let facts = ["votes (round 2): vote version", &artifact, "72 rows", "pairs (round 2)", "policy (round 1)"];
    holds(&votes, &facts);
    holds(&votes, &["read by\n  labels (round 2)"]);
    has_line(&votes, "samples 6");
    let digits: String = votes.split("/vote/").nth(1).unwrap().chars().take(10).collect();
    assert_eq!(place.tells(&["show", &digits]), votes);
    holds(&place.tells(&["show", "policy@1"]), &["\n  rollouts", "\n  updates", "\n  policy", " files ", "read by"]);
}

fn asks_in_sql(place: &Place) {
    let csv = |words: &[&str]| place.tells(&[&["sql", "--format", "csv"], words].concat());
    let counts = "SELECT round, count(*) AS votes FROM votes GROUP BY round ORDER BY round";
    for words in [&["-c", counts][..], &["--live", "-c", counts]] {
        assert_eq!(csv(words), "round,votes\n1,72\n2,72\n");
    }
    let file = place.folder.join("votes.parquet");
    place.ends(&["sql", "-c", "SELECT * FROM votes WHERE round = 2", "-o", file.to_str().unwrap()], 0);
    assert_eq!(&read_file(&file).unwrap()[..4], b"PAR1");
}

fn draws_the_steps(place: &Place) {
    let mermaid = place.tells(&["graph"]);
    // 19 steps, and the start policy.
    assert_eq!(mermaid.lines().filter(|line| line.contains("[\"")).count(), 20, "{mermaid}");
    holds(&mermaid, &["votes<br/>round 2 · vote", "policy<br/>from outside"]);
    holds(&place.tells(&["graph", "--format", "dot"]), &["digraph workflow {", "tooltip=\"pairs\""]);
    let drawing = place.tells(&["graph", "--format", "svg"]);
    assert!(drawing.starts_with("<svg ") && drawing.matches("<rect").count() == 20, "{drawing}");

    let file = repository().join("tests/workflows/small.yaml");
    let drawing = place.tells(&["graph", file.to_str().unwrap(), "--format", "svg"]);
    assert_eq!(drawing.matches(" · found</title>").count(), 19, "{drawing}");
}

fn reports(place: &Place, run: &str) {
    let file = place.folder.join("report.html");
    let output = place.ends(&["report", "-o", file.to_str().unwrap()], 0);
    holds(&said(&output), &["report.html written, "]);
    let page = String::from_utf8(read_file(&file).unwrap()).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    let facts = ["<h1>small</h1>", run, "19 of 19 made", "On 18 pictures of procedural", "after round 2"];
    holds(&page, &facts);
    for section in ["rating", "training", "votes", "pairs", "worst", "steps"] {
        assert!(page.contains(&format!("<h2 id=\"{section}\">")), "{section}");
    }
    assert!(page.matches("<img src=\"data:image/jpeg;base64,").count() > 10);
}

/// Asks the commands about a run that was killed while it trained.
fn tell_of_a_killed_run(place: &Place) {
    let has_rows = || place.names("scratch/").iter().any(|name| name.contains("/updates/"));
    killed_when(has_rows, &mut place.run(&[]));

    let status = place.tells(&["status"]);
    holds(&status, &["of small: running, or killed; of 19 steps "]);
    has_line(&status, "1 policy grpo not yet");
    holds(&place.tells(&["show", "policy@1"]), &["not in the store"]);
    let count = "SELECT round, workflow_step, count(*) > 0 AS has_rows FROM updates GROUP BY round, workflow_step";
    let live = place.tells(&["sql", "--live", "--format", "csv", "-c", count]);
    assert_eq!(live, "round,workflow_step,has_rows\n1,policy,true\n");
    holds(&said(&place.ends(&["sql", "-c", count], 2)), &["has no table `updates`"]);
    place.ends(&["report", "-o", place.folder.join("killed.html").to_str().unwrap()], 0);

    let gc = |flags: &[&str]| place.tells(&[&["gc", "--older-than", "0s"], flags].concat());
    holds(&gc(&["--dry-run"]), &["/updates/", "never committed"]);
    // What was written within a day may be of a run under way.
    assert_eq!(place.tells(&["gc"]), "");
    assert!(has_rows());
    gc(&[]);
    assert_eq!(place.names("scratch/"), Vec::<String>::new());
    holds(&said(&place.ends(&["verify"], 0)), &["5 artifacts, "]);
}

#[test]
fn every_command_tells_of_a_finished_run_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    tell_of_a_finished_run(&Place::local(folder.path()));
}

#[test]
fn every_command_tells_of_a_finished_run_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(place) = Place::bucket(folder.path()) {
        tell_of_a_finished_run(&place);
    }
}

#[test]
fn every_command_tells_of_a_killed_run_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    tell_of_a_killed_run(&Place::local(folder.path()));
}

#[test]
fn every_command_tells_of_a_killed_run_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(place) = Place::bucket(folder.path()) {
        tell_of_a_killed_run(&place);
    }
}

#[test]
fn a_query_of_what_a_part_of_the_steps_does_not_make_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let output = ends_with(&mut Place::local(folder.path()).run(&["--only", "photos"]), 0);
    holds(&said(&output), &["is done in ", "not shown: Correlations: ", "has no table `correlations`"]);
    assert_eq!(printed(&output), "");
}

#[test]
fn a_changed_file_is_found_by_verify_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path());
    ends_with(&mut place.run(&["--only", "photos,test"]), 0);
    let name = list_files(Path::new(&place.uri)).unwrap().into_iter().find(|it| it.contains("/images/part-")).unwrap();
    let part = Path::new(&place.uri).join(&name);
    let mut bytes = read_file(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write_file(&part, &bytes).unwrap();
    let output = place.ends(&["verify"], 1);
    holds(&printed(&output), &[&name]);
    assert_eq!(printed(&output).lines().count(), 1, "{}", printed(&output));
    holds(&said(&output), &["1 files are not what their manifests state"]);
}

#[test]
fn a_workflow_file_is_drawn_before_anything_of_it_is_there() {
    // Its pictures and its policy are the user's to bring.
    let file = repository().join("workflows/evoquality.yaml");
    let drawing = printed(&ends_with(program("evoq").arg("graph").arg(&file), 0));
    holds(&drawing, &["flowchart TD", "votes<br/>round 2 · vote", "policy<br/>from outside"]);
    let faults = said(&ends_with(program("evoq").arg("graph").arg(&file).args(["--set", "vots=8"]), 2));
    holds(&faults, &["this workflow has no parameter `vots`; did you mean `votes`?"]);
    let refused = said(&ends_with(program("evoq").arg("graph"), 2));
    holds(&refused, &["--root <URI>"]);
}
