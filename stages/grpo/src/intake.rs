//! What a training learns from: read, checked, cut into batches.

use evoq_schemas::{ImageId, Label, Target};
use evoq_stage::{Job, bad_input};

use crate::Args;
use crate::args::RewardKind;
use crate::batch::{Batch, LeftOut, of_pairs, of_pictures, preference};
use crate::check::drawn;

/// What a training goes through.
pub(crate) struct Course {
    /// The updates' batches, in their order.
    pub(crate) batches: Vec<Batch>,
    /// The pairs whose votes are checked.
    pub(crate) checked: Vec<[ImageId; 2]>,
}

/// Reads what the rewards call for.
pub(crate) fn course(args: &Args, job: &Job) -> anyhow::Result<Course> {
    let (needed, other, kind) = match args.reward {
        RewardKind::Preference => ("labels", "targets", "preference"),
        RewardKind::Absolute => ("targets", "labels", "absolute"),
    };
    if !job.has(needed) {
        return Err(bad_input(format!("--{needed} was not given; --reward {kind} learns from it")));
    }
    if job.has(other) {
        return Err(bad_input(format!(
            "--{other} is not read with --reward {kind}; leave it out, or choose the other --reward"
        )));
    }
    match args.reward {
        RewardKind::Preference => from_labels(args, &job.rows("labels")?),
        RewardKind::Absolute => from_targets(args, &job.rows("targets")?),
    }
}

fn from_labels(args: &Args, labels: &[Label]) -> anyhow::Result<Course> {
    let mut left_out = LeftOut::default();
    let known = |it| Some((it, preference(it, &args.constants, &mut left_out)?));
    let pairs: Vec<(&Label, f64)> = labels.iter().filter_map(known).collect();
    let LeftOut { unlabelled, below_quorum, ties } = left_out;
    let said = format!(
        "{} of {} pairs have no label, {below_quorum} have fewer than {} valid votes, {ties} are ties that are dropped",
        unlabelled,
        labels.len(),
        args.constants.quorum
    );
    if pairs.is_empty() {
        return Err(bad_input(format!("--labels: {said}; nothing is left to learn from")));
    }
    if pairs.len() < labels.len() {
        tracing::info!("{said}; {} pairs are learnt from", pairs.len());
    }
    let both = |(label, _): &(&Label, f64)| [label.image_a.clone(), label.image_b.clone()];
    Ok(Course {
        batches: of_pairs(&pairs, args.pairs_per_update, args.epochs, args.seed),
        checked: drawn(pairs.iter().map(both).collect(), args.checks.check_pairs, args.seed),
    })
}

fn from_targets(args: &Args, targets: &[Target]) -> anyhow::Result<Course> {
    let ids: Vec<&ImageId> = targets.iter().filter(|it| it.pseudo_mos.is_some()).map(|it| &it.image_id).collect();
    let said = format!("{} of {} pictures have no pseudo-score", targets.len() - ids.len(), targets.len());
    if ids.is_empty() {
        return Err(bad_input(format!("--targets: {said}; nothing is left to learn from")));
    }
    if ids.len() < targets.len() {
        tracing::info!("{said}; {} pictures are learnt from", ids.len());
    }
    // No pairs are labelled: neighbours of a drawn order make some.
    let ids = drawn(ids, targets.len(), args.seed);
    let pairs = ids.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).take(args.checks.check_pairs);
    Ok(Course {
        batches: of_pictures(targets, args.pictures_per_update, args.epochs, args.seed),
        checked: pairs.collect(),
    })
}
