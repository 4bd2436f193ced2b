//! A committed artifact, for reading.

use std::path::PathBuf;

use evoq_schemas::Table;

use crate::files::{content_digest, write_file};
use crate::{Error, Location, Manifest, Part, Result};

/// All that one step wrote.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What it holds.
    pub manifest: Manifest,
    location: Location,
}

impl Artifact {
    /// Opens the artifact at `uri`.
    pub fn open(uri: &str) -> Result<Self> {
        Self::at(&Location::open(uri)?)
    }

    /// Opens the artifact at `location`.
    pub fn at(location: &Location) -> Result<Self> {
        let place = location.join("manifest.json");
        let bytes = match place.get() {
            Err(Error::NotFound { .. }) => return Err(Error::NoArtifact { uri: location.uri().to_owned() }),
            other => other?,
        };
        let corrupt = |what: String| Error::Corrupt { uri: place.uri().to_owned(), what };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(format!("is not a manifest: {error}")))?;
        if manifest.evoq != Manifest::LAYOUT {
            let (found, expected) = (manifest.evoq, Manifest::LAYOUT);
            let what =
                format!("has layout {found}; this release reads {expected}: read it with the release that wrote it");
            return Err(corrupt(what));
        }
        Ok(Self { manifest, location: location.clone() })
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The fingerprint of the step that wrote it.
    pub fn fingerprint(&self) -> &str {
        &self.manifest.fingerprint
    }

    /// The parts of the table `T`, in the order of their rows.
    pub fn parts<T: Table>(&self) -> Result<Vec<Part>> {
        self.table_parts(T::NAME)
    }

    /// The parts of the table `name`, in the order of their rows.
    pub fn table_parts(&self, name: &str) -> Result<Vec<Part>> {
        let table = self.manifest.tables.get(name).ok_or_else(|| Error::NoTable {
            uri: self.location.uri().to_owned(),
            table: name.to_owned(),
            found: self.manifest.tables.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        Ok(table.parts.iter().map(|entry| Part::new(&self.location, entry.clone())).collect())
    }

    /// The rows of the table `T`.
    pub fn rows<T: Table>(&self) -> Result<Vec<T>> {
        self.rows_without(&[])
    }

    /// The rows of the table `T`; the columns in `without`, which must be nullable, are not read and are null.
    pub fn rows_without<T: Table>(&self, without: &[&str]) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        for part in self.parts::<T>()? {
            rows.extend(part.rows::<T>(without)?);
        }
        Ok(rows)
    }

    /// The checkpoint folder on this machine: the artifact's own, or a checked copy of it in the cache (`EVOQ_CACHE`).
    pub fn policy_folder(&self) -> Result<PathBuf> {
        if self.manifest.policy.is_empty() {
            return Err(Error::NoTable {
                uri: self.location.uri().to_owned(),
                table: "policy".to_owned(),
                found: self.manifest.tables.keys().cloned().collect::<Vec<_>>().join(", "),
            });
        }
        let place = self.location.join("policy");
        if let Some(path) = place.local() {
            return Ok(path.to_path_buf());
        }
        let folder = cache_folder().join("policy").join(self.fingerprint());
        for file in &self.manifest.policy {
            let path = folder.join(&file.name);
            if !content_digest(&path).is_ok_and(|digest| digest == file.digest) {
                let remote = place.join(&file.name);
                let bytes = remote.get()?;
                if blake3::hash(&bytes).to_hex().as_str() != file.digest {
                    return Err(Error::Corrupt {
                        uri: remote.uri().to_owned(),
                        what: "does not have the digest that the manifest states; fetch or make it again".to_owned(),
                    });
                }
                write_file(&path, &bytes)?;
            }
        }
        Ok(folder)
    }
}

/// Where copies of remote policies are kept: `EVOQ_CACHE`, else `~/.cache/evoq`, else the system's temporary folder.
fn cache_folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/evoq"));
    std::env::var_os("EVOQ_CACHE").map(PathBuf::from).or_else(home).unwrap_or_else(|| std::env::temp_dir().join("evoq"))
}
