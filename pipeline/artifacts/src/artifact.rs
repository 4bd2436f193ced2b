//! A committed artifact, for reading.

use bytes::Bytes;
use evoq_schemas::Table;

use crate::{Error, Location, Manifest, Part, Result, read};

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
        match location.join("manifest.json").get() {
            Err(Error::NotFound { .. }) => Err(Error::NoArtifact { uri: location.uri().to_owned() }),
            bytes => Self::of(location, &bytes?),
        }
    }

    /// The artifacts at `locations`, which are in one store, none where there is none. Many are looked for at the same time.
    pub fn at_each(locations: &[Location]) -> Result<Vec<Option<Self>>> {
        let places: Vec<Location> = locations.iter().map(|location| location.join("manifest.json")).collect();
        let opened =
            |(location, bytes): (&Location, Option<Bytes>)| bytes.map(|it| Self::of(location, &it)).transpose();
        locations.iter().zip(Location::get_each(&places)?).map(opened).collect()
    }

    fn of(location: &Location, manifest: &[u8]) -> Result<Self> {
        let corrupt = |what: String| Error::Corrupt { uri: location.join("manifest.json").uri().to_owned(), what };
        let manifest = read::manifest(manifest).map_err(corrupt)?;
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

    /// Removes the artifact: its manifest first, so that it is never seen half gone, then everything else below its prefix.
    pub fn remove(self) -> Result<()> {
        self.location.join("manifest.json").delete()?;
        let rest: Vec<Location> = self.location.list()?.iter().map(|(name, _)| self.location.join(name)).collect();
        Location::delete_all(&rest.iter().collect::<Vec<_>>())
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
}
