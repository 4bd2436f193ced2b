//! An artifact in the making: tables and files are put, then the manifest, last and create-only.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use evoq_schemas::Table;

use crate::policy::{self, PutPolicy};
use crate::{Artifact, Created, Error, Location, Manifest, Mark, Receipt, Result, TableParts, TableWriter};

/// What a step is, before it has written anything.
#[derive(Debug, Clone)]
pub struct Header {
    /// The stage.
    pub stage: String,
    /// The version of its algorithm.
    pub stage_version: u32,
    /// The step's fingerprint.
    pub fingerprint: String,
    /// The parameters after defaults.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// The fingerprints of what is read, by input.
    pub inputs: BTreeMap<String, Vec<String>>,
}

/// An artifact in the making.
#[derive(Debug, Clone)]
pub struct Draft {
    location: Location,
    manifest: Manifest,
    put: PutPolicy,
}

impl Draft {
    /// Starts an artifact at `location`.
    pub fn new(location: &Location, header: Header) -> Self {
        let manifest = Manifest {
            evoq: Manifest::LAYOUT,
            stage: header.stage,
            stage_version: header.stage_version,
            fingerprint: header.fingerprint,
            parameters: header.parameters,
            inputs: header.inputs,
            tables: BTreeMap::new(),
            policy: Vec::new(),
        };
        Self { location: location.clone(), manifest, put: PutPolicy::default() }
    }

    /// Where the artifact is made.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The step's fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.manifest.fingerprint
    }

    /// The stage and its version, as files record them.
    pub(crate) fn stage(&self) -> String {
        format!("{} {}", self.manifest.stage, self.manifest.stage_version)
    }

    /// Whose artifact it is, as records in scratch say it.
    pub(crate) fn mark(&self) -> Mark {
        let Manifest { stage, stage_version, fingerprint, .. } = &self.manifest;
        Mark { stage: stage.clone(), stage_version: *stage_version, fingerprint: fingerprint.clone() }
    }

    /// A writer of the table `T`.
    pub fn table<T: Table>(&self) -> TableWriter<T> {
        TableWriter::new(&self.location, &self.stage())
    }

    /// Adds the parts of a table that has been written.
    pub fn add(&mut self, table: &str, parts: TableParts) {
        self.manifest.tables.insert(table.to_owned(), parts);
    }

    /// Adds what the units of `receipts`, which are in their order, wrote of the table `T`.
    pub fn add_units<T: Table>(&mut self, receipts: &[Receipt]) -> Result<()> {
        let shares = receipts.iter().filter_map(|receipt| receipt.tables.get(T::NAME));
        let mut table = TableParts::default();
        for share in shares {
            table.rows += share.rows;
            table.parts.extend_from_slice(&share.parts);
        }
        if table.parts.is_empty() {
            table = self.table::<T>().finish()?;
        }
        self.add(T::NAME, table);
        Ok(())
    }

    /// Puts the checkpoint folder `folder` as the artifact's policy. Where another run has committed meanwhile, its files are
    /// left as its manifest states them.
    pub fn put_policy(&mut self, folder: &Path) -> Result<()> {
        let put = policy::put(&self.location, folder)?;
        self.manifest.policy.extend_from_slice(&put.files);
        self.put = put;
        Ok(())
    }

    /// Commits: the manifest is created, and read back. Where another run finished first, its artifact is the one.
    pub fn commit(self) -> Result<Artifact> {
        // Another run of this step may have put its own policy over this one's meanwhile: then that is the one to commit.
        policy::check_put(&self.location, &self.put, "nothing is committed: run the step again")?;
        let place = self.location.join("manifest.json");
        let mut text = serde_json::to_string_pretty(&self.manifest).expect("a manifest is plain data");
        text.push('\n');
        let created = place.create(Bytes::from(text))?;
        let found = Artifact::at(&self.location)?;
        // A store that ignores create-only puts shows here; so does a prefix that belongs to another step.
        let theirs = created == Created::Exists && found.fingerprint() == self.manifest.fingerprint;
        if theirs {
            Ok(found)
        } else if found.manifest == self.manifest {
            policy::check_put(&self.location, &self.put, policy::REMOVE)?;
            Ok(found)
        } else {
            Err(Error::Conflict { uri: place.uri().to_owned() })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use evoq_schemas::{Design, Image, ImageId, Pair, PairId, Picture};

    pub(crate) fn header(fingerprint: &str) -> Header {
        Header {
            stage: "pair".to_owned(),
            stage_version: 1,
            fingerprint: fingerprint.to_owned(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
        }
    }

    /// Pairs of pictures that follow each other.
    pub(crate) fn pairs(count: usize) -> Vec<Pair> {
        let id = |i: usize| ImageId::from(format!("set/{i:05}.png"));
        (0..count)
            .map(|i| Pair {
                pair_id: PairId::of(&id(i), &id(i + 1)),
                image_a: id(i),
                image_b: id(i + 1),
                design: Design::Random,
                reference_id: None,
            })
            .collect()
    }

    fn write<T: Table>(place: &Location, rows: &[T], fingerprint: &str) -> Result<Artifact> {
        let mut draft = Draft::new(place, header(fingerprint));
        let mut writer = draft.table::<T>();
        for row in rows {
            writer.push(row.clone())?;
        }
        draft.add(T::NAME, writer.finish()?);
        draft.commit()
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        let rows = pairs(3000);
        write(&place, &rows, "f").unwrap();
        assert_eq!(Artifact::at(&place).unwrap().rows::<Pair>().unwrap(), rows);
    }

    #[test]
    fn an_empty_table_is_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        assert!(write::<Pair>(&place, &[], "f").unwrap().rows::<Pair>().unwrap().is_empty());
    }

    #[test]
    fn a_prefix_without_a_manifest_does_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        let draft = Draft::new(&place, header("f"));
        draft.table::<Pair>().finish().unwrap();
        assert!(matches!(Artifact::at(&place), Err(Error::NoArtifact { .. })));
    }

    #[test]
    fn the_second_commit_of_a_step_takes_the_first_and_another_step_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        write(&place, &pairs(3), "f").unwrap();
        assert_eq!(write(&place, &pairs(2), "f").unwrap().rows::<Pair>().unwrap().len(), 3);
        assert!(matches!(write(&place, &pairs(2), "g"), Err(Error::Conflict { .. })));
    }

    #[test]
    fn the_policy_of_a_run_that_finished_first_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().join("store").to_str().unwrap()).unwrap();
        let weights = folder.path().join("checkpoint/model.safetensors");
        let commit = |bytes: &[u8]| {
            crate::write_file(&weights, bytes).unwrap();
            let mut draft = Draft::new(&place, header("f"));
            draft.put_policy(weights.parent().unwrap()).unwrap();
            draft.commit().unwrap()
        };
        let first = commit(b"first");
        let second = commit(b"second");
        assert_eq!(second.manifest, first.manifest);
        assert_eq!(place.join("policy/model.safetensors").get().unwrap(), "first");
    }

    #[test]
    fn a_manifest_of_another_layout_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        let mut manifest = write(&place, &pairs(1), "f").unwrap().manifest;
        manifest.evoq = 2;
        place.join("manifest.json").put(Bytes::from(serde_json::to_vec(&manifest).unwrap())).unwrap();
        assert!(Artifact::at(&place).unwrap_err().to_string().contains("layout 2"));
    }

    #[test]
    fn a_page_is_a_picture() {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        let folder = tempfile::tempdir().unwrap();
        let place = Location::open(folder.path().to_str().unwrap()).unwrap();
        let rows: Vec<Image> = (0..100u8)
            .map(|i| Image {
                image_id: ImageId::from(format!("set/{i}")),
                dataset: "set".to_owned(),
                name: i.to_string(),
                image: Some(Picture { bytes: Some(vec![i; 3000]), path: Some(i.to_string()) }),
                width: 1,
                height: 1,
                format: "png".to_owned(),
                digest: String::new(),
                split: None,
                grey: false,
                reference_id: None,
                distortion: None,
                severity: None,
                distortion_seed: None,
                short_side: None,
                crop: None,
            })
            .collect();
        let artifact = write(&place, &rows, "f").unwrap();
        assert_eq!(artifact.rows::<Image>().unwrap(), rows);
        assert_eq!(artifact.rows_without::<Image>(&["image"]).unwrap()[7].image, None);
        let part = artifact.parts::<Image>().unwrap().remove(0);
        let reader = SerializedFileReader::new_with_options(
            part,
            parquet::file::serialized_reader::ReadOptionsBuilder::new().with_page_index().build(),
        )
        .unwrap();
        let column = reader
            .metadata()
            .row_group(0)
            .columns()
            .iter()
            .position(|column| column.column_path().string() == "image.bytes");
        let pages = &reader.metadata().offset_index().unwrap()[0][column.unwrap()].page_locations;
        assert_eq!(pages.len() as i64, reader.metadata().row_group(0).num_rows());
    }
}
