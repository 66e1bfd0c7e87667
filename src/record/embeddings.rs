//! `embeddings:FILE.npy`: the mean feature of each event's region at its peak, and who the rows are.
//!
//! `FILE.npy` is `[events, D]` f32; line n of `FILE.ids.jsonl` beside it is about row n. D is the number of features of
//! the network, those of several feature outputs one after the other.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

use super::lines::{Existing, Lines, open_file};
use crate::lock::lock;
use crate::npy;
use crate::ood::alarm::{Event, EventType, Scene};
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// The end of the name of the file beside the rows.
pub const IDS: &str = "ids.jsonl";

/// The file about the rows of `embeddings`.
pub fn ids_beside(embeddings: &Path) -> PathBuf {
    embeddings.with_extension(IDS)
}

/// One line of the file beside the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingId {
    /// Version of the line.
    pub schema: u32,
    /// The event.
    pub id: String,
    /// Its stream.
    pub stream: String,
    /// SHA-256 of the network: features of two networks cannot be compared.
    pub model: String,
    /// `unknown`, or `unusual CLASS`.
    pub label: String,
    /// Whether it is an alarm.
    pub alarm: bool,
    /// The known class that it was nearest to in most frames.
    pub nearest_class: Option<String>,
    /// Running time of its first frame, in seconds.
    pub start_s: f64,
    /// Running time of the frame that the row is from.
    pub peak_s: f64,
    /// Running time of its last frame.
    pub end_s: f64,
    /// Its severity, 0..1.
    pub severity: f32,
    /// A picture of it, where one was written.
    pub snapshot: Option<String>,
}

/// The rows of all streams of a run.
#[derive(Debug)]
pub struct EmbeddingFile {
    path: PathBuf,
    model: String,
    rows: Mutex<Rows>,
    ids: Lines,
}

#[derive(Debug)]
struct Rows {
    file: File,
    count: u64,
    /// Elements of a row; 0 before the first one.
    width: usize,
}

impl EmbeddingFile {
    /// Opens or makes `path` and `ids`; `model` is the SHA-256 of the network.
    ///
    /// # Errors
    /// One of them cannot be made, exists and `existing` refuses that, or is to be appended to and of another kind.
    pub fn open(path: &Path, ids: &Path, model: &str, existing: Existing) -> Result<Self> {
        let file = open_file("embeddings", path, existing, OpenOptions::new().read(true))?;
        let ids = Lines::open("embeddings", ids, existing)?;
        let mut rows = Rows { file, count: 0, width: 0 };
        let length = rows.file.metadata().map_or(0, |meta| meta.len());
        if length > 0 {
            let before = npy::read(path)?;
            (rows.count, rows.width) = (before.nrows() as u64, before.ncols());
        }
        let opened = Self { path: path.to_owned(), model: model.to_owned(), rows: Mutex::new(rows), ids };
        if length == 0 {
            // There may be no event.
            opened.header(&mut lock(&opened.rows))?;
        }
        Ok(opened)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("-o embeddings:{}", self.path.display()), error)
    }

    fn header(&self, rows: &mut Rows) -> Result<()> {
        let header = npy::growing_header(rows.count, rows.width as u64).map_err(|error| self.failed(error))?;
        rows.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| rows.file.write_all(&header))
            .map_err(|error| self.failed(error))
    }

    /// Adds the row of an event that is over.
    fn write(&self, event: &Event, best: &Best) -> Result<()> {
        let mut rows = lock(&self.rows);
        if rows.count == 0 {
            rows.width = best.mean.len();
        }
        if rows.width != best.mean.len() {
            return Err(Error::failed(format!(
                "-o embeddings:{}: its rows have {} features, this network has {}",
                self.path.display(),
                rows.width,
                best.mean.len()
            )));
        }
        let bytes: Vec<u8> = best.mean.iter().flat_map(|value| value.to_le_bytes()).collect();
        let end = npy::GROWING_HEADER + rows.count * bytes.len() as u64;
        rows.file
            .seek(SeekFrom::Start(end))
            .and_then(|_| rows.file.write_all(&bytes))
            .map_err(|error| self.failed(error))?;
        rows.count += 1;
        self.header(&mut rows)?;
        // Under the same lock: lines are in the order of rows.
        self.ids.write(&EmbeddingId {
            schema: 1,
            id: event.id.clone(),
            stream: event.stream.clone(),
            model: self.model.clone(),
            label: event.label.clone(),
            alarm: event.alarm,
            nearest_class: event.nearest_class.clone(),
            start_s: event.start_s,
            peak_s: best.at.as_secs_f64(),
            end_s: event.end_s,
            severity: event.severity,
            snapshot: event.snapshot.clone(),
        })
    }
}

/// The frame at which a track had its highest level so far.
struct Best {
    level: f32,
    at: Duration,
    mean: Vec<f32>,
}

/// Writes the rows of one stream.
pub struct EmbeddingRecorder {
    file: Arc<EmbeddingFile>,
    best: HashMap<u64, Best>,
}

impl EmbeddingRecorder {
    /// A recorder that writes to `file`.
    pub fn new(file: Arc<EmbeddingFile>) -> Self {
        Self { file, best: HashMap::new() }
    }
}

impl Recorder for EmbeddingRecorder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        for sighting in &seen.scene.sightings {
            let (track, level) = (sighting.track_id, sighting.region.level);
            if !sighting.has_event {
                // There will be no end of it.
                self.best.remove(&track);
                continue;
            }
            if self.best.get(&track).is_none_or(|best| level > best.level) {
                let mean = mean_feature(seen.features, seen.scene, track);
                self.best.insert(track, Best { level, at: seen.running_time, mean });
            }
        }
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        for event in events.iter().filter(|event| event.kind == EventType::End) {
            if let Some(best) = self.best.remove(&event.track_id) {
                self.file.write(event, &best)?;
            }
        }
        Ok(())
    }
}

/// The mean over the cells of the track's regions, of each map in turn. A region between the cells of a coarse map takes
/// the cell at its middle.
fn mean_feature(maps: &[ArrayView3<'_, f32>], scene: &Scene, track: u64) -> Vec<f32> {
    let (columns, rows) = scene.grid;
    let of_track = |label: u16| {
        let sighting = usize::from(label).checked_sub(1).and_then(|index| scene.sightings.get(index));
        sighting.is_some_and(|sighting| sighting.track_id == track)
    };
    let mut mean = Vec::new();
    for map in maps {
        let (features, height, width) = map.dim();
        let mut cells: Vec<(usize, usize)> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (y, x)))
            .filter(|(y, x)| {
                let row = (2 * y + 1) * rows / (2 * height);
                let column = (2 * x + 1) * columns / (2 * width);
                scene.labels.get(row * columns + column).is_some_and(|label| of_track(*label))
            })
            .collect();
        if cells.is_empty() {
            let middle = scene.sightings.iter().find(|sighting| sighting.track_id == track);
            let (x, y) = middle.map_or((0.5, 0.5), |sighting| sighting.region.rect.centre());
            let at = |share: f32, size: usize| ((share * size as f32) as usize).min(size.saturating_sub(1));
            cells.push((at(y, height), at(x, width)));
        }
        mean.extend((0..features).map(|feature| {
            let sum: f64 = cells.iter().map(|&(y, x)| f64::from(map[(feature, y, x)])).sum();
            (sum / cells.len() as f64) as f32
        }));
    }
    mean
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::compute::Detection;
    use crate::ood::alarm::{Rect, Region, Sighting, Standing};

    fn region() -> Region {
        let rect = Rect { left: 0.0, top: 0.0, right: 0.25, bottom: 0.25 };
        Region {
            rect,
            area_share: 0.0,
            level: 0.0,
            peak_level: 0.0,
            needed_level: 0.0,
            peak_score: 0.0,
            mean_confidence: 0.0,
            nearest_class: 0,
            certainty: 0.0,
            on_road: true,
            cut_off: false,
        }
    }

    #[test]
    fn the_mean_is_over_all_parts_of_a_track_and_no_other() {
        let region = region();
        let sighting =
            |track_id| Sighting { track_id, standing: Standing::Alarm, has_event: true, region, trail: (0, 0) };
        let mut scene = Scene { grid: (4, 2), labels: vec![1, 0, 2, 2, 3, 0, 0, 0], ..Scene::default() };
        scene.sightings = vec![sighting(7), sighting(8), sighting(7)];
        let fine = Array3::from_shape_fn((2, 2, 4), |(d, y, x)| (100 * d + 10 * y + x) as f32);
        // One cell, which belongs to no region: the middle stands for it.
        let coarse = Array3::from_elem((1, 1, 1), 5.0);
        let maps = [fine.view(), coarse.view()];
        assert_eq!(mean_feature(&maps, &scene, 7), [5.0, 105.0, 5.0]);
        assert_eq!(mean_feature(&maps, &scene, 8), [2.5, 102.5, 5.0]);
    }

    #[test]
    fn nothing_is_kept_of_a_track_without_an_event() {
        let folder = tempfile::tempdir().unwrap();
        let [rows, ids] = ["x.npy", "x.ids.jsonl"].map(|name| folder.path().join(name));
        let file = EmbeddingFile::open(&rows, &ids, "", Existing::Refuse).unwrap();
        let mut recorder = EmbeddingRecorder::new(Arc::new(file));
        let (detection, map) = (Detection::default(), Array3::zeros((1, 1, 1)));
        let mut record = |has_event| {
            let sighting =
                Sighting { track_id: 7, standing: Standing::Alarm, has_event, region: region(), trail: (0, 0) };
            let scene = Scene { grid: (1, 1), labels: vec![1], sightings: vec![sighting], ..Scene::default() };
            let seen = FrameResults {
                index: 0,
                running_time: Duration::ZERO,
                wall: None,
                picture: None,
                detection: &detection,
                scene: &scene,
                features: &[map.view()],
            };
            recorder.record(&seen).unwrap();
            recorder.best.len()
        };
        // The last: it was an unusual member of a class, and is an alarm above the limit now.
        assert_eq!([false, true, false].map(&mut record), [0, 1, 0]);
    }
}
