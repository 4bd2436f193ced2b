//! `differences`: how far two policies lie apart on the same pictures.

use crate::cell::enumeration;
use crate::correlations::{Grouping, Truth};
use crate::scores::Decoding;
use crate::table::table;

enumeration! {
    /// A coefficient.
    Coefficient {
        /// Pearson's linear correlation.
        Plcc = "plcc",
        /// Spearman's rank correlation.
        Srcc = "srcc",
        /// Kendall's tau-b.
        Krcc = "krcc",
        /// Root mean square difference: smaller is better.
        Rmse = "rmse",
    }
}

table! {
    /// A coefficient of a policy less the same of another, over the pictures that both have scores for.
    Difference = "differences", version 1 {
        /// Digest of the policy.
        policy: String,
        /// Digest of the policy that it is compared with.
        baseline: String,
        /// The data set; `weighted-mean` over all sets.
        dataset: String,
        /// What the scores are compared with.
        truth: Truth,
        /// Over which pictures.
        grouping: Grouping,
        /// The name of the subset of pictures, `all` for the whole set.
        subset: String,
        /// How the replies were decoded.
        decoding: Decoding,
        /// The coefficient.
        coefficient: Coefficient,
        /// Pictures that both policies have a score for.
        n: u32,
        /// The policy's; null where it is not defined.
        value: Option<f64>,
        /// The baseline's; null where it is not defined.
        baseline_value: Option<f64>,
        /// `value - baseline_value`.
        difference: Option<f64>,
        /// Lower end of the difference's 95 % bootstrap interval, paired by picture.
        low: Option<f64>,
        /// Its upper end.
        high: Option<f64>,
        /// Whether the interval leaves out 0; null without one.
        distinguishable: Option<bool>,
        /// `difference / baseline_value`; for `weighted-mean` the weighted mean of the sets' own gains.
        gain: Option<f64>,
        /// For `weighted-mean` the gain of the averages, `difference / baseline_value`; null for a set.
        gain_of_averages: Option<f64>,
    }
}

impl Difference {
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "every table has this check")]
    fn checked(&self) -> Result<(), String> {
        Ok(())
    }
}
