//! Which tokens of a reply carry its answer.

use std::ops::Range;

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// The bytes of `reply` that hold its answer: what stands in the last `\boxed{…}`; without a box, the last digit.
fn answer_bytes(reply: &str) -> Option<Range<usize>> {
    const BOX: &str = "\\boxed{";
    if let Some(at) = reply.rfind(BOX) {
        let start = at + BOX.len();
        let end = start + reply[start..].find('}')?;
        return (start < end).then_some(start..end);
    }
    let at = reply.rfind(|c: char| c.is_ascii_digit())?;
    Some(at..at + 1)
}

/// The positions in `ids` of the tokens that carry the reply's answer: the content of its last box, or, without a box, its
/// last digit. `None` where there is neither.
pub fn answer_tokens(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Option<Range<usize>>> {
    let Some(bytes) = answer_bytes(&tokenizer.decode(ids)?) else { return Ok(None) };
    // Where each prefix of the tokens ends in the text: tokens are bytes, so single ones need not decode by themselves.
    let mut ends = Vec::with_capacity(ids.len());
    for length in 1..=ids.len() {
        ends.push(tokenizer.decode(&ids[..length])?.len());
    }
    let start = ends.iter().position(|end| *end > bytes.start);
    let end = ends.iter().position(|end| *end >= bytes.end);
    Ok(start.zip(end).map(|(start, end)| start..end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_in_the_last_box_or_the_last_digit() {
        let answer = |reply: &str| answer_bytes(reply).map(|range| reply[range].to_owned());
        assert_eq!(answer("<think>a</think>\\boxed{1} or \\boxed{3.52}"), Some("3.52".to_owned()));
        assert_eq!(answer("<answer>0</answer>"), Some("0".to_owned()));
        assert_eq!(answer("\\boxed{}"), None);
        assert_eq!(answer("neither"), None);
    }
}
