//! `snapshots:DIR`: two JPEG files for each event at its peak, the picture and the picture with what is drawn on it.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use crate::draw::{Caption, Painter, ScoreScale, Style, View};
use crate::frame::{Colour, I420, I420Mut, Matrix, PlaneMut, Range};
use crate::ood::alarm::{Event, EventType};
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result, atomic_file};

/// Quality of the JPEG files, 1 to 100.
const QUALITY: u8 = 90;

/// A picture that was copied out of the stream, packed RGB.
struct Copied {
    width: u32,
    height: u32,
    clean: Vec<u8>,
    annotated: Vec<u8>,
}

/// The best picture of a track so far.
struct Best {
    level: f32,
    picture: Arc<Copied>,
    /// Whether it is on the disk.
    written: bool,
}

/// Writes the snapshots of one stream.
pub struct SnapshotRecorder {
    folder: PathBuf,
    base: String,
    overwrite: bool,
    painter: Painter,
    best: HashMap<u64, Best>,
}

impl SnapshotRecorder {
    /// A recorder into `folder`, which is created if missing; the names of its files begin with `base`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path, base: &str, overwrite: bool, style: Style, classes: &[String]) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io(format!("-o snapshots:{}: cannot be made", folder.display()), error))?;
        // A still is one picture with everything on it.
        let view = if style.view == View::SideBySide { View::Overlay } else { style.view };
        let mut painter = Painter::new(Style { view, ..style })?;
        painter.set_classes(classes);
        Ok(Self { folder: folder.into(), base: base.into(), overwrite, painter, best: HashMap::new() })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{}_{id}.jpg", self.base))
    }

    /// Copies the picture of the frame, clean and drawn on.
    fn copy(&mut self, seen: &FrameResults<'_>, picture: &I420<'_>) -> Result<Copied> {
        let (width, height) = (picture.width(), picture.height());
        let planes = [picture.y, picture.u, picture.v];
        let mut copies =
            planes.map(|plane| (0..plane.rows).flat_map(|row| plane.row(row).iter().copied()).collect::<Vec<u8>>());
        let clean = rgb(picture);
        let [y, u, v] = copies.each_mut();
        let plane = |data, of: usize| {
            let (columns, rows) = (planes[of].columns, planes[of].rows);
            PlaneMut { data, stride: columns, columns, rows }
        };
        let mut drawn = I420Mut { y: plane(y, 0), u: plane(u, 1), v: plane(v, 2), colour: picture.colour };
        let detection = seen.detection;
        let (low, high) = detection
            .grid_score
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &score| (low.min(score), high.max(score)));
        let high = high.max(detection.threshold + (detection.threshold - low).abs() * 0.25);
        self.painter.set_scene(Some(seen.scene));
        let scale = ScoreScale { low, high };
        self.painter.paint(&mut drawn, detection, scale, detection.threshold, &Caption::default())?;
        let annotated = rgb(&drawn.view());
        Ok(Copied { width: width as u32, height: height as u32, clean, annotated })
    }

    fn write(&self, path: &Path, copied: &Copied, pixels: &[u8], again: bool) -> Result<()> {
        let failed = |error: std::io::Error| Error::io(format!("{}: cannot be written", path.display()), error);
        let mut file = atomic_file::create(path).map_err(failed)?;
        let mut buffer = BufWriter::new(file.as_file_mut());
        JpegEncoder::new_with_quality(&mut buffer, QUALITY)
            .write_image(pixels, copied.width, copied.height, ExtendedColorType::Rgb8)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        buffer.flush().map_err(failed)?;
        drop(buffer);
        let kept = if again || self.overwrite { file.persist(path) } else { file.persist_noclobber(path) };
        kept.map(|_| ()).map_err(|error| failed(error.error))
    }
}

impl Recorder for SnapshotRecorder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        let Some(picture) = seen.picture else { return Ok(()) };
        let is_better =
            |best: &HashMap<u64, Best>, track: u64, level: f32| best.get(&track).is_none_or(|best| level > best.level);
        let mut shared: Option<Arc<Copied>> = None;
        for sighting in &seen.scene.sightings {
            let (track, level) = (sighting.track_id, sighting.region.level);
            if !sighting.has_event {
                // There will be no end of it.
                self.best.remove(&track);
                continue;
            }
            if !is_better(&self.best, track, level) {
                continue;
            }
            let copied = match &shared {
                Some(copied) => Arc::clone(copied),
                None => Arc::clone(shared.insert(Arc::new(self.copy(seen, picture)?))),
            };
            let written = self.best.get(&track).is_some_and(|best| best.written);
            self.best.insert(track, Best { level, picture: copied, written });
        }
        Ok(())
    }

    fn amend(&mut self, events: &mut [Event]) -> Result<()> {
        for event in events {
            let path = self.path(&event.id);
            let Some(best) = self.best.get(&event.track_id) else { continue };
            // At the start, for who looks at once, and at the end, when the peak is known.
            if event.kind != EventType::Update {
                self.write(&path, &best.picture, &best.picture.annotated, best.written)?;
                let clean = path.with_file_name(format!("{}_{}-clean.jpg", self.base, event.id));
                self.write(&clean, &best.picture, &best.picture.clean, best.written)?;
            }
            if let Some(best) = self.best.get_mut(&event.track_id) {
                best.written = true;
            }
            if event.kind == EventType::End {
                self.best.remove(&event.track_id);
            }
            event.snapshot = Some(path.display().to_string());
            event.thumbnail.clone_from(&event.snapshot);
        }
        Ok(())
    }
}

/// Packed RGB of a picture.
pub fn rgb(picture: &I420<'_>) -> Vec<u8> {
    let (width, height) = (picture.width(), picture.height());
    let Colour { matrix, range } = picture.colour;
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722f32),
    };
    let (black, luma, chroma) = match range {
        Range::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
        Range::Full => (0.0, 1.0, 1.0f32),
    };
    let (red, blue) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
    let (green_u, green_v) = (blue * kb / (1.0 - kr - kb), red * kr / (1.0 - kr - kb));
    let mut out = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let (y, u, v) = (picture.y.row(row), picture.u.row(row / 2), picture.v.row(row / 2));
        for column in 0..width {
            let l = (f32::from(y[column]) - black) * luma;
            let (u, v) = (f32::from(u[column / 2]) - 128.0, f32::from(v[column / 2]) - 128.0);
            // A conversion to an integer saturates.
            out.extend([l + red * v, l - green_u * u - green_v * v, l + blue * u].map(|value| value.round() as u8));
        }
    }
    out
}
