//! The page of a whole run, made of tables that are written for the test.

use std::collections::BTreeMap;

use evoq_artifacts::{Draft, Header, Location};
use evoq_pictures::encode_png;
use evoq_schemas::{
    Control, Correlation, Decoding, Grouping, Image, ImageId, Label, LabelFigure, LabelMethod, LabelReport, Outcome,
    PairId, Picture, Prediction, Presented, RunStepRow, Table, Truth, Update, Vote,
};

use super::page;
use crate::graph::tests::step;
use crate::ledger::tests::made;
use crate::ledger::{Ledger, PlanRecord, StepRecord};
use crate::sql::tests::vote_on;

/// A name that would be markup if it were not escaped.
const HOSTILE: &str = "set/<script>alert('\"&')</script>";

fn image(id: &str, shade: u8) -> Image {
    let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([shade, 90, 200]));
    Image {
        image_id: id.into(),
        dataset: "set".to_owned(),
        name: id.to_owned(),
        image: Some(Picture { bytes: Some(encode_png(&picture)), path: Some(id.to_owned()) }),
        width: 40,
        height: 30,
        format: "png".to_owned(),
        digest: String::new(),
        split: None,
        grey: false,
        reference_id: None,
        distortion: None,
        severity: None,
        distortion_seed: None,
        short_side: None,
        crop: None,
    }
}

fn ids() -> (ImageId, ImageId) {
    (ImageId::from(HOSTILE), ImageId::from("set/b"))
}

fn vote(k: u16) -> Vote {
    let outcome = [Outcome::A, Outcome::B, Outcome::A, Outcome::Invalid][usize::from(k)];
    let presented = if k.is_multiple_of(2) { Presented::Ab } else { Presented::Ba };
    Vote { presented, reply: Some(format!("<b>reply {k}</b>")), ..vote_on(ids(), k, outcome) }
}

fn label() -> Label {
    let (image_a, image_b) = ids();
    Label {
        pair_id: PairId::of(&image_a, &image_b),
        image_a,
        image_b,
        preference: Some(1.0),
        votes_a: 2,
        votes_b: 1,
        votes_invalid: 1,
        votes_absent: 0,
        agreement: Some(2.0 / 3.0),
        first_rate: Some(1.0 / 3.0),
        probability_a: None,
        chance_a: None,
        chance_tie: None,
        chance_b: None,
        method: LabelMethod::Majority,
        control: Control::None,
    }
}

fn figure(figure: LabelFigure, subset: &str, value: f64) -> LabelReport {
    let (low, high) = (Some(value - 0.1), Some(value + 0.1));
    LabelReport { figure, subset: subset.to_owned(), n: 1, value: Some(value), low, high }
}

fn update(update_index: u32) -> Update {
    Update {
        update_index,
        loss: 0.1,
        kl: Some(0.01),
        reward_mean: Some(0.5 + f64::from(update_index) / 10.0),
        policy_loss: None,
        probe_loss: None,
        reward_std: Some(0.1),
        invalid_rate: Some(0.0),
        zero_spread_groups: None,
        skipped_groups: None,
        clip_share: None,
        vote_valid_rate: None,
        vote_entropy: None,
        gradient_norm: 0.3,
        clipped: false,
        learning_rate: 1e-4,
        groups: 1,
        completions: 1,
        tokens: 1,
    }
}

fn correlation(srcc: f64) -> Correlation {
    Correlation {
        policy: String::new(),
        dataset: "set".to_owned(),
        truth: Truth::Mos,
        grouping: Grouping::All,
        subset: "all".to_owned(),
        decoding: Decoding::Sampled,
        samples: 8,
        n: 2,
        n_invalid: 0,
        replies_valid: 16,
        replies: 16,
        plcc: Some(srcc),
        srcc: Some(srcc),
        krcc: Some(srcc),
        rmse: Some(1.0),
        plcc_low: None,
        plcc_high: None,
        srcc_low: Some(srcc - 0.2),
        srcc_high: Some(srcc + 0.1),
        krcc_low: None,
        krcc_high: None,
        rmse_low: None,
        rmse_high: None,
        plcc_fit4: None,
        rmse_fit4: None,
        fit4_converged: None,
        plcc_fit5: None,
        rmse_fit5: None,
        fit5_converged: None,
        sign: None,
        weight: 1.0,
    }
}

fn prediction(image_id: &str, quality: f64, score: f64) -> Prediction {
    Prediction {
        policy: String::new(),
        dataset: "set".to_owned(),
        decoding: Decoding::Sampled,
        image_id: image_id.into(),
        distortion: None,
        truth: Truth::Mos,
        quality,
        score: Some(score),
        valid: 8,
        replies: 8,
    }
}

/// A root with one run, as it grows.
struct Run {
    root: Location,
    ledger: Ledger,
}

impl Run {
    fn artifact(&mut self, step: &StepRecord, write: impl FnOnce(&mut Draft)) {
        let header = Header {
            stage: step.stage.clone(),
            stage_version: 1,
            fingerprint: step.fingerprint.clone(),
            parameters: serde_json::Map::new(),
            inputs: BTreeMap::new(),
        };
        let mut draft = Draft::new(&self.root.join(&step.stage).join(&step.fingerprint), header);
        write(&mut draft);
        draft.commit().unwrap();
        let row = RunStepRow { run: self.ledger.row.run.clone(), seconds: 2.0, ..made(step) };
        self.ledger.step(row).unwrap();
    }
}

fn put<T: Table>(draft: &mut Draft, rows: &[T]) {
    let mut writer = draft.table::<T>();
    for row in rows {
        writer.push(row.clone()).unwrap();
    }
    draft.add(T::NAME, writer.finish().unwrap());
}

fn root(folder: &std::path::Path) -> Location {
    let root = Location::open(folder.to_str().unwrap()).unwrap();
    let steps = vec![
        step("photos", None, "ingest", &[]),
        step("votes", Some(1), "vote", &[("images", "photos"), ("policy", "start")]),
        step("labels", Some(1), "label", &[("votes", "votes1")]),
        step("policy", Some(1), "grpo", &[("images", "photos"), ("labels", "labels1")]),
        step("scores", Some(0), "score", &[("images", "photos"), ("policy", "start")]),
        step("scores", Some(1), "score", &[("images", "photos"), ("policy", "policy1")]),
        step("table", Some(0), "benchmark", &[("scores", "scores0")]),
        step("table", Some(1), "benchmark", &[("scores", "scores1")]),
    ];
    let plan = PlanRecord { evoq: 1, workflow: "<i>loop</i>".to_owned(), steps: steps.clone() };
    let mut run = Run { ledger: Ledger::start(&root, &plan, 1).unwrap(), root: root.clone() };
    run.artifact(&steps[0], |draft| put(draft, &[image(HOSTILE, 0), image("set/b", 250)]));
    run.artifact(&steps[1], |draft| put(draft, &(0..4).map(vote).collect::<Vec<_>>()));
    run.artifact(&steps[2], |draft| {
        put(draft, &[label()]);
        let report = [
            figure(LabelFigure::Valid, "all", 0.75),
            figure(LabelFigure::Invalid, "no_answer", 0.25),
            figure(LabelFigure::FollowsSeverity, "type blur_lens", 0.6),
        ];
        put(draft, &report);
    });
    run.artifact(&steps[3], |draft| put(draft, &(0..5).map(update).collect::<Vec<_>>()));
    for (place, srcc) in [(6, 0.1), (7, 0.7)] {
        run.artifact(&steps[place], |draft| {
            put(draft, &[correlation(srcc)]);
            put(draft, &[prediction(HOSTILE, 1.5, 2.0), prediction("set/b", 4.0, 3.0)]);
        });
    }
    run.ledger.end("done").unwrap();
    root
}

#[test]
fn a_run_becomes_one_page_with_every_section_that_needs_nothing_else_and_is_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    let made = page(&root, None).unwrap();
    assert_eq!(made, page(&root, None).unwrap());
    for section in ["rating", "training", "votes", "pairs", "worst", "steps"] {
        assert!(made.contains(&format!("<h2 id=\"{section}\">")), "{section}");
    }
    // Of the page's own addresses none leaves it: what is no data is an anchor or the name of SVG.
    for address in ["src=\"", "href=\"", "url("] {
        let others =
            made.split(address).skip(1).filter(|it| !it.starts_with("data:image/jpeg") && !it.starts_with('#'));
        assert_eq!(others.count(), 0, "{address}");
    }
    assert!(!made.contains("<script") && !made.contains("<link") && !made.contains("@import"));
}

#[test]
fn texts_of_any_kind_are_shown_and_never_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let made = page(&root(folder.path()), None).unwrap();
    assert!(!made.contains("<script>alert") && !made.contains("<b>reply") && !made.contains("<i>loop"), "{made}");
    assert!(made.contains("&lt;b&gt;reply 0&lt;") && made.contains("&lt;i&gt;loop&lt;"));
}

#[test]
fn a_pair_is_shown_with_both_pictures_its_votes_and_replies() {
    let folder = tempfile::tempdir().unwrap();
    let made = page(&root(folder.path()), None).unwrap();
    // Two pictures as contested and as certain pair, as lowest and as furthest.
    assert_eq!(made.matches("<img src=\"data:image/jpeg;base64,").count(), 8);
    assert_eq!(made.matches("<img ").count(), made.matches(" alt=\"").count());
    assert!(made.contains("2 for the left") && made.contains("1 invalid") && made.contains("no_answer"), "{made}");
    assert!(made.contains("0.700 (0.50 to 0.80) after round 1; at the start it was 0.100"), "{made}");
}

#[test]
fn a_picture_that_cannot_be_had_is_said_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    let pictures = root.join("ingest/photos/images");
    pictures.join(&pictures.list().unwrap()[0].0).delete().unwrap();
    let made = page(&root, None).unwrap();
    assert_eq!((made.matches("<img ").count(), made.matches("No picture: ").count()), (0, 8));
}
