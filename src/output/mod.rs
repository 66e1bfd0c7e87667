//! What is kept beside the video: events, masks, score maps.

pub mod events;
pub mod maps;

use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::compute::{Detection, Maps};

/// One frame and what was found in it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a, 'm> {
    /// Number of the frame in its stream, from 0.
    pub index: u64,
    /// Running time of the frame.
    pub running_time: Duration,
    /// Score map, mask and clusters.
    pub detection: &'a Detection,
    /// What the network said.
    pub maps: &'a Maps<'m>,
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
    fn record(&mut self, seen: &Seen<'_, '_>) -> Result<()>;

    /// The stream is over.
    ///
    /// # Errors
    /// What was to be kept cannot be completed.
    fn finish(&mut self) -> Result<()>;
}

/// What a run asks to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// File for the events.
    pub events: Option<&'a Path>,
    /// Folder for one mask PNG per frame.
    pub masks: Option<&'a Path>,
    /// Folder for one score map per frame.
    pub scores: Option<&'a Path>,
    /// Whether existing files may be replaced.
    pub overwrite: bool,
}

impl Wanted<'_> {
    /// The recorders for it; `classes` are the names of the logits' channels.
    ///
    /// # Errors
    /// The events file cannot be made, or exists and `overwrite` is off.
    pub fn recorders(&self, classes: &[String]) -> Result<Vec<Box<dyn Recorder>>> {
        let mut recorders: Vec<Box<dyn Recorder>> = Vec::new();
        if let Some(path) = self.events {
            recorders.push(Box::new(events::EventFile::create(path, classes, self.overwrite)?));
        }
        if let Some(folder) = self.masks {
            recorders.push(Box::new(maps::Masks::new(folder, self.overwrite)));
        }
        if let Some(folder) = self.scores {
            recorders.push(Box::new(maps::Scores::new(folder, self.overwrite)));
        }
        Ok(recorders)
    }
}

/// A file name's worth of a stream's name: `drives/a b.mp4` gives `a b`.
fn stem(stream: &str) -> String {
    Path::new(stream).file_stem().map_or_else(|| "stream".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
