//! What is kept beside the video: events, masks, score maps.

pub mod events;

use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::compute::{Detection, Maps};

/// One frame and what was found in it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Number of the frame in its stream, from 0.
    pub index: u64,
    /// Running time of the frame.
    pub running_time: Duration,
    /// Score map, mask and clusters.
    pub detection: &'a Detection,
    /// What the network said.
    pub maps: &'a Maps<'a>,
}

/// Keeps something of every frame's result. One recorder serves all inputs of a run, one after the other.
pub trait Recorder: Send {
    /// A new stream begins.
    ///
    /// # Errors
    /// Its place cannot be made.
    fn begin(&mut self, stream: &str) -> Result<()>;

    /// Called for every frame, in order, before it is drawn on.
    ///
    /// # Errors
    /// What was to be kept cannot be written.
    fn record(&mut self, seen: &Seen<'_>) -> Result<()>;

    /// The stream is over.
    ///
    /// # Errors
    /// What was to be kept cannot be completed.
    fn finish(&mut self) -> Result<()>;
}

/// The recorders that a run asks for; `classes` are the names of the logits' channels.
///
/// # Errors
/// A file or folder cannot be made, or exists and `overwrite` is off.
pub fn recorders(events: Option<&Path>, classes: &[String], overwrite: bool) -> Result<Vec<Box<dyn Recorder>>> {
    let mut recorders: Vec<Box<dyn Recorder>> = Vec::new();
    if let Some(path) = events {
        recorders.push(Box::new(events::EventFile::create(path, classes, overwrite)?));
    }
    Ok(recorders)
}
