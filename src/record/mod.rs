//! What is kept beside the video: events, masks, score maps.

mod best_effort;
pub mod events;
pub mod maps;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::compute::{Detection, Maps};
use crate::ood::alarm::{Event, Scene};
pub use best_effort::BestEffortRecorder;
pub use events::{EventLog, EventRecorder, Existing};

/// One frame and what was found in it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a, 'm> {
    /// Number of the frame in its stream, from 0.
    pub index: u64,
    /// Running time of the frame.
    pub running_time: Duration,
    /// Wall time of its capture, where the stream is live.
    pub wall: Option<SystemTime>,
    /// Score map, mask and clusters.
    pub detection: &'a Detection,
    /// What the network said.
    pub maps: &'a Maps<'m>,
    /// Regions, tracks and alarms.
    pub scene: &'a Scene,
}

/// Keeps something of every frame's result of one stream.
pub trait Recorder: Send {
    /// Called for every frame, in order, before it is drawn on.
    ///
    /// # Errors
    /// What was to be kept cannot be written.
    fn record(&mut self, seen: &Seen<'_, '_>) -> Result<()>;

    /// Called with the events that a frame, or the end of the stream, brought about.
    ///
    /// # Errors
    /// What was to be kept cannot be written.
    fn events(&mut self, _events: &[Event]) -> Result<()> {
        Ok(())
    }

    /// The stream is over.
    ///
    /// # Errors
    /// What was to be kept cannot be completed.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
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
    /// What happens to an events file that is there already.
    pub existing: Existing,
}

/// What keeps the results of all streams of a run.
#[derive(Debug)]
pub struct Records<'a> {
    wanted: Wanted<'a>,
    events: Option<Arc<EventLog>>,
}

impl<'a> Records<'a> {
    /// Opens what `wanted` names.
    ///
    /// # Errors
    /// The events file cannot be made, or exists and is to be left alone.
    pub fn open(wanted: Wanted<'a>) -> Result<Self> {
        let events = wanted.events.map(|path| EventLog::open(path, wanted.existing)).transpose()?.map(Arc::new);
        Ok(Self { wanted, events })
    }

    /// The events file, if there is one.
    pub fn events(&self) -> Option<&Arc<EventLog>> {
        self.events.as_ref()
    }

    /// The recorders of a stream whose files have names that begin with `base`.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn of_stream(&self, base: &str) -> Result<Vec<Box<dyn Recorder>>> {
        let mut recorders: Vec<Box<dyn Recorder>> = Vec::new();
        let overwrite = self.wanted.existing == Existing::Replace;
        if let Some(log) = &self.events {
            recorders.push(Box::new(EventRecorder::new(Arc::clone(log))));
        }
        if let Some(folder) = self.wanted.masks {
            recorders.push(Box::new(maps::MaskFolder::new(folder, base, overwrite)?));
        }
        if let Some(folder) = self.wanted.scores {
            let precision = maps::Precision::default();
            recorders.push(Box::new(maps::ScoreFolder::new(folder, base, precision, overwrite)?));
        }
        Ok(recorders)
    }
}
