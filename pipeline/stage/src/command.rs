//! The command line of a stage: the contract's own flags around the stage's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command};
use evoq_artifacts::{Artifact, Draft, Header, Location};
use tracing_subscriber::EnvFilter;

use crate::describe::Valued;
use crate::describe::parameters;
use crate::job::STOP;
use crate::units::Shard;
use crate::{Job, Kind, Stage, content_parameters, describe, fingerprint, input_fingerprint};

/// Within that time a second signal is the first one again: Slurm sends it to a job's script, which passes it on, and on some
/// clusters to the script's programs as well.
const ECHO: Duration = Duration::from_millis(500);

/// The variable that stands for `--single-writer`; `evoq run` sets it for the stages that it starts.
const SINGLE_WRITER: &str = "EVOQ_SINGLE_WRITER";

/// Parses, describes or runs.
pub(crate) fn run<S: Stage>(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let describes = arguments.iter().any(|it| it == "--describe");
    if describes && arguments.len() == 2 {
        return print_description(&describe::<S>(None)?);
    }
    if arguments.len() == 2 && arguments.iter().any(|it| it == "--describe-each") {
        return describe_each::<S>(std::io::stdin().lock());
    }
    let matches = command::<S>(!describes).try_get_matches_from(arguments)?;
    let stage = S::from_arg_matches(&matches)?;
    if describes {
        return print_description(&describe(Some(&stage))?);
    }
    prepare(&matches)?;
    let out: &String = matches.get_one("out").context("clap requires --out")?;
    let (mut job, fingerprint) = job(&stage, &matches, out)?;
    if let Some(found) = found(out, &fingerprint)? {
        tracing::info!("{} is there already, {}", found.location().uri(), rows(&found));
        return Ok(());
    }
    if !matches.get_flag("single-writer") {
        job.draft.location().probe()?;
    }
    if let Err(error) = stage.run(&mut job) {
        // Another run of this step may have ended it, and removed what this one leant on.
        let (Some(scratch), Ok(Some(artifact))) = (job.scratch, found(out, &fingerprint)) else { return Err(error) };
        scratch.remove()?;
        tracing::info!("another run of this step has ended it: {} {}", artifact.location().uri(), rows(&artifact));
        return Ok(());
    }
    job.check()?;
    if job.unfinished {
        // Another shard may have committed since the receipts were looked for.
        if let Some(artifact) = found(out, &fingerprint)? {
            tracing::info!("{} {}", artifact.location().uri(), rows(&artifact));
        } else {
            tracing::info!("this shard is done; the last of the other shards commits {out}");
        }
        return Ok(());
    }
    let receipts = job.divided.then(|| job.draft.clone());
    let artifact = job.draft.commit()?;
    receipts.map_or(Ok(()), |draft| draft.remove_receipts(false))?;
    job.scratch.map_or(Ok(()), |scratch| scratch.remove())?;
    tracing::info!("{} {}", artifact.location().uri(), rows(&artifact));
    Ok(())
}

/// Answers each line of `lines`, a JSON list of flags, with a line of JSON ([`Valued`]): one process for all steps of a stage.
fn describe_each<S: Stage>(lines: impl BufRead) -> anyhow::Result<()> {
    let mut command = command::<S>(false);
    for line in lines.lines() {
        let flags: Vec<String> = serde_json::from_str(&line?).map_err(|error| {
            crate::bad_input(format!("--describe-each: {error}; expected a JSON list of flags a line"))
        })?;
        let arguments = std::iter::once(S::NAME.to_owned()).chain(flags);
        let stage = command.try_get_matches_from_mut(arguments).and_then(|matches| S::from_arg_matches(&matches));
        let valued = match stage {
            Ok(stage) => Valued::Values(parameters(&stage)?),
            Err(error) => Valued::Error(first_line(&error.to_string())),
        };
        print(&(serde_json::to_string(&valued)? + "\n"))?;
    }
    Ok(())
}

/// What clap says first, without its `error: `, and with the list that follows where it ends in a colon.
fn first_line(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).skip_while(|line| line.is_empty());
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    if !first.ends_with(':') {
        return first.to_owned();
    }
    let listed: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    format!("{first} {}", listed.join(", "))
}

/// The artifact of this very step, if it is there already; another step's is in the way.
fn found(out: &str, fingerprint: &str) -> anyhow::Result<Option<Artifact>> {
    match Artifact::open(out) {
        Ok(artifact) if artifact.fingerprint() == fingerprint => Ok(Some(artifact)),
        Ok(_) => Err(crate::bad_input(format!(
            "--out {out}: another artifact is there (other parameters, inputs or stage); choose an empty place"
        ))),
        Err(evoq_artifacts::Error::NoArtifact { .. }) => Ok(None),
        Err(error @ evoq_artifacts::Error::Storage { .. }) => {
            let remedy = "give a folder or a bucket that can be read and written";
            Err(anyhow::Error::new(error).context(format!("--out {out} cannot be used: {remedy}")))
        }
        Err(error) => Err(error.into()),
    }
}

fn rows(artifact: &Artifact) -> String {
    let tables = artifact.manifest.tables.iter();
    tables.map(|(name, table)| format!("{name}: {} rows", table.rows)).collect::<Vec<_>>().join(", ")
}

/// The contract's flag for stages whose work divides.
fn shard() -> Arg {
    Arg::new("shard").long("shard").value_name("i/n").value_parser(|text: &str| text.parse::<Shard>()).help(
        "Do only the i-th of n shares of the work, i from 0; the process that finds all shares done commits [default: all]",
    )
}

fn command<S: Stage>(runs: bool) -> Command {
    let mut command = Command::new(format!("evoq-{}", S::NAME));
    for input in S::INPUTS {
        let arg = Arg::new(input.name).long(input.name).value_name("URI").help(input.help).help_heading("Inputs");
        command = command.arg(arg.action(ArgAction::Append).required(runs && input.required));
    }
    let contract = |arg: Arg| arg.help_heading("Running");
    command = command.next_help_heading("Parameters");
    // The doc comment of the flags' type would stand as the description: it is set after them.
    S::augment_args(command)
        .about(S::ABOUT)
        .long_about(None)
        .version(format!("{} (algorithm {})", env!("CARGO_PKG_VERSION"), S::VERSION))
        .next_help_heading(None)
        .arg(contract(Arg::new("out").long("out").value_name("URI").required(runs)).help(
            "Where the artifact goes: a folder, file:///… or s3://bucket/…; tables and manifest.json are put below it",
        ))
        .arg(
            contract(Arg::new("describe").long("describe").action(ArgAction::SetTrue))
                .help("Print what this stage reads, writes and takes, as JSON, and end"),
        )
        .args(S::DIVIDES.then(|| contract(shard())))
        .arg(
            contract(Arg::new("single-writer").long("single-writer").action(ArgAction::SetTrue).env(SINGLE_WRITER)).help(
                "Trust that no other process writes below --out: for a store that cannot keep two writers apart, which is \
                 refused otherwise",
            ),
        )
        .arg(
            contract(Arg::new("threads").long("threads").value_name("N").value_parser(crate::range::count))
                .help("Threads to use [default: all cores]; the output does not depend on it"),
        )
        .arg(
            contract(Arg::new("log").long("log").value_name("LEVEL").default_value("info").env("EVOQ_LOG"))
                .value_parser(["error", "warn", "info", "debug"])
                .help("What to say on stderr"),
        )
}

/// Prints `text` on stdout; a closed pipe is no fault.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn print_description(description: &crate::Description) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(description)? + "\n"))
}

/// Logs, threads and Ctrl-C: what is the process's, not the stage's.
fn prepare(matches: &ArgMatches) -> anyhow::Result<()> {
    let level: &String = matches.get_one("log").context("clap gives --log a default")?;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .without_time()
        .init();
    if let Some(threads) = matches.get_one::<usize>("threads") {
        rayon::ThreadPoolBuilder::new().num_threads(*threads).build_global()?;
    }
    // The first Ctrl-C asks the stage to stop between two pieces of work; a later one ends it at once.
    let mut asked: Option<Instant> = None;
    ctrlc::set_handler(move || match asked {
        None => {
            asked = Some(Instant::now());
            STOP.store(true, Ordering::Relaxed);
            crate::fault::tell("stopping; once more to stop at once");
        }
        Some(first) if first.elapsed() < ECHO => {}
        Some(_) => std::process::exit(130),
    })?;
    Ok(())
}

/// Opens the inputs and starts the artifact.
fn job<S: Stage>(stage: &S, matches: &ArgMatches, out: &str) -> anyhow::Result<(Job, String)> {
    let (mut tables, mut policies, mut inputs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for input in S::INPUTS {
        let uris: Vec<String> = matches.get_many(input.name).into_iter().flatten().cloned().collect();
        let is_policy = input.kind == Kind::Policy;
        let marks: Result<Vec<String>, _> = uris.iter().map(|uri| input_fingerprint(uri, is_policy)).collect();
        if !uris.is_empty() {
            inputs.insert(input.name.to_owned(), marks.with_context(|| format!("--{}", input.name))?);
        }
        match (input.kind, uris.as_slice()) {
            (Kind::Policy, []) => {}
            (Kind::Policy, [uri]) => drop(policies.insert(input.name, uri.clone())),
            (Kind::Policy, _) => {
                let message = format!("--{}: {} policies were given; expected one", input.name, uris.len());
                return Err(crate::bad_input(message));
            }
            (Kind::Table(table), uris) => {
                let opened: Vec<Artifact> = uris.iter().map(|uri| Artifact::open(uri)).collect::<Result<_, _>>()?;
                for artifact in &opened {
                    artifact.table_parts(table).with_context(|| format!("--{}", input.name))?;
                }
                tables.insert(input.name, opened);
            }
        }
    }
    let description = describe(Some(stage))?;
    let parameters = content_parameters(&description, &parameters(stage)?)?;
    let fingerprint = fingerprint(S::NAME, S::VERSION, &parameters, &inputs);
    let header = Header {
        stage: S::NAME.to_owned(),
        stage_version: S::VERSION,
        fingerprint: fingerprint.clone(),
        parameters,
        inputs,
    };
    let shard = if S::DIVIDES { matches.get_one("shard").copied() } else { None };
    let job = Job {
        tables,
        policies,
        draft: Draft::new(&Location::open(out)?, header),
        stage: S::NAME,
        scratch: None,
        shard: shard.unwrap_or(Shard::ALL),
        unfinished: false,
        divided: false,
    };
    Ok((job, fingerprint))
}
