//! `run:` steps: a command of any language in place of a stage. It gets folders of this machine to read and to write, and
//! what it wrote is checked row by row before it is committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use evoq_artifacts::{
    Artifact, Draft, TableWriter, checkpoint, content_digest, list_files, make_folder, read_file, write_file,
};
use evoq_schemas::{RowError, Table, conform};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value as Json, json};

use crate::call::{Folders, check_table};
use crate::error::{Error, Result};
use crate::expand::{From, Instance};
use crate::problem::{Problem, suggestion};
use crate::read::Reader;
use crate::step::Command;
use crate::tree::Node;

/// A command with its placeholders still in place.
#[derive(Debug, Clone)]
pub struct ForeignCall {
    /// The program and its arguments; a file among them is an absolute path.
    pub arguments: Vec<String>,
    /// What counts in the fingerprint.
    pub parameters: Map<String, Json>,
    /// The tables (or `policy`) of the inputs, by input.
    pub tables: BTreeMap<String, String>,
    /// The tables (or `policy`) it writes.
    pub outputs: Vec<String>,
    /// The values of `{with.NAME}` and `{seed}`.
    words: BTreeMap<String, String>,
    /// Where it runs: the workflow file's folder.
    pub folder: PathBuf,
}

/// Checks a `run:` step.
pub fn check(
    instance: &Instance,
    command: &Command,
    instances: &[Instance],
    writes: &[Vec<String>],
    reader: &mut Reader,
) -> BTreeMap<String, String> {
    let step = &instance.step;
    let mut tables = BTreeMap::new();
    for (input, feeds) in step.inputs.iter().zip(&instance.feeds) {
        let mut wanted = input.name.text.clone();
        for feed in feeds {
            let From::Step { instance: source, table: chosen } = &feed.from else { continue };
            wanted = chosen.clone().unwrap_or(wanted);
            check_table(&wanted, None, &instances[*source], &writes[*source], feed.place, reader);
        }
        tables.insert(input.name.text.clone(), wanted);
    }
    let known = evoq_schemas::tables();
    for output in &command.outputs {
        let is_known = output.text == "policy" || known.iter().any(|table| table.name == output.text);
        if !is_known {
            let near = suggestion(&output.text, known.iter().map(|table| table.name).chain(["policy"]));
            let message = format!("step `{}`: there is no table `{}`{near}", step.name.text, output.text);
            reader.problems.push(Problem::new(output.place, message));
        }
    }
    check_placeholders(instance, command, reader);
    tables
}

fn check_placeholders(instance: &Instance, command: &Command, reader: &mut Reader) {
    let step = &instance.step;
    let what = format!("step `{}`", step.name.text);
    let mut known = vec!["seed".to_owned()];
    known.extend(step.inputs.iter().map(|input| format!("in.{}", input.name.text)));
    known.extend(command.outputs.iter().map(|output| format!("out.{}", output.text)));
    known.extend(step.with.iter().map(|(key, _)| format!("with.{}", key.text)));
    let mut used = Vec::new();
    for argument in &command.arguments {
        let Some(text) = reader.word(argument, &format!("{what}: an argument")) else { continue };
        for name in placeholders(&text) {
            if !known.iter().any(|it| it == name) {
                let near = suggestion(name, known.iter().map(String::as_str));
                let message = format!("{what}: `{{{name}}}` names nothing{near}");
                reader.problems.push(Problem::new(argument.place, message));
            }
            used.push(name.to_owned());
        }
    }
    for output in &command.outputs {
        if !used.contains(&format!("out.{}", output.text)) {
            let message = format!("{what}: no argument tells the command where `{0}` goes", output.text);
            let help = format!("write `\"{{out.{}}}\"` among the arguments", output.text);
            reader.problems.push(Problem::new(output.place, message).help(help));
        }
    }
}

/// The command with its files found and their content known.
pub fn call(
    instance: &Instance,
    command: &Command,
    tables: BTreeMap<String, String>,
    seed: u64,
    folders: &Folders,
) -> Result<ForeignCall> {
    let mut arguments = Vec::new();
    let mut counted = Vec::new();
    let mut words = BTreeMap::from([("seed".to_owned(), seed.to_string())]);
    for (i, node) in command.arguments.iter().enumerate() {
        let text = word(node);
        let path = PathBuf::from(folders.absolute(&text, node.origin));
        // A program without a slash is looked for on the PATH, whatever lies beside the workflow.
        let may_be_path = i > 0 || text.contains('/');
        if may_be_path && path.is_file() {
            counted.push(json!({ "content": content_digest(&path)? }));
            arguments.push(path.display().to_string());
        } else if text.contains('/') && path.is_dir() {
            counted.push(json!(text));
            arguments.push(path.display().to_string());
        } else {
            counted.push(json!(text));
            arguments.push(text);
        }
    }
    let outputs: Vec<String> = command.outputs.iter().map(|output| output.text.clone()).collect();
    let mut parameters = Map::from_iter([("run".to_owned(), json!(counted)), ("out".to_owned(), json!(outputs))]);
    for (key, node) in &instance.step.with {
        parameters.insert(format!("with.{}", key.text), json!(word(node)));
        words.insert(format!("with.{}", key.text), word(node));
    }
    if command.arguments.iter().any(|node| placeholders(&word(node)).contains(&"seed")) {
        parameters.insert("seed".to_owned(), json!(seed));
    }
    Ok(ForeignCall { arguments, parameters, tables, outputs, words, folder: folders.file.clone() })
}

fn word(node: &Node) -> String {
    match &node.value {
        crate::tree::Value::Scalar(Json::String(text)) => text.clone(),
        crate::tree::Value::Scalar(value) => value.to_string(),
        _ => String::new(),
    }
}

/// The names of the placeholders in `text`: `in.pairs`, `out.votes`, `with.k`, `seed`. Other braces are text.
fn placeholders(text: &str) -> Vec<&str> {
    let names = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    names.filter(|name| is_placeholder(name)).collect()
}

fn is_placeholder(name: &str) -> bool {
    name == "seed" || ["in.", "out.", "with."].iter().any(|kind| name.starts_with(kind))
}

impl ForeignCall {
    /// Copies the inputs below `scratch` and gives the argument list with the placeholders filled.
    pub fn prepare(&self, inputs: &[(String, Vec<String>)], scratch: &Path) -> Result<Vec<String>> {
        let mut words = self.words.clone();
        for (name, uris) in inputs {
            let folder = scratch.join(format!("in-{name}"));
            let table = self.tables.get(name).unwrap_or(name);
            let place = if table == "policy" { policy_place(uris)? } else { copy_tables(table, uris, &folder)? };
            words.insert(format!("in.{name}"), place.display().to_string());
        }
        for (output, folder) in self.outputs.iter().zip(self.fills(scratch)) {
            make_folder(&folder)?;
            words.insert(format!("out.{output}"), folder.display().to_string());
        }
        let fill = |argument: &String| {
            placeholders(argument).into_iter().fold(argument.clone(), |text, name| {
                words.get(name).map_or(text.clone(), |word| text.replace(&format!("{{{name}}}"), word))
            })
        };
        Ok(self.arguments.iter().map(fill).collect())
    }

    /// The folders below `scratch` that it writes its outputs into, in their order.
    pub fn fills(&self, scratch: &Path) -> Vec<PathBuf> {
        self.outputs.iter().map(|output| scratch.join(format!("out-{output}"))).collect()
    }

    /// Takes what the command wrote below `scratch` into the artifact, checked.
    pub fn collect(&self, draft: &mut Draft, scratch: &Path) -> Result<()> {
        for (output, folder) in self.outputs.iter().zip(self.fills(scratch)) {
            if output == "policy" {
                let is_whole = checkpoint::files(&folder)
                    .is_ok_and(|files| files.iter().any(|name| name.ends_with(".safetensors")));
                if !is_whole {
                    let message =
                        "the command wrote no checkpoint (config.json and model*.safetensors) into {out.policy}";
                    return Err(Error::BadInput(message.to_owned()));
                }
                draft.put_policy(&folder)?;
                continue;
            }
            let mut names = list_files(&folder)?;
            names.retain(|name| name.ends_with(".parquet"));
            if names.is_empty() {
                let message = format!("the command wrote no Parquet file (NAME.parquet) into {{out.{output}}}");
                return Err(Error::BadInput(message));
            }
            let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
            take_named(draft, output, &files)?;
        }
        Ok(())
    }
}

fn policy_place(uris: &[String]) -> Result<PathBuf> {
    let [uri] = uris else {
        return Err(Error::BadInput(format!("{} policies were given to one input; expected one", uris.len())));
    };
    match Artifact::open(uri) {
        Ok(artifact) => Ok(artifact.policy_folder()?),
        Err(evoq_artifacts::Error::NoArtifact { .. }) => Ok(checkpoint::folder(uri)?),
        Err(error) => Err(error.into()),
    }
}

/// Copies the parts of `table` of all artifacts into `folder`; sorted by name they are in the order of the rows.
fn copy_tables(table: &str, uris: &[String], folder: &Path) -> Result<PathBuf> {
    for (i, uri) in uris.iter().enumerate() {
        for (j, part) in Artifact::open(uri)?.table_parts(table)?.iter().enumerate() {
            let bytes = part.location().get()?;
            write_file(&folder.join(format!("{i:03}-{j:05}.parquet")), &bytes)?;
        }
    }
    Ok(folder.to_path_buf())
}

/// Reads `files` as the table `name` into `draft`.
fn take_named(draft: &mut Draft, name: &str, files: &[PathBuf]) -> Result<()> {
    macro_rules! by_name {
        ($($row:ident),+) => {
            $(if name == evoq_schemas::$row::NAME {
                return take::<evoq_schemas::$row>(draft, files);
            })+
        };
    }
    by_name!(
        Image,
        Rating,
        Reject,
        Pair,
        Vote,
        Label,
        LabelReport,
        Target,
        Demonstration,
        Rollout,
        Update,
        Reward,
        Score,
        Prediction,
        Correlation,
        Difference
    );
    Err(Error::BadInput(format!("there is no table `{name}`")))
}

fn take<T: Table>(draft: &mut Draft, files: &[PathBuf]) -> Result<()> {
    let mut writer: TableWriter<T> = draft.table();
    for file in files {
        let fault = |what: String| evoq_artifacts::Error::Corrupt { uri: file.display().to_string(), what };
        let bytes = Bytes::from(read_file(file)?);
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(1024).build())
            .map_err(|error| fault(format!("cannot be read as Parquet: {error}")))?;
        let mut before = 0;
        for batch in batches {
            let batch = batch.map_err(|error| fault(format!("cannot be read as Parquet: {error}")))?;
            let row_fault = |source| evoq_artifacts::Error::Row {
                uri: file.display().to_string(),
                source: counted_from(before, source),
            };
            let rows = T::rows(&conform::<T>(&batch).map_err(row_fault)?).map_err(row_fault)?;
            before += rows.len();
            for row in rows {
                writer.push(row)?;
            }
        }
    }
    draft.add(T::NAME, writer.finish()?);
    Ok(())
}

/// The error with its row counted from the start of the file.
fn counted_from(before: usize, error: RowError) -> RowError {
    match error {
        RowError::Value { table, row, what } => RowError::Value { table, row: before + row, what },
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use evoq_artifacts::Location;
    use evoq_schemas::PairId;
    use parquet::arrow::ArrowWriter;

    pub(crate) fn place(path: &Path) -> Location {
        Location::open(path.to_str().unwrap()).unwrap()
    }

    /// A table of `rows` pairs as a program elsewhere writes it; `torn` gives it ids that are numbers.
    pub(crate) fn pairs_file(path: &Path, rows: usize, torn: bool) {
        let text = |word: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("{word}{i}"))))
        };
        let id = |i: usize| PairId::of(&format!("a{i}").into(), &format!("b{i}").into()).to_string();
        let ids: ArrayRef = if torn {
            Arc::new(Int64Array::from_iter_values(0..rows as i64))
        } else {
            Arc::new(StringArray::from_iter_values((0..rows).map(id)))
        };
        let design: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| "random")));
        let references = arrow_array::new_null_array(&arrow_schema::DataType::Utf8, rows);
        let columns = [
            ("reference_id", references),
            ("pair_id", ids),
            ("image_a", text("a")),
            ("image_b", text("b")),
            ("design", design),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        write_file(path, &writer.into_inner().unwrap()).unwrap();
    }

    #[test]
    fn only_the_named_placeholders_are_placeholders() {
        assert_eq!(
            placeholders("{in.pairs} {x} {\"a\": 1} --seed={seed}{out.votes}"),
            ["in.pairs", "seed", "out.votes"]
        );
    }

    #[test]
    fn a_policy_without_weights_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        let header = evoq_artifacts::Header {
            stage: "tune".to_owned(),
            stage_version: 1,
            fingerprint: "f".to_owned(),
            parameters: Map::new(),
            inputs: BTreeMap::new(),
        };
        let mut draft = Draft::new(&place(&folder.path().join("store")), header);
        let call = ForeignCall {
            arguments: Vec::new(),
            parameters: Map::new(),
            tables: BTreeMap::new(),
            outputs: vec!["policy".to_owned()],
            words: BTreeMap::new(),
            folder: PathBuf::new(),
        };
        let scratch = folder.path().join("scratch");
        call.prepare(&[], &scratch).unwrap();
        write_file(&scratch.join("out-policy/config.json"), b"{}").unwrap();
        let told = call.collect(&mut draft, &scratch).unwrap_err();
        assert!(told.to_string().contains("model*.safetensors"), "{told}");
        write_file(&scratch.join("out-policy/model.safetensors"), b"").unwrap();
        call.collect(&mut draft, &scratch).unwrap();
    }

    #[test]
    fn a_command_may_write_every_table_that_a_stage_may() {
        let folder = tempfile::tempdir().unwrap();
        for table in evoq_schemas::tables() {
            let file = folder.path().join(format!("{}.parquet", table.name));
            let writer = ArrowWriter::try_new(Vec::new(), (table.schema)(), None).unwrap();
            write_file(&file, &writer.into_inner().unwrap()).unwrap();
            let header = evoq_artifacts::Header {
                stage: "s".to_owned(),
                stage_version: 1,
                fingerprint: "f".to_owned(),
                parameters: Map::new(),
                inputs: BTreeMap::new(),
            };
            let mut draft = Draft::new(&place(&folder.path().join("store").join(table.name)), header);
            take_named(&mut draft, table.name, &[file]).unwrap();
        }
    }

    #[test]
    fn a_row_is_counted_from_the_start_of_its_file() {
        let error = RowError::Value { table: "pairs", row: 3, what: "x".to_owned() };
        assert_eq!(counted_from(1024, error), RowError::Value { table: "pairs", row: 1027, what: "x".to_owned() });
    }
}
