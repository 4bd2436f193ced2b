//! Which originals get variants.

use evoq_schemas::Image;
use evoq_stage::bad_input;

/// `count` originals of `rows` after the first `skip`, or all after them, in the order of the table.
///
/// A `count` that goes past the end of the table takes from its start what is missing, so that a small folder of pictures
/// serves a workflow made for a larger one; no original is taken twice.
pub(crate) fn choose(rows: &[Image], count: Option<u32>, skip: u32) -> anyhow::Result<Vec<&Image>> {
    if let Some(row) = rows.iter().find(|row| row.reference_id.is_some()) {
        return Err(bad_input(format!(
            "--images: `{}` is a variant; only originals can be distorted: give the table of originals alone",
            row.image_id
        )));
    }
    let (all, skip) = (rows.len(), skip as usize);
    if all == 0 {
        return Err(bad_input("--images: the table has no pictures; expected at least one"));
    }
    let Some(count) = count.map(|it| it as usize) else {
        return match rows.get(skip..) {
            Some(rest) if !rest.is_empty() => Ok(rest.iter().collect()),
            _ => Err(bad_input(format!("--skip-originals {skip}: the table has {all} originals; leave out fewer"))),
        };
    };
    if skip + count > all {
        tracing::warn!("--originals {count} after {skip}: the table has {all}; going on from its start");
    }
    let start = skip % all;
    let is_taken = |position: usize| (position + all - start) % all < count;
    Ok(rows.iter().enumerate().filter(|(position, _)| is_taken(*position)).map(|(_, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variants::tests::original;

    fn names(all: u32, count: Option<u32>, skip: u32) -> Result<String, String> {
        let rows: Vec<_> = (0..all).map(|i| original(&i.to_string(), false)).collect();
        let chosen = choose(&rows, count, skip).map_err(|error| error.to_string())?;
        Ok(chosen.iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_share_of_the_table_is_taken_in_its_order() {
        assert_eq!(names(6, None, 0).unwrap(), "0 1 2 3 4 5");
        assert_eq!(names(6, None, 4).unwrap(), "4 5");
        assert_eq!(names(6, Some(2), 0).unwrap(), "0 1");
        assert_eq!(names(6, Some(2), 4).unwrap(), "4 5");
    }

    #[test]
    fn past_the_end_it_goes_on_from_the_start_and_takes_none_twice() {
        assert_eq!(names(6, Some(3), 4).unwrap(), "0 4 5");
        assert_eq!(names(6, Some(3), 13).unwrap(), "1 2 3");
        assert_eq!(names(6, Some(250), 250).unwrap(), "0 1 2 3 4 5");
    }

    #[test]
    fn nothing_left_is_an_error() {
        assert!(names(6, None, 6).unwrap_err().contains("--skip-originals 6"));
        assert!(names(0, Some(1), 0).unwrap_err().contains("no pictures"));
    }

    #[test]
    fn a_variant_among_the_originals_is_named() {
        let mut row = original("a", false);
        row.reference_id = Some("set/b".into());
        let error = choose(&[row], None, 0).unwrap_err().to_string();
        assert!(error.contains("`set/a` is a variant"), "{error}");
    }
}
