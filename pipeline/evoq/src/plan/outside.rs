//! What steps take from outside the workflow: their parameters after defaults, and digests of files, artifacts and checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use evoq_artifacts::content_digest;
use evoq_stage::{Valued, content_parameters_by, input_fingerprint};
use serde_json::{Map, Value};

use crate::call::Folders;
use crate::check::Checked;
use crate::error::Result;
use crate::expand::{From, Instance};
use crate::problem::Problem;
use crate::read::Reader;
use crate::stages::Stages;

/// Said where a path leads nowhere.
const PATHS: &str = "a relative path counts from the workflow file's folder, one of --set from the current folder";

/// What stands for a file, an artifact or a checkpoint from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The digest of what it holds: it must be there.
    Content,
    /// Its name: nothing is read.
    Name,
}

/// What was found out of everything from outside, each once.
#[derive(Debug)]
pub(super) struct Outside {
    by: Mark,
    /// The parameters that count in a fingerprint, by stage and flags.
    parameters: BTreeMap<(String, Vec<String>), Map<String, Value>>,
    /// The fingerprints of artifacts and checkpoints, by URI and whether it is a policy.
    marks: BTreeMap<(String, bool), String>,
}

impl Outside {
    /// Finds out what `steps` need to know. Faults become problems.
    pub(super) fn new(
        steps: &[(&Instance, &Checked)],
        stages: &Stages,
        folders: &Folders,
        by: Mark,
        reader: &mut Reader,
    ) -> Result<Self> {
        let mut outside = Self { by, parameters: BTreeMap::new(), marks: BTreeMap::new() };
        let valued = values(steps, stages)?;
        let mut digests: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (instance, checked) in steps {
            outside.mark_inputs(instance, checked, folders, reader);
            let Checked::Stage { known, flags } = checked else { continue };
            let key = (known.description.stage.clone(), flags.clone());
            if outside.parameters.contains_key(&key) {
                continue;
            }
            let digest = |path: &Path| match (by, digests.get(path)) {
                (Mark::Name, _) => Ok(path.display().to_string()),
                (Mark::Content, Some(known)) => Ok(known.clone()),
                (Mark::Content, None) => {
                    let digest = content_digest(path)?;
                    digests.insert(path.to_path_buf(), digest.clone());
                    Ok(digest)
                }
            };
            let told = match valued.get(&key) {
                Some(Valued::Values(values)) => {
                    let counted = content_parameters_by(&known.description, values, digest);
                    match counted {
                        Ok(parameters) => {
                            outside.parameters.insert(key, parameters);
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Some(Valued::Error(line)) => line.clone(),
                None => continue,
            };
            let step = &instance.step;
            let place = step.with.first().map_or(step.name.place, |(key, _)| key.place);
            reader.problems.push(Problem::new(place, format!("step {}: {told}", instance.title())));
        }
        Ok(outside)
    }

    /// What counts of the parameters of `stage` with `flags`.
    pub(super) fn parameters(&self, stage: &str, flags: &[String]) -> Map<String, Value> {
        self.parameters.get(&(stage.to_owned(), flags.to_vec())).cloned().unwrap_or_default()
    }

    /// What stands for the artifact, or the policy, at `uri`.
    pub(super) fn mark(&self, uri: &str, is_policy: bool) -> String {
        self.marks.get(&(uri.to_owned(), is_policy)).cloned().unwrap_or_default()
    }

    /// Finds out the fingerprints of what `instance` reads from outside the workflow.
    fn mark_inputs(&mut self, instance: &Instance, checked: &Checked, folders: &Folders, reader: &mut Reader) {
        for (input, feeds) in instance.step.inputs.iter().zip(&instance.feeds) {
            for feed in feeds {
                let From::Outside { text, origin } = &feed.from else { continue };
                let key = (folders.absolute(text, *origin), checked.is_policy(&input.name.text));
                if self.marks.contains_key(&key) {
                    continue;
                }
                let mark = match self.by {
                    Mark::Content => input_fingerprint(&key.0, key.1),
                    Mark::Name => Ok(key.0.clone()),
                };
                match mark {
                    Ok(mark) => drop(self.marks.insert(key, mark)),
                    Err(error) => {
                        let message = format!("step {}: {error}", instance.title());
                        reader.problems.push(Problem::new(feed.place, message).help(PATHS));
                    }
                }
            }
        }
    }
}

/// What each stage makes of each list of flags. Stages are asked side by side.
fn values(steps: &[(&Instance, &Checked)], stages: &Stages) -> Result<BTreeMap<(String, Vec<String>), Valued>> {
    let mut asked: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (_, checked) in steps {
        if let Checked::Stage { known, flags } = checked {
            asked.entry(known.description.stage.clone()).or_default().insert(flags.clone());
        }
    }
    let mut all = BTreeMap::new();
    for (stage, lists) in asked {
        let values = stages.values(&stage, &lists)?;
        all.extend(values.into_iter().map(|(flags, valued)| ((stage.clone(), flags), valued)));
    }
    Ok(all)
}
