//! `correlations`: how well a policy's scores follow a truth.

use crate::cell::enumeration;
use crate::scores::Decoding;
use crate::table::table;

enumeration! {
    /// What the scores are compared with.
    Truth {
        /// Human scores.
        Mos = "mos",
        /// `6 - severity` of the variants.
        Severity = "severity",
    }
}

enumeration! {
    /// Over which pictures a coefficient is taken.
    Grouping {
        /// Over all pictures at once.
        All = "all",
        /// Within each distortion type, then averaged over the types.
        WithinDistortion = "within-distortion",
    }
}

table! {
    /// A set of coefficients of one policy on one data set.
    Correlation = "correlations", version 3 {
        /// Digest of the policy.
        policy: String,
        /// The data set; `weighted-mean` over all sets, which is the mean of their coefficients.
        dataset: String,
        /// What the scores are compared with.
        truth: Truth,
        /// Over which pictures.
        grouping: Grouping,
        /// The name of the subset of pictures, `all` for the whole set.
        subset: String,
        /// How the replies were decoded.
        decoding: Decoding,
        /// Replies a picture; their mean is the picture's score.
        samples: u32,
        /// Pictures with a score.
        n: u32,
        /// Pictures without one valid reply, which are left out.
        n_invalid: u32,
        /// Replies that were valid.
        replies_valid: u32,
        /// Replies in all.
        replies: u32,
        /// Pearson's linear correlation of the raw scores; null where it is not defined.
        plcc: Option<f64>,
        /// Spearman's rank correlation, average ranks for ties; null where it is not defined.
        srcc: Option<f64>,
        /// Kendall's tau-b; null where it is not defined.
        krcc: Option<f64>,
        /// Root mean square difference of score and truth; null without a picture.
        rmse: Option<f64>,
        /// Lower end of PLCC's 95 % bootstrap interval; null without resamples, or where none has a spread.
        plcc_low: Option<f64>,
        /// Its upper end.
        plcc_high: Option<f64>,
        /// Lower end of SRCC's interval.
        srcc_low: Option<f64>,
        /// Its upper end.
        srcc_high: Option<f64>,
        /// Lower end of KRCC's interval.
        krcc_low: Option<f64>,
        /// Its upper end.
        krcc_high: Option<f64>,
        /// Lower end of the RMSE's interval.
        rmse_low: Option<f64>,
        /// Its upper end.
        rmse_high: Option<f64>,
        /// PLCC after the 4-parameter logistic fit; null where there is none: within distortion types, over sets, or for too few
        /// pictures.
        plcc_fit4: Option<f64>,
        /// RMSE after that fit.
        rmse_fit4: Option<f64>,
        /// Whether that fit converged.
        fit4_converged: Option<bool>,
        /// PLCC after the 5-parameter logistic fit.
        plcc_fit5: Option<f64>,
        /// RMSE after that fit.
        rmse_fit5: Option<f64>,
        /// Whether that fit converged.
        fit5_converged: Option<bool>,
        /// Whether the 4-parameter curve rises with the score (1) or falls (-1): a fit can turn an inverted predictor round.
        sign: Option<i8>,
        /// The weight of the set in `weighted-mean`.
        weight: f64,
    }
}

impl Correlation {
    fn checked(&self) -> Result<(), String> {
        for (name, value) in [("plcc", self.plcc), ("srcc", self.srcc), ("krcc", self.krcc)] {
            if let Some(value) = value.filter(|value| !(-1.000_001..=1.000_001).contains(value)) {
                return Err(format!("column `{name}` is {value}; expected -1 to 1"));
            }
        }
        Ok(())
    }
}
