//! A labelled image of a set: its picture and its ground truth.

use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageReader, RgbImage};

use super::components::{ANOMALY, KNOWN, VOID};
use crate::{Error, Result};

/// The meaning of a mask's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// 0 known, one value anomaly, 255 void.
    Values {
        /// The value of anomalous pixels.
        anomaly: u8,
    },
    /// LostAndFound's label ids: 0 void, 1 known (free road), 2 to 200 an obstacle, 255 void.
    LostAndFound,
}

impl Coding {
    fn decode(self, value: u8) -> Option<u8> {
        match (self, value) {
            (_, VOID) => Some(VOID),
            (Self::Values { anomaly }, value) if value == anomaly => Some(ANOMALY),
            (Self::Values { .. }, 0) => Some(KNOWN),
            (Self::LostAndFound, 0) => Some(VOID),
            (Self::LostAndFound, 1) => Some(KNOWN),
            (Self::LostAndFound, 2..=200) => Some(ANOMALY),
            _ => None,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Values { anomaly } => format!("0 known, {anomaly} anomaly, 255 void"),
            Self::LostAndFound => "0 void, 1 known, 2..200 anomaly, 255 void".to_owned(),
        }
    }
}

/// One labelled image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Name within the set.
    pub name: String,
    /// The picture.
    pub image: PathBuf,
    /// Its ground truth.
    pub mask: PathBuf,
}

fn open_image(path: &Path) -> Result<DynamicImage> {
    let failed = |error: String| Error::failed(format!("{}: it cannot be read: {error}", path.display()));
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|error| failed(error.to_string()))?;
    reader.decode().map_err(|error| failed(error.to_string()))
}

/// Decodes the picture of a sample.
///
/// # Errors
/// It cannot be read or decoded; the message has its path.
pub fn read_image(sample: &Sample) -> Result<RgbImage> {
    Ok(open_image(&sample.image)?.into_rgb8())
}

/// Decodes the class labels of a sample.
///
/// # Errors
/// They cannot be decoded, are a colour picture, or have values beyond 255.
pub fn read_labels(sample: &Sample) -> Result<GrayImage> {
    let path = sample.mask.display();
    match open_image(&sample.mask)? {
        DynamicImage::ImageLuma8(mask) => Ok(mask),
        image @ (DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => {
            let rgb = image.into_rgb8();
            if rgb.pixels().any(|pixel| pixel.0[0] != pixel.0[1] || pixel.0[1] != pixel.0[2]) {
                return Err(Error::failed(format!("{path}: the mask is a colour picture"))
                    .hint("a mask has one 8-bit channel of class values"));
            }
            let (width, height) = rgb.dimensions();
            Ok(GrayImage::from_fn(width, height, |x, y| image::Luma([rgb.get_pixel(x, y).0[0]])))
        }
        DynamicImage::ImageLuma16(wide) => {
            let (width, height) = wide.dimensions();
            if let Some(pixel) = wide.pixels().find(|pixel| pixel.0[0] > 255) {
                return Err(Error::failed(format!("{path}: the mask has the unknown value {}", pixel.0[0])));
            }
            Ok(GrayImage::from_fn(width, height, |x, y| image::Luma([wide.get_pixel(x, y).0[0] as u8])))
        }
        other => Err(Error::failed(format!("{path}: a mask of type {:?} is not supported", other.color()))),
    }
}

/// Decodes the ground truth of a sample to pixels of [`KNOWN`], [`ANOMALY`] and [`VOID`].
///
/// # Errors
/// As [`read_labels`], or values that `coding` does not know; the message names them.
pub fn read_mask(sample: &Sample, coding: Coding) -> Result<GrayImage> {
    let path = sample.mask.display();
    let mut mask = read_labels(sample)?;
    let mut table = [None; 256];
    for (value, decoded) in table.iter_mut().enumerate() {
        *decoded = coding.decode(value as u8);
    }
    let mut unknown = [0_u64; 256];
    for value in mask.iter_mut() {
        match table[usize::from(*value)] {
            Some(decoded) => *value = decoded,
            None => unknown[usize::from(*value)] += 1,
        }
    }
    let unknown: Vec<String> = unknown
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(value, count)| format!("{value} ({count} pixels)"))
        .collect();
    if unknown.is_empty() {
        return Ok(mask);
    }
    Err(Error::failed(format!("{path}: unknown mask values {}; known are {}", unknown.join(", "), coding.describe()))
        .hint("--ood-value N says which value is the anomaly"))
}

/// Decodes picture and ground truth and checks that their sizes agree.
///
/// # Errors
/// As [`read_image`] and [`read_mask`], or sizes that differ.
pub fn read_sample(sample: &Sample, coding: Coding) -> Result<(RgbImage, GrayImage)> {
    let (image, mask) = (read_image(sample)?, read_mask(sample, coding)?);
    if image.dimensions() != mask.dimensions() {
        let ((w, h), (mask_w, mask_h)) = (image.dimensions(), mask.dimensions());
        return Err(Error::failed(format!(
            "{}: the picture is {w}x{h}, its mask {} is {mask_w}x{mask_h}",
            sample.image.display(),
            sample.mask.display()
        )));
    }
    Ok((image, mask))
}
