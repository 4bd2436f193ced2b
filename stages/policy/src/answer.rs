//! Which tokens of a reply carry its answer.

use std::ops::Range;

use crate::error::Result;
use crate::reply::{Place, answer};
use crate::tokenizer::Tokenizer;

/// The bytes of `reply` that hold its answer, where the parsers look for it: what stands in its last box; without a box, a
/// number that stands alone in the tag, after the reasoning or by itself.
pub fn answer_bytes(reply: &str) -> Option<Range<usize>> {
    let (place, range) = answer(reply);
    let is_number = || reply[range.clone()].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (!range.is_empty() && (place == Place::Box || is_number())).then_some(range)
}

/// The positions in `ids`, the tokens of `text`, that carry the reply's answer, as the parsers find it. `None` where there is
/// none.
pub fn answer_tokens(tokenizer: &Tokenizer, ids: &[u32], text: &str) -> Result<Option<Range<usize>>> {
    let Some(bytes) = answer_bytes(text) else { return Ok(None) };
    if !text.contains('\u{FFFD}') {
        // Whole characters throughout: a token's bytes stand where those before it end.
        let ends = ids.iter().scan(0, |end, id| {
            *end += tokenizer.bytes(*id);
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        if ends.last() == Some(&text.len()) {
            let start = ends.partition_point(|end| *end <= bytes.start);
            return Ok(Some(start..ends.partition_point(|end| *end < bytes.end) + 1));
        }
    }
    let start = first_prefix(tokenizer, ids, |length| length > bytes.start)?;
    let end = first_prefix(tokenizer, ids, |length| length >= bytes.end)?;
    Ok(Some(start - 1..end))
}

/// How many tokens there are in the shortest prefix of `ids` whose text is of a length that `is_enough`. The whole text's is.
///
/// Tokens are bytes, so single ones need not decode by themselves; text only grows with every token, so the prefix is found by
/// halving. Half a character decodes as U+FFFD, which is longer than what it will be, and is not counted.
fn first_prefix(tokenizer: &Tokenizer, ids: &[u32], is_enough: impl Fn(usize) -> bool) -> Result<usize> {
    let (mut low, mut high) = (1, ids.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let text = tokenizer.decode(&ids[..middle])?;
        if is_enough(text.trim_end_matches('\u{FFFD}').len()) { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_answer_is_where_the_parsers_look_for_it() {
        let answer = |reply: &str| answer_bytes(reply).map(|range| reply[range].to_owned());
        for (reply, said) in [
            ("<think>a</think>\\boxed{1} or \\boxed{3.52}", Some("3.52")),
            ("\\boxed{ 1 } and then \\boxed{", Some("1")),
            ("<answer>0</answer>", Some("0")),
            ("<answer> 0. </answer> of 2", Some("0")),
            ("<think>1</think> 0.", Some("0")),
            ("1", Some("1")),
            ("\\boxed{}", None),
            ("neither", None),
            ("2 of 3", None),
        ] {
            assert_eq!(answer(reply).as_deref(), said, "{reply}");
        }
    }

    fn tokenizer() -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy");
        Tokenizer::load(&folder).unwrap()
    }

    #[test]
    fn the_tokens_of_an_answer_hold_it_and_no_more() {
        let tokenizer = tokenizer();
        for (reply, said) in [
            ("<think>very noisy</think>\\boxed{1}", "1"),
            ("<think>模糊的é</think>\\boxed{ 3.52 }.", "3.52"),
            ("é0", "\u{0}"),
            ("模糊</think>0", "0"),
            ("1", "1"),
        ] {
            let ids = tokenizer.encode(reply).unwrap();
            let range = answer_tokens(&tokenizer, &ids, &tokenizer.decode(&ids).unwrap()).unwrap();
            let text = range.map_or("\u{0}".to_owned(), |range| tokenizer.decode(&ids[range]).unwrap());
            assert_eq!(text.trim(), said, "{reply}");
        }
    }

    proptest! {
        #[test]
        fn halving_finds_what_a_walk_over_all_prefixes_finds(before in "[a-zé模𝄞 ]{0,12}", answer in 100..=500_u32) {
            let tokenizer = tokenizer();
            let ids = tokenizer.encode(&format!("{before}\\boxed{{{answer}}} {before}")).unwrap();
            let found = answer_tokens(&tokenizer, &ids, &tokenizer.decode(&ids).unwrap()).unwrap().unwrap();
            let walked: Vec<usize> = (0..ids.len())
                .filter(|at| !tokenizer.decode(&ids[*at..=*at]).unwrap().trim_matches(|c: char| !c.is_ascii_digit()).is_empty())
                .collect();
            prop_assert_eq!(found.collect::<Vec<_>>(), walked);
        }
    }
}
