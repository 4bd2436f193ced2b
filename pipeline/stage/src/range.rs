//! Ranges of flags that are numbers: clap parsers that refuse the rest, and say what they expect, before anything runs.

use std::str::FromStr;

/// A finite number over 0.
pub fn positive<T: FromStr + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    number(text, |it| it > 0.0, "a number over 0")
}

/// A finite number of at least 0.
pub fn at_least_0<T: FromStr + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    number(text, |it| it >= 0.0, "a number of at least 0")
}

/// A number from 0 to 1.
pub fn share<T: FromStr + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    number(text, |it| (0.0..=1.0).contains(&it), "a number from 0 to 1")
}

/// A whole number over 0.
pub fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|it| *it > 0).ok_or_else(|| "expected a whole number over 0".to_owned())
}

fn number<T: FromStr + Into<f64> + Copy>(text: &str, fits: fn(f64) -> bool, expected: &str) -> Result<T, String> {
    let number: Option<T> = text.parse().ok();
    let fits = |it: &T| (*it).into().is_finite() && fits((*it).into());
    number.filter(fits).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_finite_number_of_the_range_is_refused() {
        let texts = ["-1", "0", "0.5", "1", "2", "inf", "NaN", "x"];
        let taken = |parser: fn(&str) -> Result<f64, String>| texts.map(|text| parser(text).is_ok());
        assert_eq!(taken(positive), [false, false, true, true, true, false, false, false]);
        assert_eq!(taken(at_least_0), [false, true, true, true, true, false, false, false]);
        assert_eq!(taken(share), [false, true, true, true, false, false, false, false]);
        assert_eq!(texts.map(|text| count(text).is_ok()), [false, false, false, true, true, false, false, false]);
    }
}
