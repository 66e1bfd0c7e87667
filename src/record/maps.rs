//! Masks as PNG and score maps as NumPy files, one file per frame: `DIR/STEM_000123.png`, `DIR/STEM_000123.npy`.
//!
//! A file appears under its name only when it is complete.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use ndarray::ArrayView2;

use crate::atomic_file;
use crate::record::{Recorder, Seen};
use crate::{Error, Result};

/// How the values of a score map are stored, both little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 4 bytes, as computed.
    #[default]
    F32,
    /// 2 bytes, rounded to the nearest; beyond 65504 it becomes infinite.
    F16,
}

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
    precision: Precision,
    bytes: Vec<u8>,
}

impl ScoreFolder {
    /// A writer into `directory`, creating it if missing.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(directory: &Path, stem: &str, precision: Precision, overwrite: bool) -> Result<Self> {
        Ok(Self { folder: Folder::new(directory, stem, overwrite)?, precision, bytes: Vec::new() })
    }

    /// Writes the `score` map (`[height, width]`) of frame number `frame` and gives the file's path.
    ///
    /// # Errors
    /// The file exists and may not be overwritten, or cannot be written; the message names it.
    pub fn write(&mut self, frame: u64, score: ArrayView2<'_, f32>) -> Result<PathBuf> {
        let (height, width) = score.dim();
        self.bytes.clear();
        header(&mut self.bytes, self.precision, height, width);
        let data = self.bytes.len();
        match self.precision {
            Precision::F32 => {
                self.bytes.resize(data + 4 * score.len(), 0);
                let values = self.bytes[data..].as_chunks_mut::<4>().0;
                values.iter_mut().zip(score).for_each(|(to, s)| *to = s.to_le_bytes());
            }
            Precision::F16 => {
                self.bytes.resize(data + 2 * score.len(), 0);
                let values = self.bytes[data..].as_chunks_mut::<2>().0;
                values.iter_mut().zip(score).for_each(|(to, s)| *to = half(*s).to_le_bytes());
            }
        }
        self.folder.write(frame, "npy", |to| to.write_all(&self.bytes))
    }
}

/// `masks:DIR`: the mask of every frame.
impl Recorder for MaskFolder {
    fn record(&mut self, seen: &Seen<'_, '_>) -> Result<()> {
        self.write(seen.index, seen.detection.mask.view()).map(|_| ())
    }
}

/// `scores:DIR`: the score map of every frame.
impl Recorder for ScoreFolder {
    fn record(&mut self, seen: &Seen<'_, '_>) -> Result<()> {
        self.write(seen.index, seen.detection.score.view()).map(|_| ())
    }
}

/// <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, version 1.0: the data starts at a multiple
/// of 64.
fn header(out: &mut Vec<u8>, precision: Precision, height: usize, width: usize) {
    let kind = match precision {
        Precision::F32 => "<f4",
        Precision::F16 => "<f2",
    };
    let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    const FIXED: usize = 10;
    // The text, spaces and a line feed; two sizes never come near the 65,535 bytes that the length field allows.
    let length = (FIXED + text.len() + 1).next_multiple_of(64) - FIXED;
    out.extend(b"\x93NUMPY\x01\x00");
    out.extend((length as u16).to_le_bytes());
    out.extend(text.bytes());
    out.resize(FIXED + length - 1, b' ');
    out.push(b'\n');
}

/// The bits of the nearest IEEE 754 binary16, ties to even.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // From 65520 on the nearest is infinity.
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: a multiple of 2^-24, and f32 addition of 2^-1 rounds to just that.
        let rounded = f32::from_bits(magnitude) + 0.5;
        return sign | (rounded.to_bits() - 0.5f32.to_bits()) as u16;
    }
    let odd = magnitude >> 13 & 1;
    let rounded = magnitude + 0xfff + odd;
    // The exponent's bias goes from 127 to 15.
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

#[cfg(test)]
mod tests {
    use super::half;

    /// The value of binary16 bits, from the definition.
    fn value(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            31 => f64::INFINITY,
            _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
        };
        if bits & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_half_keeps_its_bits_and_the_middle_goes_to_even() {
        for bits in 0..0x7c00u16 {
            for sign in [0, 0x8000] {
                assert_eq!(half(value(bits | sign) as f32), bits | sign);
            }
            // Halfway to the next one (for the last one to infinity, as if it were 65536); exact in f32.
            let next = if bits == 0x7bff { 65536.0 } else { value(bits + 1) };
            let middle = ((value(bits) + next) / 2.0) as f32;
            assert_eq!(half(middle), bits + bits % 2);
            assert_eq!(half(middle.next_down()), bits);
            assert_eq!(half(middle.next_up()), bits + 1);
        }
        assert_eq!(half(f32::INFINITY), 0x7c00);
        assert_eq!(half(f32::NEG_INFINITY), 0xfc00);
        assert_eq!(half(f32::MAX), 0x7c00);
        assert!(half(f32::NAN) & 0x7fff > 0x7c00);
    }
}
