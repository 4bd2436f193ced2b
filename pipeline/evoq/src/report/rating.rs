//! How well the scores follow the truth: coefficients with their intervals, and the points behind them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ask::{Cell, Column, Estimate, literal, number, rows};
use super::axis::Axis;
use super::chart::{Row, points, strip};
use crate::error::Result;
use crate::print::escaped;
use crate::sql::Database;

/// Points that a plot shows at most.
const SHOWN: usize = 4000;
/// Places along the truth at which the mean score is drawn, where the truth takes many values.
const BINS: usize = 10;

/// The section.
#[derive(Debug, Serialize)]
pub(super) struct Rating {
    /// What changed, in a sentence.
    headline: Option<String>,
    /// What the truth is.
    truth: String,
    /// Coefficients with intervals, one drawing for each coefficient and subset.
    strips: Vec<String>,
    /// What the full and the hollow mark are.
    legend: Vec<String>,
    /// All coefficients.
    table: Vec<Line>,
    /// Score against truth, one drawing for each column.
    plots: Vec<Plot>,
    /// How many of the points are shown, where it is not all.
    shown: Option<String>,
    /// Whether the truth is severities.
    is_severity: bool,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Line {
    over: String,
    decoding: String,
    column: String,
    n: u32,
    srcc: Cell,
    plcc: Cell,
    krcc: Cell,
    rmse: Cell,
    valid: String,
}

#[derive(Debug, Serialize)]
struct Plot {
    title: String,
    svg: String,
}

#[derive(Debug, Deserialize)]
struct Coefficients {
    #[serde(flatten)]
    column: Column,
    workflow_step: String,
    policy: String,
    dataset: String,
    truth: String,
    grouping: String,
    subset: String,
    decoding: String,
    samples: u32,
    n: u32,
    replies_valid: u32,
    replies: u32,
    plcc: Option<f64>,
    plcc_low: Option<f64>,
    plcc_high: Option<f64>,
    srcc: Option<f64>,
    srcc_low: Option<f64>,
    srcc_high: Option<f64>,
    krcc: Option<f64>,
    krcc_low: Option<f64>,
    krcc_high: Option<f64>,
    rmse: Option<f64>,
    rmse_low: Option<f64>,
    rmse_high: Option<f64>,
}

impl Coefficients {
    fn srcc(&self) -> Estimate {
        Estimate { value: self.srcc, low: self.srcc_low, high: self.srcc_high }
    }
    fn plcc(&self) -> Estimate {
        Estimate { value: self.plcc, low: self.plcc_low, high: self.plcc_high }
    }
    fn krcc(&self) -> Estimate {
        Estimate { value: self.krcc, low: self.krcc_low, high: self.krcc_high }
    }
    fn rmse(&self) -> Estimate {
        Estimate { value: self.rmse, low: self.rmse_low, high: self.rmse_high }
    }
    fn decoded(&self) -> String {
        if self.decoding == "greedy" { "greedy reply".to_owned() } else { format!("mean of {}", self.samples) }
    }
    fn over(&self, steps: &Steps) -> String {
        let step = if steps.several { format!("{}, ", self.workflow_step) } else { String::new() };
        let subset = if self.subset == "all" { "all pictures".to_owned() } else { self.subset.clone() };
        let within = if self.grouping == "all" { "" } else { ", within distortion types" };
        format!("{step}{}: {subset}{within}", self.dataset)
    }
    fn title(&self, steps: &Steps) -> String {
        title(&self.workflow_step, &self.column, &self.policy, steps)
    }
}

/// The column, and where the step compares policies the first digits of its policy.
fn title(step: &str, column: &Column, policy: &str, steps: &Steps) -> String {
    let column = column.title();
    if steps.compare.contains(step) {
        format!("{column}, {}", policy.chars().take(8).collect::<String>())
    } else {
        column
    }
}

/// The steps whose coefficients are shown.
struct Steps {
    /// Those that compare several policies in one column.
    compare: BTreeSet<String>,
    /// Whether there are several steps, so that each must be named.
    several: bool,
}

/// The steps in `all`, and `all` without the steps that only repeat what others say: a comparison of each round with the start
/// has the same policies' coefficients again. Steps that compare come last.
fn steps(mut all: Vec<Coefficients>) -> (Steps, Vec<Coefficients>) {
    let mut policies: BTreeMap<(String, Column), BTreeSet<String>> = BTreeMap::new();
    for it in &all {
        policies.entry((it.workflow_step.clone(), it.column.clone())).or_default().insert(it.policy.clone());
    }
    let compare: BTreeSet<String> =
        policies.iter().filter(|(_, policies)| policies.len() > 1).map(|((step, _), _)| step.clone()).collect();
    let said = |it: &Coefficients| {
        let values = [it.srcc, it.plcc].map(|value| value.map(f64::to_bits));
        let of = [&it.policy, &it.dataset, &it.truth, &it.grouping, &it.subset, &it.decoding].map(String::clone);
        (of, it.samples, it.n, values)
    };
    let known: BTreeSet<_> = all.iter().filter(|it| !compare.contains(&it.workflow_step)).map(said).collect();
    let adds: BTreeSet<String> = all
        .iter()
        .filter(|it| !compare.contains(&it.workflow_step) || !known.contains(&said(it)))
        .map(|it| it.workflow_step.clone())
        .collect();
    all.retain(|it| adds.contains(&it.workflow_step));
    all.sort_by_key(|it| (compare.contains(&it.workflow_step), it.workflow_step.clone()));
    (Steps { compare, several: adds.len() > 1 }, all)
}

const COEFFICIENTS: &str = "SELECT variant, round, workflow_step, policy, dataset, truth, \"grouping\", subset, decoding, samples, n, replies_valid, \
    replies, plcc, plcc_low, plcc_high, srcc, srcc_low, srcc_high, krcc, krcc_low, krcc_high, rmse, rmse_low, rmse_high \
    FROM correlations ORDER BY dataset, \"grouping\", subset <> 'all', subset, decoding = 'greedy', variant, round, policy";

/// The section; none where nothing was correlated.
pub(super) fn rating(database: &Database) -> Result<Option<Rating>> {
    if !database.has("correlations") {
        return Ok(None);
    }
    let (steps, all) = steps(rows(database, COEFFICIENTS)?);
    let Some(first) = all.first() else { return Ok(None) };
    let mut legend: Vec<String> = Vec::new();
    for it in &all {
        if !legend.contains(&it.decoded()) {
            legend.push(it.decoded());
        }
    }
    let (plots, shown) = if database.has("predictions") { plots(database, first, &steps)? } else { (Vec::new(), None) };
    Ok(Some(Rating {
        headline: headline(&all, &steps),
        truth: first.truth.clone(),
        is_severity: first.truth == "severity",
        strips: strips(&all, &steps),
        legend,
        table: all.iter().map(|it| line_of(it, &steps)).collect(),
        plots,
        shown,
    }))
}

fn line_of(it: &Coefficients, steps: &Steps) -> Line {
    Line {
        over: it.over(steps),
        decoding: it.decoded(),
        column: it.title(steps),
        n: it.n,
        srcc: Cell::of(&it.srcc(), 3),
        plcc: Cell::of(&it.plcc(), 3),
        krcc: Cell::of(&it.krcc(), 3),
        rmse: Cell::of(&it.rmse(), 2),
        valid: format!("{} of {}", it.replies_valid, it.replies),
    }
}

/// The first and the last of one kind, in a sentence; only where there are several rounds, one combination and one policy each.
fn headline(all: &[Coefficients], steps: &Steps) -> Option<String> {
    let lead = all.first()?;
    let kind = |it: &&Coefficients| {
        (&it.workflow_step, &it.dataset, &it.grouping, &it.subset, &it.decoding)
            == (&lead.workflow_step, &lead.dataset, &lead.grouping, &lead.subset, &lead.decoding)
    };
    let same: Vec<&Coefficients> = all.iter().filter(kind).collect();
    let last = same.last()?;
    let compares = steps.compare.contains(&lead.workflow_step);
    if compares || lead.column == last.column || lead.column.variant != last.column.variant {
        return None;
    }
    let said = |it: &Coefficients| {
        let interval = it.srcc().interval(2);
        let interval = if interval.is_empty() { interval } else { format!(" ({interval})") };
        it.srcc.map(|value| format!("{}{interval}", number(value, 3)))
    };
    Some(format!(
        "On {} pictures of {}, the rank correlation (SRCC) of the {} with the truth is {} {}; {} it was {}.",
        last.n,
        last.dataset,
        last.decoded(),
        said(last)?,
        when(&last.column),
        when(&lead.column),
        said(lead)?
    ))
}

fn when(column: &Column) -> String {
    if column.round == Some(0) { "at the start".to_owned() } else { format!("after {}", column.title()) }
}

/// SRCC and PLCC of each subset, over all pictures at once.
fn strips(all: &[Coefficients], steps: &Steps) -> Vec<String> {
    let mut panels: BTreeMap<(usize, usize), Vec<&Coefficients>> = BTreeMap::new();
    let mut subsets: Vec<String> = Vec::new();
    for it in all.iter().filter(|it| it.grouping == "all") {
        let place = subsets.iter().position(|known| *known == it.over(steps)).unwrap_or_else(|| {
            subsets.push(it.over(steps));
            subsets.len() - 1
        });
        for coefficient in 0..2 {
            panels.entry((coefficient, place)).or_default().push(it);
        }
    }
    let low = all.iter().flat_map(|it| [it.srcc_low, it.plcc_low, it.srcc, it.plcc]).flatten().fold(0.0, f64::min);
    let axis = Axis::fixed((low * 5.0).floor() / 5.0, 1.0, 5);
    let panel = |((coefficient, place), rows): (&(usize, usize), &Vec<&Coefficients>)| {
        let name = if *coefficient == 0 { "SRCC" } else { "PLCC" };
        let mut of: BTreeMap<(&Column, String), Vec<Estimate>> = BTreeMap::new();
        for it in rows {
            let mark = if *coefficient == 0 { it.srcc() } else { it.plcc() };
            of.entry((&it.column, it.title(steps))).or_default().push(mark);
        }
        let rows: Vec<Row> = of.into_iter().map(|((_, name), marks)| Row { name, marks }).collect();
        let title = format!("{name}, {}", subsets[*place]);
        format!("<figcaption>{}</figcaption>{}", escaped(&title), strip(&title, &axis, 0.0, &rows, 3))
    };
    panels.iter().map(panel).collect()
}

#[derive(Debug, Deserialize)]
struct Point {
    #[serde(flatten)]
    column: Column,
    policy: String,
    quality: f64,
    score: f64,
}

/// Score against truth for each column of the step and data set of `first`: of the mean of several replies, where there is one,
/// else of the greedy reply. Where the step compares policies, of each.
fn plots(database: &Database, first: &Coefficients, steps: &Steps) -> Result<(Vec<Plot>, Option<String>)> {
    let from = format!(
        "FROM predictions WHERE workflow_step = {} AND dataset = {} AND score IS NOT NULL",
        literal(&first.workflow_step),
        literal(&first.dataset)
    );
    let sql = format!(
        "SELECT variant, round, policy, quality, score {from} AND decoding = (SELECT max(decoding) {from}) \
         ORDER BY variant, round, policy, image_id"
    );
    let all: Vec<Point> = rows(database, &sql)?;
    let y = Axis::around(all.iter().map(|it| it.score), 4);
    let mut x = Axis::around(all.iter().map(|it| it.quality), 4);
    let mut values: Vec<f64> = all.iter().map(|it| it.quality).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    if let (Some(first), Some(last), true) = (values.first(), values.last(), values.len() <= BINS) {
        // Each of the few values has its own place, with room for the dots at its sides.
        x = Axis { low: first - 0.5, high: last + 0.5, ticks: values.iter().map(|it| (*it, number(*it, 0))).collect() };
    }
    let (mut plots, mut shown) = (Vec::new(), None);
    let mut of: BTreeMap<(&Column, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for it in &all {
        of.entry((&it.column, &it.policy)).or_default().push((it.quality, it.score));
    }
    for ((column, policy), of_column) in of {
        let name = title(&first.workflow_step, column, policy, steps);
        let every = of_column.len().div_ceil(SHOWN).max(1);
        if every > 1 {
            shown = Some(format!("every {every}th of {} points is drawn; the means are of all", of_column.len()));
        }
        let (is_discrete, means) = means(&of_column);
        let step = (x.high - x.low) / 60.0;
        // Points of equal truth are spread sideways in a fixed pattern, so that none hides another.
        let spread = |i: usize| if is_discrete { step * ((i * 7 % 13) as f64 / 6.0 - 1.0) } else { 0.0 };
        let drawn: Vec<(f64, f64)> =
            of_column.iter().enumerate().step_by(every).map(|(i, it)| (it.0 + spread(i), it.1)).collect();
        let title = format!("Score against truth, {name}");
        plots.push(Plot { title: name, svg: points(&title, (&x, "truth"), (&y, "score"), &drawn, &means) });
    }
    Ok((plots, shown))
}

/// The mean score for each value of the truth, or where these are many for tenths of the pictures.
fn means(points: &[(f64, f64)]) -> (bool, Vec<(f64, f64)>) {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut groups: Vec<Vec<(f64, f64)>> = Vec::new();
    for point in &sorted {
        match groups.last_mut() {
            Some(group) if group[0].0 == point.0 => group.push(*point),
            _ => groups.push(vec![*point]),
        }
    }
    let is_discrete = groups.len() <= BINS;
    if !is_discrete {
        groups = sorted.chunks(sorted.len().div_ceil(BINS)).map(<[_]>::to_vec).collect();
    }
    let mean = |group: &Vec<(f64, f64)>, part: fn(&(f64, f64)) -> f64| {
        group.iter().map(part).sum::<f64>() / group.len() as f64
    };
    (is_discrete, groups.iter().map(|group| (mean(group, |it| it.0), mean(group, |it| it.1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What step `step` says in round `round` of `policy`, as it comes from the tables.
    fn coefficients(step: &str, round: u32, policy: &str, srcc: f64) -> Coefficients {
        serde_json::from_value(serde_json::json!({
            "round": round, "workflow_step": step, "policy": policy, "dataset": "set", "truth": "mos", "grouping": "all",
            "subset": "all", "decoding": "greedy", "samples": 1, "n": 9, "replies_valid": 9, "replies": 9, "srcc": srcc,
        }))
        .unwrap()
    }

    fn told(all: Vec<Coefficients>) -> Vec<(String, String, Option<f64>)> {
        let (steps, all) = steps(all);
        all.iter().map(|it| (it.over(&steps), it.title(&steps), it.srcc)).collect()
    }

    #[test]
    fn a_comparison_with_the_start_does_not_say_again_what_another_step_says() {
        let all = vec![
            coefficients("gains", 1, "start", 0.1),
            coefficients("gains", 1, "after", 0.5),
            coefficients("table", 0, "start", 0.1),
            coefficients("table", 1, "after", 0.5),
        ];
        let over = "set: all pictures".to_owned();
        let expected = vec![(over.clone(), "start".to_owned(), Some(0.1)), (over, "round 1".to_owned(), Some(0.5))];
        assert_eq!(told(all), expected);
    }

    #[test]
    fn a_comparison_that_stands_alone_names_its_policies() {
        let all = vec![
            coefficients("others", 1, "0123456789", 0.2),
            coefficients("others", 1, "9876543210", 0.3),
            coefficients("table", 0, "start", 0.1),
        ];
        let titles: Vec<(String, String)> = told(all).into_iter().map(|(over, title, _)| (over, title)).collect();
        let said = [
            ("table, set: all pictures", "start"),
            ("others, set: all pictures", "round 1, 01234567"),
            ("others, set: all pictures", "round 1, 98765432"),
        ];
        assert_eq!(titles, said.map(|(over, title)| (over.to_owned(), title.to_owned())));
    }

    #[test]
    fn means_are_of_each_value_of_the_truth_or_of_tenths() {
        let points = [(2.0, 1.0), (1.0, 4.0), (2.0, 3.0)];
        assert_eq!(means(&points), (true, vec![(1.0, 4.0), (2.0, 2.0)]));
        let many: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(i))).collect();
        let (is_discrete, means) = means(&many);
        assert_eq!((is_discrete, means.len(), means[0]), (false, 10, (4.5, 4.5)));
    }
}
