//! Probabilities that need no sampling: of given first tokens, of given completions, and of a rating's digits.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::model::{Pack, Sequence, chunks};
use crate::ops::logits::Pick;
use crate::policy::Policy;
use crate::sample::{Asked, Sampling, probabilities};

/// What a rating written `d.dd` is expected to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedScore {
    /// Mean of the ratings 1.00 to 5.00, each weighted by its probability.
    pub score: f64,
    /// Sum of those probabilities: how likely it is that such a rating stands there at all.
    pub mass: f64,
}

impl Policy {
    /// The probability that a completion drawn under `sampling` begins with each of `tokens`, for each prompt.
    ///
    /// # Errors
    /// A token outside the vocabulary; as [`Policy::sample`].
    pub fn first_token_probabilities(
        &self,
        asked: &[Asked],
        sampling: &Sampling,
        tokens: &[u32],
    ) -> Result<Vec<Vec<f64>>> {
        sampling.check(&self.config, &self.model().banned)?;
        let vocabulary = self.config.text.vocab_size;
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::Batch { problem: format!("token {id} is outside the vocabulary of {vocabulary}") });
        }
        in_chunks(
            asked,
            |_| 0,
            |range| {
                let asked: Vec<&Asked> = asked[range].iter().collect();
                let of_prompt = |(asked, logits): (&&Asked, Vec<f32>)| {
                    let seen = sampling.seen(asked.prompt);
                    let all = probabilities(&logits, &seen, sampling);
                    tokens.iter().map(|id| all[*id as usize]).collect()
                };
                let read = self.model().read(&asked)?.into_iter().map(|(_, logits)| logits);
                Ok(asked.iter().zip(read).map(of_prompt).collect())
            },
        )
    }

    /// Log-probabilities of given completions of each prompt under the model's own distribution: by prompt, completion
    /// and token. What the model never says has probability 0.
    ///
    /// # Errors
    /// Another number of groups of completions than of prompts; a completion without tokens, or with one that is never
    /// said or outside the vocabulary; features that do not fit their prompt, or a sequence that is too long.
    pub fn completion_logprobs(&self, asked: &[Asked], completions: &[&[Vec<u32>]]) -> Result<Vec<Vec<Vec<f32>>>> {
        if asked.len() != completions.len() {
            let problem = format!("{} prompts came with completions of {}", asked.len(), completions.len());
            return Err(Error::Batch { problem });
        }
        let rows = |index: usize| completions[index].len() * completions[index].iter().map(Vec::len).max().unwrap_or(0);
        in_chunks(asked, rows, |range| {
            let sequences = sequences(&asked[range.clone()], &completions[range.clone()])?;
            let model = self.model();
            let pack = Pack::new(&model.config, &model.text, &model.banned, &sequences)?;
            let mut picked = model.score(&pack, &pack.picks)?.into_iter();
            let mut by_completion = |ids: &Vec<u32>| picked.by_ref().take(ids.len()).collect::<Vec<f32>>();
            Ok(completions[range].iter().map(|group| group.iter().map(&mut by_completion).collect()).collect())
        })
    }

    /// The rating, from 1.00 to 5.00 and written `d.dd`, that each prompt is expected to be answered with where the
    /// answer begins with `lead` (the tokens up to the first digit; none where the digit comes first).
    ///
    /// # Errors
    /// A tokenizer that writes a digit or the point as several tokens; as [`Policy::completion_logprobs`].
    pub fn expected_scores(&self, asked: &[Asked], lead: &[u32]) -> Result<Vec<ExpectedScore>> {
        let digits = Digits::of(self)?;
        // A lane a rating without its last digit: every row that predicts a digit or the point is in one of them.
        let stems = (10..=50).map(|tenths| digits.write(lead, tenths));
        let stems: Vec<Vec<u32>> = stems.collect();
        in_chunks(
            asked,
            |_| stems.iter().map(Vec::len).sum(),
            |range| {
                let asked = &asked[range];
                let stems = vec![stems.as_slice(); asked.len()];
                let model = self.model();
                let pack = Pack::new(&model.config, &model.text, &model.banned, &sequences(asked, &stems)?)?;
                // Of each lane: the first digit, the point, the second digit, and every digit that may come third.
                let length = lead.len() + 4;
                let mut picks = Vec::new();
                for (lane, of_lane) in pack.picks.chunks_exact(length).enumerate() {
                    picks.extend_from_slice(&of_lane[lead.len()..length - 1]);
                    let row = of_lane[length - 1].row;
                    picks.extend(digits.third(10 + lane % 41).map(|id| Pick { row, id }));
                }
                let picked = model.score(&pack, &picks)?;
                Ok(expected(&picked, asked.len()))
            },
        )
    }
}

/// Expected ratings from the log-probabilities of the picks that [`Policy::expected_scores`] makes.
fn expected(picked: &[f32], prompts: usize) -> Vec<ExpectedScore> {
    let mut picked = picked.iter().map(|logprob| f64::from(*logprob));
    let mut of_prompt = || {
        let (mut sum, mut mass) = (0.0, 0.0);
        for tenths in 10..=50 {
            let stem: f64 = picked.by_ref().take(3).sum();
            let thirds = if tenths == 50 { 1 } else { 10 };
            for (hundredths, third) in (10 * tenths..).zip(picked.by_ref().take(thirds)) {
                let probability = libm::exp(stem + third);
                sum += probability * f64::from(hundredths) / 100.0;
                mass += probability;
            }
        }
        ExpectedScore { score: sum / mass, mass }
    };
    (0..prompts).map(|_| of_prompt()).collect()
}

/// The tokens that ratings are written with.
struct Digits {
    digits: [u32; 10],
    point: u32,
}

impl Digits {
    fn of(policy: &Policy) -> Result<Self> {
        let token = |text: &str| match policy.tokenizer.encode(text)?.as_slice() {
            &[id] => Ok(id),
            ids => Err(Error::Batch {
                problem: format!("the tokenizer writes `{text}` as {} tokens; ratings need it to be one", ids.len()),
            }),
        };
        let mut digits = [0; 10];
        for (n, digit) in digits.iter_mut().enumerate() {
            *digit = token(&n.to_string())?;
        }
        Ok(Self { digits, point: token(".")? })
    }

    /// `lead`, then `d.d0`.
    fn write(&self, lead: &[u32], tenths: usize) -> Vec<u32> {
        let rating = [self.digits[tenths / 10], self.point, self.digits[tenths % 10], self.digits[0]];
        [lead, &rating].concat()
    }

    /// What may follow `d.d` up to 5.00.
    fn third(&self, tenths: usize) -> impl Iterator<Item = u32> {
        self.digits.into_iter().take(if tenths == 50 { 1 } else { 10 })
    }
}

fn sequences<'a>(asked: &'a [Asked], completions: &[&'a [Vec<u32>]]) -> Result<Vec<Sequence<'a>>> {
    let sequence = |(asked, completions): (&'a Asked, &&'a [Vec<u32>])| {
        if completions.is_empty() {
            return Err(Error::Batch { problem: "a prompt has no completions".to_owned() });
        }
        asked.sequence(completions)
    };
    asked.iter().zip(completions).map(sequence).collect()
}

/// Does the work on runs of prompts of enough rows, side by side; `more` are an item's rows beside its prompt.
fn in_chunks<T: Send>(
    asked: &[Asked],
    more: impl Fn(usize) -> usize,
    work: impl Fn(std::ops::Range<usize>) -> Result<Vec<T>> + Send + Sync,
) -> Result<Vec<T>> {
    let rows = asked.iter().enumerate().map(|(index, asked)| asked.prompt.ids.len() + more(index));
    let done = chunks(rows).into_par_iter().map(work).collect::<Result<Vec<_>>>()?;
    Ok(done.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::{asked, keys, policy, prompts};
    use crate::sample::{Draw, Request};

    #[test]
    fn first_token_probabilities_are_the_frequencies_of_ten_thousand_samples() {
        let (policy, prompts) = (policy(), prompts(2));
        for sampling in [
            Sampling { max_tokens: 1, ..Sampling::default() },
            Sampling { max_tokens: 1, temperature: 0.7, top_p: 0.8, repetition_penalty: 1.2, ..Sampling::default() },
            Sampling { max_tokens: 1, top_k: Some(5), banned: vec![50, 60], ..Sampling::default() },
        ] {
            let every: Vec<u32> = (0..policy.config.text.vocab_size as u32).collect();
            let asked = asked(&prompts);
            let exact = policy.first_token_probabilities(&asked, &sampling, &every).unwrap();
            let requests: Vec<Request> =
                asked.into_iter().map(|asked| Request { asked, draws: keys(0..10_000) }).collect();
            let sampled = policy.sample(&requests, &sampling).unwrap();
            let (mut beyond, mut tested) = (0, 0);
            for (exact, sampled) in exact.iter().zip(sampled) {
                assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                let mut counts = vec![0_u32; every.len()];
                for completion in &sampled {
                    counts[completion.ids[0] as usize] += 1;
                }
                for (&p, count) in exact.iter().zip(counts) {
                    assert!(p > 0.0 || count == 0);
                    // Below ten expected draws the count is far from normal.
                    if p * 1e4 >= 10.0 {
                        let deviation = (p * (1.0 - p) * 1e4).sqrt();
                        beyond += usize::from((f64::from(count) - p * 1e4).abs() > 3.0 * deviation);
                        tested += 1;
                    }
                }
            }
            // Of normal draws 0.27 % are beyond three deviations: one in a hundred tokens may be.
            assert!(tested > 5 && beyond * 100 <= tested, "{beyond} of {tested} tokens are beyond three deviations");
        }
    }

    #[test]
    fn expected_scores_are_those_of_all_ratings_one_by_one() {
        let (policy, prompts) = (policy(), prompts(3));
        let asked = asked(&prompts);
        let lead = policy.tokenizer.encode("\\boxed{").unwrap();
        let found = policy.expected_scores(&asked, &lead).unwrap();
        let ratings: Vec<u32> = (100..=500).collect();
        let completion = |rating: &u32| {
            let text = format!("\\boxed{{{}.{:02}", rating / 100, rating % 100);
            policy.tokenizer.encode(&text).unwrap()
        };
        let completions: Vec<Vec<u32>> = ratings.iter().map(completion).collect();
        let all = policy.completion_logprobs(&asked, &[completions.as_slice(); 3]).unwrap();
        for (found, all) in found.iter().zip(all) {
            let (mut sum, mut mass) = (0.0, 0.0);
            for (rating, logprobs) in ratings.iter().zip(&all) {
                let probability = logprobs[lead.len()..].iter().map(|it| f64::from(*it)).sum::<f64>().exp();
                sum += probability * f64::from(*rating) / 100.0;
                mass += probability;
            }
            assert!((found.mass / mass - 1.0).abs() < 1e-5, "{} and {mass}", found.mass);
            assert!((found.score - sum / mass).abs() < 1e-5, "{} and {}", found.score, sum / mass);
        }
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_refused() {
        let (policy, prompts) = (policy(), prompts(1));
        let found = policy.first_token_probabilities(&asked(&prompts), &Sampling::default(), &[1 << 30]);
        assert!(found.unwrap_err().to_string().contains("outside the vocabulary"));
    }

    #[test]
    fn a_greedy_draw_takes_the_most_probable_token() {
        let (policy, prompts) = (policy(), prompts(4));
        let every: Vec<u32> = (0..policy.config.text.vocab_size as u32).collect();
        let sampling = Sampling { max_tokens: 1, repetition_penalty: 1.5, ..Sampling::default() };
        let exact = policy.first_token_probabilities(&asked(&prompts), &sampling, &every).unwrap();
        let requests = asked(&prompts).into_iter().map(|asked| Request { asked, draws: vec![Draw::Greedy] });
        let greedy = policy.sample(&requests.collect::<Vec<_>>(), &sampling).unwrap();
        for (exact, greedy) in exact.iter().zip(greedy) {
            let best = exact.iter().copied().fold(0.0, f64::max);
            assert_eq!(exact[greedy[0].ids[0] as usize], best);
        }
    }
}
