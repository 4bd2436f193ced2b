//! The report: what the votes are worth, as rows of `label_report` and as a table for people.
//!
//! It is about the labels as voted, before any control. Severities are known to it and to nothing else in the stage.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use evoq_schemas::{ImageId, Label, LabelFigure, LabelReport};

use crate::estimate::{Estimate, alpha, ratio, share};
use crate::majority::majority;
use crate::tally::PairVotes;
use crate::triangles::triangles;

/// The distortion type and severity of variants.
pub type Flaws = HashMap<ImageId, (String, u8)>;

/// What a figure about the whole is of.
const ALL: &str = "all";

/// The report on `pairs` and their `labels`, which stand in the same order.
pub fn report(
    pairs: &[PairVotes],
    labels: &[Label],
    reasons: &BTreeMap<String, u64>,
    flaws: &Flaws,
) -> Vec<LabelReport> {
    let mut rows = Vec::new();
    let mut push = |figure: LabelFigure, subset: &str, it: Estimate| rows.push(row(figure, subset, it));
    let count = |holds: &dyn Fn(&PairVotes) -> bool| pairs.iter().filter(|pair| holds(pair)).count() as u64;
    let voted = count(&|pair| pair.cast > 0);
    let cast: u64 = pairs.iter().map(|pair| u64::from(pair.cast)).sum();
    let preferences = || labels.iter().filter_map(|label| label.preference);
    let labelled = preferences().count() as u64;

    push(LabelFigure::Labelled, ALL, share(labelled, pairs.len() as u64));
    push(LabelFigure::Ties, ALL, share(preferences().filter(|it| *it == 0.5).count() as u64, labelled));
    push(LabelFigure::Stopped, ALL, share(count(&|pair| pair.absent() > 0), voted));
    let mean = (voted > 0).then(|| cast as f64 / voted as f64);
    push(LabelFigure::VotesCast, ALL, Estimate { n: voted, value: mean, interval: None });
    let valid = pairs.iter().map(|pair| (f64::from(pair.valid()), f64::from(pair.cast)));
    push(LabelFigure::Valid, ALL, ratio(valid));
    for (reason, count) in reasons {
        // How the votes of a pair hang together is not known by reason: no interval.
        push(LabelFigure::Invalid, reason, Estimate { interval: None, ..share(*count, cast) });
    }
    let first = pairs.iter().map(|pair| (f64::from(pair.first()), f64::from(pair.valid())));
    push(LabelFigure::FirstRate, ALL, ratio(first));
    push(LabelFigure::FirstRateWithinPairs, ALL, ratio(pairs.iter().filter_map(first_within).map(|it| (it, 1.0))));
    push(LabelFigure::Agreement, ALL, mean_of(labels.iter().filter_map(|label| label.agreement)));
    push(LabelFigure::SplitHalf, ALL, mean_of(pairs.iter().filter_map(halves_agree)));
    push(LabelFigure::Alpha, ALL, alpha(pairs.iter().map(PairVotes::sides)));
    let found = triangles(labels.iter().filter_map(|it| Some((&it.image_a, &it.image_b, it.preference?))));
    push(LabelFigure::Cycles, ALL, Estimate { interval: None, ..share(found.cyclic, found.strict) });
    rows.extend(expected(labels));
    rows.extend(by_severity(labels, flaws));
    rows
}

/// What K votes would come to, where exact probabilities are known.
fn expected(labels: &[Label]) -> Vec<LabelReport> {
    let ties = mean_of(labels.iter().filter_map(|label| label.chance_tie));
    let flips = mean_of(labels.iter().filter_map(|label| match label.probability_a? {
        a if a > 0.5 => label.chance_b,
        a if a < 0.5 => label.chance_a,
        _ => None,
    }));
    let figures = [(LabelFigure::ExpectedTies, ties), (LabelFigure::ExpectedFlips, flips)];
    figures.into_iter().filter(|(_, it)| it.n > 0).map(|(figure, it)| row(figure, ALL, it)).collect()
}

/// Of a pair that was seen in both orders: the share of its valid votes for the picture shown first, each order counted alike.
fn first_within(pair: &PairVotes) -> Option<f64> {
    let [ab, ba] = pair.by_order.map(|[a, b]| (a, a + b));
    (ab.1 > 0 && ba.1 > 0).then(|| {
        let (a_in_ab, b_in_ba) = (f64::from(ab.0) / f64::from(ab.1), f64::from(ba.1 - ba.0) / f64::from(ba.1));
        f64::midpoint(a_in_ab, b_in_ba)
    })
}

/// How far the labels of the two halves of a pair's votes are the same, where both have one.
fn halves_agree(pair: &PairVotes) -> Option<f64> {
    let label = |[a, b]: [u32; 2]| (a + b > 0).then(|| majority(a, b));
    let [one, other] = pair.by_half.map(label);
    Some(1.0 - (one? - other?).abs())
}

/// Agreement with severities, and among votes, by how far the severities of a pair lie apart and by distortion type.
fn by_severity(labels: &[Label], flaws: &Flaws) -> Vec<LabelReport> {
    let mut follows: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut agreements: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for label in labels {
        let (Some((type_a, severity_a)), Some((type_b, severity_b))) =
            (flaws.get(&label.image_a), flaws.get(&label.image_b))
        else {
            continue;
        };
        let gap = severity_a.abs_diff(*severity_b);
        let mut subsets = vec![ALL.to_owned(), format!("gap {gap}"), format!("type {type_a}")];
        subsets.extend((type_a != type_b).then(|| format!("type {type_b}")));
        for subset in subsets {
            if let Some(preference) = label.preference.filter(|_| gap > 0) {
                let follows = follows.entry(subset.clone()).or_default();
                follows.push(if severity_a < severity_b { preference } else { 1.0 - preference });
            }
            if let Some(agreement) = label.agreement.filter(|_| subset != ALL) {
                agreements.entry(subset).or_default().push(agreement);
            }
        }
    }
    let rows = |figure: LabelFigure, of: BTreeMap<String, Vec<f64>>| {
        of.into_iter().map(move |(subset, values)| row(figure, &subset, mean_of(values.into_iter())))
    };
    rows(LabelFigure::FollowsSeverity, follows).chain(rows(LabelFigure::Agreement, agreements)).collect()
}

fn mean_of(values: impl Iterator<Item = f64>) -> Estimate {
    ratio(values.map(|it| (it, 1.0)))
}

fn row(figure: LabelFigure, subset: &str, it: Estimate) -> LabelReport {
    LabelReport {
        figure,
        subset: subset.to_owned(),
        n: it.n,
        value: it.value,
        low: it.interval.map(|[low, _]| low),
        high: it.interval.map(|[_, high]| high),
    }
}

/// The report as a table for people.
pub struct Printed<'a>(pub &'a [LabelReport]);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = |it: &LabelReport| match it.subset.as_str() {
            ALL => said(it.figure).to_owned(),
            subset => format!("{}, {subset}", said(it.figure)),
        };
        let width = self.0.iter().map(|it| about(it).chars().count()).max().unwrap_or(0);
        write!(f, "{:width$}  {:>7}  {:>16}  {:>9}", "", "figure", "95 % interval", "n")?;
        for it in self.0 {
            let value = it.value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            let interval = it.low.zip(it.high).map_or(String::new(), |(low, high)| format!("{low:.3} to {high:.3}"));
            write!(f, "\n{:width$}  {value:>7}  {interval:>16}  {:>9}", about(it), it.n)?;
        }
        Ok(())
    }
}

/// A figure in words.
fn said(figure: LabelFigure) -> &'static str {
    match figure {
        LabelFigure::Labelled => "pairs with a label",
        LabelFigure::Ties => "ties among labels",
        LabelFigure::Stopped => "pairs stopped early",
        LabelFigure::VotesCast => "votes a pair",
        LabelFigure::Valid => "valid votes",
        LabelFigure::Invalid => "invalid votes",
        LabelFigure::FirstRate => "votes for the picture shown first",
        LabelFigure::FirstRateWithinPairs => "the same within pairs seen both ways",
        LabelFigure::Agreement => "votes with their pair's majority",
        LabelFigure::SplitHalf => "split-half agreement of labels",
        LabelFigure::Alpha => "Krippendorff's alpha",
        LabelFigure::Cycles => "cycles among triangles",
        LabelFigure::FollowsSeverity => "labels for the lower severity",
        LabelFigure::ExpectedTies => "ties to expect among sampled votes",
        LabelFigure::ExpectedFlips => "labels to expect on the other side",
    }
}

#[cfg(test)]
mod tests {
    use evoq_schemas::{Control, LabelMethod, PairId};

    use super::*;

    fn pair(a: &str, b: &str, by_order: [[u32; 2]; 2], asked: u32) -> (PairVotes, Label) {
        let (image_a, image_b) = (ImageId::from(a), ImageId::from(b));
        let pair = PairVotes {
            pair_id: PairId::of(&image_a, &image_b),
            by_half: by_order,
            invalid: 1,
            asked,
            cast: by_order.iter().flatten().sum::<u32>() + 1,
            exact: None,
            image_a: image_a.clone(),
            image_b: image_b.clone(),
            by_order,
        };
        let [votes_a, votes_b] = pair.sides();
        let label = Label {
            pair_id: pair.pair_id.clone(),
            image_a,
            image_b,
            preference: Some(majority(votes_a, votes_b)),
            votes_a,
            votes_b,
            votes_invalid: 1,
            votes_absent: pair.absent(),
            agreement: Some(f64::from(votes_a.max(votes_b)) / f64::from(votes_a + votes_b)),
            first_rate: None,
            probability_a: None,
            chance_a: None,
            chance_tie: None,
            chance_b: None,
            method: LabelMethod::Majority,
            control: Control::None,
        };
        (pair, label)
    }

    fn reported() -> Vec<LabelReport> {
        // x beats y, y beats z, z beats x; and a tie that was seen in one order.
        let rows = [
            pair("x", "y", [[4, 0], [2, 2]], 9),
            pair("y", "z", [[4, 0], [4, 0]], 20),
            pair("x", "z", [[1, 3], [0, 4]], 9),
            pair("u", "v", [[2, 2], [0, 0]], 5),
        ];
        let flaw = |id: &str, name: &str, severity| (ImageId::from(id), (name.to_owned(), severity));
        let flaws = Flaws::from([
            flaw("x", "blur_lens", 1),
            flaw("y", "blur_lens", 3),
            flaw("z", "pixelate", 5),
            flaw("u", "pixelate", 2),
            flaw("v", "pixelate", 2),
        ]);
        let (pairs, labels): (Vec<PairVotes>, Vec<Label>) = rows.into_iter().unzip();
        report(&pairs, &labels, &BTreeMap::from([("no_answer".to_owned(), 4)]), &flaws)
    }

    #[test]
    fn every_figure_is_what_is_counted_by_hand() {
        let rows = reported();
        let of = |figure: LabelFigure, subset: &str| {
            let found = rows.iter().find(|it| it.figure == figure && it.subset == subset);
            found.map(|it| (it.value.map(|it| (it * 1e4).round() / 1e4), it.n))
        };
        for (figure, subset, value, n) in [
            (LabelFigure::Labelled, "all", 1.0, 4),
            (LabelFigure::Ties, "all", 0.25, 4),
            (LabelFigure::Stopped, "all", 0.25, 4),
            (LabelFigure::VotesCast, "all", 8.0, 4),
            (LabelFigure::Valid, "all", 0.875, 32),
            (LabelFigure::Invalid, "no_answer", 0.125, 32),
            // 4 + 2, 4 + 0, 1 + 4 and 2 of 28.
            (LabelFigure::FirstRate, "all", 0.6071, 28),
            // .75, .5 and .625.
            (LabelFigure::FirstRateWithinPairs, "all", 0.625, 3),
            (LabelFigure::Agreement, "all", 0.7813, 4),
            // A side and a tie are half the same.
            (LabelFigure::SplitHalf, "all", 0.8333, 3),
            (LabelFigure::Cycles, "all", 1.0, 1),
            // Right, right, wrong.
            (LabelFigure::FollowsSeverity, "all", 0.6667, 3),
            (LabelFigure::FollowsSeverity, "gap 2", 1.0, 2),
            (LabelFigure::FollowsSeverity, "gap 4", 0.0, 1),
            (LabelFigure::FollowsSeverity, "type pixelate", 0.5, 2),
            (LabelFigure::Agreement, "gap 0", 0.5, 1),
            (LabelFigure::Agreement, "type blur_lens", 0.875, 3),
        ] {
            assert_eq!(of(figure, subset), Some((Some(value), n)), "{figure:?} {subset}");
        }
        assert_eq!(of(LabelFigure::FollowsSeverity, "gap 0"), None);
    }

    #[test]
    fn the_report_reads_as_a_table() {
        let text = Printed(&reported()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        let cycles = lines.iter().find(|line| line.starts_with("cycles")).unwrap();
        assert_eq!(cycles.split_whitespace().collect::<Vec<_>>(), ["cycles", "among", "triangles", "1.000", "1"]);
        assert!(text.contains("invalid votes, no_answer") && text.contains("labels for the lower severity, gap 4"));
    }

    #[test]
    fn what_votes_would_come_to_is_reported_where_it_is_known() {
        let known = |probability_a: f64, [a, tie, b]: [f64; 3]| Label {
            probability_a: Some(probability_a),
            chance_a: Some(a),
            chance_tie: Some(tie),
            chance_b: Some(b),
            ..pair("x", "y", [[1, 0], [0, 0]], 1).1
        };
        // The pair that leans to neither side has none to flip to.
        let labels = [known(0.75, [0.5, 0.25, 0.25]), known(0.25, [0.125, 0.5, 0.375]), known(0.5, [0.25, 0.0, 0.75])];
        let found: Vec<_> = expected(&labels).iter().map(|it| (it.figure, it.n, it.value)).collect();
        assert_eq!(found, [(LabelFigure::ExpectedTies, 3, Some(0.25)), (LabelFigure::ExpectedFlips, 2, Some(0.1875))]);
        assert!(expected(&[pair("x", "y", [[1, 0], [0, 0]], 1).1]).is_empty());
    }

    #[test]
    fn severities_that_are_not_known_are_not_reported_on() {
        let (pairs, labels): (Vec<_>, Vec<_>) = [pair("x", "y", [[4, 0], [2, 2]], 9)].into_iter().unzip();
        let rows = report(&pairs, &labels, &BTreeMap::new(), &Flaws::new());
        assert!(rows.iter().all(|it| it.figure != LabelFigure::FollowsSeverity));
        assert!(rows.iter().all(|it| it.subset == ALL));
    }
}
