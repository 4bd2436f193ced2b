//! Replies to scores: one score a picture for each policy and decoding, the mean of its valid replies.

use evoq_schemas::{Decoding, ImageId, Score};
use polars::prelude::{DataFrame, IntoLazy, PolarsResult, col, df, len};

/// A picture as one policy rates it in one decoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rated {
    /// Digest of the policy.
    pub policy: String,
    /// The picture.
    pub image_id: ImageId,
    /// How its replies were decoded.
    pub decoding: Decoding,
    /// The mean of the valid replies' scores; `None` without one.
    pub score: Option<f64>,
    /// Valid replies.
    pub valid: u32,
    /// Replies.
    pub replies: u32,
    /// How many different sample numbers the replies have; fewer than replies where some stand twice.
    pub samples: u32,
}

/// The columns of a frame of replies. Scores of which a lower one is better change their sign: here larger is better.
pub fn frame(scores: &[Score]) -> PolarsResult<DataFrame> {
    let turned = |it: &Score| it.score.map(|score| if it.method.is_lower_better() { -score } else { score });
    df!(
        "policy" => scores.iter().map(|it| it.policy.as_str()).collect::<Vec<_>>(),
        "image_id" => scores.iter().map(|it| it.image_id.as_str()).collect::<Vec<_>>(),
        "decoding" => scores.iter().map(|it| it.decoding.as_str()).collect::<Vec<_>>(),
        "sample" => scores.iter().map(|it| u32::from(it.sample)).collect::<Vec<_>>(),
        "score" => scores.iter().map(turned).collect::<Vec<Option<f64>>>(),
    )
}

/// One row for each policy, picture and decoding, in the order in which they first appear.
pub fn by_picture(replies: DataFrame) -> PolarsResult<Vec<Rated>> {
    let columns = ["policy", "image_id", "decoding"].map(col);
    let summary = [
        col("score").mean(),
        col("score").count().alias("valid"),
        len().alias("replies"),
        col("sample").n_unique().alias("samples"),
    ];
    let rated = replies.lazy().group_by_stable(columns).agg(summary).collect()?;
    let (policy, image_id) = (rated.column("policy")?.str()?, rated.column("image_id")?.str()?);
    let (decoding, score) = (rated.column("decoding")?.str()?, rated.column("score")?.f64()?);
    let (valid, replies) = (rated.column("valid")?.u32()?, rated.column("replies")?.u32()?);
    let samples = rated.column("samples")?.u32()?;
    let row = |row: usize| {
        Some(Rated {
            policy: policy.get(row)?.to_owned(),
            image_id: image_id.get(row)?.into(),
            decoding: decoding.get(row)?.parse().ok()?,
            score: score.get(row).map(rounded),
            valid: valid.get(row)?,
            replies: replies.get(row)?,
            samples: samples.get(row)?,
        })
    };
    Ok((0..rated.height())
        .map(|at| row(at).expect("only scores can be null, and decodings are of the table's own"))
        .collect())
}

/// A mean without the last bits of its sum: pictures with equal means tie, in whatever order their replies were added up.
fn rounded(mean: f64) -> f64 {
    (mean * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use evoq_schemas::ScoreMethod;

    fn reply(image: &str, decoding: Decoding, sample: u16, score: Option<f64>) -> Score {
        Score {
            image_id: image.into(),
            policy: "p".to_owned(),
            sample,
            decoding,
            score,
            invalid_reason: score.is_none().then(|| "no_answer".to_owned()),
            reply: String::new(),
            tokens: 1,
            method: ScoreMethod::Policy,
        }
    }

    fn rated(replies: &[Score]) -> Vec<Rated> {
        by_picture(frame(replies).unwrap()).unwrap()
    }

    #[test]
    fn a_score_is_the_mean_of_the_valid_replies() {
        let sampled = |k, score| reply("a", Decoding::Sampled, k, score);
        let all = rated(&[sampled(0, Some(2.0)), sampled(1, None), sampled(2, Some(3.5))]);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].score, all[0].valid, all[0].replies), (Some(2.75), 2, 3));
    }

    #[test]
    fn a_picture_without_a_valid_reply_has_no_score() {
        let all = rated(&[reply("a", Decoding::Greedy, 0, None)]);
        assert_eq!((all[0].score, all[0].valid, all[0].replies), (None, 0, 1));
    }

    #[test]
    fn decodings_are_kept_apart() {
        let all = rated(&[reply("a", Decoding::Greedy, 0, Some(1.0)), reply("a", Decoding::Sampled, 0, Some(5.0))]);
        let scores: Vec<_> = all.iter().map(|it| (it.decoding, it.score)).collect();
        assert_eq!(scores, [(Decoding::Greedy, Some(1.0)), (Decoding::Sampled, Some(5.0))]);
    }

    #[test]
    fn equal_means_tie_whatever_the_order_of_the_replies() {
        let scores = [1.11, 2.37, 4.93, 3.08, 2.71, 1.13, 4.4];
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for k in 0..scores.len() {
            one.push(reply("one", Decoding::Sampled, k as u16, Some(scores[k])));
            other.push(reply("other", Decoding::Sampled, k as u16, Some(scores[(k + 3) % scores.len()])));
        }
        let all = rated(&[one, other].concat());
        assert_eq!(all[0].score, all[1].score);
    }

    #[test]
    fn scores_of_which_a_lower_one_is_better_are_turned() {
        let scored = |method| Score { method, ..reply("a", Decoding::Greedy, 0, Some(3.5)) };
        assert_eq!(rated(&[scored(ScoreMethod::Imported)])[0].score, Some(3.5));
        for method in [ScoreMethod::Niqe, ScoreMethod::Brisque, ScoreMethod::ImportedLowerBetter] {
            assert_eq!(rated(&[scored(method)])[0].score, Some(-3.5));
        }
    }

    #[test]
    fn a_reply_that_stands_twice_is_seen() {
        let twice = [reply("a", Decoding::Greedy, 0, Some(1.0)), reply("a", Decoding::Greedy, 0, Some(1.0))];
        assert_eq!((rated(&twice)[0].replies, rated(&twice)[0].samples), (2, 1));
    }
}
