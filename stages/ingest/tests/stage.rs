//! The binary `evoq-ingest`, run as the workflow and people run it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use evoq_artifacts::{Artifact, list_files, read_file, write_file};
use evoq_pictures::{decode, encode_png};
use evoq_schemas::{Image, Rating, Reject, Split};
use evoq_test_support::{Folder, Program, rows};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

const INGEST: Program = Program(env!("CARGO_BIN_EXE_evoq-ingest"));

/// Runs what must be refused as bad input, with nothing committed, and gives the one line that says why.
fn refused(source: &Path, flags: &[&str]) -> String {
    let said = INGEST.refused_at(&[&["--source", &text(source)], flags].concat(), &Folder::new().at("out"));
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
fn photos(folder: &Path) -> PathBuf {
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

fn koniq(folder: &Path) -> PathBuf {
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

/// KADID-10k's layout with three references in two variants each.
fn kadid(folder: &Path) -> PathBuf {
    let kadid = folder.join("kadid");
    let mut csv = "dist_img,ref_img,dmos,var\n".to_owned();
    for (reference, level) in (1..4).flat_map(|it| [(it, 1), (it, 2)]) {
        let name = format!("I{reference:02}_01_{level:02}.png");
        write_file(&kadid.join("images").join(&name), &encode_png(&picture(reference * 10 + level))).unwrap();
        csv.push_str(&[name.as_str(), &format!("I{reference:02}.png"), &format!("{level}.5"), "0.25\n"].join(","));
    }
    write_file(&kadid.join("dmos.csv"), csv.as_bytes()).unwrap();
    kadid
}

/// Ingests what is left of a source with faults.
fn skipped(folder: &Path, source: &Path, flags: &[&str]) -> (String, String) {
    let out = text(&folder.join("out"));
    let said = INGEST.done(&[&["--source", &text(source), "--on-error", "skip", "--out", &out], flags].concat());
    (out, said)
}

#[test]
fn a_folder_becomes_rows_by_name_with_its_bytes_untouched() {
    let folder = Folder::new();
    let (photos, out) = (photos(folder.path()), folder.at("out"));
    let said = INGEST.done(&["--source", &text(&photos), "--out", &out]);
    assert!(said.contains("2 other files"), "{said}");
    let pictures = rows::<Image>(&out);
    let names: Vec<_> = pictures.iter().map(|row| (row.name.as_str(), row.format.as_str())).collect();
    let expected =
        [("a.JPG", "jpeg"), ("b.jpg", "jpeg"), ("d.png", "png"), ("deep/a.png", "png"), ("deep/c.jpeg", "jpeg")];
    assert_eq!(names, expected);
    for row in &pictures {
        assert_eq!(row.image_id.as_str(), format!("photos/{}", row.name));
        assert_eq!((row.width, row.height, row.split), (40, 24, None));
        assert_eq!(row.image.clone().unwrap().bytes.unwrap(), read_file(&photos.join(&row.name)).unwrap());
    }
    assert!(rows::<Rating>(&out).is_empty() && rows::<Reject>(&out).is_empty());
}

#[test]
fn koniq_is_recognised_and_keeps_its_split_and_scores() {
    let folder = Folder::new();
    let (koniq, out) = (koniq(folder.path()), folder.at("out"));
    INGEST.done(&["--source", &text(&koniq), "--out", &out]);
    let pictures = rows::<Image>(&out);
    let splits: Vec<_> = pictures.iter().map(|row| (row.image_id.as_str(), row.split.unwrap())).collect();
    let expected = [
        ("koniq10k/1.jpg", Split::Test),
        ("koniq10k/2.jpg", Split::Validation),
        ("koniq10k/3.jpg", Split::Train),
        ("koniq10k/4.jpg", Split::Train),
    ];
    assert_eq!(splits, expected);
    assert_eq!(pictures[0].image.clone().unwrap().path.unwrap(), "512x384/1.jpg");
    let scores: Vec<_> =
        rows::<Rating>(&out).into_iter().map(|it| (it.image_id.to_string(), it.mos, it.raters)).collect();
    assert_eq!(scores[2], ("koniq10k/3.jpg".to_owned(), 35.5, Some(103)));
    assert_eq!(scores.len(), 4);
}

#[test]
fn one_split_is_kept_with_its_scores() {
    let folder = Folder::new();
    let (koniq, out) = (koniq(folder.path()), folder.at("out"));
    INGEST.done(&["--source", &text(&koniq), "--split", "train", "--name", "k", "--out", &out]);
    let ids: Vec<_> = rows::<Image>(&out).into_iter().map(|row| row.image_id.to_string()).collect();
    assert_eq!(ids, ["k/3.jpg", "k/4.jpg"]);
    let rated: Vec<_> = rows::<Rating>(&out).into_iter().map(|row| row.image_id.to_string()).collect();
    assert_eq!(rated, ids);
}

#[test]
fn the_two_halves_of_a_holdout_are_the_whole() {
    let folder = Folder::new();
    let part = |flags: &[&str], name: &str| {
        let out = folder.at(name);
        let drawn = ["--source", "procedural:60", "--size", "16", "--out", &out];
        INGEST.done(&[&drawn[..], flags].concat());
        rows::<Image>(&out)
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
    let folder = Folder::new();
    let drawn = |flags: &[&str], name: &str| {
        let out = folder.at(name);
        INGEST.done(&[&["--source", "procedural:70", "--size", "32", "--out", &out], flags].concat());
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
    let folder = Folder::new();
    let photos = photos(folder.path());
    let whole = jpeg(1);
    write_file(&photos.join("b.jpg"), &whole[..whole.len() / 2]).unwrap();
    write_file(&photos.join("d.png"), b"").unwrap();
    let line = refused(&photos, &[]);
    assert!(line.contains("b.jpg is a jpeg file that is cut short") && line.contains("d.png is not"), "{line}");
}

#[test]
fn an_empty_folder_is_refused() {
    let folder = Folder::new();
    let line = refused(folder.path(), &[]);
    assert!(line.contains(&text(folder.path())) && line.contains("no picture"), "{line}");
}

#[test]
fn a_picture_of_the_csv_that_is_missing_is_named_with_its_line() {
    let folder = Folder::new();
    let koniq = koniq(folder.path());
    std::fs::remove_file(koniq.join("512x384/2.jpg")).unwrap();
    write_file(&koniq.join("512x384/4.jpg"), &jpeg(4)[..200]).unwrap();
    let line = refused(&koniq, &[]);
    assert!(line.contains("line 4: 2.jpg: 512x384/2.jpg is not found"), "{line}");
    assert!(line.contains("512x384/4.jpg is a jpeg file that is cut short"), "{line}");
}

#[test]
fn with_skip_the_rest_is_taken_and_every_fault_is_a_reject_at_its_line() {
    let folder = Folder::new();
    let koniq = koniq(folder.path());
    let csv = koniq.join("koniq10k_distributions_sets.csv");
    // Lines 2 to 5 are of 3.jpg, 1.jpg, 2.jpg and 4.jpg.
    let more = "\n3.jpg,0,0,.2,.7,.1,103,35.5,.52,training\n5.jpg,0,0,.2,.7,.1,105,NaN,.52,test\n6.jpg,0,0,.2,.7\n";
    let whole = String::from_utf8(read_file(&csv).unwrap()).unwrap() + more;
    write_file(&csv, whole.as_bytes()).unwrap();
    std::fs::remove_file(koniq.join("512x384/2.jpg")).unwrap();
    write_file(&koniq.join("512x384/4.jpg"), &jpeg(4)[..200]).unwrap();
    let (out, said) = skipped(folder.path(), &koniq, &[]);
    assert!(said.contains("2 pictures are taken, 5 rows and files are refused"), "{said}");
    let kept = ["koniq10k/1.jpg", "koniq10k/3.jpg"];
    assert_eq!(rows::<Image>(&out).iter().map(|row| row.image_id.to_string()).collect::<Vec<_>>(), kept);
    assert_eq!(rows::<Rating>(&out).iter().map(|row| row.image_id.to_string()).collect::<Vec<_>>(), kept);
    let rejects = rows::<Reject>(&out);
    let found: BTreeSet<_> =
        rejects.iter().map(|it| (it.line.unwrap(), it.name.as_str(), it.reason.as_str())).collect();
    let expected = [
        (4, "2.jpg", "missing"),
        (5, "4.jpg", "truncated"),
        (6, "3.jpg", "duplicate"),
        (7, "5.jpg", "score"),
        (8, "", "malformed"),
    ];
    assert_eq!((found, rejects.len()), (BTreeSet::from(expected), 5));
    assert!(rejects.iter().all(|it| it.source == "koniq10k_distributions_sets.csv" && !it.detail.is_empty()));
    let line = refused(&koniq, &[]);
    assert!((4..=8).all(|number| line.contains(&format!("line {number}: "))), "{line}");
}

#[test]
fn a_source_of_which_nothing_can_be_taken_is_refused_even_with_skip() {
    let folder = Folder::new();
    let photos = folder.path().join("photos");
    write_file(&photos.join("a.png"), b"no picture").unwrap();
    let line = refused(&photos, &["--on-error", "skip"]);
    assert!(line.contains("none of the 1 pictures can be taken"), "{line}");
}

#[test]
fn the_scale_of_the_scores_is_in_the_metadata_of_their_table() {
    let folder = Folder::new();
    let out = folder.at("out");
    INGEST.done(&["--source", &text(&koniq(folder.path())), "--out", &out]);
    for part in Artifact::open(&out).unwrap().parts::<Rating>().unwrap() {
        let reader = SerializedFileReader::new(part.location().get().unwrap()).unwrap();
        let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let scale = metadata.iter().find(|it| it.key == "evoq.scale").unwrap().value.clone().unwrap();
        let expected = r#"{"name":"koniq10k-mos-z","low":0.0,"high":100.0,"range":"nominal","lower_better":false}"#;
        assert_eq!(scale, expected);
    }
}

#[test]
fn splits_of_a_file_take_the_place_of_the_data_sets_own() {
    let folder = Folder::new();
    let file = folder.path().join("splits.csv");
    write_file(&file, b"name,split\n1.jpg,train\n2.jpg,train\n3.jpg,test\n").unwrap();
    let (koniq, out) = (koniq(folder.path()), folder.at("out"));
    let flags = ["--split-file", &text(&file)];
    INGEST.done(&[&["--source", &text(&koniq), "--out", &out], &flags[..]].concat());
    let splits: Vec<_> = rows::<Image>(&out).iter().map(|row| row.split).collect();
    assert_eq!(splits, [Some(Split::Train), Some(Split::Train), Some(Split::Test), None]);
    let test = folder.at("test");
    INGEST.done(&[&["--source", &text(&koniq), "--out", &test, "--split", "test"], &flags[..]].concat());
    assert_eq!(rows::<Image>(&test).iter().map(|row| row.image_id.to_string()).collect::<Vec<_>>(), ["koniq10k/3.jpg"]);
    write_file(&file, b"name,split\n1.jpg,train\n7.jpg,test\n").unwrap();
    let line = refused(&koniq, &flags);
    assert!(line.contains("splits.csv line 3: 7.jpg: is not in the data set"), "{line}");
}

#[test]
fn a_split_that_parts_the_variants_of_a_reference_is_refused_by_its_name() {
    let folder = Folder::new();
    let file = folder.path().join("splits.json");
    write_file(&file, br#"{"train": ["I01_01_01.png", "I02_01_01.png"], "test": ["I01_01_02.png"]}"#).unwrap();
    for skip in [&[][..], &["--on-error", "skip"]] {
        let line = refused(&kadid(folder.path()), &[&["--split-file", &text(&file)], skip].concat());
        assert!(line.contains("I01.png (I01_01_01.png in train, I01_01_02.png in test)"), "{line}");
        assert!(!line.contains("I02"), "{line}");
    }
}

#[test]
fn a_holdout_takes_the_variants_of_a_reference_together() {
    let folder = Folder::new();
    let kadid = kadid(folder.path());
    for share in ["0.2", "0.4", "0.6", "0.8"] {
        let out = folder.at(share);
        INGEST.done(&["--source", &text(&kadid), "--holdout", share, "--out", &out]);
        let splits: Vec<_> = rows::<Image>(&out).iter().map(|row| row.split.unwrap()).collect();
        assert!(splits.chunks(2).all(|of_reference| of_reference[0] == of_reference[1]), "{share}: {splits:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn with_skip_every_file_of_a_damaged_folder_is_a_picture_or_a_reject_and_none_is_both(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8, prop::option::of(0.0..1.0)), 20),
    ) {
        let folder = Folder::new();
        let photos = folder.path().join("photos");
        let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff];
        for (number, ((at, bit, end), format)) in damage.iter().zip(formats.iter().cycle()).enumerate() {
            let mut bytes = std::io::Cursor::new(Vec::new());
            DynamicImage::from(picture(number as u32)).write_to(&mut bytes, *format).unwrap();
            let mut bytes = bytes.into_inner();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let end = end.map_or(bytes.len(), |share: f64| (share * bytes.len() as f64) as usize);
            let name = format!("{number:02}.{}", format.extensions_str()[0]);
            write_file(&photos.join(name), &bytes[..end]).unwrap();
        }
        // One that is whole, so that there is something to take.
        write_file(&photos.join("whole.png"), &encode_png(&picture(99))).unwrap();
        let (out, _) = skipped(folder.path(), &photos, &[]);
        let mut names: Vec<_> = rows::<Image>(&out).into_iter().map(|row| row.name).collect();
        names.extend(rows::<Reject>(&out).into_iter().map(|row| row.name));
        names.sort();
        prop_assert_eq!(names, list_files(&photos).unwrap());
    }
}

#[test]
fn the_tables_are_the_same_on_any_number_of_threads_and_shards() {
    let folder = Folder::new();
    let photos = folder.path().join("photos");
    for number in 0..600 {
        let bytes = if number % 50 == 7 { b"no picture".to_vec() } else { encode_png(&picture(number)) };
        write_file(&photos.join(format!("{number:03}.png")), &bytes).unwrap();
    }
    let run = |flags: &[&str], name: &str| {
        let out = folder.at(name);
        let ours = ["--source", &text(&photos), "--on-error", "skip", "--out", &out];
        INGEST.done(&[&ours[..], flags].concat());
        out
    };
    let one = Artifact::open(&run(&["--threads", "1"], "one")).unwrap().manifest;
    assert_eq!(one, Artifact::open(&run(&["--threads", "3"], "three")).unwrap().manifest);
    let out = run(&["--shard", "1/2"], "shards");
    assert!(Artifact::open(&out).is_err());
    run(&["--shard", "0/2"], "shards");
    assert_eq!(one, Artifact::open(&out).unwrap().manifest);
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    let folder = Folder::new();
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
    let folder = Folder::new();
    let (one, two) = (photos(folder.path()), photos(&folder.path().join("other")));
    let fingerprint = |source: &Path, flags: &[&str], out: &str| {
        let out = folder.at(out);
        INGEST.done(&[&["--source", &text(source), "--out", &out], flags].concat());
        Artifact::open(&out).unwrap().fingerprint().to_owned()
    };
    let photos = fingerprint(&one, &[], "a");
    assert_eq!(photos, fingerprint(&two, &["--seed", "5"], "b"));
    assert_ne!(photos, fingerprint(&two, &["--name", "mine"], "c"));
}
