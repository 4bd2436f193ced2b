//! What a source holds, before any picture is read.

use evoq_schemas::{Rating, Reject, Split};

/// The pictures of a source, by name, what of it could not be taken, and the scale of its scores.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The pictures, in the order of their rows: by name, each name once.
    pub(crate) entries: Vec<Entry>,
    /// What is wrong with the source already, in the order in which it stands there.
    pub(crate) rejects: Vec<Reject>,
    /// How the scores were brought to 1..5; `None` where nothing is rated.
    pub(crate) scale: Option<Scale>,
}

/// A picture of a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its name in the data set, with forward slashes: what its id is made of.
    pub(crate) name: String,
    /// Its file, relative to the source.
    pub(crate) path: String,
    /// The data set's own split, where it has one.
    pub(crate) split: Option<Split>,
    /// The name of the picture it was made from, where the data set says so: all of a group belong into one split.
    pub(crate) group: Option<String>,
    /// Its human score, where it has one.
    pub(crate) rating: Option<Rating>,
    /// The file that names it, relative to the source: the file of scores, or its own where nothing else names it.
    pub(crate) source: String,
    /// Its line there, 1-based, where it has one.
    pub(crate) line: Option<u64>,
}

impl Entry {
    /// A picture without split, group or score, named as its file.
    pub(crate) fn plain(path: String) -> Self {
        Self { name: path.clone(), source: path.clone(), path, split: None, group: None, rating: None, line: None }
    }
}

/// A scale of mean scores, and the range of it that becomes 1..5.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    /// What it is called in the table of ratings.
    pub(crate) name: String,
    /// The score that becomes 1, or 5 where lower is better.
    pub(crate) low: f64,
    /// The score that becomes 5, or 1 where lower is better.
    pub(crate) high: f64,
    /// Whether the lower score is the better picture.
    pub(crate) lower_better: bool,
    /// Where `low` and `high` are from.
    pub(crate) range_is: RangeIs,
}

/// Where the range of a scale is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeIs {
    /// The data set's description, or who called the stage, says it.
    Nominal,
    /// The least and the greatest score of the file.
    Observed,
}

impl RangeIs {
    /// Its word in the table's metadata.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nominal => "nominal",
            Self::Observed => "observed",
        }
    }
}

impl Scale {
    /// `mos` on 1..5, larger is better.
    pub(crate) fn quality(&self, mos: f64) -> f64 {
        let share = (mos - self.low) / (self.high - self.low);
        let share = if self.lower_better { 1.0 - share } else { share };
        // Rounding can leave the range by one unit in the last place.
        (1.0 + 4.0 * share).clamp(1.0, 5.0)
    }
}

/// A row or file that cannot be taken.
pub(crate) fn reject(source: &str, line: Option<u64>, name: &str, reason: &str, detail: impl Into<String>) -> Reject {
    Reject { source: source.to_owned(), line, name: name.to_owned(), reason: reason.to_owned(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_scale_become_1_and_5_and_turn_where_lower_is_better() {
        let scale = |lower_better| Scale {
            name: "s".to_owned(),
            low: 0.1,
            high: 0.7,
            lower_better,
            range_is: RangeIs::Nominal,
        };
        for (lower_better, low, high) in [(false, 1.0, 5.0), (true, 5.0, 1.0)] {
            let scale = scale(lower_better);
            assert_eq!((scale.quality(0.1), scale.quality(0.7)), (low, high));
            assert!((scale.quality(0.4) - 3.0).abs() < 1e-12);
        }
    }
}
