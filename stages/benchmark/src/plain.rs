//! `evoq-benchmark --table FILE.csv`: the coefficients of two columns of a plain file, for people who have no artifact.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int8Type, UInt32Type};
use arrow_array::{Array, ArrayRef};
use clap::Parser;
use evoq_artifacts::read_file;
use evoq_schemas::{Correlation, Decoding, Table, Truth};
use evoq_stage::bad_input;
use serde_json::{Map, Value};

use crate::coefficients::Judged;
use crate::correlation::is_constant;
use crate::groups::Group;
use crate::markdown::{Cells, fitted, with_interval};
use crate::measure::measure;
use crate::subset::{ALL, Subset};
use crate::weights::Weights;
use crate::{Against, Args};

/// The fewest rows that have a correlation worth the name.
const FEWEST: usize = 3;

/// Correlates two columns of a csv file: PLCC, SRCC, KRCC and RMSE, raw and after the logistic fits.
#[derive(Debug, Parser)]
#[command(
    name = "evoq-benchmark",
    after_help = "Without --table: evoq-benchmark --help, for tables of scores and ratings."
)]
pub(crate) struct Plain {
    /// The csv file; its first line names the columns
    #[arg(long, value_name = "FILE.csv")]
    table: PathBuf,
    /// The column of predictions
    #[arg(long, value_name = "COLUMN")]
    predicted: String,
    /// The column of the truth; larger is better in both
    #[arg(long, value_name = "COLUMN")]
    truth: String,
    /// Measure the rows of each value of this column by themselves, beside all
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// Bootstrap resamples for the 95 % intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    resamples: u32,
    /// The seed of the resamples
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The form of the result
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Columns for people.
    Table,
    /// One JSON object, or with --group one by group.
    Json,
    /// A Markdown table.
    Markdown,
}

/// Predictions and truths of the rows of each group.
type Groups = BTreeMap<String, (Vec<f64>, Vec<f64>)>;

/// The text that `arguments`, the program's name first, ask for.
pub(crate) fn text(arguments: &[OsString]) -> anyhow::Result<String> {
    let plain = Plain::try_parse_from(arguments)?;
    let groups = plain.read()?;
    let mut found = BTreeMap::new();
    for (name, (predicted, truth)) in &groups {
        found.insert(name.as_str(), plain.measure(name, predicted, truth)?);
    }
    Ok(match (plain.format, &plain.group) {
        (Format::Json, None) => serde_json::to_string_pretty(&json(&found[ALL]))? + "\n",
        (Format::Json, Some(_)) => {
            let found: BTreeMap<_, _> = found.iter().map(|(name, row)| (name, json(row))).collect();
            serde_json::to_string_pretty(&found)? + "\n"
        }
        (Format::Table, _) => cells(&found).plain(),
        (Format::Markdown, _) => cells(&found).markdown(),
    })
}

impl Plain {
    /// The values of both columns by group, all rows under [`ALL`].
    fn read(&self) -> anyhow::Result<Groups> {
        let file = self.table.display();
        let bytes = read_file(&self.table)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
        let names = reader.headers().map_err(|error| bad_input(format!("{file}: {error}")))?.clone();
        let place = |name: &str| {
            names.iter().position(|it| it == name).ok_or_else(|| {
                let known: Vec<&str> = names.iter().collect();
                bad_input(format!("{file}: there is no column `{name}`; it has {}", known.join(", ")))
            })
        };
        let (predicted, truth) = (place(&self.predicted)?, place(&self.truth)?);
        let group = self.group.as_deref().map(place).transpose()?;
        let mut groups = Groups::new();
        for row in reader.records() {
            let row = row.map_err(|error| bad_input(format!("{file}: {error}")))?;
            let line = row.position().map_or(0, csv::Position::line);
            let number = |at: usize| number(&self.table, line, &names[at], row.get(at).unwrap_or_default());
            let (x, y) = (number(predicted)?, number(truth)?);
            let of_row = group.and_then(|at| row.get(at)).map(str::to_owned);
            if of_row.as_deref() == Some(ALL) {
                return Err(bad_input(format!(
                    "{file}, line {line}: a group is named `{ALL}`, which stands for all rows; rename it"
                )));
            }
            for name in of_row.into_iter().chain([ALL.to_owned()]) {
                let (xs, ys) = groups.entry(name).or_default();
                xs.push(x);
                ys.push(y);
            }
        }
        groups.entry(ALL.to_owned()).or_default();
        Ok(groups)
    }

    /// The row of the table `correlations` that two columns alone can fill.
    fn measure(&self, group: &str, predicted: &[f64], truth: &[f64]) -> anyhow::Result<Correlation> {
        let fault = |what: String| bad_input(format!("{}, group `{group}`: {what}", self.table.display()));
        let n = predicted.len();
        if n < FEWEST {
            return Err(fault(format!("{n} rows have no correlation; expected at least {FEWEST}")));
        }
        for (column, values) in [(&self.predicted, predicted), (&self.truth, truth)] {
            if is_constant(values) {
                return Err(fault(format!(
                    "all values of `{column}` are {}; a correlation needs at least two different ones",
                    values[0]
                )));
            }
        }
        let judged = |(row, (score, truth)): (usize, (&f64, &f64))| Judged {
            image_id: row.to_string().into(),
            distortion: None,
            truth: *truth,
            score: Some(*score),
            valid: 1,
            replies: 1,
        };
        let rows = Group {
            policy: self.predicted.clone(),
            dataset: group.to_owned(),
            decoding: Decoding::Greedy,
            samples: 1,
            pictures: predicted.iter().zip(truth).enumerate().map(judged).collect(),
        };
        let args = Args {
            truth: Against::Mos,
            subset: Vec::new(),
            resamples: self.resamples,
            weights: Weights::Pictures,
            baseline: None,
            seed: self.seed,
        };
        let measured = measure(&args, &rows, Truth::Mos, &Subset { name: ALL.to_owned(), types: None })?;
        measured
            .into_iter()
            .map(|it| it.row)
            .find(|row| row.plcc.is_some())
            .ok_or_else(|| fault("a coefficient is not defined: the values differ by less than can be told".to_owned()))
    }
}

fn number(file: &Path, line: u64, column: &str, text: &str) -> anyhow::Result<f64> {
    text.parse::<f64>().ok().filter(|it| it.is_finite()).ok_or_else(|| {
        bad_input(format!(
            "{}, line {line}, column `{column}`: `{text}` is not a finite number; correct it or leave the row out",
            file.display()
        ))
    })
}

/// The pictures and what can be null in a row of `correlations`: coefficients, intervals and fits, under the columns' names.
fn json(row: &Correlation) -> Map<String, Value> {
    let batch = Correlation::batch(std::slice::from_ref(row));
    let columns = Correlation::columns().into_iter().zip(batch.columns().to_vec());
    let told = columns.filter(|(field, _)| field.name() == "n" || field.is_nullable());
    told.map(|(field, cells)| (field.name().clone(), first(&cells))).collect()
}

fn first(cells: &ArrayRef) -> Value {
    if cells.is_null(0) {
        return Value::Null;
    }
    let float = cells.as_primitive_opt::<Float64Type>().map(|it| Value::from(it.value(0)));
    let count = || cells.as_primitive_opt::<UInt32Type>().map(|it| Value::from(it.value(0)));
    let sign = || cells.as_primitive_opt::<Int8Type>().map(|it| Value::from(it.value(0)));
    let flag = || cells.as_boolean_opt().map(|it| Value::from(it.value(0)));
    float.or_else(count).or_else(sign).or_else(flag).expect("the columns of coefficients are of these types")
}

/// A line for each group.
fn cells(found: &BTreeMap<&str, Correlation>) -> Cells {
    let mut cells = Cells::new(&["group", "n", "PLCC", "SRCC", "KRCC", "RMSE", "PLCC fit4", "PLCC fit5", "sign"]);
    for (name, it) in found {
        cells.row([
            (*name).to_owned(),
            it.n.to_string(),
            with_interval(it.plcc, it.plcc_low, it.plcc_high),
            with_interval(it.srcc, it.srcc_low, it.srcc_high),
            with_interval(it.krcc, it.krcc_low, it.krcc_high),
            with_interval(it.rmse, it.rmse_low, it.rmse_high),
            fitted(it.plcc_fit4, it.fit4_converged),
            fitted(it.plcc_fit5, it.fit5_converged),
            it.sign.map_or_else(|| "-".to_owned(), |it| format!("{it:+}")),
        ]);
    }
    cells
}

#[cfg(test)]
mod tests {
    use evoq_artifacts::write_file;

    use super::*;

    const ROWS: &str = "name, score ,mos,set\na,1,1.5,x\nb,2,1.0,x\n\"c, d\",3,4,y\ne,4,3,y\nf,5,5,x\ng,2.5,2.5,y\n";

    fn ask(csv: &str, more: &[&str]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        write_file(&file, csv.as_bytes()).unwrap();
        let fixed = ["evoq-benchmark", "--table", file.to_str().unwrap(), "--predicted", "score", "--truth", "mos"];
        let arguments: Vec<OsString> = fixed.iter().chain(more).map(OsString::from).collect();
        text(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn json_has_the_coefficients_under_their_names() {
        let json: serde_json::Value = serde_json::from_str(&ask(ROWS, &["--format", "json"]).unwrap()).unwrap();
        assert_eq!(json["n"], 6);
        // Two swaps of neighbours among six: Spearman 1 - 6·4 / (6·35), Kendall (13 - 2) / 15.
        assert!((json["srcc"].as_f64().unwrap() - (1.0 - 24.0 / 210.0)).abs() < 1e-12, "{json}");
        assert!((json["krcc"].as_f64().unwrap() - 11.0 / 15.0).abs() < 1e-12, "{json}");
        assert!(json["plcc_fit4"].as_f64().unwrap() > 0.8);
        assert_eq!(json["sign"], 1);
        let grouped: serde_json::Value =
            serde_json::from_str(&ask(ROWS, &["--format", "json", "--group", "set"]).unwrap()).unwrap();
        assert_eq!((&grouped["x"]["n"], &grouped["all"]["srcc"]), (&3.into(), &json["srcc"]));
    }

    #[test]
    fn a_table_is_for_people() {
        let text = ask(ROWS, &["--resamples", "0", "--group", "set", "--format", "markdown"]).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_cannot_be_measured_is_refused_by_line_and_column() {
        for (csv, more, named) in [
            ("name,score,mos\na,1,2\nb,x,3\n", &[][..], "line 3, column `score`: `x`"),
            ("name,score,mos\na,1,NaN\n", &[], "line 2, column `mos`: `NaN`"),
            ("name,score,mos\na,1,\n", &[], "line 2, column `mos`: ``"),
            ("name,score,mos\na,1,2\nb,2,3\n", &[], "2 rows"),
            ("name,score,mos\n", &[], "0 rows"),
            ("name,score,mos\na,1,2\nb,1,3\nc,1,4\n", &[], "all values of `score` are 1"),
            ("name,score,mos\na,1,2\nb,2,2\nc,3,2\n", &[], "all values of `mos` are 2"),
            ("name,score,mos\na,0,1\nb,1e-200,2\nc,2e-200,3\n", &[], "not defined"),
            ("name,mos\na,1\n", &[], "no column `score`; it has name, mos"),
            ("name,score,mos\na,1\n", &[], "a.csv"),
            ("name,score,mos,g\na,1,2,all\n", &["--group", "g"], "`all`"),
        ] {
            let error = ask(csv, more).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
