//! A step's fingerprint: what decides its output, hashed. The workflow and a stage by hand compute the same.

use std::collections::BTreeMap;
use std::path::Path;

use evoq_artifacts::{Artifact, Error, Result, checkpoint, content_digest};
use serde_json::{Map, Value, json};

use crate::Description;

/// The fingerprint of a step: 64 hex digits over stage, version, parameters and the fingerprints of its inputs.
pub fn fingerprint(
    stage: &str,
    version: u32,
    parameters: &Map<String, Value>,
    inputs: &BTreeMap<String, Vec<String>>,
) -> String {
    let sorted: BTreeMap<_, _> = parameters.iter().collect();
    let text = json!({ "stage": stage, "version": version, "parameters": sorted, "inputs": inputs }).to_string();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// `values` with each path, also in a list, that stands for content outside the store replaced by the digest of that content.
///
/// A `path` parameter must exist; a `source` may be something else (`procedural:…`), which then stands as it is.
pub fn content_parameters(description: &Description, values: &Map<String, Value>) -> Result<Map<String, Value>> {
    content_parameters_by(description, values, content_digest)
}

/// [`content_parameters`] with the digests that `digest` gives: many steps may name one folder.
pub fn content_parameters_by(
    description: &Description,
    values: &Map<String, Value>,
    mut digest: impl FnMut(&Path) -> Result<String>,
) -> Result<Map<String, Value>> {
    let mut values = values.clone();
    for parameter in &description.parameters {
        let is_content = |text: &str| match parameter.r#type.as_str() {
            "path" => true,
            "source" => Path::new(text).exists(),
            _ => false,
        };
        let Some(value) = values.get_mut(&parameter.name) else { continue };
        let each = match value {
            Value::Array(items) => items.as_mut_slice(),
            one => std::slice::from_mut(one),
        };
        for it in each {
            if let Some(text) = it.as_str().filter(|text| is_content(text)) {
                *it = json!({ "content": digest(Path::new(text))? });
            }
        }
    }
    Ok(values)
}

/// The fingerprint of an input at `uri`: of the artifact there, or, for a policy, the digest of the checkpoint folder there.
pub fn input_fingerprint(uri: &str, is_policy: bool) -> Result<String> {
    match Artifact::open(uri) {
        Ok(artifact) => Ok(artifact.manifest.fingerprint),
        Err(Error::NoArtifact { .. }) if is_policy => checkpoint::digest(&checkpoint::folder(uri)?),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_of_a_list_counts_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["model", "range"].map(|name| folder.path().join(name).display().to_string());
        let description: Description = serde_json::from_value(json!({
            "evoq": 1, "stage": "score", "version": 1, "about": "", "divides": false, "inputs": [], "outputs": [],
            "parameters": [{ "name": "params", "type": "path", "list": true, "help": "" }],
        }))
        .unwrap();
        let values = Map::from_iter([("params".to_owned(), json!(files))]);
        let content = |of_range: &[u8]| {
            evoq_artifacts::write_file(Path::new(&files[0]), b"model").unwrap();
            evoq_artifacts::write_file(Path::new(&files[1]), of_range).unwrap();
            content_parameters(&description, &values).unwrap()["params"].clone()
        };
        let (one, other) = (content(b"one"), content(b"other"));
        assert!(one[0]["content"].is_string());
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
    }

    #[test]
    fn every_part_of_a_step_counts_and_the_order_of_parameters_does_not() {
        let map = |pairs: &[(&str, Value)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let inputs = BTreeMap::from([("pairs".to_owned(), vec!["f".to_owned()])]);
        let base = fingerprint("vote", 1, &map(&[("samples", json!(32)), ("seed", json!(1))]), &inputs);
        assert_eq!(base, fingerprint("vote", 1, &map(&[("seed", json!(1)), ("samples", json!(32))]), &inputs));
        let other = BTreeMap::from([("pairs".to_owned(), vec!["g".to_owned()])]);
        for changed in [
            fingerprint("vote", 2, &map(&[("samples", json!(32)), ("seed", json!(1))]), &inputs),
            fingerprint("score", 1, &map(&[("samples", json!(32)), ("seed", json!(1))]), &inputs),
            fingerprint("vote", 1, &map(&[("samples", json!(16)), ("seed", json!(1))]), &inputs),
            fingerprint("vote", 1, &map(&[("samples", json!(32)), ("seed", json!(1))]), &other),
        ] {
            assert_ne!(base, changed);
        }
    }
}
