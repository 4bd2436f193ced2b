//! What the votes are worth: the figures of the label report, how far pairs agree, and why votes were invalid.

use serde::{Deserialize, Serialize};

use super::ask::{Cell, Column, Estimate, columns, rows};
use super::axis::Axis;
use super::chart::{Row, bars, strip};
use crate::error::Result;
use crate::sql::Database;

/// Width of a bar of the histogram of agreement.
const BIN: f64 = 0.05;

/// One step that labels, over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct Votes {
    /// The step.
    step: String,
    /// The columns' headings.
    columns: Vec<String>,
    /// Figures by column.
    table: Vec<Line>,
    /// How many pairs agree how far, one drawing for each column.
    agreement: Vec<(String, String)>,
    /// How far labels follow severities, by gap and by type, in the last column.
    severity: Vec<(String, String)>,
    /// Invalid votes by reason.
    invalid: Vec<Line>,
}

/// A figure by column.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Deserialize)]
struct Figure {
    #[serde(flatten)]
    column: Column,
    workflow_step: String,
    #[serde(rename = "figure")]
    name: String,
    subset: String,
    n: u64,
    value: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl Figure {
    fn estimate(&self) -> Estimate {
        Estimate { value: self.value, low: self.low, high: self.high }
    }
}

/// Figures of the table, with their words.
const NAMES: [(&str, &str); 12] = [
    ("valid", "Valid votes"),
    ("first_rate", "Votes for the picture shown first"),
    ("first_rate_within_pairs", "The same within pairs seen in both orders"),
    ("agreement", "Agreement within a pair"),
    ("alpha", "Krippendorff's alpha"),
    ("split_half", "Agreement of split halves"),
    ("cycles", "Circles among triangles"),
    ("ties", "Ties"),
    ("labelled", "Pairs with a label"),
    ("stopped", "Pairs stopped early"),
    ("votes_cast", "Votes cast about a pair"),
    ("follows_severity", "Labels that prefer the lower severity"),
];

/// The section: one part for each step that labels.
pub(super) fn votes(database: &Database) -> Result<Vec<Votes>> {
    if !database.has("label_report") {
        return Ok(Vec::new());
    }
    let all: Vec<Figure> = rows(
        database,
        "SELECT variant, round, workflow_step, figure, subset, n, value, low, high FROM label_report \
         ORDER BY workflow_step, variant, round, figure, subset",
    )?;
    let mut steps: Vec<&str> = all.iter().map(|it| it.workflow_step.as_str()).collect();
    steps.dedup();
    steps.into_iter().map(|step| of_step(database, step, &all)).collect()
}

fn of_step(database: &Database, step: &str, all: &[Figure]) -> Result<Votes> {
    let of_step: Vec<&Figure> = all.iter().filter(|it| it.workflow_step == step).collect();
    let columns = columns(of_step.iter().map(|it| &it.column));
    let line = |name: &str, figure: &str, subset: &str| {
        let cell = |column: &Column| {
            let found = of_step.iter().find(|it| it.name == figure && it.subset == subset && it.column == *column);
            found
                .filter(|it| it.value.is_some())
                .map(|it| Cell::of(&it.estimate(), if figure == "votes_cast" { 1 } else { 3 }))
        };
        let cells: Vec<Option<Cell>> = columns.iter().map(cell).collect();
        cells.iter().any(Option::is_some).then(|| Line {
            name: name.to_owned(),
            cells: cells.into_iter().map(|it| it.unwrap_or_else(|| Cell::of(&Estimate::default(), 0))).collect(),
        })
    };
    let mut reasons: Vec<&str> =
        of_step.iter().filter(|it| it.name == "invalid").map(|it| it.subset.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    Ok(Votes {
        step: step.to_owned(),
        columns: columns.iter().map(Column::title).collect(),
        table: NAMES.iter().filter_map(|(figure, name)| line(name, figure, "all")).collect(),
        agreement: agreement(database, step)?,
        severity: columns.last().map(|column| severity(&of_step, column)).unwrap_or_default(),
        invalid: reasons.into_iter().filter_map(|reason| line(&reason.replace('_', " "), "invalid", reason)).collect(),
    })
}

/// How far the labels of the last column follow severities, by gap and by type.
fn severity(figures: &[&Figure], column: &Column) -> Vec<(String, String)> {
    let of = |kind: &str| -> Vec<Row> {
        let mut rows: Vec<(&&Figure, String)> = figures
            .iter()
            .filter(|it| it.name == "follows_severity" && it.column == *column)
            .filter_map(|it| Some((it, it.subset.strip_prefix(kind)?.to_owned())))
            .collect();
        if kind == "type " {
            rows.sort_by(|a, b| b.0.value.unwrap_or(0.0).total_cmp(&a.0.value.unwrap_or(0.0)).then(a.1.cmp(&b.1)));
        } else {
            rows.sort_by(|a, b| a.1.cmp(&b.1));
        }
        rows.into_iter()
            .map(|(it, name)| Row { name: format!("{name} ({})", it.n), marks: vec![it.estimate()] })
            .collect()
    };
    let axis = Axis::fixed(0.0, 1.0, 4);
    let panel = |kind: &str, title: &str| {
        let rows = of(kind);
        (!rows.is_empty()).then(|| {
            let title = format!("{title}, {}", column.title());
            (title.clone(), strip(&title, &axis, 0.5, &rows, 2))
        })
    };
    [panel("gap ", "By the gap between severities"), panel("type ", "By distortion type")]
        .into_iter()
        .flatten()
        .collect()
}

#[derive(Debug, Deserialize)]
struct Bin {
    #[serde(flatten)]
    column: Column,
    #[serde(rename = "bin")]
    place: f64,
    pairs: u64,
}

/// How many pairs agree how far.
fn agreement(database: &Database, step: &str) -> Result<Vec<(String, String)>> {
    let step = super::ask::literal(step);
    // The last bar holds the pairs whose votes are all one.
    let sql = format!(
        "SELECT variant, round, least(floor(agreement / {BIN} + 1e-9), 19.0) AS bin, count(*) AS pairs FROM labels \
         WHERE workflow_step = {step} AND agreement IS NOT NULL GROUP BY variant, round, bin ORDER BY variant, round, bin"
    );
    let all: Vec<Bin> = rows(database, &sql)?;
    let axis = Axis::fixed(0.5, 1.0, 5);
    let counts = Axis::around(all.iter().map(|it| it.pairs as f64).chain([0.0]), 3);
    let panel = |column: &Column| {
        let bins: Vec<(f64, u64)> =
            all.iter().filter(|it| it.column == *column).map(|it| (it.place * BIN, it.pairs)).collect();
        let title = format!("Pairs by agreement, {}", column.title());
        (column.title(), bars(&title, (&axis, "share of the votes on the larger side"), &counts, &bins, BIN))
    };
    Ok(columns(all.iter().map(|it| &it.column)).iter().map(panel).collect())
}
