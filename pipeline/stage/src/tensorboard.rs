//! TensorBoard's event files: numbers over the steps of a training, as `tensorboard --logdir FOLDER` draws them.
//!
//! A file is a row of records: an event as a protocol buffer, its length before it, and the checksums of both. The messages
//! below are the few fields of TensorFlow's `event.proto` and `summary.proto` that a number needs.

use std::path::{Path, PathBuf};

use evoq_artifacts::{append_file, now_ms, read_file};
use prost::Message;

/// What a checksum is turned by and added to, so that a record may itself hold records.
const MASK: u32 = 0xa282_ead8;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that is being written. A run that goes on writes another into the same folder.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
}

impl Events {
    /// Begins a file in `folder`.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let host = read_file(Path::new("/proc/sys/kernel/hostname")).ok().and_then(|it| String::from_utf8(it).ok());
        let host = host.map_or_else(|| "unknown".to_owned(), |host| host.trim().to_owned());
        let now = now_ms();
        // TensorBoard reads the files of a folder in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{host}.{}.{:03}", now / 1000, std::process::id(), now % 1000);
        let mut events = Self { path: folder.join(name) };
        events.append(0, What::FileVersion("brain.Event:2".to_owned()))?;
        Ok(events)
    }

    /// Adds the numbers of `step`, by name.
    pub(crate) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> anyhow::Result<()> {
        let value = |(tag, value): &(&str, f64)| Value { tag: (*tag).to_owned(), simple_value: Some(*value as f32) };
        self.append(i64::try_from(step)?, What::Summary(Summary { values: scalars.iter().map(value).collect() }))
    }

    fn append(&mut self, step: i64, what: What) -> anyhow::Result<()> {
        let event = Event { wall_time: now_ms() as f64 / 1000.0, step, what: Some(what) };
        Ok(append_file(&self.path, &record(&event.encode_to_vec()))?)
    }
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend_from_slice(&checksum(&length).to_le_bytes());
    record.extend_from_slice(bytes);
    record.extend_from_slice(&checksum(bytes).to_le_bytes());
    record
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorboard_reads_it() {
        // As TensorBoard's own writer frames it: stages/grpo/tests/event_files.py prints it.
        let mut expected = vec![3, 0, 0, 0, 0, 0, 0, 0, 0xb0, 0x99, 0x49, 0x0e];
        expected.extend_from_slice(b"abc");
        expected.extend_from_slice(&[0x6e, 0x57, 0xf1, 0x21]);
        assert_eq!(record(b"abc"), expected);
    }
}
