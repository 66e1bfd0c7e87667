//! The files that the scorer of the Obstacle Sequence Challenge reads, and the layout of its data sets.
//!
//! | path | contents |
//! |---|---|
//! | `raw_data/SEQ/NNNNNN_raw_data.*` | the pictures of a sequence |
//! | `instance_ood/SEQ/NNNNNN_instance_ood.png` | identities of the obstacles in some of them, 0 none, 255 void |
//! | `ood_score/SEQ/NNNNNN.npy` | written here: scores, `[height, width]` f32 or f16 |
//! | `ood_prediction_tracked/SEQ/NNNNNN.npy` | written here: tracks under alarm, `[height, width]` i32, 0 none |
//!
//! Data sets and scorer: Maag et al., "Two Video Data Sets for Tracking and Retrieval of Out of Distribution Objects"
//! (ACCV 2022).

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::input::Input;
use crate::npy::{self, FloatType};
use crate::ood::alarm::{Scene, Standing};
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// The numbers of a video's frames: those in the names of its pictures where all of them begin with one, else from 0.
#[derive(Debug, Clone, Default)]
pub struct FrameNumbers(Vec<u64>);

impl FrameNumbers {
    /// The numbers of the frames of `input`.
    pub fn of(input: &Input) -> Self {
        let Input::Images(files) = input else { return Self::default() };
        Self(files.iter().map(|file| leading_number(file)).collect::<Option<_>>().unwrap_or_default())
    }

    /// The number of the frame at `index`.
    pub fn get(&self, index: u64) -> u64 {
        self.0.get(index as usize).copied().unwrap_or(index)
    }
}

/// The number at the start of a file's name.
pub fn leading_number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_string_lossy();
    let digits = stem.find(|c: char| !c.is_ascii_digit()).map_or(&*stem, |end| &stem[..end]);
    digits.parse().ok()
}

/// One sequence of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The name of its folders.
    pub name: String,
    /// The folder of its pictures.
    pub pictures: PathBuf,
    /// The folder of its masks.
    pub masks: PathBuf,
}

/// The sequences of the data set in `root`, by name.
///
/// # Errors
/// A folder is missing or cannot be read; the message names it.
pub fn sequences(root: &Path) -> Result<Vec<Sequence>> {
    let folder = root.join("raw_data");
    let failed = |error: std::io::Error| {
        Error::usage(format!("{}: {error}", folder.display()))
            .hint("a set of sequences has raw_data/SEQ/NNNNNN_raw_data.* and instance_ood/SEQ/NNNNNN_instance_ood.png")
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let pictures = entry.map_err(failed)?.path();
        if pictures.is_dir() {
            let name = pictures.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Sequence { masks: root.join("instance_ood").join(&name), name, pictures });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    match found.iter().find(|sequence| !sequence.masks.is_dir()) {
        Some(sequence) => Err(Error::usage(format!("{}: there is no such folder", sequence.masks.display()))),
        None if found.is_empty() => Err(Error::usage(format!("{}: there is no sequence", folder.display()))),
        None => Ok(found),
    }
}

/// Writes `ood_score/SEQ/NNNNNN.npy` and `ood_prediction_tracked/SEQ/NNNNNN.npy`, one of each per frame.
#[derive(Debug)]
pub struct ChallengeFolder {
    scores: PathBuf,
    tracks: PathBuf,
    numbers: FrameNumbers,
    float: FloatType,
    ids: Array2<i32>,
}

impl ChallengeFolder {
    /// A writer into `root` for the sequence called `name`.
    ///
    /// # Errors
    /// A folder cannot be created, or has files already.
    pub fn new(root: &Path, name: &str, numbers: FrameNumbers, float: FloatType) -> Result<Self> {
        let folder = |kind: &str| {
            let folder = root.join(kind).join(name);
            let failed = |error: std::io::Error| Error::failed(format!("{}: {error}", folder.display()));
            fs::create_dir_all(&folder).map_err(failed)?;
            match fs::read_dir(&folder).map_err(failed)?.next() {
                Some(_) => {
                    Err(Error::usage(format!("{}: it has files already", folder.display())).hint("name another folder"))
                }
                None => Ok(folder),
            }
        };
        Ok(Self {
            scores: folder("ood_score")?,
            tracks: folder("ood_prediction_tracked")?,
            numbers,
            float,
            ids: Array2::default((0, 0)),
        })
    }
}

impl Recorder for ChallengeFolder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        let name = format!("{:06}.npy", self.numbers.get(seen.index));
        let score = &seen.detection.score;
        npy::write(&self.scores.join(&name), score.view(), self.float)?;
        if self.ids.dim() != score.dim() {
            self.ids = Array2::default(score.dim());
        }
        let alarms = Alarms::of(seen.scene);
        let (rows, columns) = score.dim();
        for ((y, x), id) in self.ids.indexed_iter_mut() {
            *id = alarms.at((x, y), (columns, rows)).map_or(0, |track| track as i32);
        }
        npy::write_ids(&self.tracks.join(&name), self.ids.view())
    }
}

/// The tracks under alarm in a frame, by pixel.
#[derive(Debug)]
pub struct Alarms<'a> {
    scene: &'a Scene,
    tracks: Vec<Option<u64>>,
}

impl<'a> Alarms<'a> {
    /// Those of `scene`.
    pub fn of(scene: &'a Scene) -> Self {
        let is_alarm = |standing| standing == Standing::Alarm;
        let track = |sighting: &crate::ood::alarm::Sighting| is_alarm(sighting.standing).then_some(sighting.track_id);
        Self { scene, tracks: scene.sightings.iter().map(track).collect() }
    }

    /// The track at the pixel `(x, y)` of a picture of `width` x `height`.
    pub fn at(&self, (x, y): (usize, usize), (width, height): (usize, usize)) -> Option<u64> {
        let (columns, rows) = self.scene.grid;
        let cell = (y * rows / height) * columns + x * columns / width;
        let label = usize::from(self.scene.labels.get(cell).copied().unwrap_or(0));
        label.checked_sub(1).and_then(|index| self.tracks.get(index).copied().flatten())
    }
}
