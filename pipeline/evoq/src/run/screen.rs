//! What is shown while steps run, on stderr: on a terminal a live line for each step that runs and one for all, plain lines
//! elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::make::End;
use super::pace::Pace;
use super::spent;
use crate::plan::{Plan, PlannedStep};

/// How often a log gets a line of a step's progress.
const EVERY: Duration = Duration::from_secs(10);
/// How often a live line moves.
const TICK: Duration = Duration::from_millis(200);

/// What is shown of a run.
pub struct Screen {
    live: Option<Live>,
    names: usize,
    stages: usize,
    variants: usize,
    /// When a line of each running step was last said, by its place in the plan.
    said: Mutex<BTreeMap<usize, Instant>>,
}

/// The lines at the bottom of a terminal.
struct Live {
    lines: MultiProgress,
    /// How many steps are done, and how long the others will take, as far as that is known.
    all: ProgressBar,
    pace: Arc<Mutex<Pace>>,
    steps: Mutex<BTreeMap<usize, ProgressBar>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A live line; a template that cannot be read, which it can, would leave the plain one.
fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// `20 s`, `4 min`, `2 h 10 min`: no finer than it is known.
fn about(seconds: f64) -> String {
    // The saturating cast is wanted: whoever waits that long needs no number.
    let tens = (seconds / 10.0).ceil().max(1.0) as u64;
    let minutes = tens.div_ceil(6);
    match (tens, minutes) {
        (..12, _) => format!("{} s", tens * 10),
        (_, ..60) => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

impl Screen {
    /// For a run of `plan`, whose `pace` a terminal is told.
    pub fn new(plan: &Plan, pace: impl FnOnce() -> Arc<Mutex<Pace>>) -> Self {
        let live = std::io::stderr().is_terminal().then(|| {
            let lines = MultiProgress::new();
            let all = lines.add(bar(plan.steps.len() as u64, "       {pos} of {len} steps, {elapsed}{msg}"));
            all.enable_steady_tick(TICK);
            Live { lines, all, pace: pace(), steps: Mutex::default() }
        });
        let widest = |name: fn(&PlannedStep) -> &str| plan.steps.iter().map(|it| name(it).len()).max().unwrap_or(0);
        let (names, stages) = (widest(|it| &it.record.step), widest(|it| &it.record.stage));
        let variants = plan.steps.iter().map(|it| it.record.variant.to_string().len()).max().unwrap_or(0);
        Self { live, names, stages, variants, said: Mutex::default() }
    }

    /// Says a line that stays.
    pub fn say(&self, line: &str) {
        match &self.live {
            // A terminal that is gone is told nothing.
            Some(live) if !live.all.is_finished() => drop(live.lines.println(line)),
            _ => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    /// Says a line of a step, which stays.
    pub fn line(&self, step: &PlannedStep, said: &str) {
        // In columns with the live lines, which begin with what turns.
        let indent = if self.live.is_some() { "  " } else { "" };
        self.say(&format!("{indent}{}  {said}", self.head(step)));
    }

    fn head(&self, step: &PlannedStep) -> String {
        let round = step.record.round.map_or_else(|| "-".to_owned(), |round| round.to_string());
        let (names, stages, variants) = (self.names, self.stages, self.variants);
        let head = format!("{round:>3}  {:names$}  {:stages$}", step.record.step, step.record.stage);
        if variants == 0 { head } else { format!("{head}  {:variants$}", step.record.variant.to_string()) }
    }

    /// The step at place `i` begins.
    pub fn started(&self, i: usize, step: &PlannedStep) {
        let Some(live) = &self.live else {
            held(&self.said).insert(i, Instant::now());
            return self.line(step, "begins");
        };
        held(&live.pace).started(i, Instant::now());
        let line = live.lines.insert_before(&live.all, bar(0, "{spinner} {wide_msg} {elapsed}"));
        line.set_message(self.head(step));
        line.enable_steady_tick(TICK);
        held(&live.steps).insert(i, line);
    }

    /// The step at place `i` has said `line`: how far it is and how long it will take, where it says so.
    pub fn progress(&self, i: usize, step: &PlannedStep, line: &str) {
        let line = line.strip_prefix("progress: ").unwrap_or(line);
        if let Some(live) = &self.live {
            held(&live.pace).said(i, line, Instant::now());
            if let Some(bar) = held(&live.steps).get(&i) {
                bar.set_message(format!("{}  {line}", self.head(step)));
            }
            return;
        }
        let mut said = held(&self.said);
        let Some(last) = said.get_mut(&i).filter(|last| last.elapsed() >= EVERY) else { return };
        *last = Instant::now();
        drop(said);
        self.line(step, line);
    }

    /// The step at place `i` has ended.
    pub fn ended(&self, i: usize, step: &PlannedStep, end: &End) {
        if let Some(live) = &self.live {
            if let Some(line) = held(&live.steps).remove(&i) {
                line.finish_and_clear();
                live.lines.remove(&line);
            }
            live.all.inc(1);
            held(&live.pace).ended(i, end);
        }
        let time = spent(Duration::from_secs_f64(end.seconds));
        let said = match (end.outcome(), end.is_found, end.attempts) {
            ("done", true, _) => "found".to_owned(),
            ("done", false, 0 | 1) => format!("made in {time}"),
            ("done", false, attempts) => format!("made in {time}, at attempt {attempts}"),
            (other, ..) => other.to_owned(),
        };
        self.line(step, &said);
    }

    /// Says how long the rest will take, where that is known.
    pub fn tell_left(&self) {
        let Some(live) = &self.live else { return };
        let left = held(&live.pace).left(Instant::now());
        live.all.set_message(left.map_or_else(String::new, |left| format!(", about {} left", about(left))));
    }

    /// Takes the live lines away.
    pub fn clear(&self) {
        if let Some(live) = &self.live {
            live.all.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_no_finer_than_it_is_known() {
        let shown = [0.0, 12.0, 110.0, 111.0, 200.0, 3599.0, 7900.0].map(about);
        assert_eq!(shown, ["10 s", "20 s", "110 s", "2 min", "4 min", "1 h 0 min", "2 h 12 min"]);
    }
}
