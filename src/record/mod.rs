//! Results recorded beside the video: events, masks, score maps.

mod best_effort;
pub mod events;
pub mod maps;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::compute::Detection;
use crate::npy::FloatType;
use crate::ood::alarm::{Event, Scene};
pub use best_effort::BestEffortRecorder;
pub use events::{EventLog, EventRecorder, Existing};

/// One frame and its results.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Number of the frame in its stream, from 0.
    pub index: u64,
    /// Running time of the frame.
    pub running_time: Duration,
    /// Score map, mask and clusters.
    pub detection: &'a Detection,
    /// Regions, tracks and alarms.
    pub scene: &'a Scene,
}

/// Records the results of one stream, frame by frame.
pub trait Recorder: Send {
    /// Called for every frame, in order, before it is drawn on.
    ///
    /// # Errors
    /// The results cannot be written.
    fn record(&mut self, seen: &Seen<'_>) -> Result<()>;

    /// Called with the events caused by a frame or by the end of the stream.
    ///
    /// # Errors
    /// The results cannot be written.
    fn events(&mut self, _events: &[Event]) -> Result<()> {
        Ok(())
    }

    /// The stream is over.
    ///
    /// # Errors
    /// The results cannot be completed.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The results that a run records.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// File for the events.
    pub events: Option<&'a Path>,
    /// Folder for one mask PNG per frame.
    pub masks: Option<&'a Path>,
    /// Folder for one score map per frame.
    pub scores: Option<&'a Path>,
    /// The treatment of an existing events file.
    pub existing: Existing,
}

/// The recorders of all streams of a run.
#[derive(Debug)]
pub struct Records<'a> {
    wanted: Wanted<'a>,
    events: Option<Arc<EventLog>>,
}

impl<'a> Records<'a> {
    /// Opens what `wanted` names.
    ///
    /// # Errors
    /// The events file cannot be created, or exists and may not be changed.
    pub fn open(wanted: Wanted<'a>) -> Result<Self> {
        let events = wanted.events.map(|path| EventLog::open(path, wanted.existing)).transpose()?.map(Arc::new);
        Ok(Self { wanted, events })
    }

    /// The events file, if there is one.
    pub fn events(&self) -> Option<&Arc<EventLog>> {
        self.events.as_ref()
    }

    /// The recorders of the stream called `stream`.
    ///
    /// # Errors
    /// A folder cannot be created.
    pub fn of_stream(&self, stream: &str) -> Result<Vec<Box<dyn Recorder>>> {
        let mut recorders: Vec<Box<dyn Recorder>> = Vec::new();
        let overwrite = self.wanted.existing == Existing::Replace;
        if let Some(log) = &self.events {
            recorders.push(Box::new(EventRecorder::new(Arc::clone(log))));
        }
        if let Some(folder) = self.wanted.masks {
            recorders.push(Box::new(maps::MaskFolder::new(folder, &stem(stream), overwrite)?));
        }
        if let Some(folder) = self.wanted.scores {
            recorders.push(Box::new(maps::ScoreFolder::new(folder, &stem(stream), FloatType::default(), overwrite)?));
        }
        Ok(recorders)
    }
}

/// A file name from a stream's name: `drives/a b.mp4` gives `a b`.
fn stem(stream: &str) -> String {
    Path::new(stream).file_stem().map_or_else(|| "stream".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
