//! Tables of other tools' scores that are cut, flipped, spliced or made up: none may make the reader panic, what is refused is
//! listed by line, and what is taken stands in the file.

use evoq_schemas::ImageId;
use evoq_test_support::accidents::{accidents, after, try_all};
use proptest::prelude::*;

use crate::import::scores;

/// Pictures that are rated, with their names.
const PICTURES: [(&str, &str); 4] =
    [("set/a.png", "a.png"), ("set/b, c.png", "b, c.png"), ("other/d.png", "d.png"), ("set/d.png", "d.png")];

const BY_ID: &[u8] =
    b"image_id,score,tool\nset/a.png,3.25,t\n\"set/b, c.png\",-1e2,t\nother/d.png,0.5,t\nset/d.png, 4,t\n";
const BY_NAME: &[u8] = b"\xef\xbb\xbfscore,name\r\n41.5,a.png\r\n7,\"b, c.png\"\r\n";

fn is_read_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ids = PICTURES.map(|(id, name)| (ImageId::from(id), name));
    let pictures: Vec<(&ImageId, &str)> = ids.iter().map(|(id, name)| (id, *name)).collect();
    match scores(bytes, &pictures) {
        Ok(found) => {
            let text = String::from_utf8_lossy(bytes);
            for (id, (score, said)) in &found {
                prop_assert!(pictures.iter().any(|(known, _)| *known == id));
                prop_assert_eq!(said.parse(), Ok(*score));
                prop_assert!(score.is_finite() && text.contains(said.as_str()), "{said}");
            }
        }
        Err(faults) => {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!(fault.contains("line") && fault.chars().all(|it| !it.is_control()), "{fault:?}");
                prop_assert!(fault.chars().count() < 500, "{} characters: {fault}", fault.chars().count());
            }
        }
    }
    Ok(())
}

#[test]
fn a_damaged_table_of_scores_is_refused_by_line_or_says_what_stands_there() {
    for whole in [BY_ID, BY_NAME] {
        is_read_or_refused(whole).unwrap();
        try_all(accidents(), |accidents| is_read_or_refused(&after(whole.to_vec(), &accidents)));
        let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\",\r\n 0123.-einfa/".to_vec())];
        try_all((0..=60_usize, prop::collection::vec(byte, 0..200)), |(kept, random)| {
            is_read_or_refused(&[&whole[..kept.min(whole.len())], &random].concat())
        });
    }
}

#[test]
fn a_line_without_end_is_told_in_short() {
    let endless = format!("name,score\n{},1\na.png,{}\n", "x".repeat(100_000), "9".repeat(100_000));
    is_read_or_refused(endless.as_bytes()).unwrap();
    is_read_or_refused(format!("{},score\n", "y\u{7}".repeat(100_000)).as_bytes()).unwrap();
}
