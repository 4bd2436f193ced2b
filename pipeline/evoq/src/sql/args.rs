//! `evoq sql` on the command line: where the query comes from and where its result goes.

use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use evoq_artifacts::{Location, read_file};

use super::rows::{Format, write};
use super::{Database, prompt};
use crate::error::{Error, Result};
use crate::print::replace;

/// What `evoq sql` is given.
#[derive(Debug, Args)]
#[command(after_help = TEACHING)]
pub struct SqlArgs {
    /// Where artifacts and the ledger are
    #[arg(long, value_name = "URI", env = "EVOQ_ROOT")]
    pub root: String,
    /// The query; several are divided by `;` [default: asked at a prompt, or read from stdin]
    #[arg(short = 'c', long, value_name = "SQL")]
    command: Option<String>,
    /// A file with the query
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// The form of the result [default: what the name of --output ends in, else table]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write the result of the query to this file, which is replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The run to look at, or several [default: the latest]
    #[arg(long, value_name = "ID")]
    run: Vec<String>,
    /// Read what steps that are not finished have written so far as well: rollouts and updates while a policy is trained
    #[arg(long)]
    live: bool,
}

const TEACHING: &str = "\
`SHOW TABLES` says what there is, `DESCRIBE votes` what its columns mean. Views: pair_agreement, position_bias, reward_spread,
contested_pairs.

  evoq sql --root runs -c \"SELECT * FROM position_bias ORDER BY round\"
  evoq sql --root runs -c \"SELECT * FROM contested_pairs WHERE place <= 10\" --format csv
  evoq sql --root runs -c \"SELECT * FROM rollouts WHERE round = 2\" -o rollouts.parquet
  evoq sql --root runs                                                       a prompt";

/// Answers what was asked.
pub fn run(args: &SqlArgs) -> Result<()> {
    let format = format(args.format, args.output.as_deref())?;
    let sql = match (&args.command, &args.file) {
        (Some(sql), _) => Some(sql.clone()),
        (None, Some(file)) => Some(text(read_file(file)?, &file.display().to_string())?),
        (None, None) if std::io::stdin().is_terminal() && args.output.is_none() => None,
        (None, None) => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|error| Error::BadInput(format!("stdin: {error}")))?;
            Some(text(bytes, "stdin")?)
        }
    };
    let root = Location::open(&args.root)?;
    let database = if args.live { Database::live(&root, &args.run)? } else { Database::open(&root, &args.run)? };
    match (sql, &args.output) {
        (None, _) => prompt::ask(&database, format),
        (Some(sql), Some(file)) => keep(&database, &sql, format, file),
        (Some(sql), None) => show(&database, &sql, format),
    }
}

fn text(bytes: Vec<u8>, source: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::BadInput(format!("{source}: this is not UTF-8 text; expected a query")))
}

/// The form that was asked for, or that the file's name stands for.
fn format(asked: Option<Format>, output: Option<&Path>) -> Result<Format> {
    match (asked, output) {
        (Some(Format::Parquet), None) => {
            Err(Error::BadInput("--format parquet goes to a file; name it with --output".to_owned()))
        }
        (Some(format), _) => Ok(format),
        (None, None) => Ok(Format::Table),
        (None, Some(file)) => {
            let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            match Format::from_str(ending, false) {
                Ok(format) if ending != "table" => Ok(format),
                _ => Err(Error::BadInput(format!(
                    "--output {}: the form is not clear; expected a name that ends in .csv, .json, .jsonl or .parquet, or \
                     --format",
                    file.display()
                ))),
            }
        }
    }
}

/// Writes every result to stdout. A reader that has gone away is no fault.
fn show(database: &Database, sql: &str, format: Format) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout());
    let shown = Database::statements(sql)?.into_iter().try_for_each(|statement| {
        let rows = database.rows(statement)?;
        write(&rows.schema.clone(), rows, format, &mut out)
    });
    match shown.and_then(|()| Ok(out.flush()?)) {
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown,
    }
}

/// Writes the one result to `file`, which is there when it is whole.
fn keep(database: &Database, sql: &str, format: Format, file: &Path) -> Result<()> {
    let mut statements = Database::statements(sql)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Error::BadInput("--output takes the result of one query; give one".to_owned()));
    };
    let rows = database.rows(statement)?;
    replace(file, |out| {
        let mut out = BufWriter::new(out);
        write(&rows.schema.clone(), rows, format, &mut out)?;
        Ok(out.flush()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_is_said_or_what_the_files_name_stands_for() {
        let named = |name: &str| format(None, Some(Path::new(name))).ok();
        assert_eq!(named("a/b.csv"), Some(Format::Csv));
        assert_eq!(named("b.jsonl"), Some(Format::Jsonl));
        assert_eq!(named("b.parquet"), Some(Format::Parquet));
        assert_eq!((named("b.table"), named("b"), named("b.xlsx")), (None, None, None));
        assert_eq!(format(Some(Format::Csv), Some(Path::new("b.txt"))).ok(), Some(Format::Csv));
        assert_eq!(format(None, None).ok(), Some(Format::Table));
        assert!(format(Some(Format::Parquet), None).is_err());
    }
}
