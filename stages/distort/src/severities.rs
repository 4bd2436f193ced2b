//! A range of severities as a flag's value.

use std::fmt;
use std::str::FromStr;

/// Severities from `low` to `high`, both within 0 (clean) to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Severities {
    low: u8,
    high: u8,
}

impl Severities {
    /// The severities, mildest first.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        self.low..=self.high
    }
}

impl FromStr for Severities {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if low <= high && high <= 5 => Ok(Self { low, high }),
            _ => Err("expected a number from 0 to 5, or a range such as 1-5 or 0-5".to_owned()),
        }
    }
}

impl fmt::Display for Severities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

impl serde::Serialize for Severities {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_numbers_are_read_and_nonsense_is_not() {
        let read = |text: &str| text.parse::<Severities>().map(|it| it.iter().collect::<Vec<_>>());
        assert_eq!(read("1-5").unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(read("0-2").unwrap(), [0, 1, 2]);
        assert_eq!(read("3").unwrap(), [3]);
        for text in ["5-1", "0-6", "", "-", "1-", "a-b", "-1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
