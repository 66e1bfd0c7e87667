//! `events:FILE`: one JSON object a line for each event of a track, and for each loss and return of a signal.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::input::Signal;
use crate::ood::alarm::{Event, rfc3339};
use crate::record::{Recorder, Seen};
use crate::{Error, Result};

/// The treatment of an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fail.
    Refuse,
    /// Replace it.
    Replace,
    /// Append to it.
    Append,
}

/// The file, shared by all streams of a run.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: Mutex<File>,
}

/// A line about the connection to a live input.
#[derive(Debug, Serialize)]
struct SignalLine<'a> {
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

impl EventLog {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// It cannot be created, or exists and `existing` forbids that.
    pub fn open(path: &Path, existing: Existing) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(existing == Existing::Append)
            .truncate(existing == Existing::Replace)
            .create_new(existing == Existing::Refuse)
            .open(path)
            .map_err(|error| {
                let place = format!("-o events:{}", path.display());
                match error.kind() {
                    ErrorKind::AlreadyExists => {
                        Error::usage(format!("{place}: it exists already")).hint("--overwrite replaces it")
                    }
                    _ => Error::failed(format!("{place}: {error}")),
                }
            })?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Records that the input of `stream` was lost or came back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn signal(&self, stream: &str, signal: &Signal) -> Result<()> {
        let wall = rfc3339(SystemTime::now());
        self.write(&match signal {
            Signal::Lost { reason } => {
                SignalLine { stream, signal: "lost", wall, reason: Some(reason), away_s: None, format: None }
            }
            Signal::Back { away, what } => SignalLine {
                stream,
                signal: "back",
                wall,
                reason: None,
                away_s: Some(away.as_secs_f64()),
                format: Some(what),
            },
        })
    }

    fn write(&self, line: &impl Serialize) -> Result<()> {
        let failed =
            |error: &dyn std::fmt::Display| Error::failed(format!("events file {}: {error}", self.path.display()));
        let line = serde_json::to_string(line).map_err(|error| failed(&error))? + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let length = file.metadata().map(|metadata| metadata.len());
        let written = file.write_all(line.as_bytes());
        if let (Err(_), Ok(length)) = (&written, length) {
            // Removes half a line, in case there is room for the next one. Pipes and devices cannot be truncated.
            let _ = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
        }
        written.map_err(|error| failed(&error))
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
    fn record(&mut self, _: &Seen<'_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        events.iter().try_for_each(|event| self.log.write(event))
    }
}
