//! What a reply says: a vote or a score, by one strict rule each. A reply that the rule does not read is invalid, with
//! a reason; it is never guessed at.

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

/// Reads the answer of a comparison: the content of the last `\boxed{…}`, stripped, is exactly `0` or `1`. With no box
/// at all, so is the content of the last `<answer>` tag, else the text after the last `</think>`, else the whole reply,
/// each stripped of spaces and a final full stop.
///
/// # Errors
/// The reply holds no such answer.
pub fn parse_comparison(reply: &str) -> Result<Side, InvalidReply> {
    if let Some(content) = last_boxed(reply) {
        return index(content.trim()).ok_or(InvalidReply::NotAnIndex);
    }
    if let Some(content) = last_answer(reply) {
        return index(without_stop(content)).ok_or(InvalidReply::NotAnIndex);
    }
    let said = reply.rsplit_once("</think>").map_or(reply, |(_, after)| after);
    index(without_stop(said)).ok_or(InvalidReply::NoAnswer)
}

/// Reads a rating: the content of the last `\boxed{…}`, stripped, is a finite decimal number from 1 to 5. Nothing
/// stands in for a missing box.
///
/// # Errors
/// The reply holds no such rating.
pub fn parse_score(reply: &str) -> Result<f64, InvalidReply> {
    let content = last_boxed(reply).ok_or(InvalidReply::NoAnswer)?;
    let score: f64 = content.trim().parse().map_err(|_| InvalidReply::NotANumber)?;
    if !score.is_finite() {
        return Err(InvalidReply::NotANumber);
    }
    if (1.0..=5.0).contains(&score) { Ok(score) } else { Err(InvalidReply::OutOfRange) }
}

fn index(answer: &str) -> Option<Side> {
    match answer {
        "0" => Some(Side::First),
        "1" => Some(Side::Second),
        _ => None,
    }
}

/// The text between the last `\boxed{` that is ever closed and the brace that closes it. Braces inside are balanced.
fn last_boxed(reply: &str) -> Option<&str> {
    reply.rmatch_indices(r"\boxed{").find_map(|(at, opening)| {
        let content = &reply[at + opening.len()..];
        let mut depth = 1;
        let end = content.bytes().position(|byte| {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            depth == 0
        });
        end.map(|end| &content[..end])
    })
}

/// The text inside the last `<answer>` tag that is closed.
fn last_answer(reply: &str) -> Option<&str> {
    let (before, _) = reply.rsplit_once("</answer>")?;
    before.rsplit_once("<answer>").map(|(_, content)| content)
}

fn without_stop(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix('.').unwrap_or(text).trim_end()
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
