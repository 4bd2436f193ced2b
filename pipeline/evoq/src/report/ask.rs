//! What the report asks of the tables, and how it says numbers.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sql::{Database, Format};

/// The rows of one query, each field from the column of its name.
pub(super) fn rows<T: DeserializeOwned>(database: &Database, sql: &str) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for answer in database.query(sql)? {
        let text = answer.text(Format::Json)?;
        let read: Vec<T> = serde_json::from_str(&text)
            .map_err(|error| Error::Query(format!("a query of the report gave rows of another form: {error}")))?;
        rows.extend(read);
    }
    Ok(rows)
}

/// A text as a literal of SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What stands side by side: a round, in a workflow with a matrix of one combination.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Column {
    /// The combination.
    pub variant: Option<String>,
    /// The round; 0 is the start.
    pub round: Option<u32>,
}

impl Column {
    /// The column's heading.
    pub(super) fn title(&self) -> String {
        let round = self.round.map(|round| if round == 0 { "start".to_owned() } else { format!("round {round}") });
        let parts: Vec<String> = self.variant.clone().into_iter().chain(round).collect();
        if parts.is_empty() { "once".to_owned() } else { parts.join(", ") }
    }

    /// The condition by which its rows are found.
    pub(super) fn condition(&self) -> String {
        let round = self.round.map_or("round IS NULL".to_owned(), |round| format!("round = {round}"));
        let variant =
            self.variant.as_ref().map_or("variant IS NULL".to_owned(), |it| format!("variant = {}", literal(it)));
        format!("{round} AND {variant}")
    }
}

/// The columns among `all`, each once, in their order.
pub(super) fn columns<'a>(all: impl Iterator<Item = &'a Column>) -> Vec<Column> {
    let mut columns: Vec<Column> = all.cloned().collect();
    columns.sort();
    columns.dedup();
    columns
}

/// A number with `digits` decimals and a minus as wide as a digit.
pub(super) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let is_zero = !text.contains(|it: char| it.is_ascii_digit() && it != '0');
    match text.strip_prefix('-') {
        Some(rest) if is_zero => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// A value with its interval, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Estimate {
    /// The value.
    pub value: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Estimate {
    /// `0.587`, or a dash.
    pub(super) fn text(&self, digits: usize) -> String {
        self.value.map_or("–".to_owned(), |value| number(value, digits))
    }

    /// `0.51 to 0.65`, or nothing.
    pub(super) fn interval(&self, digits: usize) -> String {
        match (self.low, self.high) {
            (Some(low), Some(high)) => format!("{} to {}", number(low, digits), number(high, digits)),
            _ => String::new(),
        }
    }
}

/// A cell of a table: a number, and below it its interval.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cell {
    /// The number.
    pub text: String,
    /// Its interval.
    pub interval: String,
}

impl Cell {
    /// A cell for an estimate.
    pub(super) fn of(estimate: &Estimate, digits: usize) -> Self {
        Self { text: estimate.text(digits), interval: estimate.interval(digits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_true_minus_and_zero_has_none() {
        assert_eq!([number(-0.0301, 3), number(-0.0001, 2), number(1.0, 1)], ["−0.030", "0.00", "1.0"]);
    }

    #[test]
    fn a_column_is_named_by_combination_and_round() {
        let column = |variant: Option<&str>, round| Column { variant: variant.map(str::to_owned), round };
        assert_eq!(column(None, Some(0)).title(), "start");
        assert_eq!(column(Some("votes=8"), Some(2)).title(), "votes=8, round 2");
        assert_eq!(column(Some("a='b'"), None).condition(), "round IS NULL AND variant = 'a=''b'''");
    }
}
