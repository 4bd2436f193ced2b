//! `evoq-grpo rewards`: what the ratings of a training would have earned under other constants or labels. Eq. 2 to 4 from the
//! stored scores, without a policy. A stage of its own.
//!
//! Which pairs were shown together follows from `rollouts`; p* and the votes behind it from the labels that are given.

use std::collections::HashMap;

use evoq_schemas::{ImageId, Label, Reward, Rollout, Target};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::args::Constants;
use crate::batch::{LeftOut, preference};
use crate::earn::{Earned, Goals, Link, Reply, earn};
use crate::form::is_well_formed;

/// The flags of `evoq-grpo rewards`: those of Eq. 2 to 4 in training.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Rewards {
    /// The constants of rewards and advantages.
    #[command(flatten)]
    #[serde(flatten)]
    constants: Constants,
}

impl Stage for Rewards {
    const NAME: &'static str = "rewards";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Recomputes rewards and advantages (Eq. 2 to 4) of a training's rollouts under other constants or \
        labels,\nwithout the policy; the table has those of the training beside them.\n\
        Defaults: P the paper, V VisualQuality-R1's code, T TRL, O our own";
    const INPUTS: &'static [Input] = &[
        Input {
            name: "rollouts",
            kind: Kind::Table("rollouts"),
            required: true,
            help: "The completions of one training",
        },
        Input {
            name: "labels",
            kind: Kind::Table("labels"),
            required: false,
            help: "The labels to reward by: those of the training, or others of its pairs",
        },
        Input {
            name: "targets",
            kind: Kind::Table("targets"),
            required: false,
            help: "The pseudo-scores to reward by, in place of labels",
        },
    ];
    const OUTPUTS: &'static [Output] = &[Output { name: "rewards", kind: Kind::Table("rewards") }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let [artifact] = job.artifacts("rollouts") else {
            let count = job.artifacts("rollouts").len();
            return Err(bad_input(format!("--rollouts: {count} artifacts were given; expected one training's")));
        };
        let basis = Basis::read(job)?;
        let mut writer = job.write::<Reward>();
        let (mut waiting, mut left_out): (Vec<Rollout>, LeftOut) = (Vec::new(), LeftOut::default());
        // An update's rows follow one another, and may go on in the next part.
        for part in artifact.parts::<Rollout>()? {
            job.check()?;
            for row in part.rows::<Rollout>(&[])? {
                if waiting.first().is_some_and(|it| it.update_index != row.update_index) {
                    let update = std::mem::take(&mut waiting);
                    self.recompute(&update, &basis, &mut left_out)?.into_iter().try_for_each(|row| writer.push(row))?;
                }
                waiting.push(row);
            }
        }
        self.recompute(&waiting, &basis, &mut left_out)?.into_iter().try_for_each(|row| writer.push(row))?;
        let LeftOut { unlabelled, below_quorum, ties } = left_out;
        if unlabelled + below_quorum + ties > 0 {
            // Each comparison was seen from both of its pictures.
            tracing::info!(
                "comparisons left out: {} without a label, {} below the quorum, {} ties",
                unlabelled / 2,
                below_quorum / 2,
                ties / 2
            );
        }
        job.close(writer)
    }
}

/// What completions are rewarded by.
enum Basis {
    /// By pair, in the order of their ids as text.
    Labels(HashMap<(ImageId, ImageId), Label>),
    Targets(HashMap<ImageId, f64>),
}

impl Basis {
    fn read(job: &Job) -> anyhow::Result<Self> {
        match (job.has("labels"), job.has("targets")) {
            (true, false) => Self::of_labels(job.rows("labels")?),
            (false, true) => {
                let targets: Vec<Target> = job.rows("targets")?;
                let known = targets.into_iter().filter_map(|it| Some((it.image_id, it.pseudo_mos?)));
                Ok(Self::Targets(known.collect()))
            }
            (true, true) => {
                Err(bad_input("--labels and --targets were given; rewards go by one of them: leave out the other"))
            }
            (false, false) => Err(bad_input("neither --labels nor --targets was given; give what to reward by")),
        }
    }

    fn of_labels(rows: Vec<Label>) -> anyhow::Result<Self> {
        let mut labels = HashMap::with_capacity(rows.len());
        for row in rows {
            let pair = (row.image_a.clone(), row.image_b.clone());
            if let Some(twice) = labels.insert(pair, row) {
                return Err(bad_input(format!("--labels: pair `{}` has two labels; expected one", twice.pair_id)));
            }
        }
        Ok(Self::Labels(labels))
    }
}

impl Rewards {
    /// The rows of one update.
    fn recompute(&self, rows: &[Rollout], basis: &Basis, left_out: &mut LeftOut) -> anyhow::Result<Vec<Reward>> {
        let pictures: Vec<&[Rollout]> = rows.chunk_by(|a, b| a.image_id == b.image_id).collect();
        let goals = match basis {
            Basis::Labels(labels) => Goals::Preferences(self.links(&pictures, labels, left_out)?),
            Basis::Targets(targets) => Goals::Targets(known(&pictures, targets)?),
        };
        let replies: Vec<Vec<Reply>> = pictures.iter().map(|rows| rows.iter().map(reply).collect()).collect();
        let earned = earn(&goals, &replies, &self.constants);
        let rows = pictures
            .iter()
            .zip(&earned)
            .flat_map(|(rows, earned)| rows.iter().enumerate().map(|(k, row)| recomputed(row, earned, k)));
        Ok(rows.collect())
    }

    /// Each picture's comparisons: those that its completions were rewarded by, with the labels that are given.
    fn links(
        &self,
        pictures: &[&[Rollout]],
        labels: &HashMap<(ImageId, ImageId), Label>,
        left_out: &mut LeftOut,
    ) -> anyhow::Result<Vec<Vec<Link>>> {
        let places: HashMap<&ImageId, usize> =
            pictures.iter().enumerate().map(|(i, it)| (&it[0].image_id, i)).collect();
        let mut all = Vec::with_capacity(pictures.len());
        for rows in pictures {
            let own = &rows[0].image_id;
            // Every valid completion has the same partners.
            let partners = rows.iter().find(|it| !it.partners.is_empty()).map_or(&[][..], |it| &it.partners);
            let mut links = Vec::with_capacity(partners.len());
            for partner in partners {
                let theirs = &partner.image_id;
                let place = places.get(theirs).ok_or_else(|| {
                    bad_input(format!(
                        "--rollouts: update {}, picture `{own}` has the partner `{theirs}`, which the update does not show; \
                         expected the rows as evoq-grpo wrote them",
                        rows[0].update_index
                    ))
                })?;
                let is_first = own < theirs;
                let pair = if is_first { (own.clone(), theirs.clone()) } else { (theirs.clone(), own.clone()) };
                let label = labels.get(&pair).ok_or_else(|| {
                    bad_input(format!(
                        "--labels: the pair of `{}` and `{}`, which update {} learnt from, is not there; give labels of the \
                         training's pairs",
                        pair.0, pair.1, rows[0].update_index
                    ))
                })?;
                let Some(preference) = preference(label, &self.constants, left_out) else { continue };
                let preference = if is_first { preference } else { 1.0 - preference };
                links.push(Link { partner: *place, preference });
            }
            all.push(links);
        }
        Ok(all)
    }
}

/// The pseudo-score of each picture.
fn known(pictures: &[&[Rollout]], targets: &HashMap<ImageId, f64>) -> anyhow::Result<Vec<f64>> {
    let target = |rows: &&[Rollout]| {
        let id = &rows[0].image_id;
        targets.get(id).copied().ok_or_else(|| {
            bad_input(format!("--targets: picture `{id}` has no pseudo-score; give targets of the training's pictures"))
        })
    };
    pictures.iter().map(target).collect()
}

fn reply(row: &Rollout) -> Reply {
    Reply { score: row.score, well_formed: is_well_formed(&row.reply) }
}

/// The row of completion `k` of its picture.
fn recomputed(row: &Rollout, earned: &Earned, k: usize) -> Reward {
    Reward {
        update_index: row.update_index,
        image_id: row.image_id.clone(),
        completion: row.completion,
        score: row.score,
        comparisons: earned.comparisons[k].len() as u32,
        counts: earned.counts,
        reward: earned.rewards[k],
        advantage: earned.advantages[k],
        trained_reward: row.reward,
        trained_advantage: row.advantage,
    }
}
