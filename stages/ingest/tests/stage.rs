//! The binary `evoq-ingest`, run as the workflow and people run it.

use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, read_file, write_file};
use evoq_pictures::{decode, encode_png};
use evoq_schemas::{Image, Rating, Split};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

fn ingest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-ingest")).args(arguments).output().unwrap()
}

/// What the stage says on its way to a committed artifact.
fn done(arguments: &[&str]) -> String {
    let output = ingest(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Runs what must be refused as bad input, with nothing committed, and gives the one line that says why.
fn refused(source: &Path, flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let output = ingest(&[&["--source", &text(source), "--out", &out], flags].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(Artifact::open(&out).is_err());
    said.lines().find(|line| line.starts_with("evoq-ingest: error: ")).unwrap().to_owned()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(40, 24, |x, y| Rgb([(x * 6 + seed) as u8, (y * 9) as u8, (x * y + seed * 7) as u8]))
}

fn jpeg(seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture(seed)).unwrap();
    bytes
}

/// A folder `photos` of five pictures in two formats, and two other files.
fn photos(folder: &Path) -> std::path::PathBuf {
    let photos = folder.join("photos");
    for name in ["b.jpg", "a.JPG", "deep/c.jpeg"] {
        write_file(&photos.join(name), &jpeg(name.len() as u32)).unwrap();
    }
    for name in ["d.png", "deep/a.png"] {
        write_file(&photos.join(name), &encode_png(&picture(100 + name.len() as u32))).unwrap();
    }
    write_file(&photos.join("notes.txt"), b"not a picture").unwrap();
    write_file(&photos.join(".hidden.png"), b"not a picture").unwrap();
    photos
}

fn koniq(folder: &Path) -> std::path::PathBuf {
    let koniq = folder.join("downloads");
    let mut csv = vec!["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set".to_owned()];
    for (number, set) in [(3, "training"), (1, "test"), (2, "validation"), (4, "training")] {
        csv.push(format!("{number}.jpg,0,0,.2,.7,.1,10{number},{number}5.5,.52,{set}"));
        write_file(&koniq.join(format!("512x384/{number}.jpg")), &jpeg(number)).unwrap();
    }
    let csv = csv.join("\n");
    write_file(&koniq.join("koniq10k_distributions_sets.csv"), csv.as_bytes()).unwrap();
    koniq
}

fn images(uri: &str) -> Vec<Image> {
    Artifact::open(uri).unwrap().rows().unwrap()
}

fn ratings(uri: &str) -> Vec<Rating> {
    Artifact::open(uri).unwrap().rows().unwrap()
}

#[test]
fn a_folder_becomes_rows_by_name_with_its_bytes_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, out) = (photos(folder.path()), text(&folder.path().join("out")));
    let said = done(&["--source", &text(&photos), "--out", &out]);
    assert!(said.contains("2 other files"), "{said}");
    let rows = images(&out);
    let names: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.format.as_str())).collect();
    let expected =
        [("a.JPG", "jpeg"), ("b.jpg", "jpeg"), ("d.png", "png"), ("deep/a.png", "png"), ("deep/c.jpeg", "jpeg")];
    assert_eq!(names, expected);
    for row in &rows {
        assert_eq!(row.image_id.as_str(), format!("photos/{}", row.name));
        assert_eq!((row.width, row.height, row.split), (40, 24, None));
        assert_eq!(row.image.clone().unwrap().bytes.unwrap(), read_file(&photos.join(&row.name)).unwrap());
    }
    assert!(ratings(&out).is_empty());
}

#[test]
fn koniq_is_recognised_and_keeps_its_split_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (koniq, out) = (koniq(folder.path()), text(&folder.path().join("out")));
    done(&["--source", &text(&koniq), "--out", &out]);
    let rows = images(&out);
    let splits: Vec<_> = rows.iter().map(|row| (row.image_id.as_str(), row.split.unwrap())).collect();
    let expected = [
        ("koniq10k/1.jpg", Split::Test),
        ("koniq10k/2.jpg", Split::Validation),
        ("koniq10k/3.jpg", Split::Train),
        ("koniq10k/4.jpg", Split::Train),
    ];
    assert_eq!(splits, expected);
    assert_eq!(rows[0].image.clone().unwrap().path.unwrap(), "512x384/1.jpg");
    let scores: Vec<_> = ratings(&out).into_iter().map(|it| (it.image_id.to_string(), it.mos, it.raters)).collect();
    assert_eq!(scores[2], ("koniq10k/3.jpg".to_owned(), 35.5, Some(103)));
    assert_eq!(scores.len(), 4);
}

#[test]
fn one_split_is_kept_with_its_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (koniq, out) = (koniq(folder.path()), text(&folder.path().join("out")));
    done(&["--source", &text(&koniq), "--split", "train", "--name", "k", "--out", &out]);
    let ids: Vec<_> = images(&out).into_iter().map(|row| row.image_id.to_string()).collect();
    assert_eq!(ids, ["k/3.jpg", "k/4.jpg"]);
    let rated: Vec<_> = ratings(&out).into_iter().map(|row| row.image_id.to_string()).collect();
    assert_eq!(rated, ids);
}

#[test]
fn the_two_halves_of_a_holdout_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let part = |flags: &[&str], name: &str| {
        let out = text(&folder.path().join(name));
        let drawn = ["--source", "procedural:60", "--size", "16", "--out", &out];
        done(&[&drawn[..], flags].concat());
        images(&out)
    };
    let all = part(&["--holdout", "0.3"], "all");
    let mut parts = part(&["--holdout", "0.3", "--split", "test"], "test");
    assert!((8..30).contains(&parts.len()), "{} of 60 held out", parts.len());
    parts.extend(part(&["--holdout", "0.3", "--split", "train"], "train"));
    parts.sort_by(|a, b| a.image_id.cmp(&b.image_id));
    assert_eq!(parts, all);
}

#[test]
fn procedural_pictures_are_png_of_their_size_and_the_seed_decides_them() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = |flags: &[&str], name: &str| {
        let out = text(&folder.path().join(name));
        done(&[&["--source", "procedural:70", "--size", "32", "--out", &out], flags].concat());
        Artifact::open(&out).unwrap()
    };
    let one = drawn(&["--threads", "1"], "a");
    assert_eq!(one.manifest, drawn(&["--threads", "2"], "b").manifest);
    assert_ne!(one.manifest.tables, drawn(&["--seed", "2"], "c").manifest.tables);
    let rows = one.rows::<Image>().unwrap();
    assert_eq!(rows.len(), 70);
    assert_eq!(rows[69].image_id.as_str(), "procedural/000069.png");
    for row in rows {
        let decoded = decode(&row.image.unwrap().bytes.unwrap()).unwrap();
        assert_eq!((decoded.format, decoded.picture.dimensions()), ("png", (32, 32)));
        assert_eq!((row.width, row.height), (32, 32));
    }
}

#[test]
fn a_truncated_jpeg_is_one_line_that_names_it_and_nothing_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photos(folder.path());
    let whole = jpeg(1);
    write_file(&photos.join("b.jpg"), &whole[..whole.len() / 2]).unwrap();
    write_file(&photos.join("d.png"), b"").unwrap();
    let line = refused(&photos, &[]);
    assert!(line.contains("b.jpg is a jpeg file that is cut short") && line.contains("d.png is not"), "{line}");
}

#[test]
fn an_empty_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let line = refused(folder.path(), &[]);
    assert!(line.contains(&text(folder.path())) && line.contains("no picture"), "{line}");
}

#[test]
fn a_picture_of_the_csv_that_is_missing_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let koniq = koniq(folder.path());
    std::fs::remove_file(koniq.join("512x384/2.jpg")).unwrap();
    write_file(&koniq.join("512x384/4.jpg"), &jpeg(4)[..200]).unwrap();
    let line = refused(&koniq, &[]);
    assert!(line.contains("512x384/2.jpg: not found") && line.contains("line 4"), "{line}");
    assert!(line.contains("512x384/4.jpg is a jpeg file that is cut short"), "{line}");
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, koniq) = (photos(folder.path()), koniq(folder.path()));
    for (source, flags, named) in [
        (Path::new("nowhere"), &[][..], "nowhere: not found"),
        (Path::new("procedural:none"), &[], "procedural:none"),
        (&photos, &["--dataset", "koniq10k"], "koniq10k_distributions_sets.csv"),
        (&photos, &["--dataset", "procedural"], "does not go with"),
        (&photos, &["--split", "test"], "--split test: none of the 5 pictures"),
        (&koniq, &["--holdout", "0.2"], "--holdout"),
    ] {
        let line = refused(source, flags);
        assert!(line.contains(named), "{line}");
    }
}

#[test]
fn a_folder_of_another_name_is_another_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (photos(folder.path()), photos(&folder.path().join("other")));
    let fingerprint = |source: &Path, flags: &[&str], out: &str| {
        let out = text(&folder.path().join(out));
        done(&[&["--source", &text(source), "--out", &out], flags].concat());
        Artifact::open(&out).unwrap().fingerprint().to_owned()
    };
    let photos = fingerprint(&one, &[], "a");
    assert_eq!(photos, fingerprint(&two, &["--seed", "5"], "b"));
    assert_ne!(photos, fingerprint(&two, &["--name", "mine"], "c"));
}
