//! `events:FILE`: one JSON object a line for each event of a track, and for each loss and return of a signal.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::lines::{Existing, Lines};
use crate::Result;
use crate::input::Signal;
use crate::ood::alarm::{Event, rfc3339};
use crate::record::{FrameResults, Recorder};

/// The file, shared by all streams of a run.
#[derive(Debug)]
pub struct EventLog(Lines);

/// A line about the connection to a live input.
#[derive(Debug, Serialize)]
pub struct SignalLine<'a> {
    stream: &'a str,
    /// `lost` or `back`.
    signal: &'static str,
    /// RFC 3339 in UTC.
    wall: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    away_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'a str>,
}

impl<'a> SignalLine<'a> {
    /// The line for a change of the connection at this moment.
    pub fn new(stream: &'a str, signal: &'a Signal) -> Self {
        let wall = rfc3339(SystemTime::now());
        match signal {
            Signal::Lost { reason } => {
                Self { stream, signal: "lost", wall, reason: Some(reason), away_s: None, format: None }
            }
            Signal::Back { away, what } => Self {
                stream,
                signal: "back",
                wall,
                reason: None,
                away_s: Some(away.as_secs_f64()),
                format: Some(what),
            },
        }
    }

    /// `lost` or `back`.
    pub fn kind(&self) -> &'static str {
        self.signal
    }
}

impl EventLog {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// It cannot be created, or exists and `existing` forbids that.
    pub fn open(path: &Path, existing: Existing) -> Result<Self> {
        Lines::open("events", path, existing).map(Self)
    }

    /// Records that an input was lost or came back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn signal(&self, line: &SignalLine<'_>) -> Result<()> {
        self.0.write(line)
    }
}

/// Writes the events of one stream.
pub struct EventRecorder {
    log: Arc<EventLog>,
}

impl EventRecorder {
    /// A recorder that writes to `log`.
    pub fn new(log: Arc<EventLog>) -> Self {
        Self { log }
    }
}

impl Recorder for EventRecorder {
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        events.iter().try_for_each(|event| self.log.0.write(event))
    }
}
