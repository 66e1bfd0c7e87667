//! Masks as PNG and score maps as NumPy files, one file per frame: `DIR/STEM_000123.png`, `DIR/STEM_000123.npy`.
//!
//! A file appears under its name only when it is complete.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use ndarray::ArrayView2;

use crate::atomic_file;
use crate::npy::{self, FloatType};
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// A folder that takes one file per frame.
#[derive(Debug)]
struct Folder {
    directory: PathBuf,
    stem: String,
    overwrite: bool,
}

impl Folder {
    fn new(directory: &Path, stem: &str, overwrite: bool) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| {
            Error::failed(format!("{}: cannot be made a folder: {e}", directory.display()))
                .hint("name a folder that may be written to")
        })?;
        Ok(Self { directory: directory.into(), stem: stem.into(), overwrite })
    }

    fn write(
        &self,
        frame: u64,
        extension: &str,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let path = self.directory.join(format!("{}_{frame:06}.{extension}", self.stem));
        let failed = |e: std::io::Error| Error::failed(format!("{}: cannot be written: {e}", path.display()));
        let mut file = atomic_file::create(&path).map_err(failed)?;
        let mut buffer = BufWriter::new(file.as_file_mut());
        fill(&mut buffer).and_then(|()| buffer.flush()).map_err(failed)?;
        drop(buffer);
        let kept = if self.overwrite { file.persist(&path) } else { file.persist_noclobber(&path) };
        match kept {
            Ok(_) => Ok(path),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::failed(format!("{}: exists already", path.display()))
                    .hint("allow it with --overwrite or name another folder"))
            }
            Err(e) => Err(failed(e.error)),
        }
    }
}

/// Writes masks as 8-bit grey PNG: 0 known, 255 unknown.
#[derive(Debug)]
pub struct MaskFolder {
    folder: Folder,
    pixels: Vec<u8>,
}

impl MaskFolder {
    /// A writer into `directory`, creating it if missing.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(directory: &Path, stem: &str, overwrite: bool) -> Result<Self> {
        Ok(Self { folder: Folder::new(directory, stem, overwrite)?, pixels: Vec::new() })
    }

    /// Writes the `mask` (`[height, width]`, 0 or not 0) of frame number `frame` and gives the file's path.
    ///
    /// # Errors
    /// The file exists and may not be overwritten, or cannot be written; the message names it.
    pub fn write(&mut self, frame: u64, mask: ArrayView2<'_, u8>) -> Result<PathBuf> {
        let (height, width) = mask.dim();
        self.pixels.clear();
        self.pixels.extend(mask.iter().map(|m| if *m == 0 { 0 } else { 255 }));
        self.folder.write(frame, "png", |to| {
            PngEncoder::new_with_quality(to, CompressionType::Fast, FilterType::Up)
                .write_image(&self.pixels, width as u32, height as u32, ExtendedColorType::L8)
                .map_err(std::io::Error::other)
        })
    }
}

/// Writes score maps as NumPy arrays (format 1.0, C order, `[height, width]`).
#[derive(Debug)]
pub struct ScoreFolder {
    folder: Folder,
    float: FloatType,
    bytes: Vec<u8>,
}

impl ScoreFolder {
    /// A writer into `directory`, creating it if missing.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(directory: &Path, stem: &str, float: FloatType, overwrite: bool) -> Result<Self> {
        Ok(Self { folder: Folder::new(directory, stem, overwrite)?, float, bytes: Vec::new() })
    }

    /// Writes the `score` map (`[height, width]`) of frame number `frame` and gives the file's path.
    ///
    /// # Errors
    /// The file exists and may not be overwritten, or cannot be written; the message names it.
    pub fn write(&mut self, frame: u64, score: ArrayView2<'_, f32>) -> Result<PathBuf> {
        self.bytes.clear();
        npy::write_to(&mut self.bytes, score, self.float)
            .map_err(|error| Error::failed(format!("a score map cannot be encoded: {error}")))?;
        self.folder.write(frame, "npy", |to| to.write_all(&self.bytes))
    }
}

/// `masks:DIR`: the mask of every frame.
impl Recorder for MaskFolder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        self.write(seen.index, seen.detection.mask.view()).map(|_| ())
    }
}

/// `scores:DIR`: the score map of every frame.
impl Recorder for ScoreFolder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        self.write(seen.index, seen.detection.score.view()).map(|_| ())
    }
}
