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

/// `values` with each path that stands for content outside the store replaced by the digest of that content.
///
/// A `path` parameter must exist; a `source` may be something else (`procedural:…`), which then stands as it is.
pub fn content_parameters(description: &Description, values: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut values = values.clone();
    for parameter in &description.parameters {
        let Some(text) = values.get(&parameter.name).and_then(Value::as_str) else { continue };
        let is_content = match parameter.r#type.as_str() {
            "path" => true,
            "source" => Path::new(text).exists(),
            _ => false,
        };
        if is_content {
            let digest = content_digest(Path::new(text))?;
            values.insert(parameter.name.clone(), json!({ "content": digest }));
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
