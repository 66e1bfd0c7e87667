//! `events:FILE`: one JSON object a line for each thing that was seen for a while.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Recorder, Seen};
use crate::ood::region::RegionFinder;
use crate::ood::track::{Change, Moment, TrackSettings, Tracker};
use crate::{Error, Result};

/// Regions under this share of the frame are not looked at.
const MIN_AREA_SHARE: f32 = 0.0005;

/// Finds regions in the masks, follows them over time and writes a line when one is gone.
pub struct EventFile {
    path: PathBuf,
    file: File,
    classes: Vec<String>,
    finder: RegionFinder,
    tracker: Tracker,
}

impl EventFile {
    /// Makes the file.
    ///
    /// # Errors
    /// It cannot be made, or exists and `overwrite` is off.
    pub fn create(path: &Path, classes: &[String], overwrite: bool) -> Result<Self> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(overwrite).create_new(!overwrite).open(path).map_err(
                |error| {
                    let place = format!("-o events:{}", path.display());
                    match error.kind() {
                        ErrorKind::AlreadyExists => {
                            Error::usage(format!("{place}: it exists already")).hint("--overwrite replaces it")
                        }
                        _ => Error::failed(format!("{place}: {error}")),
                    }
                },
            )?;
        Ok(Self {
            path: path.to_owned(),
            file,
            classes: classes.to_vec(),
            finder: RegionFinder::new(MIN_AREA_SHARE),
            tracker: Tracker::new("", Vec::new(), TrackSettings::default()),
        })
    }

    fn write_ended(&mut self) -> Result<()> {
        let Self { path, file, tracker, .. } = self;
        for change in tracker.drain_changes() {
            let Change::Ended(event) = change else { continue };
            let line = serde_json::to_string(&event)
                .map_err(|error| Error::failed(format!("an event cannot be written: {error}")))?
                + "\n";
            file.write_all(line.as_bytes())
                .map_err(|error| Error::failed(format!("events file {}: {error}", path.display())))?;
        }
        Ok(())
    }
}

impl Recorder for EventFile {
    fn begin(&mut self, stream: &str) -> Result<()> {
        self.tracker = Tracker::new(stream, self.classes.clone(), TrackSettings::default());
        Ok(())
    }

    fn record(&mut self, seen: &Seen<'_, '_>) -> Result<()> {
        let regions = self.finder.find(seen.detection, seen.maps.logits)?;
        self.tracker.update(Moment { running: seen.running_time, wall: None }, regions);
        self.write_ended()
    }

    fn finish(&mut self) -> Result<()> {
        self.tracker.finish();
        self.write_ended()
    }
}
