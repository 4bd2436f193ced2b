//! Progress: a bar on a terminal, plain lines in a log.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a log gets a line.
const EVERY: Duration = Duration::from_secs(5);

/// How far a piece of work is. Shared between threads.
#[derive(Debug)]
pub struct Progress {
    what: String,
    bar: ProgressBar,
    log: Option<Mutex<Instant>>,
    start: Instant,
    /// Pieces that were done before the start.
    before: u64,
    /// What is said of the last piece.
    said: Mutex<String>,
}

impl Progress {
    pub(crate) fn new(what: &str, total: u64) -> Self {
        Self::from(what, 0, total)
    }

    /// Progress over `total` pieces, of which an earlier run has done `before`.
    pub(crate) fn from(what: &str, before: u64, total: u64) -> Self {
        let (bar, log) = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len}, {eta} left{prefix}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            (bar, None)
        } else {
            let bar = ProgressBar::hidden();
            bar.set_length(total);
            (bar, Some(Mutex::new(Instant::now())))
        };
        bar.set_position(before);
        bar.reset_eta();
        Self { what: what.to_owned(), bar, log, start: Instant::now(), before, said: Mutex::default() }
    }

    /// `done` more pieces are done.
    pub fn add(&self, done: u64) {
        self.bar.inc(done);
        let Some(log) = &self.log else { return };
        let mut last = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            self.line();
        }
    }

    /// From now on `line` is said beside the numbers.
    pub(crate) fn say(&self, line: &str) {
        let line = format!("; {line}");
        self.bar.set_prefix(line.clone());
        *self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = line;
    }

    fn line(&self) {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let spent = self.start.elapsed().as_secs_f64();
        let left = spent / done.saturating_sub(self.before).max(1) as f64 * total.saturating_sub(done) as f64;
        let said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let what = &self.what;
        crate::fault::tell(&format!("progress: {what} {done}/{total}, {spent:.0} s, {left:.0} s left{said}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.log.is_some() {
            self.line();
        }
        self.bar.finish_and_clear();
    }
}
