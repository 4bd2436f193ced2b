//! The stage's result as a page of Markdown, in the layout of the paper's tables: sets in columns, SRCC and PLCC of each policy in
//! rows, each with its interval.

use std::fmt::Write as _;

use evoq_artifacts::Manifest;
use evoq_schemas::{Coefficient, Correlation, Decoding, Difference, Grouping};

use crate::measure::WEIGHTED_MEAN;
use crate::subset::ALL;

/// A table as it is printed.
pub struct Cells {
    rows: Vec<Vec<String>>,
}

impl Cells {
    /// A table with these columns.
    pub fn new<S: AsRef<str>>(head: &[S]) -> Self {
        Self { rows: vec![head.iter().map(|it| it.as_ref().to_owned()).collect()] }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let cell = |text: &String| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let mut rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        rows.insert(1, widths(&rows).iter().map(|width| "-".repeat(*width)).collect());
        lines(&rows, ["| ", " | ", " |"])
    }

    /// As columns for a terminal.
    pub fn plain(&self) -> String {
        lines(&self.rows, ["", "  ", ""])
    }
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|it| it.chars().count()).max();
    (0..columns).map(|at| width(at).unwrap_or(0).max(1)).collect()
}

fn lines(rows: &[Vec<String>], [before, between, after]: [&str; 3]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(it, width)| format!("{it:width$}")).collect();
        text += format!("{before}{}{after}", cells.join(between)).trim_end();
        text.push('\n');
    }
    text
}

/// A coefficient and its interval; `-` where it is not defined.
pub fn with_interval(value: Option<f64>, low: Option<f64>, high: Option<f64>) -> String {
    match (value, low.zip(high)) {
        (Some(value), Some((low, high))) => format!("{value:.4} ({low:.4} to {high:.4})"),
        (Some(value), None) => format!("{value:.4}"),
        (None, _) => "-".to_owned(),
    }
}

/// A coefficient after a fit, and whether that failed to converge.
pub fn fitted(value: Option<f64>, converged: Option<bool>) -> String {
    let text = with_interval(value, None, None);
    if converged == Some(false) { text + ", not converged" } else { text }
}

/// The first eight characters of a policy's digest.
pub fn short(policy: &str) -> String {
    policy.chars().take(8).collect()
}

/// What one table of the page is about.
type Part = (Decoding, u32, String, Grouping);

fn part(row: &Correlation) -> Part {
    (row.decoding, row.samples, row.subset.clone(), row.grouping)
}

/// The page; `plots` are the captions and file names of the plots beside it.
pub fn page(
    manifest: &Manifest,
    correlations: &[Correlation],
    differences: &[Difference],
    plots: &[(String, String)],
) -> String {
    let mut page = String::new();
    let policies = first_seen(correlations.iter().map(|it| it.policy.as_str()));
    let sets = sets(correlations.iter().map(|it| it.dataset.as_str()));
    let truth = correlations.first().map_or("", |it| it.truth.as_str());
    let parameter = |name: &str| manifest.parameters.get(name).map(ToString::to_string).unwrap_or_default();
    let alone = sets.iter().filter(|it| **it != WEIGHTED_MEAN).count();
    // Writing into a string cannot fail.
    let _ = writeln!(page, "# Scores against {truth}\n");
    let _ = writeln!(
        page,
        "Policies: {}. Data sets: {alone}. In brackets: 95 % intervals of {} bootstrap resamples of the pictures (seed {}). Sets are \
         weighted by {}. Invalid replies are left out, never filled in. Step `{}`.\n",
        policies.len(),
        parameter("resamples"),
        parameter("seed"),
        match parameter("weights").trim_matches('"') {
            "paper" => "the sizes of the paper's test sets",
            _ => "their pictures",
        },
        short(&manifest.fingerprint)
    );
    for it in first_seen(correlations.iter().map(part)) {
        let rows: Vec<&Correlation> = correlations.iter().filter(|row| part(row) == it).collect();
        let _ = writeln!(page, "## {}\n", title(&it));
        let _ = writeln!(page, "{}", coefficients(&rows).markdown());
        let of_it =
            |row: &&Difference| (row.decoding, row.grouping, row.subset.as_str()) == (it.0, it.3, it.2.as_str());
        let against: Vec<&Difference> = differences.iter().filter(of_it).collect();
        for baseline in first_seen(against.iter().map(|it| it.baseline.as_str())) {
            let rows: Vec<&Difference> = against.iter().copied().filter(|it| it.baseline == baseline).collect();
            let _ = writeln!(page, "Less the coefficient of `{}` on the same pictures:\n", short(baseline));
            let _ = writeln!(page, "{}", gaps(&rows).markdown());
        }
        let _ = writeln!(page, "{}", every_number(&rows).markdown());
    }
    for (caption, file) in plots {
        let _ = writeln!(page, "![{caption}]({file})\n");
    }
    page
}

fn title((decoding, samples, subset, grouping): &Part) -> String {
    let replies = if *samples == 1 { "one reply".to_owned() } else { format!("mean of {samples} replies") };
    let subset = if subset == ALL { String::new() } else { format!(", subset `{subset}`") };
    let within = match grouping {
        Grouping::All => "",
        Grouping::WithinDistortion => ", within distortion types, averaged over them",
    };
    format!("{decoding}, {replies} a picture{subset}{within}")
}

/// Each value once, in the order in which it first comes.
fn first_seen<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// The data sets in the order in which they first come, their mean last.
fn sets<'a>(datasets: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut sets = first_seen(datasets);
    sets.sort_by_key(|it| *it == WEIGHTED_MEAN);
    sets
}

/// The policies' SRCC and PLCC, sets in columns.
fn coefficients(rows: &[&Correlation]) -> Cells {
    let sets = sets(rows.iter().map(|it| it.dataset.as_str()));
    let mut cells = Cells::new(&[&["policy", ""], &sets[..]].concat());
    for policy in first_seen(rows.iter().map(|it| it.policy.as_str())) {
        let of_sets = |cell: fn(&Correlation) -> String| {
            let of_set = |set: &str| rows.iter().find(|it| it.policy == policy && it.dataset == set);
            sets.iter().map(|set| of_set(set).map_or_else(|| "-".to_owned(), |it| cell(it))).collect::<Vec<_>>()
        };
        let srcc = of_sets(|it| with_interval(it.srcc, it.srcc_low, it.srcc_high));
        let plcc = of_sets(|it| with_interval(it.plcc, it.plcc_low, it.plcc_high));
        cells.row([short(policy), "SRCC".to_owned()].into_iter().chain(srcc));
        cells.row([String::new(), "PLCC".to_owned()].into_iter().chain(plcc));
    }
    cells
}

/// How far the policies' SRCC and PLCC lie from the baseline's, sets in columns.
fn gaps(rows: &[&Difference]) -> Cells {
    let sets = sets(rows.iter().map(|it| it.dataset.as_str()));
    let mut cells = Cells::new(&[&["policy", ""], &sets[..]].concat());
    for policy in first_seen(rows.iter().map(|it| it.policy.as_str())) {
        for (name, coefficient) in [("SRCC", Coefficient::Srcc), ("PLCC", Coefficient::Plcc)] {
            let of_set = |set: &str| {
                let is_it =
                    |it: &&&Difference| it.policy == policy && it.dataset == set && it.coefficient == coefficient;
                rows.iter().find(is_it).map_or_else(|| "-".to_owned(), |it| gap(it))
            };
            let first = if coefficient == Coefficient::Srcc { short(policy) } else { String::new() };
            cells.row([first, name.to_owned()].into_iter().chain(sets.iter().map(|set| of_set(set))));
        }
    }
    cells
}

/// A difference, its interval, what it can be told from, and the gain by each of its two definitions.
fn gap(row: &Difference) -> String {
    let Some(difference) = row.difference else { return "-".to_owned() };
    let mut text = format!("{difference:+.4}");
    if let Some((low, high)) = row.low.zip(row.high) {
        let _ = write!(text, " ({low:+.4} to {high:+.4})");
    }
    if row.distinguishable == Some(false) {
        text += ", not distinguishable";
    }
    let percent = |gain: f64| format!("{:+.1} %", gain * 100.0);
    match (row.gain, row.gain_of_averages) {
        (Some(sets), Some(averages)) => {
            let _ = write!(
                text,
                "; gain {} (mean of the sets' gains), {} (of the means)",
                percent(sets),
                percent(averages)
            );
        }
        (Some(gain), None) => {
            let _ = write!(text, "; gain {}", percent(gain));
        }
        _ => {}
    }
    text
}

/// What the paper's layout has no room for, a line for each policy and set.
fn every_number(rows: &[&Correlation]) -> Cells {
    let head =
        ["policy", "set", "pictures", "left out", "valid replies", "KRCC", "RMSE", "PLCC fit4", "PLCC fit5", "sign"];
    let mut cells = Cells::new(&head);
    for it in rows {
        cells.row([
            short(&it.policy),
            it.dataset.clone(),
            it.n.to_string(),
            it.n_invalid.to_string(),
            format!("{} of {}", it.replies_valid, it.replies),
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
    use super::*;

    #[test]
    fn a_bar_in_a_name_does_not_part_its_cell() {
        let mut cells = Cells::new(&["set", "n"]);
        cells.row(["a|b\nc".to_owned(), "3".to_owned()]);
        assert_eq!(cells.markdown(), "| set    | n |\n| ------ | - |\n| a\\|b c | 3 |\n");
    }
}
