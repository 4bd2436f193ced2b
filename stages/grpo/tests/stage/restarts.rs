//! Training that is killed, stopped, begun anew and done twice at once ends in the same bytes.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evoq_artifacts::{Artifact, Location, read_file, unfinished, write_file};
use evoq_schemas::Update;
use evoq_test_support::servers::{Kind, Server};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::work::{GRPO, UPDATES, Work, wait_until};

/// How many kills the test is worth where `EVOQ_KILLS` does not say so.
const KILLS: usize = 5;

/// When a process is killed.
#[derive(Debug)]
enum Moment {
    /// This long after its start.
    After(Duration),
    /// Once there is a file in scratch whose name begins so: a checkpoint or a part, perhaps half written.
    File(String),
    /// Once the policy is being put: training is done, and nothing is committed.
    Policy,
}

impl Moment {
    fn draw(random: &mut ChaCha8Rng, span: Duration) -> Self {
        let update = random.random_range(1..=UPDATES);
        match random.random_range(0..6) {
            0 => Self::Policy,
            1 | 2 => Self::After(span.mul_f64(random.random())),
            3 => Self::File(format!("rollouts/part-{update:05}.")),
            _ => Self::File(format!("checkpoints/{:08}", update.next_multiple_of(2))),
        }
    }

    fn has_come(&self, start: Instant, work: &Work, name: &str) -> bool {
        match self {
            Self::After(time) => start.elapsed() >= *time,
            Self::File(file) => work.scratch(name).iter().any(|it| it.starts_with(file)),
            Self::Policy => work.place(name).join("policy").exists(),
        }
    }
}

/// Kills the process when the moment has come; gives its status where it ends before.
fn kill(mut child: Child, moment: &Moment, work: &Work, name: &str) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if moment.has_come(start, work, name) {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::yield_now();
    }
}

/// Stops the reader when it is dropped, also by a failing assertion: the test would wait for ever otherwise.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Reads the rows so far again and again: they must always be whole, and as many as the updates that they are said to cover.
fn watch(root: &Location, stop: &AtomicBool) -> usize {
    let mut seen = 0;
    while !stop.load(Ordering::Acquire) {
        for step in unfinished(root).unwrap() {
            let rows: Result<Vec<Vec<Update>>, _> = step.parts("updates").iter().map(|part| part.rows(&[])).collect();
            match rows {
                Ok(rows) => assert_eq!(rows.concat().len() as u64, step.live.done),
                // The step was finished meanwhile.
                Err(evoq_artifacts::Error::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            seen += 1;
        }
        std::thread::yield_now();
    }
    seen
}

#[test]
fn killed_at_random_moments_and_started_again_it_ends_in_the_same_bytes() {
    let kills = std::env::var("EVOQ_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let work = Work::new();
    let start = Instant::now();
    work.run("undisturbed", &[]);
    let (span, undisturbed) = (start.elapsed(), work.bytes("undisturbed"));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut done = 0;
    for run in 0.. {
        let name = run.to_string();
        let root = Location::open(&work.folder.at(&name)).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| watch(&root, &stop));
            let stopping = Stopping(&stop);
            // Once there were enough kills this run goes on to its end.
            while done < kills {
                let moment = Moment::draw(&mut random, span);
                if let Some(status) = kill(work.start(&name, &[]), &moment, &work, &name) {
                    assert!(status.success(), "{moment:?}");
                    break;
                }
                done += 1;
            }
            work.run(&name, &[]);
            drop(stopping);
            reader.join().unwrap();
        });
        assert_eq!(work.bytes(&name), undisturbed);
        assert!(!work.place(&name).join("scratch").exists());
        if done >= kills {
            eprintln!("{done} kills in {} runs, all with the bytes of the undisturbed one", run + 1);
            return;
        }
    }
}

#[test]
fn two_processes_on_the_same_training_make_the_bytes_of_one() {
    let work = Work::new();
    work.run("one", &[]);
    let both = [work.start("two", &[]), work.start("two", &["--checkpoint-every", "3", "--keep-checkpoints", "1"])];
    for process in both {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(work.bytes("two"), work.bytes("one"));
    assert!(!work.place("two").join("scratch").exists());
}

#[test]
fn a_run_that_another_has_overtaken_ends_well_though_what_it_leant_on_is_gone() {
    let work = Work::new();
    // Enough work for it to be halted amid.
    let flags = ["--samples", "32"];
    let mut slow = work.start("out", &flags);
    wait_until(&mut slow, || work.checkpoints("out").contains(&2));
    let signal = |name: &str| Command::new("kill").args([name, &slow.id().to_string()]).status().unwrap();
    assert!(signal("-STOP").success());
    work.run("out", &flags);
    let committed = work.bytes("out");
    // What it will write to cannot be written.
    let fingerprint = Artifact::open(&work.folder.at("out")).unwrap().fingerprint().to_owned();
    write_file(&work.place("out").join("scratch").join(fingerprint).join("updates"), b"in the way").unwrap();
    assert!(signal("-CONT").success());
    let output = slow.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("another run of this step has ended it"), "{said}");
    assert_eq!(work.bytes("out"), committed);
    assert!(!work.place("out").join("scratch").exists());
}

#[test]
fn on_a_bucket_a_training_that_was_killed_ends_in_the_same_bytes() {
    let work = Work::new();
    let Some(server) = Server::start(Kind::MiniStack, &work.place("server")) else { return };
    work.run("one", &[]);
    let arguments = work.arguments_to("s3://evoq/out", &[]);
    let start = || {
        let mut command = GRPO.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("TMPDIR", work.folder.path()).env("EVOQ_CACHE", work.place("cache")).stderr(Stdio::piped());
        server.known_to(&mut command).spawn().unwrap()
    };
    let mut child = start();
    let is_saved = || server.objects("out/scratch/").iter().any(|name| name.ends_with("checkpoints/00000004.json"));
    wait_until(&mut child, is_saved);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = start().wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("goes on from step "), "{said}");
    let manifest = read_file(&work.place("one").join("manifest.json")).unwrap();
    assert_eq!(server.ask("GET", "/evoq/out/manifest.json"), manifest);
    assert!(server.objects("out/scratch/").is_empty());
}

#[test]
fn what_it_leaves_while_it_runs_changes_nothing_of_the_result() {
    let work = Work::new();
    work.run("one", &[]);
    let events = work.folder.at("events");
    let other = ["--checkpoint-every", "5", "--live-every", "7", "--keep-checkpoints", "1", "--tensorboard", &events];
    work.run("other", &[&other[..], &["--threads", "1"]].concat());
    assert_eq!(work.bytes("other"), work.bytes("one"));
}

#[test]
fn after_ctrl_c_it_goes_on_from_the_very_update_that_it_had_reached() {
    let work = Work::new();
    work.run("one", &[]);
    let rare = ["--checkpoint-every", "1000"];
    let mut child = work.start("stopped", &rare);
    wait_until(&mut child, || work.scratch("stopped").iter().any(|name| name.starts_with("updates/part-00003.")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let reached = work.checkpoints("stopped");
    assert!(reached.len() == 1 && reached[0] >= 4, "{reached:?}");
    let said = work.run("stopped", &rare);
    assert!(said.contains(&format!("goes on from step {} of {UPDATES}", reached[0])), "{said}");
    assert_eq!(work.bytes("stopped"), work.bytes("one"));
}

#[test]
fn a_checkpoint_that_is_damaged_is_passed_over_for_the_one_before() {
    let work = Work::new();
    work.run("one", &[]);
    work.killed_at_four("damaged", &[]);
    let last = *work.checkpoints("damaged").last().unwrap();
    let names = work.scratch("damaged");
    let tensors = names.iter().find(|name| name.starts_with(&format!("checkpoints/{last:08}-"))).unwrap();
    let folder = std::fs::read_dir(work.place("damaged").join("scratch")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = read_file(&folder.join(tensors)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write_file(&folder.join(tensors), &bytes).unwrap();
    let said = work.run("damaged", &[]);
    let line = said.lines().find(|line| line.contains("a checkpoint is passed over")).unwrap();
    assert!(line.contains(tensors) && line.contains("does not have the digest"), "{line}");
    assert!(said.contains(&format!("goes on from step {} of", last - 2)), "{said}");
    assert_eq!(work.bytes("damaged"), work.bytes("one"));
}

#[test]
fn several_steps_on_a_batch_and_a_frozen_half_are_taken_up_as_well() {
    let work = Work::new();
    let flags = ["--iterations", "2", "--trainable", "vision", "--min-valid-rate", "0"];
    work.run("one", &flags);
    work.killed_at_four("killed", &flags);
    let said = work.run("killed", &flags);
    assert!(said.contains("goes on from step "), "{said}");
    assert_eq!(work.bytes("killed"), work.bytes("one"));
}

#[test]
fn with_resume_never_it_begins_at_the_beginning() {
    let work = Work::new();
    work.run("one", &[]);
    work.killed_at_four("anew", &[]);
    let said = work.run("anew", &["--resume", "never"]);
    assert!(!said.contains("goes on from"), "{said}");
    assert_eq!(work.bytes("anew"), work.bytes("one"));
}
