//! The form of a reply, which the prompt asks for and an optional part of the reward pays for.

/// Whether a reply is what the reasoning suffix asks for and nothing else: `<think>…</think>`, then one `\boxed{…}`, with space
/// around them at most. VisualQuality-R1's rule, with the box in place of its answer tag.
pub fn is_well_formed(reply: &str) -> bool {
    let Some(thought) = reply.trim().strip_prefix("<think>") else { return false };
    let Some((thought, answer)) = thought.split_once("</think>") else { return false };
    let boxed = answer.trim().strip_prefix("\\boxed{").and_then(|it| it.strip_suffix('}'));
    !thought.contains("<think>") && boxed.is_some_and(|it| !it.contains(['{', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_and_a_box_are_well_formed() {
        for reply in [
            "<think>sharp</think>\\boxed{4.20}",
            " <think>a\nb</think>\n \\boxed{ 4.2 }\n",
            "<think></think>\\boxed{7}",
        ] {
            assert!(is_well_formed(reply), "{reply}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for reply in [
            "\\boxed{4}",
            "<think>a</think>4",
            "<think>a\\boxed{4}",
            "so <think>a</think>\\boxed{4}",
            "<think>a</think>The rating is \\boxed{4}",
            "<think>a</think>\\boxed{4} or so",
            "<think>a</think>\\boxed{4} \\boxed{3}",
            "<think><think>a</think>\\boxed{4}",
            "<think>a</think></think>\\boxed{4}",
            "<think>a</think>\\boxed{4",
            "",
        ] {
            assert!(!is_well_formed(reply), "{reply}");
        }
    }
}
