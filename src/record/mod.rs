//! Results recorded beside the video: events, masks, score maps, regions, snapshots, tables, features of events.

mod best_effort;
pub mod clips;
pub mod embeddings;
pub mod events;
pub mod lines;
pub mod maps;
pub mod position;
pub mod regions;
pub mod rle;
pub mod settings;
pub mod snapshots;
pub mod table;
pub mod wall;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ndarray::ArrayView3;

use crate::Result;
use crate::compute::Detection;
use crate::draw::Style;
use crate::frame::I420;
use crate::npy::FloatType;
use crate::ood::alarm::{Event, Scene};
pub use best_effort::BestEffortRecorder;
pub use clips::Clips;
use embeddings::{EmbeddingFile, EmbeddingRecorder};
pub use events::{EventLog, EventRecorder};
pub use lines::{Existing, Lines};
pub use settings::ArchiveConfig;

/// One frame and its results.
#[derive(Debug, Clone, Copy)]
pub struct FrameResults<'a> {
    /// Number of the frame in its stream, from 0.
    pub index: u64,
    /// Running time of the frame.
    pub running_time: Duration,
    /// Wall time of its capture, where the stream is live.
    pub wall: Option<SystemTime>,
    /// The picture, before it is drawn on.
    pub picture: Option<&'a I420<'a>>,
    /// Score map, mask and clusters.
    pub detection: &'a Detection,
    /// Regions, tracks and alarms.
    pub scene: &'a Scene,
    /// The network's feature maps, `[D, h, w]` each.
    pub features: &'a [ArrayView3<'a, f32>],
}

/// Records the results of one stream, frame by frame.
pub trait Recorder: Send {
    /// Called for every frame, in order, before it is drawn on.
    ///
    /// # Errors
    /// The results cannot be written.
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()>;

    /// Called before [`Recorder::events`] with the events that a frame, or the end of the stream, brought about, to add
    /// what it knows of them.
    ///
    /// # Errors
    /// The results cannot be written.
    fn amend(&mut self, _events: &mut [Event]) -> Result<()> {
        Ok(())
    }

    /// Called with the events caused by a frame or by the end of the stream.
    ///
    /// # Errors
    /// The results cannot be written.
    fn events(&mut self, _events: &[Event]) -> Result<()> {
        Ok(())
    }

    /// Whether it keeps results, so that the stream goes on for them when its video has nowhere to go.
    fn keeps(&self) -> bool {
        true
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
    /// File for the regions of each frame.
    pub regions: Option<&'a Path>,
    /// File for a table of the events.
    pub csv: Option<&'a Path>,
    /// File for the chapters of a video.
    pub chapters: Option<&'a Path>,
    /// Folder for pictures of each event.
    pub snapshots: Option<&'a Path>,
    /// Folder for a video of each event.
    pub clips: Option<&'a Path>,
    /// File for the mean features of the events.
    pub embeddings: Option<&'a Path>,
    /// File about their rows; beside them when left out.
    pub embedding_ids: Option<&'a Path>,
    /// SHA-256 of the network.
    pub model: &'a str,
    /// The treatment of existing files.
    pub existing: Existing,
}

/// A stream whose results are kept.
#[derive(Debug, Clone, Copy)]
pub struct RecordedStream<'a> {
    /// Its name in the files.
    pub name: &'a str,
    /// What the names of its files begin with.
    pub base: &'a str,
    /// How snapshots are drawn on.
    pub style: Style,
    /// Names of the network's classes.
    pub classes: &'a [String],
}

/// The recorders of all streams of a run.
#[derive(Debug)]
pub struct Records<'a> {
    wanted: Wanted<'a>,
    events: Option<Arc<EventLog>>,
    regions: Option<Arc<Lines>>,
    csv: Option<Arc<Lines>>,
    chapters: Option<Arc<Lines>>,
    embeddings: Option<Arc<EmbeddingFile>>,
}

impl<'a> Records<'a> {
    /// Opens what `wanted` names.
    ///
    /// # Errors
    /// A file cannot be created, or exists and may not be changed.
    pub fn open(wanted: Wanted<'a>) -> Result<Self> {
        let lines = |kind: &'static str, path: Option<&Path>| {
            path.map(|path| Lines::open(kind, path, wanted.existing)).transpose().map(|lines| lines.map(Arc::new))
        };
        let events = wanted.events.map(|path| EventLog::open(path, wanted.existing)).transpose()?.map(Arc::new);
        let embeddings = wanted.embeddings.map(|path| {
            let ids = wanted.embedding_ids.map_or_else(|| embeddings::ids_beside(path), Path::to_path_buf);
            EmbeddingFile::open(path, &ids, wanted.model, wanted.existing).map(Arc::new)
        });
        Ok(Self {
            events,
            embeddings: embeddings.transpose()?,
            regions: lines("regions", wanted.regions)?,
            csv: lines("csv", wanted.csv)?,
            chapters: lines("chapters", wanted.chapters)?,
            wanted,
        })
    }

    /// The events file, if there is one.
    pub fn events(&self) -> Option<&Arc<EventLog>> {
        self.events.as_ref()
    }

    /// The clips of the stream whose files begin with `base`, if there are to be any.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn clips(&self, base: &str, extension: &'static str, config: &ArchiveConfig) -> Result<Option<Clips>> {
        let overwrite = self.wanted.existing == Existing::Replace;
        let clips = self.wanted.clips.map(|folder| Clips::new(folder, base, extension, overwrite, config));
        clips.transpose()
    }

    /// Whether there are to be clips.
    pub fn wants_clips(&self) -> bool {
        self.wanted.clips.is_some()
    }

    /// The recorders of a stream.
    ///
    /// # Errors
    /// A folder cannot be created, or a file not written.
    pub fn of_stream(&self, stream: &RecordedStream<'_>) -> Result<Vec<Box<dyn Recorder>>> {
        let mut recorders: Vec<Box<dyn Recorder>> = Vec::new();
        let overwrite = self.wanted.existing == Existing::Replace;
        if let Some(folder) = self.wanted.snapshots {
            recorders.push(Box::new(snapshots::SnapshotRecorder::new(
                folder,
                stream.base,
                overwrite,
                stream.style,
                stream.classes,
            )?));
        }
        if let Some(file) = &self.embeddings {
            recorders.push(Box::new(EmbeddingRecorder::new(Arc::clone(file))));
        }
        if let Some(log) = &self.events {
            recorders.push(Box::new(EventRecorder::new(Arc::clone(log))));
        }
        if let Some(lines) = &self.csv {
            recorders.push(Box::new(table::TableRecorder::new(Arc::clone(lines))?));
        }
        if let Some(lines) = &self.chapters {
            recorders.push(Box::new(table::ChapterRecorder::new(Arc::clone(lines))));
        }
        if let Some(lines) = &self.regions {
            recorders.push(Box::new(regions::RegionRecorder::new(stream.name.to_owned(), Arc::clone(lines))));
        }
        if let Some(folder) = self.wanted.masks {
            recorders.push(Box::new(maps::MaskFolder::new(folder, stream.base, overwrite)?));
        }
        if let Some(folder) = self.wanted.scores {
            recorders.push(Box::new(maps::ScoreFolder::new(folder, stream.base, FloatType::default(), overwrite)?));
        }
        Ok(recorders)
    }
}
