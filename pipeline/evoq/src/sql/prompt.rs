//! The prompt of `evoq sql`: one statement after the other, with history, and names completed by the tab key.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::PathBuf;

use evoq_artifacts::cache_folder;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::rows::{Format, write};
use super::{Answer, Database};
use crate::error::{Error, Result};
use crate::print::{say, tell};

/// Rows of a table that are shown at the prompt.
const SHOWN: usize = 200;
/// Words that statements are made of, beside names.
const KEYWORDS: &[&str] = &[
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MEDIAN",
    "MIN",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "ROUND",
    "SELECT",
    "SHOW",
    "STDDEV",
    "SUM",
    "TABLES",
    "THEN",
    "UNION",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Asks for statements until the user has had enough.
pub(super) fn ask(database: &Database, format: Format) -> Result<()> {
    let refused =
        |error: &ReadlineError| Error::BadInput(format!("the terminal cannot be used: {error}; give --command"));
    let mut editor: Editor<Names, FileHistory> = Editor::new().map_err(|error| refused(&error))?;
    editor.set_helper(Some(Names::of(database)?));
    let history = history();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    let title = database.title();
    tell(&format!("{title}; end a query with `;`. SHOW TABLES; DESCRIBE votes; Tab completes, Ctrl-D ends"));
    loop {
        match editor.readline("evoq> ") {
            Ok(line) => {
                // A history that cannot be kept takes nothing from the answer.
                let _ = editor.add_history_entry(line.trim());
                let statement = line.trim().trim_end_matches(';').trim();
                match statement.to_lowercase().as_str() {
                    "" => {}
                    "exit" | "quit" | "\\q" => break,
                    _ => answer(database, statement, format)?,
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(refused(&error)),
        }
    }
    if let Some(file) = &history {
        let _ = editor.save_history(file);
    }
    Ok(())
}

/// Answers; what cannot be answered is said, and the prompt goes on.
fn answer(database: &Database, sql: &str, format: Format) -> Result<()> {
    let asked = || -> Result<Vec<String>> {
        let statements = Database::statements(sql)?;
        statements.into_iter().map(|statement| head(database.rows(statement)?, format)).collect()
    };
    match asked() {
        Ok(texts) => texts.iter().try_for_each(|text| say(text)),
        Err(error) => {
            tell(&format!("error: {error}"));
            Ok(())
        }
    }
}

/// The first rows of a result as text, and whether there are more.
fn head(mut rows: super::Rows<'_>, format: Format) -> Result<String> {
    let (schema, mut batches, mut count) = (rows.schema.clone(), Vec::new(), 0);
    let mut cut = false;
    for batch in rows.by_ref() {
        let batch = batch?;
        let room = SHOWN - count;
        cut = batch.num_rows() > room;
        count += batch.num_rows().min(room);
        batches.push(batch.slice(0, batch.num_rows().min(room)));
        if cut {
            break;
        }
    }
    let answer = Answer { schema, batches };
    let mut text = Vec::new();
    write(&answer.schema, answer.batches.iter().cloned().map(Ok), format, &mut text)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if cut {
        let _ = writeln!(text, "the first {SHOWN} rows; add a LIMIT, or write all with --output");
    }
    Ok(text)
}

/// Where the history is kept.
fn history() -> Option<PathBuf> {
    let folder = cache_folder();
    evoq_artifacts::make_folder(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// What the tab key knows: keywords, tables and columns.
#[derive(Debug)]
struct Names(Vec<String>);

impl Names {
    fn of(database: &Database) -> Result<Self> {
        let mut names: Vec<String> = KEYWORDS.iter().map(|word| (*word).to_owned()).collect();
        names.extend(database.names()?);
        names.sort();
        names.dedup();
        Ok(Self(names))
    }

    /// Where the word before `position` begins, and what it can become.
    fn ways(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let before = line.get(..position).unwrap_or(line);
        let is_part = |it: char| it.is_alphanumeric() || it == '_';
        let start =
            before.rfind(|it| !is_part(it)).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = before.get(start..).unwrap_or_default().to_lowercase();
        if word.is_empty() {
            return (start, Vec::new());
        }
        (start, self.0.iter().filter(|name| name.to_lowercase().starts_with(&word)).cloned().collect())
    }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.ways(line, position))
    }
}

impl Validator for Names {
    /// A statement goes on over lines until its `;`.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_whole = text.is_empty() || text.ends_with(';') || matches!(text, "exit" | "quit" | "\\q");
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_completed_wherever_it_stands_and_whatever_its_case() {
        let names = Names(["SELECT", "votes", "votes_a", "round"].map(str::to_owned).to_vec());
        assert_eq!(names.ways("sel", 3), (0, vec!["SELECT".to_owned()]));
        let line = "SELECT count(vo) FROM";
        assert_eq!(names.ways(line, 15), (13, vec!["votes".to_owned(), "votes_a".to_owned()]));
        assert_eq!(names.ways("SELECT v.rou", 12), (9, vec!["round".to_owned()]));
        assert_eq!(names.ways("é r", 4), (3, vec!["round".to_owned()]));
        assert_eq!(names.ways("SELECT ", 7).1, Vec::<String>::new());
    }
}
