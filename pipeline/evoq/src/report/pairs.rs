//! The pairs that divided the votes most, and those that divided them least, with what was replied.

use evoq_artifacts::Location;
use serde::{Deserialize, Serialize};

use super::ask::{Column, columns, literal, rows};
use super::pictures::{Album, Thumbnail, source};
use crate::error::Result;
use crate::ledger::PlanRecord;
use crate::sql::Database;

/// Pairs of each kind.
const SHOWN: usize = 4;
/// Replies shown of a pair at most, of each outcome.
const REPLIES: usize = 2;

/// The pairs of one step that labels, in its last column.
#[derive(Debug, Serialize)]
pub(super) struct Pairs {
    step: String,
    column: String,
    /// Those that divided the votes most.
    contested: Vec<Shown>,
    /// Those that divided them least.
    certain: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    a: Thumbnail,
    b: Thumbnail,
    label: &'static str,
    votes_a: u64,
    votes_b: u64,
    votes_invalid: u64,
    replies: Vec<Reply>,
}

#[derive(Debug, Clone, Deserialize)]
struct Labelled {
    pair_id: String,
    image_a: String,
    image_b: String,
    votes_a: u64,
    votes_b: u64,
    votes_invalid: u64,
    preference: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reply {
    #[serde(skip_serializing)]
    pair_id: String,
    outcome: String,
    presented: String,
    invalid_reason: Option<String>,
    #[serde(rename(deserialize = "reply"))]
    text: String,
}

#[derive(Debug, Deserialize)]
struct Step {
    workflow_step: String,
    #[serde(flatten)]
    column: Column,
}

/// The section: one part for each step that labels.
pub(super) fn pairs(database: &Database, plan: &PlanRecord, root: &Location) -> Result<Vec<Pairs>> {
    if !database.has("contested_pairs") {
        return Ok(Vec::new());
    }
    let steps: Vec<Step> = rows(
        database,
        "SELECT DISTINCT workflow_step, variant, round FROM labels ORDER BY workflow_step, variant, round",
    )?;
    let mut names: Vec<&str> = steps.iter().map(|step| step.workflow_step.as_str()).collect();
    names.dedup();
    let mut parts = Vec::new();
    for name in names {
        let of_step = columns(steps.iter().filter(|step| step.workflow_step == name).map(|step| &step.column));
        if let Some(column) = of_step.last() {
            parts.push(of(database, plan, root, name, column)?);
        }
    }
    Ok(parts)
}

fn of(database: &Database, plan: &PlanRecord, root: &Location, step: &str, column: &Column) -> Result<Pairs> {
    let place = format!("workflow_step = {} AND {}", literal(step), column.condition());
    let select = "SELECT pair_id, image_a, image_b, votes_a, votes_b, votes_invalid, preference FROM contested_pairs";
    let contested: Vec<Labelled> = rows(database, &format!("{select} WHERE {place} ORDER BY place LIMIT {SHOWN}"))?;
    let certain: Vec<Labelled> = rows(
        database,
        &format!("{select} WHERE {place} ORDER BY agreement DESC, votes_a + votes_b DESC, pair_id LIMIT {SHOWN}"),
    )?;
    let votes = votes_step(plan, step, column);
    let mut album = match votes {
        Some(votes) => Album::of(votes, plan, root),
        None => Album::empty("the votes came from outside the workflow"),
    };
    let replies = match votes {
        Some(votes) => replies(database, votes, contested.iter().chain(&certain))?,
        None => Vec::new(),
    };
    let mut shown = |labelled: Vec<Labelled>| labelled.into_iter().map(|it| shown(&it, &replies, &mut album)).collect();
    Ok(Pairs { step: step.to_owned(), column: column.title(), contested: shown(contested), certain: shown(certain) })
}

/// The step that cast the votes which the labels of `step` count.
fn votes_step<'a>(plan: &'a PlanRecord, step: &str, column: &Column) -> Option<&'a crate::ledger::StepRecord> {
    let labels = plan
        .steps
        .iter()
        .find(|it| it.step == step && it.round == column.round && it.variant.text() == column.variant)?;
    source(plan, labels.inputs.get("votes")?.first()?)
}

fn shown(it: &Labelled, replies: &[Reply], album: &mut Album) -> Shown {
    let mut kept: Vec<Reply> = Vec::new();
    for outcome in ["a", "b", "invalid"] {
        let of_pair = replies.iter().filter(|reply| reply.pair_id == it.pair_id && reply.outcome == outcome);
        kept.extend(of_pair.take(REPLIES).cloned());
    }
    let label = match it.preference {
        Some(p) if p > 0.5 => "The left picture is labelled the better one.",
        Some(p) if p < 0.5 => "The right picture is labelled the better one.",
        Some(_) => "Labelled a tie.",
        None => "No label: too few valid votes.",
    };
    Shown {
        a: album.thumbnail(&it.image_a),
        b: album.thumbnail(&it.image_b),
        label,
        votes_a: it.votes_a,
        votes_b: it.votes_b,
        votes_invalid: it.votes_invalid,
        replies: kept,
    }
}

fn replies<'a>(
    database: &Database,
    votes: &crate::ledger::StepRecord,
    pairs: impl Iterator<Item = &'a Labelled>,
) -> Result<Vec<Reply>> {
    let ids: Vec<String> = pairs.map(|pair| literal(&pair.pair_id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let column = Column { variant: votes.variant.text(), round: votes.round };
    rows(
        database,
        &format!(
            "SELECT pair_id, outcome, presented, invalid_reason, reply FROM votes WHERE workflow_step = {} AND {} \
             AND pair_id IN ({}) AND outcome IS NOT NULL AND reply IS NOT NULL ORDER BY pair_id, vote",
            literal(&votes.step),
            column.condition(),
            ids.join(", ")
        ),
    )
}
