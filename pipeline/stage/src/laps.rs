//! How long the phases of a step of training take, and how much memory the process has taken: for the ledger, never for an
//! artifact.

use std::path::Path;
use std::time::Instant;

/// One phase of a step.
#[derive(Debug, Clone)]
pub(crate) struct Lap {
    pub(crate) phase: &'static str,
    pub(crate) seconds: f64,
    pub(crate) tokens: Option<u64>,
}

/// The phases of a step, one after another.
#[derive(Debug)]
pub struct Laps {
    laps: Vec<Lap>,
    last: Instant,
}

impl Laps {
    /// Begins with the first phase.
    pub fn start() -> Self {
        Self { laps: Vec::new(), last: Instant::now() }
    }

    /// Ends the phase `phase`, which worked on `tokens` tokens, and begins the next.
    pub fn lap(&mut self, phase: &'static str, tokens: Option<u64>) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        self.laps.push(Lap { phase, seconds, tokens });
        self.last = now;
    }

    pub(crate) fn laps(&self) -> &[Lap] {
        &self.laps
    }
}

/// The most memory that this process has had, in bytes; none where the system does not tell.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = evoq_artifacts::read_file(Path::new("/proc/self/status")).ok()?;
    let status = String::from_utf8(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_taken_memory() {
        assert!(peak_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
