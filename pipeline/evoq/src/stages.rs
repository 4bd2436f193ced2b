//! Where the stages are, and what each says of itself.
//!
//! `evoq-STAGE` is looked for in the folder `evoq` was called from, then in the folder the program really is in, then on the
//! PATH.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use evoq_stage::Description;

use crate::error::{Error, Result};

/// The stages that can be found from here.
#[derive(Debug, Default)]
pub struct Stages {
    folders: Vec<PathBuf>,
    descriptions: RefCell<BTreeMap<Vec<String>, Description>>,
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
        Self { folders: folders.collect(), descriptions: RefCell::default() }
    }

    /// The stages in `folders`.
    #[cfg(test)]
    pub(crate) fn within(folders: Vec<PathBuf>) -> Self {
        Self { folders, descriptions: RefCell::default() }
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

    /// What `stage` says of itself with `flags`, which give its parameters values. Asked once for each list of flags.
    pub fn describe(&self, stage: &str, flags: &[String]) -> Result<Description> {
        let mut key = vec![stage.to_owned()];
        key.extend_from_slice(flags);
        if let Some(known) = self.descriptions.borrow().get(&key) {
            return Ok(known.clone());
        }
        let program = self.find(stage).ok_or_else(|| Error::BadInput(format!("there is no stage `{stage}`")))?;
        let description = ask(&program, flags)?;
        self.descriptions.borrow_mut().insert(key, description.clone());
        Ok(description)
    }
}

fn ask(program: &Path, flags: &[String]) -> Result<Description> {
    let name = program.display();
    let output = Command::new(program).args(flags).arg("--describe").output();
    let output = output.map_err(|error| Error::Program(format!("{name} could not be started: {error}")))?;
    if !output.status.success() {
        // clap says what is wrong in the first line, behind `error: `.
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing");
        let line = line.split_once("error: ").map_or(line, |(_, rest)| rest);
        return Err(Error::BadInput(line.to_owned()));
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
