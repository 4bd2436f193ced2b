//! `pairs`: two pictures to compare.

use crate::cell::enumeration;
use crate::table::table;
use crate::{ImageId, PairId};

enumeration! {
    /// How pairs are chosen.
    Design {
        /// Uniformly among all unordered pairs.
        Random = "random",
        /// Uniformly among pairs of variants of one reference.
        WithinReference = "within-reference",
        /// Every picture in the same number of pairs, up to one.
        Balanced = "balanced",
    }
}

table! {
    /// Two pictures to compare, `image_a` before `image_b` as text.
    Pair = "pairs", version 1 {
        /// 16 hex digits over the two image ids.
        pair_id: PairId,
        /// The picture whose id is the smaller text.
        image_a: ImageId,
        /// The other picture.
        image_b: ImageId,
        /// How the pair was chosen.
        design: Design,
        /// The picture both are variants of, where there is one.
        reference_id: Option<ImageId>,
    }
}

impl Pair {
    fn checked(&self) -> Result<(), String> {
        ordered(&self.image_a, &self.image_b)?;
        if self.pair_id == PairId::of(&self.image_a, &self.image_b) {
            Ok(())
        } else {
            Err(format!("column `pair_id` is `{}`, which is not the id of its two pictures", self.pair_id))
        }
    }
}

/// Checks that `a` stands before `b`.
pub(crate) fn ordered(a: &ImageId, b: &ImageId) -> Result<(), String> {
    if a < b {
        Ok(())
    } else {
        Err(format!("column `image_a` is `{a}`, which does not stand before `image_b`, `{b}`, as text"))
    }
}
