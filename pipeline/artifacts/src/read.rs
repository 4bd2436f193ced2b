//! What is believed of a manifest or a receipt that was read: it has the fields it should have, and names nothing outside its
//! artifact's prefix.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;

use crate::policy::FOLDER;
use crate::{FileEntry, Manifest, TableParts};

/// The field that every layout has.
#[derive(Deserialize)]
struct Layout {
    evoq: u32,
}

/// The manifest in `bytes`, or what is wrong with it.
pub(crate) fn manifest(bytes: &[u8]) -> Result<Manifest, String> {
    let not = |what: &dyn Display| format!("is not a manifest: {what}; remove this artifact and run its step again");
    let damaged = |error: serde_json::Error| not(&error);
    let Layout { evoq: found } = serde_json::from_slice(bytes).map_err(damaged)?;
    if found != Manifest::LAYOUT {
        let expected = Manifest::LAYOUT;
        return Err(format!(
            "has layout {found}; this release reads {expected}: read it with the release that wrote it"
        ));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(damaged)?;
    check(&manifest).map_err(|what| not(&what))?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), String> {
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_word(&manifest.fingerprint) {
        return Err(format!("its fingerprint is {:?}; expected letters and digits", manifest.fingerprint));
    }
    tables(&manifest.tables)?;
    manifest.policy.iter().try_for_each(file)
}

/// What is wrong with the tables of a manifest or a receipt, if something is.
pub(crate) fn tables(tables: &BTreeMap<String, TableParts>) -> Result<(), String> {
    for (name, table) in tables {
        let mut rows = 0u64;
        for part in &table.parts {
            if !is_below(&part.name) || part.name.split('/').next() != Some(name) {
                return Err(format!("table `{name}` has a part {:?}; expected {name}/part-….parquet", part.name));
            }
            digest(&part.name, &part.digest)?;
            rows = rows.checked_add(part.rows).ok_or_else(|| format!("table `{name}` has too many rows"))?;
        }
        if rows != table.rows {
            return Err(format!("table `{name}` states {} rows; its parts have {rows}", table.rows));
        }
    }
    Ok(())
}

/// What is wrong with a file that a manifest or a checkpoint names, if something is.
pub(crate) fn file(file: &FileEntry) -> Result<(), String> {
    if !is_below(&file.name) {
        return Err(format!("its policy has a file {:?}; expected a name below {FOLDER}/", file.name));
    }
    digest(&file.name, &file.digest)
}

/// Whether `name` is that of a file below wherever it is put.
fn is_below(name: &str) -> bool {
    name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains(['\0', '\\'])
}

fn digest(name: &str, digest: &str) -> Result<(), String> {
    if digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(())
    } else {
        Err(format!("{name} has the digest {digest:?}; expected 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PartEntry;

    /// A manifest with a table and a policy.
    fn whole() -> Manifest {
        let digest = "0123456789abcdef".repeat(4);
        let part = |i: usize, rows| PartEntry {
            name: format!("pairs/part-{i:05}-0123456789abcdef.parquet"),
            rows,
            bytes: 1000,
            digest: digest.clone(),
        };
        Manifest {
            evoq: Manifest::LAYOUT,
            stage: "pair".to_owned(),
            stage_version: 1,
            fingerprint: digest.clone(),
            parameters: serde_json::from_str(r#"{"count": 3, "seed": 1}"#).unwrap(),
            inputs: BTreeMap::from([("images".to_owned(), vec![digest.clone()])]),
            tables: BTreeMap::from([("pairs".to_owned(), TableParts { rows: 5, parts: vec![part(0, 2), part(1, 3)] })]),
            policy: vec![FileEntry { name: "a/model.safetensors".to_owned(), bytes: 7, digest }],
        }
    }

    /// What is said of [`whole`] after `change`.
    fn said(change: impl FnOnce(&mut Manifest)) -> String {
        let mut changed = whole();
        change(&mut changed);
        manifest(&serde_json::to_vec(&changed).unwrap()).unwrap_err()
    }

    #[test]
    fn a_whole_manifest_is_read_as_it_was_written() {
        assert_eq!(manifest(&serde_json::to_vec(&whole()).unwrap()).unwrap(), whole());
    }

    #[test]
    fn names_that_lead_out_of_the_prefix_are_refused() {
        for name in
            ["../pairs/a", "pairs/../../a", "/pairs/a", "pairs//a", "pairs/.", "votes/a", "", "pairs/a\\b", "pairs/\0"]
        {
            let said = said(|manifest| manifest.tables.get_mut("pairs").unwrap().parts[0].name = name.to_owned());
            assert!(said.contains("has a part"), "{name}: {said}");
        }
        for name in ["../config.json", "/etc/passwd", "", "a/../../b"] {
            assert!(said(|manifest| manifest.policy[0].name = name.to_owned()).contains("policy"), "{name}");
        }
        assert!(said(|manifest| manifest.fingerprint = "../..".to_owned()).contains("fingerprint"));
    }

    #[test]
    fn rows_and_digests_must_be_what_they_say() {
        assert!(said(|manifest| manifest.tables.get_mut("pairs").unwrap().rows = 4).contains("states 4 rows"));
        assert!(said(|manifest| manifest.policy[0].digest = "xyz".to_owned()).contains("64 hex digits"));
        let flooded = said(|manifest| manifest.tables.get_mut("pairs").unwrap().parts[0].rows = u64::MAX);
        assert!(flooded.contains("too many rows"));
    }

    #[test]
    fn unknown_fields_negative_sizes_and_other_layouts_are_refused() {
        let text = serde_json::to_string(&whole()).unwrap();
        for (from, to, said) in [
            ("\"stage\":", "\"stages\":1,\"stage\":", "unknown field `stages`"),
            ("\"bytes\":7", "\"bytes\":7,\"more\":1", "unknown field `more`"),
            ("\"bytes\":1000", "\"bytes\":-1000", "invalid value"),
            ("\"evoq\":1", "\"evoq\":2,\"new\":1", "layout 2"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let error = manifest(changed.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_manifest_never_names_a_place_outside_its_prefix(
            flips in proptest::collection::vec((0usize..2000, 0u8..8), 0..6),
            length in 0usize..2000,
        ) {
            let mut bytes = serde_json::to_vec_pretty(&whole()).unwrap();
            for (at, bit) in flips {
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            // Half of them are whole, half are cut.
            bytes.truncate(length.max(1) * 2 % (2 * bytes.len()));
            if let Ok(found) = manifest(&bytes) {
                let root = std::path::Path::new("/root/prefix");
                let names = found.tables.values().flat_map(|table| &table.parts).map(|part| &part.name);
                for name in names.chain(found.policy.iter().map(|file| &file.name)) {
                    let path = root.join(name);
                    prop_assert!(path.starts_with(root) && path.components().count() > root.components().count());
                    prop_assert!(!path.components().any(|part| part == std::path::Component::ParentDir));
                }
            }
        }
    }
}
