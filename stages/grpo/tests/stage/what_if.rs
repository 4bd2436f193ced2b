//! `evoq-grpo rewards`: Eq. 2 to 4 again, from what a training has stored.

use evoq_schemas::{Label, Reward, Rollout};
use evoq_test_support::rows;

use crate::work::{GRPO, Work};

/// Flags that change every constant of Eq. 2 to 4.
const OTHER: [&str; 10] = [
    "--gamma",
    "0.01",
    "--ddof",
    "0",
    "--root-epsilon",
    "1e-6",
    "--advantage-epsilon",
    "1e-3",
    "--format-weight",
    "0.5",
];

/// Recomputes the rewards of the training at the place `of`, by the labels at `labels`, with `flags`.
fn rewards(work: &Work, of: &str, labels: &str, flags: &[&str], out: &str) -> Vec<Reward> {
    let rollouts = work.folder.at(of);
    let fixed = ["rewards", "--rollouts", &rollouts, "--labels", labels];
    GRPO.rows(&[&fixed[..], flags].concat(), &work.folder.at(out))
}

/// How many rows have other bits than in training.
fn moved(rows: &[Reward]) -> usize {
    let bits = |reward: f64, advantage: f64| [reward.to_bits(), advantage.to_bits()];
    rows.iter().filter(|it| bits(it.reward, it.advantage) != bits(it.trained_reward, it.trained_advantage)).count()
}

#[test]
fn the_constants_of_the_training_give_its_rewards_bit_for_bit() {
    let work = Work::new();
    for (name, flags) in [("paper", &[][..]), ("other", &OTHER[..])] {
        work.run(name, flags);
        let (stored, found) = (
            rows::<Rollout>(&work.folder.at(name)),
            rewards(&work, name, &work.labels, flags, &format!("{name}-again")),
        );
        assert_eq!(found.len(), stored.len());
        for (found, stored) in found.iter().zip(&stored) {
            assert_eq!(
                (found.update_index, &found.image_id, found.completion),
                (stored.update_index, &stored.image_id, stored.completion)
            );
            assert_eq!((found.comparisons as usize, found.score), (stored.partners.len(), stored.score));
        }
        assert!(found.iter().any(|it| it.advantage != 0.0));
        assert_eq!(moved(&found), 0, "{name}");
    }
    assert!(moved(&rewards(&work, "other", &work.labels, &[], "under the paper's")) > 100);
}

#[test]
fn other_labels_and_rules_reward_the_same_scores_otherwise() {
    let work = Work::new();
    work.run("out", &[]);
    let labels: Vec<Label> = rows(&work.labels);
    let changed = |name: &str, change: fn(usize, &mut Label)| {
        let mut labels = labels.clone();
        labels.iter_mut().enumerate().for_each(|(i, label)| change(i, label));
        work.folder.table(name, &labels)
    };
    let learnt = |rows: &[Reward]| rows.iter().map(|it| it.comparisons).sum::<u32>();
    let all = learnt(&rewards(&work, "out", &work.labels, &[], "same"));

    let turned = changed("turned", |_, label| label.preference = label.preference.map(|it| 1.0 - it));
    let found = rewards(&work, "out", &turned, &[], "by turned");
    assert_eq!(learnt(&found), all);
    assert!(moved(&found) > 100);

    let tied = changed("tied", |i, label| label.preference = if i % 2 == 0 { Some(0.5) } else { label.preference });
    let (kept, dropped) =
        (rewards(&work, "out", &tied, &[], "kept"), rewards(&work, "out", &tied, &["--ties", "drop"], "dropped"));
    assert_eq!(learnt(&kept), all);
    assert!(learnt(&dropped) > 0 && learnt(&dropped) < all);

    let few = changed("few", |i, label| label.votes_a = if i % 2 == 0 { 3 } else { label.votes_a });
    assert_eq!(learnt(&rewards(&work, "out", &few, &["--quorum", "3"], "quorum of 3")), all);
    assert!(learnt(&rewards(&work, "out", &few, &["--quorum", "4"], "quorum of 4")) < all);
    let none = rewards(&work, "out", &work.labels, &["--quorum", "99"], "quorum of 99");
    assert!(none.iter().all(|it| !it.counts && it.reward == 0.0 && it.advantage == 0.0));
}

#[test]
fn absolute_rewards_are_those_of_the_training_too() {
    let work = Work::new();
    let targets = work.targets();
    work.run_without_labels("out", &["--reward", "absolute", "--targets", &targets, "--pictures-per-update", "4"]);
    let rollouts = work.folder.at("out");
    let of = |flags: &[&str], out: &str| {
        let fixed = ["rewards", "--rollouts", &rollouts, "--targets", &targets];
        GRPO.rows::<Reward>(&[&fixed[..], flags].concat(), &work.folder.at(out))
    };
    let found = of(&[], "again");
    assert!(found.iter().any(|it| it.reward == 1.0) && found.iter().any(|it| it.reward == 0.0 && it.score.is_some()));
    assert!(found.iter().all(|it| it.comparisons == 0));
    assert_eq!(moved(&found), 0);
    assert!(moved(&of(&["--threshold", "1.5"], "wider")) > 0);
}

#[test]
fn what_rewards_cannot_go_by_is_refused_by_name() {
    let work = Work::new();
    work.run("out", &[]);
    let (rollouts, targets) = (work.folder.at("out"), work.targets());
    let labels: Vec<Label> = rows(&work.labels);
    let (few, twice) =
        (work.folder.table("few", &labels[1..]), work.folder.table("twice", &[&labels[..1], &labels[..1]].concat()));
    let refused = |flags: &[&str]| {
        GRPO.refused_at(&[&["rewards", "--rollouts", &rollouts], flags].concat(), &work.folder.at("refused"))
    };
    for (flags, said) in [
        (&[][..], "neither --labels nor --targets was given"),
        (&["--labels", &work.labels, "--targets", &targets], "rewards go by one of them"),
        (&["--labels", &few], "is not there; give labels of the training's pairs"),
        (&["--labels", &twice], "has two labels; expected one"),
        (&["--labels", &work.labels, "--rollouts", &rollouts], "2 artifacts were given; expected one training's"),
        (&["--labels", &work.labels, "--ddof", "2"], "--ddof"),
    ] {
        assert!(refused(flags).contains(said), "{flags:?}");
    }
}
