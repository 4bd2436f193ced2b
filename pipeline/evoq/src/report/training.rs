//! What the updates did: reward, divergence, loss and what else they say, one curve for each round.

use serde::{Deserialize, Serialize};

use super::ask::{Column, number, rows};
use super::chart::{Curve, curves};
use crate::error::Result;
use crate::sql::Database;

/// The section.
#[derive(Debug, Serialize)]
pub(super) struct Training {
    /// The name of each curve, with the number of its style.
    legend: Vec<(String, usize)>,
    /// One drawing for each figure.
    charts: Vec<Chart>,
    /// The names of the figures.
    figures: Vec<&'static str>,
    /// First and last updates of each curve.
    table: Vec<Ends>,
}

#[derive(Debug, Serialize)]
struct Chart {
    title: &'static str,
    about: &'static str,
    svg: String,
}

/// The means of the first and the last tenth of the updates that say a figure: votes are checked after some only.
#[derive(Debug, Serialize)]
struct Ends {
    name: String,
    updates: usize,
    cells: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Update {
    #[serde(flatten)]
    column: Column,
    workflow_step: String,
    #[serde(rename = "update_index")]
    index: f64,
    loss: f64,
    kl: Option<f64>,
    reward_mean: Option<f64>,
    reward_std: Option<f64>,
    invalid_rate: Option<f64>,
    gradient_norm: f64,
    vote_valid_rate: Option<f64>,
    vote_entropy: Option<f64>,
}

type Figure = (&'static str, &'static str, usize, fn(&Update) -> Option<f64>);

const FIGURES: [Figure; 8] = [
    ("Reward", "mean over all completions, 0 to 1", 3, |it| it.reward_mean),
    ("Reward spread", "among a picture's completions", 3, |it| it.reward_std),
    ("KL divergence", "from the reference policy, per token", 4, |it| it.kl),
    ("Loss", "as descended", 4, |it| Some(it.loss)),
    ("Invalid completions", "share of all", 3, |it| it.invalid_rate),
    ("Gradient norm", "before clipping", 2, |it| Some(it.gradient_norm)),
    ("Valid votes", "share of the comparisons that are sampled between updates", 3, |it| it.vote_valid_rate),
    ("Entropy of votes", "of these comparisons, in bits: 0 where all votes about a pair agree", 2, |it| {
        it.vote_entropy
    }),
];

/// The section; none where nothing was trained.
pub(super) fn training(database: &Database) -> Result<Option<Training>> {
    if !database.has("updates") {
        return Ok(None);
    }
    let all: Vec<Update> = rows(
        database,
        "SELECT variant, round, workflow_step, update_index, loss, kl, reward_mean, reward_std, invalid_rate, gradient_norm, \
         vote_valid_rate, vote_entropy \
         FROM updates ORDER BY workflow_step, variant, round, update_index",
    )?;
    let mut lines: Vec<(String, Vec<&Update>)> = Vec::new();
    let steps = all.iter().filter(|it| it.workflow_step != all[0].workflow_step).count();
    for it in &all {
        let name = if steps == 0 { it.column.title() } else { format!("{}, {}", it.workflow_step, it.column.title()) };
        match lines.last_mut() {
            Some((last, updates)) if *last == name => updates.push(it),
            _ => lines.push((name, vec![it])),
        }
    }
    let told: Vec<&Figure> = FIGURES.iter().filter(|figure| all.iter().any(|it| figure.3(it).is_some())).collect();
    let charts = told.iter().filter_map(|figure| chart(figure, &lines)).collect();
    let table = lines.iter().map(|(name, updates)| ends(name, updates, &told)).collect();
    let legend = lines.iter().enumerate().map(|(i, (name, _))| (name.clone(), i % 6)).collect();
    let figures = told.iter().map(|figure| figure.0).collect();
    Ok((!lines.is_empty()).then_some(Training { legend, charts, figures, table }))
}

fn chart((title, about, _, figure): &Figure, lines: &[(String, Vec<&Update>)]) -> Option<Chart> {
    let curve = |(style, (_, updates)): (usize, &(String, Vec<&Update>))| {
        let points: Vec<(f64, f64)> = updates.iter().filter_map(|it| Some((it.index, figure(it)?))).collect();
        (!points.is_empty()).then_some(Curve { points, style })
    };
    let drawn: Vec<Curve> = lines.iter().enumerate().filter_map(curve).collect();
    let longest = drawn.iter().map(|curve| curve.points.len()).max()?;
    let svg = curves(&format!("{title} by update"), "update", &drawn, (longest / 10).max(1) | 1);
    Some(Chart { title, about, svg })
}

fn ends(name: &str, updates: &[&Update], figures: &[&Figure]) -> Ends {
    let cell = |(_, _, digits, figure): &&Figure| {
        let values: Vec<f64> = updates.iter().filter_map(|it| figure(it)).collect();
        let tenth = values.len().div_ceil(10);
        let mean = |part: &[f64]| number(part.iter().sum::<f64>() / part.len() as f64, *digits);
        match values.len() {
            0 => "–".to_owned(),
            1 => mean(&values),
            _ => format!("{} → {}", mean(&values[..tenth]), mean(&values[values.len() - tenth..])),
        }
    };
    Ends { name: name.to_owned(), updates: updates.len(), cells: figures.iter().map(cell).collect() }
}
