//! The pictures with the lowest scores, and those whose place by score is furthest from their place by truth.

use evoq_artifacts::Location;
use serde::{Deserialize, Serialize};

use super::ask::{Column, columns, literal, number, rows};
use super::pictures::{Album, Thumbnail, source};
use crate::error::Result;
use crate::ledger::PlanRecord;
use crate::sql::Database;

/// Pictures of each kind.
const SHOWN: usize = 8;

/// The section.
#[derive(Debug, Serialize)]
pub(super) struct Worst {
    column: String,
    pictures: usize,
    lowest: Vec<Shown>,
    furthest: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    picture: Thumbnail,
    score: String,
    truth: String,
    place: String,
}

#[derive(Debug, Deserialize)]
struct Scored {
    image_id: String,
    score: f64,
    quality: f64,
}

#[derive(Debug, Deserialize)]
struct Place {
    workflow_step: String,
    #[serde(flatten)]
    column: Column,
    policies: u64,
}

/// The section: the last column of the first step that has one policy in each; none where there is no such step.
pub(super) fn worst(database: &Database, plan: &PlanRecord, root: &Location) -> Result<Option<Worst>> {
    if !database.has("predictions") {
        return Ok(None);
    }
    let steps: Vec<Place> = rows(
        database,
        "SELECT workflow_step, variant, round, count(DISTINCT policy) AS policies FROM predictions \
         GROUP BY workflow_step, variant, round ORDER BY workflow_step, variant, round",
    )?;
    let compares = |step: &Place| steps.iter().any(|it| it.workflow_step == step.workflow_step && it.policies > 1);
    let Some(first) = steps.iter().find(|it| !compares(it)) else { return Ok(None) };
    let of_step = steps.iter().filter(|it| it.workflow_step == first.workflow_step);
    let Some(column) = columns(of_step.map(|it| &it.column)).pop() else { return Ok(None) };
    let place = format!("workflow_step = {} AND {}", literal(&first.workflow_step), column.condition());
    let scored: Vec<Scored> = rows(
        database,
        &format!(
            "SELECT image_id, score, quality FROM predictions WHERE {place} AND score IS NOT NULL \
             AND decoding = (SELECT max(decoding) FROM predictions WHERE {place}) ORDER BY image_id"
        ),
    )?;
    let scores = plan
        .steps
        .iter()
        .find(|it| it.step == first.workflow_step && it.round == column.round && it.variant.text() == column.variant)
        .and_then(|table| source(plan, table.inputs.get("scores")?.first()?));
    let mut album = match scores {
        Some(scores) => Album::of(scores, plan, root),
        None => Album::empty("the scores came from outside the workflow"),
    };
    let by_score = places(&scored, |it| it.score);
    let by_truth = places(&scored, |it| it.quality);
    let mut shown = |order: Vec<usize>| -> Vec<Shown> {
        let show = |i: usize| Shown {
            picture: album.thumbnail(&scored[i].image_id),
            score: number(scored[i].score, 2),
            truth: number(scored[i].quality, 2),
            place: format!("place {:.0} of {} by score, {:.0} by truth", by_score[i], scored.len(), by_truth[i]),
        };
        order.into_iter().take(SHOWN).map(show).collect()
    };
    let mut lowest: Vec<usize> = (0..scored.len()).collect();
    lowest.sort_by(|&a, &b| scored[a].score.total_cmp(&scored[b].score).then(a.cmp(&b)));
    let mut furthest: Vec<usize> = (0..scored.len()).collect();
    let apart = |i: usize| (by_score[i] - by_truth[i]).abs();
    furthest.sort_by(|&a, &b| apart(b).total_cmp(&apart(a)).then(a.cmp(&b)));
    let (lowest, furthest) = (shown(lowest), shown(furthest));
    Ok(Some(Worst { column: column.title(), pictures: scored.len(), lowest, furthest }))
}

/// The place of each picture by `value`, 1 for the largest; equal ones share the mean of their places.
fn places(scored: &[Scored], value: impl Fn(&Scored) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scored.len()).collect();
    order.sort_by(|&a, &b| value(&scored[b]).total_cmp(&value(&scored[a])));
    let mut places = vec![0.0; scored.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|&&i| value(&scored[i]) == value(&scored[order[start]])).count();
        for &i in &order[start..start + equal] {
            places[i] = start as f64 + f64::midpoint(1.0, equal as f64);
        }
        start += equal;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_the_mean_of_their_places() {
        let scored = |score: f64| Scored { image_id: String::new(), score, quality: 0.0 };
        let all: Vec<Scored> = [2.0, 5.0, 2.0, 1.0].into_iter().map(scored).collect();
        assert_eq!(places(&all, |it| it.score), [2.5, 1.0, 2.5, 4.0]);
    }
}
