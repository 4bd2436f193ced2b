//! What the replies say: a word for each distortion type, a grade for each severity.
//!
//! Replies have a fixed number of words, so that a tokenizer in which each word is one token gives replies of a fixed length:
//! eleven tokens with the end of turn. A byte-level BPE learnt from these replies makes each word a token of its own, with and
//! without the space before it, in 72 merges (`<think>`, `</think>` and `\boxed{` being added tokens).

use crate::pool::Variant;

/// The types that can be shown, and how each looks. One word each, of letters only; no word serves two types.
const LOOKS: [(&str, &str); 10] = [
    ("blur_gaussian", "blurred"),
    ("brightness_brighten_shfit_RGB", "bright"),
    ("brightness_darken_shfit_RGB", "dark"),
    ("compression_jpeg", "blocky"),
    ("contrast_weaken_scale", "faded"),
    ("noise_gaussian_RGB", "noisy"),
    ("noise_impulse", "dotted"),
    ("oversharpen", "harsh"),
    ("pixelate", "pixelated"),
    ("saturate_strengthen_YCrCb", "vivid"),
];

/// The word for a distortion type; `None` where the type has none.
pub(crate) fn look(distortion: &str) -> Option<&'static str> {
    LOOKS.iter().find(|(name, _)| *name == distortion).map(|(_, word)| *word)
}

/// The types that have a word, separated by commas.
pub(crate) fn shown_types() -> String {
    LOOKS.map(|(name, _)| name).join(",")
}

/// How much of a flaw a severity of 1 to 5 is.
fn grade(severity: u8) -> &'static str {
    match severity {
        0..=2 => "slightly",
        3 => "quite",
        _ => "very",
    }
}

/// How a picture looks, in two words: `looks clean` for severity 0, else grade and look.
fn described(it: &Variant) -> String {
    if it.severity == 0 { "looks clean".to_owned() } else { format!("{} {}", grade(it.severity), it.look) }
}

/// The reply to a comparison: both pictures in the order shown, then the index of the better one, the less severe.
pub(crate) fn comparison(first: &Variant, second: &Variant) -> String {
    let better = u8::from(second.severity < first.severity);
    format!("<think>{}, {}</think>\\boxed{{{better}}}", described(first), described(second))
}

/// The reply to a rating, in hundredths: how the picture looks (no grade: a rating is not to be read off a word), then the
/// rating with two decimals.
pub(crate) fn rating(it: &Variant, hundredths: u32) -> String {
    let look = if it.severity == 0 { "clean" } else { it.look };
    format!("<think>looks {look}</think>\\boxed{{{}.{:02}}}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn variant(look: &'static str, severity: u8) -> Variant {
        Variant { id: "set/a".into(), look, severity }
    }

    #[test]
    fn replies_read_as_the_recipe_says() {
        let (noisy, blurred) = (variant("noisy", 5), variant("blurred", 1));
        assert_eq!(comparison(&noisy, &blurred), r"<think>very noisy, slightly blurred</think>\boxed{1}");
        assert_eq!(comparison(&blurred, &noisy), r"<think>slightly blurred, very noisy</think>\boxed{0}");
        assert_eq!(
            comparison(&variant("dark", 0), &variant("dark", 3)),
            r"<think>looks clean, quite dark</think>\boxed{0}"
        );
        assert_eq!(rating(&noisy, 352), r"<think>looks noisy</think>\boxed{3.52}");
        assert_eq!(rating(&variant("noisy", 0), 500), r"<think>looks clean</think>\boxed{5.00}");
        assert_eq!(rating(&noisy, 105), r"<think>looks noisy</think>\boxed{1.05}");
    }

    #[test]
    fn grades_are_1_and_2_then_3_then_4_and_5() {
        let grades: Vec<_> = (1..=5).map(grade).collect();
        assert_eq!(grades, ["slightly", "slightly", "quite", "very", "very"]);
    }

    #[test]
    fn each_type_has_one_word_of_letters_that_no_other_has() {
        let words: BTreeSet<_> = LOOKS.iter().map(|(_, word)| word).collect();
        assert_eq!(words.len(), LOOKS.len());
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        assert!(!words.contains(&"clean"));
    }
}
