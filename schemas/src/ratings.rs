//! `ratings`: human scores, in a table of their own, so that no training stage can take them as an input.

use crate::ImageId;
use crate::table::{finite, table, within};

table! {
    /// A human score of a picture.
    Rating = "ratings", version 1 {
        /// The picture.
        image_id: ImageId,
        /// The mean opinion score as distributed.
        mos: f64,
        /// Its standard deviation as distributed.
        mos_std: Option<f64>,
        /// Which of the data set's scales `mos` is on.
        scale: String,
        /// The score on 1..5, larger is better.
        quality: f64,
        /// How many people rated the picture.
        raters: Option<u32>,
    }
}

impl Rating {
    fn checked(&self) -> Result<(), String> {
        finite("mos", self.mos)?;
        within("quality", self.quality, 1.0, 5.0)
    }
}
