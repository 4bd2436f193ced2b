//! Where the stages are, and what each says of itself.
//!
//! `evoq-STAGE` is looked for in the folder `evoq` was called from, then in the folder the program really is in, then on the
//! PATH. What a program says is remembered in the cache until the program's file changes, and many steps of one stage are asked
//! about in one process: a plan of a thousand steps starts a handful of processes, and the next one none.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;

use evoq_artifacts::{cache_place, program_state, read_file, write_file};
use evoq_stage::{Description, Valued};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// So many lists of flags of one program are remembered; more, and only the last plan's are.
const MOST: usize = 4096;

/// The stages that can be found from here.
#[derive(Debug, Default)]
pub struct Stages {
    folders: Vec<PathBuf>,
    known: RefCell<BTreeMap<String, Rc<Known>>>,
}

/// A stage's program and what it says of itself.
#[derive(Debug)]
pub struct Known {
    /// The program.
    pub program: PathBuf,
    /// What it says without flags.
    pub description: Description,
    /// What tells this state of the program; none where nothing is to be remembered.
    state: Option<String>,
    /// Where it is remembered.
    cache: PathBuf,
    /// What lists of flags were found to mean.
    values: RefCell<BTreeMap<String, Valued>>,
}

/// [`Known`] as a file of the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    state: String,
    description: Description,
    values: BTreeMap<String, Valued>,
}

impl Stages {
    /// The stages that a program called as `called` (its `argv[0]`) finds.
    pub fn new(called: &Path) -> Self {
        let folder = called.parent().filter(|folder| !folder.as_os_str().is_empty());
        // As it was called: a link to `evoq` beside linked stages finds those.
        let beside_call = folder.and_then(|folder| std::path::absolute(folder).ok());
        let beside_program = std::env::current_exe().ok().and_then(|it| it.parent().map(Path::to_path_buf));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = beside_call.into_iter().chain(beside_program).chain(std::env::split_paths(&path));
        Self { folders: folders.collect(), known: RefCell::default() }
    }

    /// The stages in `folders`.
    #[cfg(test)]
    pub(crate) fn within(folders: Vec<PathBuf>) -> Self {
        Self { folders, known: RefCell::default() }
    }

    /// The program of `stage`.
    pub fn find(&self, stage: &str) -> Option<PathBuf> {
        let file = format!("evoq-{stage}{}", std::env::consts::EXE_SUFFIX);
        self.folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file())
    }

    /// The names of the stages that are found, for messages.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for folder in &self.folders {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name();
                let stage = name.to_str().and_then(|name| name.strip_prefix("evoq-"));
                names.extend(stage.filter(|stage| !stage.contains('.')).map(str::to_owned));
            }
        }
        names
    }

    /// What `stage` says of itself.
    pub fn describe(&self, stage: &str) -> Result<Rc<Known>> {
        if let Some(known) = self.known.borrow().get(stage) {
            return Ok(known.clone());
        }
        let program = self.find(stage).ok_or_else(|| Error::BadInput(format!("there is no stage `{stage}`")))?;
        let cache = cache_place("stages", &program);
        let known = Rc::new(Known::of(program, cache)?);
        self.known.borrow_mut().insert(stage.to_owned(), known.clone());
        Ok(known)
    }

    /// What the flags in `lists` make of the parameters of `stage`, or why it refuses them.
    pub fn values(&self, stage: &str, lists: &BTreeSet<Vec<String>>) -> Result<BTreeMap<Vec<String>, Valued>> {
        self.describe(stage)?.values(lists)
    }
}

impl Known {
    fn of(program: PathBuf, cache: PathBuf) -> Result<Self> {
        let state = program_state(&program);
        if let Some(state) = &state
            && let Some(it) = remembered(&cache).filter(|it| it.state == *state)
        {
            let values = RefCell::new(it.values);
            return Ok(Self { program, description: it.description, state: Some(it.state), cache, values });
        }
        let description = description(&program, &[])?;
        let known = Self { program, description, state, cache, values: RefCell::default() };
        known.remember();
        Ok(known)
    }

    fn values(&self, lists: &BTreeSet<Vec<String>>) -> Result<BTreeMap<Vec<String>, Valued>> {
        let key = |flags: &Vec<String>| flags.join("\n");
        let is_new = |flags: &&Vec<String>| !self.values.borrow().contains_key(&key(flags));
        let asked: Vec<&Vec<String>> = lists.iter().filter(is_new).collect();
        if !asked.is_empty() {
            let answers =
                if self.description.describes_each { self.ask_each(&asked)? } else { self.ask_one_by_one(&asked)? };
            let mut values = self.values.borrow_mut();
            values.extend(asked.iter().map(|flags| key(flags)).zip(answers));
            if values.len() > MOST {
                let kept: BTreeSet<String> = lists.iter().map(key).collect();
                values.retain(|flags, _| kept.contains(flags));
            }
            drop(values);
            self.remember();
        }
        let values = self.values.borrow();
        Ok(lists.iter().filter_map(|flags| Some((flags.clone(), values.get(&key(flags))?.clone()))).collect())
    }

    /// Asks about all `lists` in one process.
    fn ask_each(&self, lists: &[&Vec<String>]) -> Result<Vec<Valued>> {
        let name = self.program.display();
        let lines: Vec<String> = lists.iter().map(|flags| serde_json::json!(flags).to_string() + "\n").collect();
        let mut command = Command::new(&self.program);
        let spawned =
            command.arg("--describe-each").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| Error::Program(format!("{name} could not be started: {error}")))?;
        let input = child.stdin.take();
        // The answers are read while the questions are written: neither pipe can fill up.
        let writer = std::thread::spawn(move || {
            if let Some(mut input) = input {
                // A program that ends early says so itself.
                let _ = lines.iter().try_for_each(|line| input.write_all(line.as_bytes()));
            }
        });
        let output = child.wait_with_output();
        let _ = writer.join();
        let output = output.map_err(|error| Error::Program(format!("{name} --describe-each failed: {error}")))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let answers: std::result::Result<Vec<Valued>, _> = said.lines().map(serde_json::from_str).collect();
        match answers {
            Ok(answers) if answers.len() == lists.len() => Ok(answers),
            Ok(answers) => Err(Error::Program(format!(
                "{name} --describe-each gave {} answers to {} questions: {}",
                answers.len(),
                lists.len(),
                refusal(&output)
            ))),
            Err(error) => Err(Error::Program(format!("{name} --describe-each gave no answer in JSON: {error}"))),
        }
    }

    /// Asks a program of the contract's first form: one process for each list.
    fn ask_one_by_one(&self, lists: &[&Vec<String>]) -> Result<Vec<Valued>> {
        let one = |flags: &&Vec<String>| match description(&self.program, flags) {
            Ok(described) => Ok(Valued::Values(described.values())),
            Err(Error::BadInput(line)) => Ok(Valued::Error(line)),
            Err(error) => Err(error),
        };
        lists.iter().map(one).collect()
    }

    /// Keeps what is known for the next plan. A cache that cannot be written costs time, no more.
    fn remember(&self) {
        let Some(state) = self.state.clone() else { return };
        let kept = Remembered { state, description: self.description.clone(), values: self.values.borrow().clone() };
        if let Ok(text) = serde_json::to_vec(&kept) {
            let _ = write_file(&self.cache, &text);
        }
    }
}

fn remembered(cache: &Path) -> Option<Remembered> {
    serde_json::from_slice(&read_file(cache).ok()?).ok()
}

/// What `program --describe` says with `flags`.
fn description(program: &Path, flags: &[String]) -> Result<Description> {
    let name = program.display();
    let output = Command::new(program).args(flags).arg("--describe").output();
    let output = output.map_err(|error| Error::Program(format!("{name} could not be started: {error}")))?;
    if !output.status.success() {
        return Err(Error::BadInput(refusal(&output)));
    }
    let described: std::result::Result<Description, _> = serde_json::from_slice(&output.stdout);
    match described {
        Ok(description) if description.evoq == 1 => Ok(description),
        Ok(description) => Err(Error::Program(format!(
            "{name} --describe speaks version {} of the contract; expected 1: use stages and `evoq` of one release",
            description.evoq
        ))),
        Err(error) => Err(Error::Program(format!("{name} --describe is not a stage's description: {error}"))),
    }
}

/// What a program says against its flags: clap does so in the first line, behind `error: `.
fn refusal(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing");
    line.split_once("error: ").map_or(line, |(_, rest)| rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const DESCRIPTION: &str = r#"{ "evoq": 1, "stage": "fake", "version": 1, "about": "", "divides": false,
        "describes_each": EACH, "inputs": [], "outputs": [],
        "parameters": [{ "name": "k", "type": "integer", "help": "", "value": 7 }] }"#;

    /// A stage that notes each start; `each` says whether it answers `--describe-each`.
    fn stage(each: bool) -> (tempfile::TempDir, Stages) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("evoq-fake");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {}/starts\nif [ \"$1\" = --describe-each ]; then\n  while read -r line; do\n    \
             case \"$line\" in *bad*) echo '{{ \"error\": \"bad\" }}';; *) echo '{{ \"values\": {{ \"k\": 7 }} }}';; esac\n  done\n\
             else\n  case \"$1\" in *bad*) echo 'error: bad' >&2; exit 2;; esac\n  cat <<END\n{}\nEND\nfi\n",
            folder.path().display(),
            DESCRIPTION.replace("EACH", &each.to_string())
        );
        write_file(&program, script.as_bytes()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let stages = Stages::within(vec![folder.path().to_path_buf()]);
        (folder, stages)
    }

    /// How often a stage was started to answer about 60 lists of flags, two of them bad, asked twice.
    fn starts(each: bool) -> usize {
        let (folder, stages) = stage(each);
        let lists: BTreeSet<Vec<String>> =
            (0..60).map(|i| vec![if i % 30 == 7 { format!("--bad={i}") } else { format!("--k={i}") }]).collect();
        for _ in 0..2 {
            let values = stages.values("fake", &lists).unwrap();
            assert_eq!(values.len(), 60);
            assert_eq!(
                values[&vec!["--k=1".to_owned()]],
                Valued::Values(serde_json::Map::from_iter([("k".to_owned(), 7.into())]))
            );
            assert_eq!(values[&vec!["--bad=7".to_owned()]], Valued::Error("bad".to_owned()));
        }
        let started = read_file(&folder.path().join("starts")).unwrap();
        String::from_utf8(started).unwrap().lines().count()
    }

    #[test]
    fn many_steps_of_a_stage_are_asked_about_in_one_process() {
        assert_eq!(starts(true), 2);
    }

    #[test]
    fn a_stage_that_does_not_know_how_is_asked_once_for_each_list_of_flags() {
        assert_eq!(starts(false), 61);
    }

    #[test]
    fn what_a_program_said_is_known_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("known.json");
        let program = PathBuf::from("/bin/sh");
        let keep = |state: String| {
            let description = serde_json::from_str(&DESCRIPTION.replace("EACH", "true")).unwrap();
            let kept = Remembered { state, description, values: BTreeMap::new() };
            write_file(&cache, &serde_json::to_vec(&kept).unwrap()).unwrap();
        };
        keep(program_state(&program).unwrap());
        assert_eq!(Known::of(program.clone(), cache.clone()).unwrap().description.stage, "fake");
        keep("another state".to_owned());
        let told = Known::of(program.clone(), cache.clone()).unwrap_err();
        assert!(!told.to_string().is_empty());
    }
}
