//! What a file of scores says, before any picture is looked for.

use std::collections::HashMap;

use evoq_schemas::{Reject, Split};

use crate::formats::{Row, Sheet};
use crate::listing::{RangeIs, Scale, reject as rejected};

/// The scores of a file, and what of it could not be taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scores {
    /// The file, relative to the source.
    pub(crate) source: String,
    /// How its scores are brought to 1..5.
    pub(crate) scale: Scale,
    /// The scores, in the order of the file, each name once.
    pub(crate) rows: Vec<Score>,
    /// The rows that could not be taken.
    pub(crate) rejects: Vec<Reject>,
}

/// The score of a picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Score {
    /// Where it stands: file, relative to the source, and line.
    pub(crate) source: String,
    pub(crate) line: u64,
    /// The picture's name.
    pub(crate) name: String,
    /// The name of the picture that this one was made from.
    pub(crate) group: Option<String>,
    /// The data set's own split.
    pub(crate) split: Option<Split>,
    /// The mean score, and the rest of what the file says of it.
    pub(crate) mos: f64,
    pub(crate) mos_std: Option<f64>,
    pub(crate) raters: Option<u32>,
}

/// What a data set measures in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure<'a> {
    /// The scale's name.
    pub(crate) name: &'a str,
    /// The least and the greatest score that can be; `None` where only those that occur are known.
    pub(crate) range: Option<(f64, f64)>,
    /// Whether the lower score is the better picture.
    pub(crate) lower_better: bool,
}

/// Why a row is refused: a reason of the table of rejects, and what was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault(pub(crate) &'static str, pub(crate) String);

/// A row of a sheet, whose cells are asked for by their columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    sheet: &'a Sheet,
    row: &'a Row,
}

impl<'a> Record<'a> {
    /// The cell of a column; empty where there is no such column.
    pub(crate) fn text(&self, column: &str) -> &'a str {
        self.sheet.column(column).and_then(|at| self.row.cells.get(at)).map_or("", String::as_str)
    }

    /// The name of a picture.
    pub(crate) fn name(&self, column: &str) -> Result<String, Fault> {
        match self.text(column) {
            "" => Err(Fault("malformed", format!("`{column}` is empty; expected a picture's name"))),
            name => Ok(name.to_owned()),
        }
    }

    /// A number that is neither infinite nor NaN.
    pub(crate) fn number(&self, column: &str) -> Result<f64, Fault> {
        let text = self.text(column);
        let number = text.parse().ok().filter(|it: &f64| it.is_finite());
        number.ok_or_else(|| Fault("score", format!("`{column}` is `{text}`; expected a number")))
    }

    /// A standard deviation or variance.
    pub(crate) fn spread(&self, column: &str) -> Result<f64, Fault> {
        let spread = self.number(column)?;
        let fault = || Fault("score", format!("`{column}` is {spread}; expected 0 or more"));
        if spread >= 0.0 { Ok(spread) } else { Err(fault()) }
    }

    /// A score without anything beside it.
    pub(crate) fn mos(&self, column: &str) -> Result<Score, Fault> {
        Ok(Score { mos: self.number(column)?, ..Score::default() })
    }
}

impl Scores {
    /// The scores of one file: see `of_files`.
    pub(crate) fn of(
        file: &str,
        sheet: Sheet,
        measure: &Measure,
        name: impl Fn(&Record) -> Result<String, Fault>,
        score: impl Fn(&Record) -> Result<Score, Fault>,
    ) -> Result<Self, String> {
        Self::of_files(file, &[(file.to_owned(), sheet)], measure, name, score)
    }

    /// The scores of all `files` of `source`, of which `name` gives a row's picture and `score` the rest. A row that the one or
    /// the other refuses, whose score is out of range, or whose picture stood before is a reject. A file without rows is
    /// refused: nobody distributes one.
    pub(crate) fn of_files(
        source: &str,
        files: &[(String, Sheet)],
        measure: &Measure,
        name: impl Fn(&Record) -> Result<String, Fault>,
        score: impl Fn(&Record) -> Result<Score, Fault>,
    ) -> Result<Self, String> {
        let (mut rows, mut rejects, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        for (file, sheet) in files {
            if sheet.rows.is_empty() && sheet.malformed.is_empty() {
                return Err(format!("no rows in {file}; expected scores"));
            }
            let start = rejects.len();
            let malformed = sheet.malformed.iter();
            rejects.extend(malformed.map(|(line, what)| rejected(file, Some(*line), "", "malformed", what)));
            for row in &sheet.rows {
                let record = Record { sheet, row };
                let named = name(&record);
                let taken = named.clone().and_then(|name| {
                    let score = score(&record)?;
                    measure.check(score.mos)?;
                    match places.insert(name.clone(), (file, row.line)) {
                        None => Ok(Score { source: file.clone(), line: row.line, name, ..score }),
                        Some((file, line)) => {
                            places.insert(name, (file, line));
                            Err(Fault("duplicate", format!("is in line {line} of {file} already; expected it once")))
                        }
                    }
                });
                match taken {
                    Ok(score) => rows.push(score),
                    Err(Fault(reason, what)) => {
                        rejects.push(rejected(file, Some(row.line), &named.unwrap_or_default(), reason, what));
                    }
                }
            }
            if let Some(of_file) = rejects.get_mut(start..) {
                of_file.sort_by_key(|it: &Reject| it.line);
            }
        }
        Ok(Self { source: source.to_owned(), scale: measure.scale(&rows)?, rows, rejects })
    }
}

impl Measure<'_> {
    fn check(&self, mos: f64) -> Result<(), Fault> {
        match self.range {
            Some((low, high)) if !(low..=high).contains(&mos) => {
                Err(Fault("score", format!("the score is {mos}; expected {low} to {high}")))
            }
            _ => Ok(()),
        }
    }

    /// The scale, its range as it is known or as the scores show it.
    pub(crate) fn scale(&self, rows: &[Score]) -> Result<Scale, String> {
        let observed = || rows.iter().map(|it| it.mos);
        let (low, high) = self.range.unwrap_or_else(|| {
            (observed().fold(f64::INFINITY, f64::min), observed().fold(f64::NEG_INFINITY, f64::max))
        });
        if !rows.is_empty() && low >= high {
            return Err(format!("every score is {low}, which shows no range; say what it is with --range"));
        }
        Ok(Scale {
            name: self.name.to_owned(),
            low,
            high,
            lower_better: self.lower_better,
            range_is: if self.range.is_some() { RangeIs::Nominal } else { RangeIs::Observed },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::delimited;

    const MEASURE: Measure = Measure { name: "test", range: Some((0.0, 10.0)), lower_better: false };

    fn scores(csv: &str, measure: &Measure) -> Result<Scores, String> {
        let sheet = delimited::with_header(csv.as_bytes())?;
        Scores::of(
            "a.csv",
            sheet,
            measure,
            |row| row.name("name"),
            |row| Ok(Score { mos_std: Some(row.spread("std")?), ..row.mos("mos")? }),
        )
    }

    #[test]
    fn every_row_is_a_score_or_a_reject_with_line_name_and_reason() {
        let csv = "name,mos,std\na,5,1\nb,NaN,1\nc,,1\nd,11,1\ne,2,-1\na,6,1\n,1,1\nf,1\ng,inf,1\nh,0,0\n";
        let scores = scores(csv, &MEASURE).unwrap();
        let rows: Vec<_> = scores.rows.iter().map(|it| (it.line, it.name.as_str(), it.mos, it.mos_std)).collect();
        assert_eq!(rows, [(2, "a", 5.0, Some(1.0)), (11, "h", 0.0, Some(0.0))]);
        let rejects: Vec<_> =
            scores.rejects.iter().map(|it| (it.line.unwrap(), it.name.as_str(), it.reason.as_str())).collect();
        let expected = [
            (3, "b", "score"),
            (4, "c", "score"),
            (5, "d", "score"),
            (6, "e", "score"),
            (7, "a", "duplicate"),
            (8, "", "malformed"),
            (9, "", "malformed"),
            (10, "g", "score"),
        ];
        assert_eq!(rejects, expected);
        let detail = |at: usize| scores.rejects[at].detail.as_str();
        assert_eq!(detail(0), "`mos` is `NaN`; expected a number");
        assert_eq!(detail(2), "the score is 11; expected 0 to 10");
        assert_eq!(detail(4), "is in line 2 of a.csv already; expected it once");
    }

    #[test]
    fn a_range_that_nobody_knows_is_that_of_the_scores_taken() {
        let measure = Measure { range: None, ..MEASURE };
        let scale = scores("name,mos,std\na,917,1\nb,1836,1\nc,1e9,-1\n", &measure).unwrap().scale;
        assert_eq!((scale.low, scale.high, scale.range_is), (917.0, 1836.0, RangeIs::Observed));
        assert!(scores("name,mos,std\na,3,1\nb,3,1\n", &measure).unwrap_err().contains("--range"));
    }

    #[test]
    fn a_file_without_rows_is_refused_and_one_without_good_rows_is_all_rejects() {
        assert!(scores("name,mos,std\n", &MEASURE).unwrap_err().contains("no rows in a.csv"));
        for measure in [MEASURE, Measure { range: None, ..MEASURE }] {
            let scores = scores("name,mos,std\na,x,1\n", &measure).unwrap();
            assert_eq!((scores.rows.len(), scores.rejects.len()), (0, 1));
        }
    }
}
