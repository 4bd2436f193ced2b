//! Processor time by the names of tracing's spans, for benches.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use cpu_time::ProcessTime;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Adds up the processor time in a crate's spans by their names. The process' time is taken: it tells a span's own only with one
/// thread, on which nothing of weight is done beside it.
pub struct Meter {
    target: &'static str,
    spans: Mutex<HashMap<u64, (&'static str, Option<ProcessTime>)>>,
    seconds: Arc<Mutex<BTreeMap<&'static str, f64>>>,
}

impl Meter {
    /// A meter of the spans whose target begins with `target`, the crate's name in code.
    pub fn of(target: &'static str) -> Self {
        Self { target, spans: Mutex::default(), seconds: Arc::default() }
    }

    /// The seconds so far, by name; they grow as long as the meter listens.
    pub fn seconds(&self) -> Arc<Mutex<BTreeMap<&'static str, f64>>> {
        self.seconds.clone()
    }
}

impl Subscriber for Meter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with(self.target)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.spans.lock().expect("nobody panics with it");
        let id = spans.len() as u64 + 1;
        spans.insert(id, (span.metadata().name(), None));
        Id::from_u64(id)
    }

    fn enter(&self, span: &Id) {
        let mut spans = self.spans.lock().expect("nobody panics with it");
        spans.get_mut(&span.into_u64()).expect("it was made").1 = Some(ProcessTime::now());
    }

    fn exit(&self, span: &Id) {
        let mut spans = self.spans.lock().expect("nobody panics with it");
        let (name, begun) = spans.get_mut(&span.into_u64()).expect("it was made");
        if let Some(begun) = begun.take() {
            *self.seconds.lock().expect("nobody panics with it").entry(name).or_default() +=
                begun.elapsed().as_secs_f64();
        }
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
}
