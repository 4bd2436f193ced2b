//! `demonstrations`: supervised examples for a warm start.

use crate::ImageId;
use crate::cell::enumeration;
use crate::table::{finite, table};

enumeration! {
    /// Which prompt an example answers.
    DemonstrationPrompt {
        /// The comparison of two pictures.
        Compare = "compare",
        /// The rating of one picture.
        Score = "score",
    }
}

impl DemonstrationPrompt {
    /// How many pictures the prompt shows.
    pub fn pictures(self) -> usize {
        match self {
            Self::Compare => 2,
            Self::Score => 1,
        }
    }
}

table! {
    /// A supervised example.
    Demonstration = "demonstrations", version 1 {
        /// Unique in the table; ascending in the order of learning.
        demonstration_id: String,
        /// The prompt it answers.
        prompt: DemonstrationPrompt,
        /// The pictures shown, in order.
        image_ids: Vec<ImageId>,
        /// The reply to learn.
        reply: String,
        /// The example's weight in the loss.
        weight: f32,
    }
}

impl Demonstration {
    fn checked(&self) -> Result<(), String> {
        finite("weight", f64::from(self.weight))?;
        let expected = self.prompt.pictures();
        if self.image_ids.len() == expected {
            Ok(())
        } else {
            Err(format!(
                "column `image_ids` has {} pictures; a {} example has {expected}",
                self.image_ids.len(),
                self.prompt
            ))
        }
    }
}
