//! `evoq-benchmark paper [FILE.csv]`: averages over data sets as the paper takes them, recomputed from printed per-set numbers.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use evoq_artifacts::read_file;
use evoq_stage::bad_input;

use crate::markdown::Cells;
use crate::measure::weighted;
use crate::weights::Weights;

/// The figures of the paper that come with the program.
const KNOWN: &str = include_str!("paper.csv");
/// What a printed average is called in the column `dataset`.
const AVERAGE: &str = "average";
/// How far an average of numbers that are printed with three digits may lie from the printed one.
const BOUND: f64 = 0.0008;

/// Recomputes averages over data sets from printed per-set numbers, weighted by the sizes of the paper's test sets, and the gains
/// of each method over the first of its table.
///
/// The file's columns are table, method, coefficient, dataset and value, one number a line; the line whose dataset is `average`
/// holds the printed average. Data sets are named koniq10k, spaq, agiqa3k, livec, kadid10k, pipal, tid2013 and csiq; those that an
/// average leaves out are left out of the file. Lines that start with # are comments.
#[derive(Debug, Parser)]
#[command(name = "evoq-benchmark paper", bin_name = "evoq-benchmark paper")]
struct Paper {
    /// The printed numbers [default: PLCC of the paper's Tables 2 and 3, as far as they are known]
    #[arg(value_name = "FILE.csv")]
    file: Option<PathBuf>,
}

/// The numbers of a method in one table, by one coefficient.
struct Line {
    table: String,
    method: String,
    coefficient: String,
    /// By set, in the order of the file.
    values: Vec<(String, f64)>,
    /// The weights of the sets.
    weights: Vec<f64>,
    printed: Option<f64>,
}

impl Line {
    fn average(&self) -> f64 {
        let values: Vec<f64> = self.values.iter().map(|it| it.1).collect();
        weighted(&values, &self.weights)
    }

    /// The mean of the sets' own gains over `first`; `None` over other sets than its own.
    fn gain(&self, first: &Self) -> Option<f64> {
        let gain = |(set, value): &(String, f64)| {
            first.values.iter().find(|it| it.0 == *set).map(|(_, other)| value / other - 1.0)
        };
        let gains: Option<Vec<f64>> = self.values.iter().map(gain).collect();
        gains.filter(|it| it.len() == first.values.len()).map(|gains| weighted(&gains, &self.weights))
    }
}

/// The text that `arguments`, the command's name first, ask for.
pub(crate) fn text(arguments: &[OsString]) -> anyhow::Result<String> {
    let paper = Paper::try_parse_from(arguments)?;
    let (name, bytes) = match &paper.file {
        Some(file) => (file.display().to_string(), read_file(file)?),
        None => ("the paper's figures".to_owned(), KNOWN.as_bytes().to_vec()),
    };
    let lines = read(&name, &bytes)?;
    let mut cells = Cells::new(&[
        "table",
        "coefficient",
        "method",
        "sets",
        "average",
        "printed",
        "difference",
        "gain",
        "gain of the averages",
    ]);
    let mut differences = Vec::new();
    for line in &lines {
        let is_first = |it: &&Line| it.table == line.table && it.coefficient == line.coefficient;
        let first = lines.iter().find(is_first).filter(|it| it.method != line.method);
        let average = line.average();
        let difference = line.printed.map(|printed| average - printed);
        differences.extend(difference.map(f64::abs));
        let percent = |gain: Option<f64>| gain.map_or_else(|| "-".to_owned(), |it| format!("{:+.1} %", it * 100.0));
        cells.row([
            line.table.clone(),
            line.coefficient.clone(),
            line.method.clone(),
            line.values.len().to_string(),
            format!("{average:.4}"),
            line.printed.map_or_else(|| "-".to_owned(), |it| format!("{it:.3}")),
            difference.map_or_else(|| "-".to_owned(), |it| format!("{it:+.4}")),
            percent(first.and_then(|first| line.gain(first))),
            percent(first.filter(|first| line.gain(first).is_some()).map(|first| average / first.average() - 1.0)),
        ]);
    }
    let largest = differences.iter().copied().fold(0.0, f64::max);
    let beyond = differences.iter().filter(|it| **it > BOUND).count();
    let verdict = match beyond {
        0 => format!("all within {BOUND}"),
        some => format!("{some} of them beyond {BOUND}: a number is mistyped, or they are weighted otherwise"),
    };
    let summary = format!("{} printed averages, the largest difference {largest:.4}: {verdict}\n", differences.len());
    Ok(format!("{}\n{summary}", cells.plain()))
}

/// The lines of the csv file `name`, in the order in which they begin.
fn read(name: &str, bytes: &[u8]) -> anyhow::Result<Vec<Line>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(bytes);
    let head = reader.headers().map_err(|error| bad_input(format!("{name}: {error}")))?.clone();
    let columns = ["table", "method", "coefficient", "dataset", "value"];
    let mut places = [0; 5];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = head.iter().position(|it| it == column).ok_or_else(|| {
            bad_input(format!("{name}: there is no column `{column}`; expected {}", columns.join(", ")))
        })?;
    }
    let mut lines: Vec<Line> = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| bad_input(format!("{name}: {error}")))?;
        let number = row.position().map_or(0, csv::Position::line);
        let fault = |what: String| bad_input(format!("{name}, line {number}: {what}"));
        let [table, method, coefficient, dataset, value] = places.map(|at| row.get(at).unwrap_or_default());
        let value: f64 = value
            .parse()
            .ok()
            .filter(|it: &f64| it.is_finite())
            .ok_or_else(|| fault(format!("`{value}` is not a finite number; write the printed one")))?;
        let same = |it: &Line| it.table == table && it.method == method && it.coefficient == coefficient;
        let at = lines.iter().position(same).unwrap_or_else(|| {
            lines.push(Line {
                table: table.to_owned(),
                method: method.to_owned(),
                coefficient: coefficient.to_owned(),
                values: Vec::new(),
                weights: Vec::new(),
                printed: None,
            });
            lines.len() - 1
        });
        let line = &mut lines[at];
        let twice =
            if dataset == AVERAGE { line.printed.is_some() } else { line.values.iter().any(|it| it.0 == dataset) };
        if twice {
            return Err(fault(format!("`{dataset}` of {method} stands twice in table {table}; leave one out")));
        }
        if dataset == AVERAGE {
            line.printed = Some(value);
        } else {
            line.weights.push(Weights::Paper.of(dataset, 0).map_err(|error| fault(error.to_string()))?);
            line.values.push((dataset.to_owned(), value));
        }
    }
    match lines.iter().find(|it| it.values.is_empty()) {
        Some(line) => Err(bad_input(format!(
            "{name}: {} of {} in table {} has no number of a data set; give those that its average is of",
            line.coefficient, line.method, line.table
        ))),
        None if lines.is_empty() => {
            Err(bad_input(format!("{name}: no line of numbers; expected {}", columns.join(", "))))
        }
        None => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use evoq_artifacts::write_file;

    use super::*;

    /// Numbers of no paper.
    const EXAMPLE: &str = "# an example\ntable,method,dataset,coefficient,value\nX,old,csiq,SRCC,0.2\nX,old,livec,SRCC,0.5\n\
        X,old,average,SRCC,0.3719\nX,new,csiq,SRCC,0.3\nX,new,livec,SRCC,0.5\nX,new,average,SRCC,0.5\n";

    fn ask(csv: Option<&str>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        write_file(&file, csv.unwrap_or_default().as_bytes()).unwrap();
        let arguments = [OsString::from("paper"), file.into()];
        text(&arguments[..if csv.is_some() { 2 } else { 1 }]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_known_averages_and_the_papers_own_gain_come_out() {
        insta::assert_snapshot!(ask(None).unwrap());
    }

    #[test]
    fn averages_are_weighted_by_the_papers_sizes_and_one_that_is_off_is_said() {
        // (0.2 · 866 + 0.5 · 1162) / 2028 = 0.37189; (0.5 · 866 + 0) / 2028 = 0.2135 is the mean of the gains.
        let text = ask(Some(EXAMPLE)).unwrap();
        assert!(text.contains("0.3719") && text.contains("+21.4 %"), "{text}");
        assert!(text.contains("2 printed averages") && text.contains("1 of them beyond 0.0008"), "{text}");
    }

    #[test]
    fn a_file_that_says_too_little_or_too_much_is_refused_by_line() {
        for (csv, named) in [
            (EXAMPLE.replace("X,old,livec", "X,old,csiq"), "line 4: `csiq` of old stands twice"),
            (EXAMPLE.replace("0.2\n", "0,2\n"), "a.csv"),
            (EXAMPLE.replace("0.2\n", "NaN\n"), "line 3: `NaN`"),
            (EXAMPLE.replace("csiq", "flive"), "`flive`"),
            (EXAMPLE.replace("coefficient", "metric"), "`coefficient`"),
            ("table,method,coefficient,dataset,value\n1,a,PLCC,average,0.5\n".to_owned(), "no number of a data set"),
            ("table,method,coefficient,dataset,value\n".to_owned(), "no line of numbers"),
        ] {
            let error = ask(Some(&csv)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
