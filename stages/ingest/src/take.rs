//! Pictures into the tables: each file is read, decoded once to check it, and kept as it is.

use std::collections::BTreeMap;

use evoq_artifacts::Error;
use evoq_schemas::{Image, Picture, Rating, Reject, Split};
use evoq_stage::{Job, UnitEnd, bad_input, in_order};

use crate::listing::{Entry, Listing, Scale, reject};
use crate::splits::drawn;

/// Pictures in a unit of work: a second of work on photographs of a megapixel, and a part of some tens of megabytes.
const UNIT: usize = 256;
/// Problems that the final message repeats; all are logged.
const NAMED: usize = 5;

/// Which pictures are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// The share of pictures that go into the split `test`, the others into `train`.
    pub(crate) holdout: Option<f64>,
    /// The only split that is kept.
    pub(crate) split: Option<Split>,
}

impl Choice {
    /// Whether pictures of the split `split` are left out.
    fn leaves(self, split: Option<Split>) -> bool {
        self.split.is_some() && self.split != split
    }

    /// Whether `entry` is left out, as far as that is known before it is read.
    fn leaves_unread(self, entry: &Entry) -> bool {
        (entry.split.is_some() || self.holdout.is_none()) && self.leaves(entry.split)
    }
}

/// What becomes of a source with a file or a row that cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnError {
    /// All that is wrong is told, and nothing is written.
    Fail,
    /// The rest is taken, and the table `rejects` says what was not, and why.
    Skip,
}

/// What became of a picture.
enum Taken {
    Kept(Box<Image>, Option<Rating>),
    /// It is of another split.
    Left,
    Refused(Reject),
}

/// What a unit of work tells at its end.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Counts {
    kept: usize,
    /// Rejects by reason.
    rejects: BTreeMap<String, usize>,
}

/// Writes the tables `images`, `ratings` and `rejects` of the pictures of `listing`, whose bytes `read` gives by position and
/// entry.
///
/// With [`OnError::Fail`] every picture is checked, whatever is wrong before it; all problems are told, and nothing is
/// committed.
pub(crate) fn take(
    job: &mut Job,
    dataset: &str,
    listing: Listing,
    choice: Choice,
    on_error: OnError,
    read: impl Fn(usize, &Entry) -> Result<Vec<u8>, Error> + Sync,
) -> anyhow::Result<()> {
    let Listing { entries, rejects, scale } = listing;
    let wanted: Vec<_> = entries.iter().enumerate().filter(|(_, entry)| !choice.leaves_unread(entry)).collect();
    if wanted.is_empty() {
        return Err(nothing_left(entries.len(), choice, &rejects));
    }
    let scale = scale.as_ref().map(metadata);
    let mut problems = if on_error == OnError::Fail { rejects.clone() } else { Vec::new() };
    let units = job.units("checking pictures", wanted.len(), UNIT, |unit, range, progress| {
        let mut counts = Counts::default();
        // What was wrong before any picture was read stands before all else.
        if range.start == 0 && on_error == OnError::Skip {
            for reject in &rejects {
                counts.add(reject);
                unit.push(reject.clone())?;
            }
        }
        let mut is_rated = false;
        let work = |(at, entry): &(usize, &Entry)| Ok(taken(dataset, entry, choice, || read(*at, entry)));
        in_order(&wanted[range], work, |taken| {
            progress.add(1);
            match taken {
                Taken::Refused(reject) if on_error == OnError::Fail => problems.push(reject),
                Taken::Refused(reject) => {
                    counts.add(&reject);
                    unit.push(reject)?;
                }
                Taken::Kept(image, rating) if problems.is_empty() => {
                    counts.kept += 1;
                    unit.push(*image)?;
                    if let Some(rating) = rating {
                        if let (false, Some(scale)) = (is_rated, &scale) {
                            unit.table::<Rating>().metadata("evoq.scale", scale.clone());
                        }
                        is_rated = true;
                        unit.push(rating)?;
                    }
                }
                Taken::Kept(..) | Taken::Left => {}
            }
            anyhow::Ok(())
        })?;
        unit.note(counts);
        Ok(if problems.is_empty() { UnitEnd::Done } else { UnitEnd::Refused })
    })?;
    if !problems.is_empty() {
        return Err(refusal(&problems));
    }
    let Some(units) = units else { return Ok(()) };
    let counts = units.notes::<Counts>()?;
    if counts.iter().all(|it| it.kept == 0) {
        return Err(nothing_left(entries.len(), choice, &rejects));
    }
    summarise(&counts);
    job.close_units::<Image>(&units)?;
    job.close_units::<Rating>(&units)?;
    job.close_units::<Reject>(&units)
}

impl Counts {
    fn add(&mut self, reject: &Reject) {
        *self.rejects.entry(reject.reason.clone()).or_default() += 1;
    }
}

/// Reads and checks one picture.
fn taken(dataset: &str, entry: &Entry, choice: Choice, read: impl FnOnce() -> Result<Vec<u8>, Error>) -> Taken {
    let refused = |reason: &str, what| Taken::Refused(reject(&entry.source, entry.line, &entry.name, reason, what));
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error @ Error::NotFound { .. }) => return refused("missing", error.to_string()),
        Err(error) => return refused("unreadable", error.to_string()),
    };
    let digest = blake3::hash(&bytes);
    let split = entry.split.or_else(|| choice.holdout.map(|share| drawn(share, &digest)));
    if choice.leaves(split) {
        return Taken::Left;
    }
    let decoded = match evoq_pictures::decode(&bytes) {
        Ok(decoded) => decoded,
        Err(error) => return refused(error.reason(), format!("{} {error}", entry.path)),
    };
    let (width, height) = decoded.picture.dimensions();
    let image = Image {
        image_id: format!("{dataset}/{}", entry.name).into(),
        dataset: dataset.to_owned(),
        name: entry.name.clone(),
        image: Some(Picture { bytes: Some(bytes), path: Some(entry.path.clone()) }),
        width,
        height,
        format: decoded.format.to_owned(),
        digest: digest.to_hex().to_string(),
        split,
        grey: decoded.grey,
        reference_id: None,
        distortion: None,
        severity: None,
        distortion_seed: None,
        short_side: None,
        crop: None,
    };
    Taken::Kept(Box::new(image), entry.rating.clone())
}

/// How scores became 1..5, for the metadata of the table of ratings.
fn metadata(scale: &Scale) -> String {
    serde_json::json!({
        "name": scale.name,
        "low": scale.low,
        "high": scale.high,
        "range": scale.range_is.as_str(),
        "lower_better": scale.lower_better,
    })
    .to_string()
}

/// Says how much was refused, and why.
fn summarise(counts: &[Counts]) {
    let kept: usize = counts.iter().map(|it| it.kept).sum();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (reason, count) in counts.iter().flat_map(|it| &it.rejects) {
        *reasons.entry(reason).or_default() += count;
    }
    let refused: usize = reasons.values().sum();
    if refused > 0 {
        let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        tracing::warn!(
            "{kept} pictures are taken, {refused} rows and files are refused ({}): the table `rejects` says which",
            reasons.join(", ")
        );
    }
}

/// The error of a source of `pictures` pictures of which none is taken.
fn nothing_left(pictures: usize, choice: Choice, rejects: &[Reject]) -> anyhow::Error {
    match choice.split {
        Some(split) if pictures > 0 => bad_input(format!(
            "--split {split}: none of the {pictures} pictures is of it and can be taken; give --holdout or --split-file to \
             divide a source that has no split"
        )),
        _ if rejects.is_empty() => bad_input(format!("none of the {pictures} pictures can be taken")),
        _ => refusal(rejects),
    }
}

/// The error that tells the problems; where they are many, all are logged first.
fn refusal(problems: &[Reject]) -> anyhow::Error {
    let told: Vec<String> = problems.iter().map(told).collect();
    if told.len() <= NAMED {
        return bad_input(told.join("; ") + ". --on-error skip takes the rest");
    }
    for problem in &told {
        tracing::error!("{problem}");
    }
    bad_input(format!(
        "{} rows and files are refused: {}; and {} more, listed above. --on-error skip takes the rest",
        told.len(),
        told[..NAMED].join("; "),
        told.len() - NAMED
    ))
}

/// A problem in a line.
fn told(problem: &Reject) -> String {
    let Reject { source, line, name, detail, .. } = problem;
    match line {
        Some(line) => format!("{source} line {line}: {name}: {detail}"),
        None if source == name => detail.clone(),
        None => format!("{source}: {name}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    const ALL: Choice = Choice { holdout: None, split: None };

    fn one(split: Option<Split>, choice: Choice, bytes: &[u8]) -> Result<Image, Option<Reject>> {
        let entry = Entry { split, ..Entry::plain("a/b.png".to_owned()) };
        match taken("set", &entry, choice, || Ok(bytes.to_vec())) {
            Taken::Kept(image, _) => Ok(*image),
            Taken::Left => Err(None),
            Taken::Refused(reject) => Err(Some(reject)),
        }
    }

    fn png(grey: bool) -> Vec<u8> {
        evoq_pictures::encode_png(&RgbImage::from_fn(5, 3, |x, _| {
            Rgb([x as u8, x as u8, if grey { x as u8 } else { 9 }])
        }))
    }

    #[test]
    fn a_row_has_the_bytes_as_they_are_and_what_they_show() {
        let bytes = png(false);
        let row = one(None, ALL, &bytes).unwrap();
        assert_eq!((row.image_id.as_str(), row.dataset.as_str(), row.name.as_str()), ("set/a/b.png", "set", "a/b.png"));
        assert_eq!((row.width, row.height, row.format.as_str(), row.grey), (5, 3, "png", false));
        assert_eq!(row.digest, blake3::hash(&bytes).to_hex().as_str());
        assert_eq!(row.image, Some(Picture { bytes: Some(bytes), path: Some("a/b.png".to_owned()) }));
        assert_eq!((row.split, row.reference_id.clone(), row.crop), (None, None, None));
        assert!(one(None, ALL, &png(true)).unwrap().grey);
    }

    #[test]
    fn what_cannot_be_decoded_is_a_reject_with_its_reason() {
        let bytes = png(false);
        for (bytes, reason) in
            [(&bytes[..bytes.len() / 2], "truncated"), (b"", "unsupported"), (b"hello", "unsupported")]
        {
            let reject = one(None, ALL, bytes).unwrap_err().unwrap();
            assert_eq!((reject.source.as_str(), reject.name.as_str()), ("a/b.png", "a/b.png"));
            assert!(reject.reason == reason && reject.detail.starts_with("a/b.png is"), "{reject:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_reject_at_its_line() {
        let entry = Entry { source: "s.csv".to_owned(), line: Some(7), ..Entry::plain("a.png".to_owned()) };
        let disk = std::io::Error::other("the disk failed");
        let uri = || "/photos/a.png".to_owned();
        for (error, reason) in [
            (Error::NotFound { uri: uri() }, "missing"),
            (Error::Storage { uri: uri(), what: "reading", source: Box::new(disk) }, "unreadable"),
        ] {
            let Taken::Refused(reject) = taken("set", &entry, ALL, || Err(error)) else { panic!("was taken") };
            assert_eq!((reject.reason.as_str(), reject.line), (reason, Some(7)));
            assert!(told(&reject).starts_with("s.csv line 7: a.png: /photos/a.png: "), "{}", told(&reject));
        }
    }

    #[test]
    fn pictures_of_another_split_are_not_even_read() {
        let choice = Choice { split: Some(Split::Test), ..ALL };
        let of = |split| Entry { split, ..Entry::plain("a.png".to_owned()) };
        let drawn = Choice { holdout: Some(0.5), ..choice };
        assert!(choice.leaves_unread(&of(Some(Split::Train))) && choice.leaves_unread(&of(None)));
        assert!(!choice.leaves_unread(&of(Some(Split::Test))) && !ALL.leaves_unread(&of(None)));
        assert!(!drawn.leaves_unread(&of(None)) && drawn.leaves_unread(&of(Some(Split::Train))));
        assert_eq!(one(None, choice, &png(true)).unwrap_err(), None);
        assert_eq!(one(Some(Split::Test), choice, &png(true)).unwrap().split, choice.split);
    }

    #[test]
    fn few_problems_are_told_whole_and_many_are_counted() {
        let problems: Vec<Reject> =
            (0..9).map(|it| reject("a", None, "a", "damaged", format!("{it}.jpg is torn"))).collect();
        assert_eq!(refusal(&problems[..2]).to_string(), "0.jpg is torn; 1.jpg is torn. --on-error skip takes the rest");
        let many = refusal(&problems).to_string();
        assert!(
            many.starts_with("9 rows and files are refused: 0.jpg") && many.contains("and 4 more, listed above"),
            "{many}"
        );
    }
}
