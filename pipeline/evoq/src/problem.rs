//! What is wrong with a workflow file: each problem with its place, the line it stands in, and the nearest valid name.

use std::fmt;
use std::sync::Arc;

/// A place in a workflow file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line, from 1; 0 where the place is not known.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters that are meant.
    pub length: usize,
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self { line: size(location.line()), column: size(location.column()), length: size(location.span().len()) }
    }
}

/// Something wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What was found and what was expected.
    pub message: String,
    /// What to do, where the message does not say it.
    pub help: Option<String>,
    /// Whether whatever else is wrong at this very place follows from it.
    is_cause: bool,
}

impl Problem {
    /// A problem at `place`.
    #[cfg_attr(test, track_caller)]
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        #[cfg(test)]
        crate::faults::noted(std::panic::Location::caller());
        Self { place, message: message.into(), help: None, is_cause: false }
    }

    /// The same, as the cause of all else that is wrong at its place.
    #[must_use]
    pub fn cause(mut self) -> Self {
        self.is_cause = true;
        self
    }

    /// The same with a line of help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A workflow file's name and text. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path, as it was given.
    pub name: String,
    /// Its text.
    pub text: Arc<str>,
}

/// Everything wrong with a workflow file.
#[derive(Debug)]
pub struct Problems {
    source: Source,
    problems: Vec<Problem>,
}

impl Problems {
    /// The problems of `source`, in the order of their places, each said once, and nothing that follows from another.
    pub fn new(source: &Source, mut problems: Vec<Problem>) -> Self {
        let causes: Vec<Place> = problems.iter().filter(|it| it.is_cause).map(|it| it.place).collect();
        problems.retain(|it| it.is_cause || !causes.contains(&it.place));
        problems.sort();
        problems.dedup();
        Self { source: source.clone(), problems }
    }
}

impl fmt::Display for Problems {
    /// In rustc's look: the message, the place, the line with the place underlined, help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                write!(f, "\n\nerror: ")?;
            }
            let Place { line, column, length } = problem.place;
            write!(f, "{}", problem.message)?;
            let margin = " ".repeat(line.to_string().len());
            let text = line.checked_sub(1).and_then(|line| self.source.text.lines().nth(line));
            if let Some(text) = text {
                let room = text.chars().count() + 1;
                let marks = "^".repeat(length.min((room + 1).saturating_sub(column)).max(1));
                let indent = " ".repeat(column.saturating_sub(1));
                write!(f, "\n{margin}--> {}:{line}:{column}", self.source.name)?;
                write!(f, "\n{margin} |\n{line} | {text}\n{margin} | {indent}{marks}")?;
            } else {
                write!(f, "\n --> {}", self.source.name)?;
            }
            if let Some(help) = &problem.help {
                write!(f, "\n{margin} = {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The one of `names` that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let near = names.into_iter().min_by_key(distance)?;
    let far = 1 + name.chars().count().max(near.chars().count()) / 4;
    (distance(&near) <= far).then_some(near)
}

/// `; did you mean X?`, or the names there are.
pub fn suggestion<'a>(name: &str, names: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, names.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    match all.as_slice() {
        [] => "; there are none".to_owned(),
        [one] => format!("; there is only {one}"),
        all => format!("; there are {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_line_underlined() {
        let source = Source { name: "w.yaml".to_owned(), text: "evoq: 1\nnmae: x\n".into() };
        let problem = Problem::new(Place { line: 2, column: 1, length: 4 }, "unknown key `nmae`").help("see --help");
        let text = Problems::new(&source, vec![problem]).to_string();
        assert_eq!(text, "unknown key `nmae`\n --> w.yaml:2:1\n  |\n2 | nmae: x\n  | ^^^^\n  = see --help");
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_and_once() {
        let source = Source { name: "w".to_owned(), text: "a\nb".into() };
        let at = |line, text: &str| Problem::new(Place { line, column: 1, length: 1 }, text);
        let found = Problems::new(&source, vec![at(2, "second"), at(1, "first"), at(2, "second")]);
        let messages: Vec<_> = found.problems.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(messages, ["first", "second"]);
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        assert_eq!(nearest("sampels", ["seed", "samples"]), Some("samples"));
        assert_eq!(nearest("colour", ["seed", "samples"]), None);
        assert_eq!(suggestion("colour", ["seed", "samples"]), "; there are seed, samples");
    }
}
