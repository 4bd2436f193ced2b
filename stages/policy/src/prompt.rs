//! The questions that a policy is asked (the paper's Table 1), and a question as token ids with its pictures' places.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::processor::Grid;
use crate::template::Template;
use crate::tokenizer::Tokenizer;

const COMPARE: &str = "You are performing an image quality assessment task. \
    Compare the two images and decide which one has better perceptual quality. \
    Answer strictly with the index of the better image: 0 if the first image is better, or 1 if the second image is better.";

const SCORE: &str = "You are doing the image quality assessment task. \
    Here is the question: What is your overall rating on the quality of this picture? \
    The rating should be a float between 1 and 5, rounded to two decimal places, \
    with 1 representing very poor quality and 5 representing excellent quality.";

/// The paper prints `boxed{ }`; every parser of its lineage expects the backslash.
const REASONING: &str = "You FIRST think about the reasoning process as an internal monologue and then provide the final answer. \
    The reasoning process MUST BE enclosed within <think> </think> tags. \
    The final answer MUST BE put in \\boxed{ }.";

/// What a policy is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Which of two pictures is better.
    Compare,
    /// How good one picture is, from 1 to 5.
    Score,
}

impl Task {
    /// The prompt's name, as in the paper: `c_compare`, `c_score`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compare => "c_compare",
            Self::Score => "c_score",
        }
    }
}

/// Whether the question asks for reasoning and a boxed answer (the paper: yes, for both tasks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reasoning {
    /// The suffix is on the question.
    #[default]
    On,
    /// The question alone.
    Off,
}

/// A question with its exact text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub task: Task,
    /// The text after the pictures, with the suffix where there is one.
    pub text: String,
}

impl Question {
    /// The paper's question for a task.
    pub fn new(task: Task, reasoning: Reasoning) -> Self {
        let text = match task {
            Task::Compare => COMPARE,
            Task::Score => SCORE,
        };
        let text = match reasoning {
            Reasoning::On => format!("{text} {REASONING}"),
            Reasoning::Off => text.to_owned(),
        };
        Self { task, text }
    }

    /// How many pictures stand before the text.
    pub fn pictures(&self) -> usize {
        match self.task {
            Task::Compare => 2,
            Task::Score => 1,
        }
    }

    /// Names the text: the first 16 hex digits of its blake3.
    pub fn hash(&self) -> String {
        blake3::hash(self.text.as_bytes()).to_hex()[..16].to_owned()
    }

    /// The text cut after each full stop or question mark; the space before a sentence is the sentence's. Joined, they
    /// are the text.
    pub fn sentences(&self) -> Vec<&str> {
        let ends = self.text.match_indices(". ").chain(self.text.match_indices("? "));
        let mut cuts: Vec<usize> = ends.map(|(at, _)| at + 1).collect();
        cuts.sort_unstable();
        cuts.push(self.text.len());
        let mut start = 0;
        cuts.iter().map(|&end| &self.text[std::mem::replace(&mut start, end)..end]).collect()
    }
}

/// A rendered question as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids; `<|image_pad|>` stands once for each token of its picture.
    pub ids: Vec<u32>,
    /// The pictures' sizes in patches, in order.
    pub grids: Vec<Grid>,
}

impl Prompt {
    /// Renders a question through the checkpoint's chat template and gives each picture the places that it needs.
    ///
    /// # Errors
    /// Another number of pictures than the question has; the template or the tokenizer fails.
    pub fn new(
        question: &Question,
        grids: &[Grid],
        config: &Config,
        tokenizer: &Tokenizer,
        template: &Template,
    ) -> Result<Self> {
        let text = template.render(question.pictures(), &question.text)?;
        let tokens = tokenizer.encode(&text)?;
        let places = tokens.iter().filter(|&&id| id == config.image_token_id).count();
        if places != grids.len() {
            return Err(Error::PictureCount { expected: places, found: grids.len() });
        }
        let merge = config.vision.spatial_merge_size;
        let mut sizes = grids.iter().map(|grid| grid.height * grid.width / (merge * merge));
        let repeat = |id| if id == config.image_token_id { sizes.next().unwrap_or(0) } else { 1 };
        let repeats: Vec<usize> = tokens.iter().copied().map(repeat).collect();
        let ids = tokens.into_iter().zip(repeats).flat_map(|(id, times)| std::iter::repeat_n(id, times)).collect();
        Ok(Self { ids, grids: grids.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_the_papers_to_the_letter() {
        let compare = "You are performing an image quality assessment task. Compare the two images and decide which one has better perceptual quality. Answer strictly with the index of the better image: 0 if the first image is better, or 1 if the second image is better.";
        let score = "You are doing the image quality assessment task. Here is the question: What is your overall rating on the quality of this picture? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 representing very poor quality and 5 representing excellent quality.";
        let suffix = r" You FIRST think about the reasoning process as an internal monologue and then provide the final answer. The reasoning process MUST BE enclosed within <think> </think> tags. The final answer MUST BE put in \boxed{ }.";
        assert_eq!(Question::new(Task::Compare, Reasoning::Off).text, compare);
        assert_eq!(Question::new(Task::Compare, Reasoning::On).text, format!("{compare}{suffix}"));
        assert_eq!(Question::new(Task::Score, Reasoning::Off).text, score);
        assert_eq!(Question::new(Task::Score, Reasoning::On).text, format!("{score}{suffix}"));
    }

    #[test]
    fn each_question_has_a_hash_of_its_own() {
        let all = [Task::Compare, Task::Score]
            .map(|task| [Reasoning::On, Reasoning::Off].map(|r| Question::new(task, r).hash()));
        let distinct: std::collections::HashSet<&String> = all.iter().flatten().collect();
        assert_eq!(distinct.len(), 4);
        assert!(distinct.iter().all(|hash| hash.len() == 16));
    }

    #[test]
    fn sentences_join_to_the_text() {
        for task in [Task::Compare, Task::Score] {
            let question = Question::new(task, Reasoning::On);
            let sentences = question.sentences();
            assert_eq!(sentences.concat(), question.text);
            assert_eq!(sentences.len(), 6, "{sentences:#?}");
            assert!(sentences[1..].iter().all(|sentence| sentence.starts_with(' ')));
        }
    }
}
