//! `rollouts`: the completions of GRPO, with what each earned and why.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, Float64Array, ListArray, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields};

use crate::ImageId;
use crate::cell::{Value, required};
use crate::table::{finite, table};
use crate::votes::Finish;

/// One comparison that a completion's reward is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Partner {
    /// The other picture of the pair.
    pub image_id: ImageId,
    /// p*, seen from the completion's picture.
    pub preference: f64,
    /// `p_k(x_i, x_j)`, Eq. 2.
    pub probability: f64,
}

fn partner_fields() -> Fields {
    Fields::from(vec![
        Field::new("image_id", DataType::Utf8, false),
        Field::new("preference", DataType::Float64, false),
        Field::new("probability", DataType::Float64, false),
    ])
}

fn partner_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(partner_fields()), false))
}

impl Value for Vec<Partner> {
    fn data_type() -> DataType {
        DataType::List(partner_item())
    }
    fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        let cells: Vec<_> = cells.collect();
        let all = || cells.iter().copied().flatten().flatten();
        let ids: StringArray = all().map(|it| Some(it.image_id.as_str())).collect();
        let preferences: Float64Array = all().map(|it| Some(it.preference)).collect();
        let probabilities: Float64Array = all().map(|it| Some(it.probability)).collect();
        let items = StructArray::new(
            partner_fields(),
            vec![Arc::new(ids), Arc::new(preferences), Arc::new(probabilities)],
            None,
        );
        let lengths = cells.iter().map(|cell| cell.map_or(0, Vec::len));
        let nulls: NullBuffer = cells.iter().map(Option::is_some).collect();
        Arc::new(ListArray::new(partner_item(), OffsetBuffer::from_lengths(lengths), Arc::new(items), Some(nulls)))
    }
    fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
        let list = array.as_list::<i32>();
        (0..list.len()).map(|row| list.is_valid(row).then(|| partners(row, &list.value(row))).transpose()).collect()
    }
    /// Writers of other languages name the item of a list as they like, and let it be null.
    fn accepts(found: &DataType) -> bool {
        let DataType::List(item) = found else { return false };
        let DataType::Struct(fields) = item.data_type() else { return false };
        let same = |(found, expected): (&FieldRef, &FieldRef)| {
            found.name() == expected.name() && found.data_type() == expected.data_type()
        };
        fields.len() == partner_fields().len() && fields.iter().zip(&partner_fields()).all(same)
    }
}
required!(Vec<Partner>);

/// The partners of one row.
fn partners(row: usize, items: &ArrayRef) -> Result<Vec<Partner>, (usize, String)> {
    let items = items.as_struct();
    let has_nulls = items.null_count() > 0 || items.columns().iter().any(|column| column.null_count() > 0);
    if has_nulls {
        return Err((row, "has a null item".to_owned()));
    }
    let ids = items.column(0).as_string::<i32>();
    let preferences = items.column(1).as_primitive::<Float64Type>();
    let probabilities = items.column(2).as_primitive::<Float64Type>();
    let partner = |at| Partner {
        image_id: ImageId::from(ids.value(at)),
        preference: preferences.value(at),
        probability: probabilities.value(at),
    };
    Ok((0..items.len()).map(partner).collect())
}

table! {
    /// One completion of the rating prompt during GRPO.
    Rollout = "rollouts", version 1 {
        /// The optimizer step, from 0.
        update_index: u32,
        /// The picture.
        image_id: ImageId,
        /// k, from 0: which of the picture's completions this is.
        completion: u16,
        /// The completion's text as sampled.
        reply: String,
        /// The score it gives, 1..5; null for an invalid one.
        score: Option<f64>,
        /// Why it is invalid; null for a valid one.
        invalid_reason: Option<String>,
        /// The comparisons its reward is made of; empty for an invalid one, where the picture was left out of the update, and where rewards are absolute.
        partners: Vec<Partner>,
        /// `r_k`: Eq. 3, 0..1, or whether the score is close to the picture's pseudo-score, 0 or 1; 0 for an invalid completion. Then the format's part, where it has a weight. 0 where the picture was left out.
        reward: f64,
        /// `a_k`, Eq. 4; 0 where the picture was left out.
        advantage: f64,
        /// Log-probability of the whole completion under the policy it was drawn from, in nats.
        logprob: f64,
        /// The same under the reference policy.
        reference_logprob: f64,
        /// Mean over the tokens of the k3 estimate of the divergence from the reference policy.
        kl: f64,
        /// Tokens sampled, the end of turn included.
        tokens: u32,
        /// Why the completion ended.
        finish: Finish,
    }
}

impl Rollout {
    fn checked(&self) -> Result<(), String> {
        finite("reward", self.reward)?;
        finite("advantage", self.advantage)?;
        if self.score.is_some() == self.invalid_reason.is_none() {
            Ok(())
        } else {
            Err("column `score` and `invalid_reason`: exactly one of them is set".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One list of one partner, its items named `element` and nullable as pyarrow writes them.
    fn elsewhere(probability: Option<f64>) -> ArrayRef {
        let nullable = |field: &FieldRef| field.as_ref().clone().with_nullable(true);
        let fields: Fields = partner_fields().iter().map(nullable).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["b"])),
            Arc::new(Float64Array::from(vec![1.0])),
            Arc::new(Float64Array::from(vec![probability])),
        ];
        let items = StructArray::new(fields.clone(), columns, None);
        let item = Arc::new(Field::new("element", DataType::Struct(fields), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::new(items), None))
    }

    #[test]
    fn partners_that_another_language_wrote_are_read() {
        let array = elsewhere(Some(0.25));
        assert!(Vec::<Partner>::accepts(array.data_type()));
        let partner = Partner { image_id: ImageId::from("b"), preference: 1.0, probability: 0.25 };
        assert_eq!(Vec::<Partner>::values(&array), Ok(vec![Some(vec![partner])]));
    }

    #[test]
    fn a_partner_that_lacks_a_number_is_refused() {
        assert_eq!(Vec::<Partner>::values(&elsewhere(None)), Err((0, "has a null item".to_owned())));
    }

    #[test]
    fn a_list_of_anything_else_is_no_list_of_partners() {
        assert!(!Vec::<Partner>::accepts(&Vec::<ImageId>::data_type()));
        assert!(!Vec::<Partner>::accepts(&DataType::Utf8));
    }
}
