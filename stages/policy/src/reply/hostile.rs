//! Replies that a policy, a server or a person might give, each with what it counts as.

use super::InvalidReply::{NoAnswer, NotANumber, NotAnIndex, OutOfRange};
use super::Side::{First, Second};
use super::{InvalidReply, Side, parse_comparison, parse_score};

/// A reply with what it is as a comparison and as a rating.
type Row = (&'static str, Result<Side, InvalidReply>, Result<f64, InvalidReply>);

const REPLIES: [Row; 92] = [
    // What is asked for.
    (r"<think>Image 0 is sharp.</think> \boxed{0}", Ok(First), Err(OutOfRange)),
    (r"<think>Image 0 is noisy.</think> \boxed{1}", Ok(Second), Ok(1.0)),
    (r"<think>Good, 4 of 5.</think>\boxed{3.52}", Err(NotAnIndex), Ok(3.52)),
    (r"\boxed{ 1 }", Ok(Second), Ok(1.0)),
    ("\\boxed{\n1\t}", Ok(Second), Ok(1.0)),
    // Nothing, or nearly.
    ("", Err(NoAnswer), Err(NoAnswer)),
    ("   \n\t", Err(NoAnswer), Err(NoAnswer)),
    (".", Err(NoAnswer), Err(NoAnswer)),
    ("\u{0}", Err(NoAnswer), Err(NoAnswer)),
    ("None", Err(NoAnswer), Err(NoAnswer)),
    ("null", Err(NoAnswer), Err(NoAnswer)),
    ("{}", Err(NoAnswer), Err(NoAnswer)),
    (r"\boxed{}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{ }", Err(NotAnIndex), Err(NotANumber)),
    // Prose.
    ("Image 0 is better than image 1", Err(NoAnswer), Err(NoAnswer)),
    ("The second image (1) is better.", Err(NoAnswer), Err(NoAnswer)),
    ("0 or 1", Err(NoAnswer), Err(NoAnswer)),
    ("0, because it is sharper", Err(NoAnswer), Err(NoAnswer)),
    ("I cannot compare images.", Err(NoAnswer), Err(NoAnswer)),
    ("Answer: 1", Err(NoAnswer), Err(NoAnswer)),
    ("**1**", Err(NoAnswer), Err(NoAnswer)),
    ("\"0\"", Err(NoAnswer), Err(NoAnswer)),
    (r#"{"answer": 1}"#, Err(NoAnswer), Err(NoAnswer)),
    // A bare index is a vote, a bare rating is none.
    ("1", Ok(Second), Err(NoAnswer)),
    (" 0 . ", Ok(First), Err(NoAnswer)),
    ("1..", Err(NoAnswer), Err(NoAnswer)),
    ("1!", Err(NoAnswer), Err(NoAnswer)),
    ("10", Err(NoAnswer), Err(NoAnswer)),
    ("3.5", Err(NoAnswer), Err(NoAnswer)),
    // Boxes with something else in them.
    (r"\boxed{01}", Err(NotAnIndex), Ok(1.0)),
    (r"\boxed{0 or 1}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{0, 1}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{1.}", Err(NotAnIndex), Ok(1.0)),
    (r"\boxed{1.0}", Err(NotAnIndex), Ok(1.0)),
    (r"\boxed{+1}", Err(NotAnIndex), Ok(1.0)),
    (r"\boxed{-0}", Err(NotAnIndex), Err(OutOfRange)),
    (r"\boxed{2}", Err(NotAnIndex), Ok(2.0)),
    (r"\boxed{Image 1}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{index}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{\text{1}}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{{1}}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{$1$}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{`0`}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{None}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{true}", Err(NotAnIndex), Err(NotANumber)),
    // Numbers that are none, or not of the scale.
    (r"\boxed{NaN}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{inf}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{-infinity}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{1e999}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{1e2}", Err(NotAnIndex), Err(OutOfRange)),
    (r"\boxed{4,5}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{4.5/5}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{4 out of 5}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{3-4}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{3.5.2}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{0x3}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{85}", Err(NotAnIndex), Err(OutOfRange)),
    (r"\boxed{0.99}", Err(NotAnIndex), Err(OutOfRange)),
    (r"\boxed{5.0000001}", Err(NotAnIndex), Err(OutOfRange)),
    (r"\boxed{-3}", Err(NotAnIndex), Err(OutOfRange)),
    (r"\boxed{1_0}", Err(NotAnIndex), Err(NotANumber)),
    // Several boxes: the last one that is closed decides, alone.
    (r"\boxed{0} no, \boxed{1}", Ok(Second), Ok(1.0)),
    (r"\boxed{1} then \boxed{maybe}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{0}\boxed{}", Err(NotAnIndex), Err(NotANumber)),
    (r"\boxed{1} or \boxed{", Ok(Second), Ok(1.0)),
    (r"\boxed{\boxed{1}}", Ok(Second), Ok(1.0)),
    (r"\boxed{0 \boxed{1}}", Ok(Second), Ok(1.0)),
    (r"\boxed{\boxed{1} 0}", Ok(Second), Ok(1.0)),
    (r"\boxed{x \boxed{1", Err(NoAnswer), Err(NoAnswer)),
    (r"} } \boxed{1} }", Ok(Second), Ok(1.0)),
    (r"{ \boxed{1}", Ok(Second), Ok(1.0)),
    // What is nearly a box.
    (r"\boxed{1", Err(NoAnswer), Err(NoAnswer)),
    (r"\boxed 1", Err(NoAnswer), Err(NoAnswer)),
    (r"\boxed[1]", Err(NoAnswer), Err(NoAnswer)),
    (r"\boxed {1}", Err(NoAnswer), Err(NoAnswer)),
    (r"\Boxed{1}", Err(NoAnswer), Err(NoAnswer)),
    (r"\fbox{1}", Err(NoAnswer), Err(NoAnswer)),
    ("boxed{1}", Err(NoAnswer), Err(NoAnswer)),
    ("\u{8}oxed{1}", Err(NoAnswer), Err(NoAnswer)),
    // Reasoning is not an answer.
    ("<think>0 is better than 1, so 0</think>", Err(NoAnswer), Err(NoAnswer)),
    ("<think>1", Err(NoAnswer), Err(NoAnswer)),
    (r"<think>Perhaps \boxed{1}, but the edges of 0 are", Ok(Second), Ok(1.0)),
    ("<think>It is 1.</think> 0", Ok(First), Err(NoAnswer)),
    ("<think>a</think> 1 <think>b</think> 0", Ok(First), Err(NoAnswer)),
    ("0</think>", Err(NoAnswer), Err(NoAnswer)),
    // Tags.
    ("<think>0</think><answer> 1. </answer>", Ok(Second), Err(NoAnswer)),
    ("<answer>the first</answer>", Err(NotAnIndex), Err(NoAnswer)),
    (r"<answer>1</answer>\boxed{first}", Err(NotAnIndex), Err(NotANumber)),
    ("</answer>1<answer>", Err(NoAnswer), Err(NoAnswer)),
    // Other languages and digits.
    ("第二张图片更好：\\boxed{1}", Ok(Second), Ok(1.0)),
    ("\\boxed{１}", Err(NotAnIndex), Err(NotANumber)),
    ("\\boxed{٤٫٥}", Err(NotAnIndex), Err(NotANumber)),
];

#[test]
fn every_hostile_reply_is_what_the_table_says() {
    let mut seen = std::collections::HashSet::new();
    for (reply, side, score) in REPLIES {
        assert!(seen.insert(reply), "{reply:?} stands twice");
        assert_eq!(parse_comparison(reply), side, "{reply:?} as a comparison");
        assert_eq!(parse_score(reply), score, "{reply:?} as a rating");
    }
}

#[test]
fn a_hundred_kilobytes_are_read_in_one_pass() {
    let (boxes, braces, think) = (r"\boxed{".repeat(100_000), "{".repeat(100_000), "0 1 ".repeat(25_000));
    for (reply, side, score) in [
        (boxes.clone(), Err(NoAnswer), Err(NoAnswer)),
        (format!("{boxes}1{}", "}".repeat(100_000)), Ok(Second), Ok(1.0)),
        (format!("{braces}{}", "}".repeat(100_000)), Err(NoAnswer), Err(NoAnswer)),
        (format!(r"{braces}\boxed{{1}}{braces}"), Ok(Second), Ok(1.0)),
        (format!(r"<think>{think}</think>\boxed{{0}}"), Ok(First), Err(OutOfRange)),
        (think.clone(), Err(NoAnswer), Err(NoAnswer)),
        (format!(r"\boxed{{{think}}}"), Err(NotAnIndex), Err(NotANumber)),
        (format!(r"\boxed{{{}}}", "1".repeat(100_000)), Err(NotAnIndex), Err(NotANumber)),
        (format!("{}1{}", "<answer>".repeat(20_000), "</answer>".repeat(20_000)), Err(NotAnIndex), Err(NoAnswer)),
        ("</think>".repeat(20_000) + "1", Ok(Second), Err(NoAnswer)),
    ] {
        assert!(reply.len() > 99_000);
        assert_eq!(parse_comparison(&reply), side, "{}…", &reply[..40]);
        assert_eq!(parse_score(&reply), score, "{}…", &reply[..40]);
    }
}
