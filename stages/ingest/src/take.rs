//! Pictures into the tables: each file is read, decoded once to check it, and kept as it is.

use evoq_artifacts::Error;
use evoq_schemas::{Image, Picture, Rating, Split};
use evoq_stage::{Job, bad_input};
use rayon::prelude::*;

use crate::listing::{Entry, Listing};

/// Pictures that are in memory at once.
const CHUNK: usize = 64;
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

/// What became of a picture.
enum Taken {
    Kept(Box<Image>),
    /// It is of another split.
    Left,
    /// Name, what was found, remedy.
    Refused(String),
}

/// Writes the tables `images` and `ratings` of the pictures of `listing`, whose bytes `read` gives by position and entry. If
/// there is any problem, every picture is checked all the same, all problems are told, and nothing is committed.
pub(crate) fn take(
    job: &mut Job,
    dataset: &str,
    listing: Listing,
    choice: Choice,
    read: impl Fn(usize, &Entry) -> Result<Vec<u8>, Error> + Sync,
) -> anyhow::Result<()> {
    let Listing { entries, mut problems } = listing;
    let progress = job.progress("checking pictures", entries.len() as u64);
    let (mut images, mut ratings) = (job.write::<Image>(), job.write::<Rating>());
    let mut kept = 0;
    for (chunk, first) in entries.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        job.check()?;
        let taken: Result<Vec<Taken>, Error> = chunk
            .par_iter()
            .enumerate()
            .map(|(at, entry)| {
                let taken = taken(dataset, entry, choice, || read(first + at, entry));
                progress.add(1);
                taken
            })
            .collect();
        for (taken, entry) in taken?.into_iter().zip(chunk) {
            match taken {
                Taken::Refused(problem) => problems.push(problem),
                Taken::Kept(image) if problems.is_empty() => {
                    images.push(*image)?;
                    entry.rating.clone().map_or(Ok(()), |rating| ratings.push(rating))?;
                    kept += 1;
                }
                _ => {}
            }
        }
    }
    drop(progress);
    if !problems.is_empty() {
        return Err(refusal(&problems));
    }
    if let (0, Some(split)) = (kept, choice.split) {
        return Err(bad_input(format!(
            "--split {split}: none of the {} pictures is of it; give --holdout to divide a source that has no split",
            entries.len()
        )));
    }
    job.close(images)?;
    job.close(ratings)
}

/// Reads and checks one picture.
fn taken(
    dataset: &str,
    entry: &Entry,
    choice: Choice,
    read: impl FnOnce() -> Result<Vec<u8>, Error>,
) -> Result<Taken, Error> {
    let is_left = |split: Option<Split>| choice.split.is_some() && choice.split != split;
    if entry.split.is_some() && is_left(entry.split) {
        return Ok(Taken::Left);
    }
    let bytes = read()?;
    let digest = blake3::hash(&bytes);
    let split = entry.split.or_else(|| choice.holdout.map(|share| drawn_split(share, &digest)));
    if is_left(split) {
        return Ok(Taken::Left);
    }
    let decoded = match evoq_pictures::decode(&bytes) {
        Ok(decoded) => decoded,
        Err(error) => return Ok(Taken::Refused(format!("{} {error}", entry.path))),
    };
    let (width, height) = decoded.picture.dimensions();
    Ok(Taken::Kept(Box::new(Image {
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
    })))
}

/// The split of a picture by its digest, whose first 53 bits count as a number in 0..1: `test` below `share`.
fn drawn_split(share: f64, digest: &blake3::Hash) -> Split {
    let mut head = [0; 8];
    head.copy_from_slice(&digest.as_bytes()[..8]);
    let place = (u64::from_le_bytes(head) >> 11) as f64 / (1_u64 << 53) as f64;
    if place < share { Split::Test } else { Split::Train }
}

/// The error that tells the problems; where they are many, all are logged first.
fn refusal(problems: &[String]) -> anyhow::Error {
    let count = problems.len();
    if count <= NAMED {
        return bad_input(problems.join("; "));
    }
    for problem in problems {
        tracing::error!("{problem}");
    }
    bad_input(format!(
        "{count} pictures are refused: {}; and {} more, listed above",
        problems[..NAMED].join("; "),
        count - NAMED
    ))
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    const ALL: Choice = Choice { holdout: None, split: None };

    fn one(split: Option<Split>, choice: Choice, bytes: &[u8]) -> Taken {
        let entry = Entry { split, ..Entry::plain("a/b.png".to_owned()) };
        taken("set", &entry, choice, || Ok(bytes.to_vec())).unwrap()
    }

    fn png(grey: bool) -> Vec<u8> {
        evoq_pictures::encode_png(&RgbImage::from_fn(5, 3, |x, _| {
            Rgb([x as u8, x as u8, if grey { x as u8 } else { 9 }])
        }))
    }

    #[test]
    fn a_row_has_the_bytes_as_they_are_and_what_they_show() {
        let bytes = png(false);
        let Taken::Kept(row) = one(None, ALL, &bytes) else { panic!("not kept") };
        assert_eq!((row.image_id.as_str(), row.dataset.as_str(), row.name.as_str()), ("set/a/b.png", "set", "a/b.png"));
        assert_eq!((row.width, row.height, row.format.as_str(), row.grey), (5, 3, "png", false));
        assert_eq!(row.digest, blake3::hash(&bytes).to_hex().as_str());
        assert_eq!(row.image, Some(Picture { bytes: Some(bytes), path: Some("a/b.png".to_owned()) }));
        assert_eq!((row.split, row.reference_id.clone(), row.crop), (None, None, None));
        let Taken::Kept(row) = one(None, ALL, &png(true)) else { panic!("not kept") };
        assert!(row.grey);
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_by_name() {
        let bytes = png(false);
        for bytes in [&bytes[..bytes.len() / 2], b"", b"hello"] {
            assert!(matches!(one(None, ALL, bytes), Taken::Refused(why) if why.starts_with("a/b.png is")));
        }
    }

    #[test]
    fn pictures_of_another_split_are_not_even_read() {
        let choice = Choice { split: Some(Split::Test), ..ALL };
        let entry = Entry { split: Some(Split::Train), ..Entry::plain("a.png".to_owned()) };
        assert!(matches!(taken("set", &entry, choice, || panic!("was read")), Ok(Taken::Left)));
        assert!(matches!(one(None, choice, &png(true)), Taken::Left));
        assert!(matches!(one(Some(Split::Test), choice, &png(true)), Taken::Kept(row) if row.split == choice.split));
    }

    #[test]
    fn the_share_held_out_is_about_what_was_asked_for_and_grows_with_it() {
        let digests: Vec<_> = (0..10_000_u32).map(|it| blake3::hash(&it.to_le_bytes())).collect();
        let test = |share| digests.iter().map(|it| drawn_split(share, it) == Split::Test).collect::<Vec<_>>();
        let (fifth, third) = (test(0.2), test(0.33));
        // 2000 expected, standard deviation 40.
        assert!((1840..2160).contains(&fifth.iter().filter(|it| **it).count()));
        assert!(fifth.iter().zip(&third).all(|(small, large)| !small || *large));
    }

    #[test]
    fn few_problems_are_told_whole_and_many_are_counted() {
        let problems: Vec<String> = (0..9).map(|it| format!("{it}.jpg is torn")).collect();
        assert_eq!(refusal(&problems[..2]).to_string(), "0.jpg is torn; 1.jpg is torn");
        let many = refusal(&problems).to_string();
        assert!(
            many.starts_with("9 pictures are refused: 0.jpg") && many.ends_with("and 4 more, listed above"),
            "{many}"
        );
    }
}
