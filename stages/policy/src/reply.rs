//! What a reply says: a vote or a score, by one strict rule each. A reply that the rule does not read is invalid, with
//! a reason; it is never guessed at.

#[cfg(test)]
mod hostile;

use std::ops::Range;

/// The picture that a comparison prefers, in the order shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first picture: answer 0.
    First,
    /// The second picture: answer 1.
    Second,
}

/// Why a reply counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidReply {
    /// There is no box, and (in a comparison) what stands in its place is not an index alone.
    NoAnswer,
    /// The answer of a comparison is something else than `0` or `1`.
    NotAnIndex,
    /// The answer of a rating is no finite decimal number.
    NotANumber,
    /// The rating is a number outside 1 to 5.
    OutOfRange,
}

impl InvalidReply {
    /// The reason as tables hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAnswer => "no_answer",
            Self::NotAnIndex => "not_an_index",
            Self::NotANumber => "not_a_number",
            Self::OutOfRange => "out_of_range",
        }
    }
}

/// What a reply's answer stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The last `\\boxed{…}` that is closed.
    Box,
    /// The last `<answer>` tag that is closed, in a reply without a box.
    Tag,
    /// What follows the last `</think>`, or else the whole reply, where there is neither.
    Rest,
}

/// Reads the answer of a comparison: the content of the last `\boxed{…}`, stripped, is exactly `0` or `1`. With no box
/// at all, so is the content of the last `<answer>` tag, else the text after the last `</think>`, else the whole reply,
/// each stripped of spaces and a final full stop.
///
/// # Errors
/// The reply holds no such answer.
pub fn parse_comparison(reply: &str) -> Result<Side, InvalidReply> {
    let (place, range) = answer(reply);
    match (&reply[range], place) {
        ("0", _) => Ok(Side::First),
        ("1", _) => Ok(Side::Second),
        (_, Place::Box | Place::Tag) => Err(InvalidReply::NotAnIndex),
        (_, Place::Rest) => Err(InvalidReply::NoAnswer),
    }
}

/// Reads a rating: the content of the last `\boxed{…}`, stripped, is a finite decimal number from 1 to 5. Nothing
/// stands in for a missing box.
///
/// # Errors
/// The reply holds no such rating.
pub fn parse_score(reply: &str) -> Result<f64, InvalidReply> {
    let (Place::Box, range) = answer(reply) else { return Err(InvalidReply::NoAnswer) };
    let score: f64 = reply[range].parse().map_err(|_| InvalidReply::NotANumber)?;
    if !score.is_finite() {
        return Err(InvalidReply::NotANumber);
    }
    if (1.0..=5.0).contains(&score) { Ok(score) } else { Err(InvalidReply::OutOfRange) }
}

/// Where the answer of a reply is to be looked for, in bytes, stripped of spaces and, outside a box, of a final full stop.
pub(crate) fn answer(reply: &str) -> (Place, Range<usize>) {
    if let Some(content) = last_boxed(reply) {
        return (Place::Box, trimmed(reply, content));
    }
    if let Some(content) = last_tagged(reply) {
        return (Place::Tag, without_stop(reply, content));
    }
    let start = reply.rfind(THINK_END).map_or(0, |at| at + THINK_END.len());
    (Place::Rest, without_stop(reply, start..reply.len()))
}

const THINK_END: &str = "</think>";
const ANSWER: [&str; 2] = ["<answer>", "</answer>"];

/// The content of the last `\boxed{` that is ever closed, up to the brace that closes it. Braces inside are balanced; of boxes
/// in one another the inner one is the last. One pass, however long the reply.
fn last_boxed(reply: &str) -> Option<Range<usize>> {
    let mut last: Option<Range<usize>> = None;
    // The braces that are open, those of a box with the place of its content.
    let mut open = Vec::new();
    for (at, byte) in reply.bytes().enumerate() {
        match byte {
            b'{' => open.push(reply[..at].ends_with(r"\boxed").then_some(at + 1)),
            b'}' => {
                let start = open.pop().flatten();
                if let Some(start) = start.filter(|start| last.as_ref().is_none_or(|last| last.start < *start)) {
                    last = Some(start..at);
                }
            }
            _ => {}
        }
    }
    last
}

/// The content of the last `<answer>` tag that is closed.
fn last_tagged(reply: &str) -> Option<Range<usize>> {
    let end = reply.rfind(ANSWER[1])?;
    reply[..end].rfind(ANSWER[0]).map(|at| at + ANSWER[0].len()..end)
}

fn trimmed(reply: &str, range: Range<usize>) -> Range<usize> {
    let text = &reply[range.clone()];
    let start = range.start + text.len() - text.trim_start().len();
    start..start + text.trim().len()
}

fn without_stop(reply: &str, range: Range<usize>) -> Range<usize> {
    let range = trimmed(reply, range);
    match reply[range.clone()].strip_suffix('.') {
        Some(before) => trimmed(reply, range.start..range.start + before.len()),
        None => range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_box_decides() {
        for (reply, side) in [
            (r"<think>blurry</think>\boxed{0}", Side::First),
            (r"\boxed{1}", Side::Second),
            (r"\boxed{ 1 }", Side::Second),
            ("\\boxed{\n0\n}.", Side::First),
            (r"\boxed{0} no, \boxed{1}", Side::Second),
            (r"First \boxed{x}, so $\boxed{0}$ it is", Side::First),
            // Cut off while it opens another box: the last one that was closed stands.
            (r"\boxed{0} or \boxed{", Side::First),
            // A box outweighs a tag.
            (r"<answer>1</answer> \boxed{0}", Side::First),
        ] {
            assert_eq!(parse_comparison(reply), Ok(side), "{reply}");
        }
    }

    #[test]
    fn a_box_with_anything_but_an_index_is_not_a_vote() {
        for reply in [
            r"\boxed{}",
            r"\boxed{0 or 1}",
            r"\boxed{01}",
            r"\boxed{0.}",
            r"\boxed{1.0}",
            r"\boxed{-1}",
            r"\boxed{2}",
            r"\boxed{\text{1}}",
            r"\boxed{{1}}",
            r"\boxed{１}",
            r"\boxed{1} then \boxed{maybe}",
            // The box is there and wrong: nothing else is looked at.
            r"1 \boxed{first}",
            r"<answer>1</answer>\boxed{Image 1}",
        ] {
            assert_eq!(parse_comparison(reply), Err(InvalidReply::NotAnIndex), "{reply}");
        }
    }

    #[test]
    fn without_a_box_the_tag_then_the_text_after_thinking_then_the_whole_is_read() {
        for (reply, side) in [
            ("<think>0 is better</think> <answer> 1 </answer>", Side::Second),
            ("<answer>0</answer> or rather <answer>1.</answer>", Side::Second),
            ("<think>noisy</think>\n0.", Side::First),
            ("<think>a</think>1<think>b</think> 0", Side::First),
            ("1", Side::Second),
            (" 0 . ", Side::First),
        ] {
            assert_eq!(parse_comparison(reply), Ok(side), "{reply}");
        }
    }

    #[test]
    fn prose_is_not_a_vote() {
        for reply in [
            "",
            "   ",
            ".",
            "0 or 1",
            "Image 0 is better than image 1",
            "1..",
            "11",
            "The answer is 1",
            "<think>1</think>",
            "<think>cut off before 1",
            "1</think>the first",
            "boxed{1}",
            r"\boxed 1",
            r"\boxed{1",
            "<answer>1",
        ] {
            assert_eq!(parse_comparison(reply), Err(InvalidReply::NoAnswer), "{reply}");
        }
        assert_eq!(parse_comparison("<answer>the first</answer>"), Err(InvalidReply::NotAnIndex));
    }

    #[test]
    fn a_rating_from_one_to_five_is_a_score() {
        for (reply, score) in [
            (r"<think>looks noisy</think>\boxed{3.52}", 3.52),
            (r"\boxed{1}", 1.0),
            (r"\boxed{5.00}", 5.0),
            ("\\boxed{ 2.5\n}", 2.5),
            (r"\boxed{9} hmm \boxed{4.1}", 4.1),
        ] {
            assert_eq!(parse_score(reply), Ok(score), "{reply}");
        }
    }

    #[test]
    fn anything_else_is_no_score_and_says_why() {
        for (reply, reason) in [
            ("3.5", InvalidReply::NoAnswer),
            ("<answer>3.5</answer>", InvalidReply::NoAnswer),
            (r"\boxed{3.5", InvalidReply::NoAnswer),
            (r"\boxed{}", InvalidReply::NotANumber),
            (r"\boxed{3.5/5}", InvalidReply::NotANumber),
            (r"\boxed{3,5}", InvalidReply::NotANumber),
            (r"\boxed{good}", InvalidReply::NotANumber),
            (r"\boxed{nan}", InvalidReply::NotANumber),
            (r"\boxed{inf}", InvalidReply::NotANumber),
            (r"\boxed{1e999}", InvalidReply::NotANumber),
            (r"\boxed{0.99}", InvalidReply::OutOfRange),
            (r"\boxed{5.01}", InvalidReply::OutOfRange),
            (r"\boxed{-3}", InvalidReply::OutOfRange),
            (r"\boxed{3} \boxed{6}", InvalidReply::OutOfRange),
        ] {
            assert_eq!(parse_score(reply), Err(reason), "{reply}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_before_a_box_does_not_matter(before in any::<String>(), answer in 0..2_u8) {
            let side = if answer == 0 { Side::First } else { Side::Second };
            prop_assert_eq!(parse_comparison(&format!(r"{before}\boxed{{{answer}}}")), Ok(side));
        }

        #[test]
        fn no_text_is_too_strange_to_parse(reply in r"(\\boxed\{|\}|\{|<answer>|</answer>|</think>|[01. ]|é|\PC){0,20}") {
            let _ = parse_comparison(&reply);
            if let Ok(score) = parse_score(&reply) {
                prop_assert!((1.0..=5.0).contains(&score));
            }
        }

        #[test]
        fn every_rating_of_two_decimals_reads_back(hundredths in 100..=500_u32) {
            let text = format!(r"\boxed{{{}.{:02}}}", hundredths / 100, hundredths % 100);
            prop_assert_eq!(parse_score(&text), Ok(f64::from(hundredths) / 100.0));
        }
    }
}
