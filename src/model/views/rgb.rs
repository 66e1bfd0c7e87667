//! RGB pictures as the network's input.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb, RgbImage};

use super::layout::{Layout, mirror};
use crate::model::prepare::{InputSpec, Window, overlap};
use crate::{Error, Result};

/// A borrowed picture in packed RGB, 8 bits a channel.
#[derive(Debug, Clone)]
pub struct RgbPicture<'a>(ImageBuffer<Rgb<u8>, &'a [u8]>);

impl<'a> RgbPicture<'a> {
    /// `data` has `height * width * 3` bytes, row by row without padding.
    ///
    /// # Errors
    /// The length does not fit the size, or there are no pixels.
    pub fn new(data: &'a [u8], width: u32, height: u32) -> Result<Self> {
        let expected = width as usize * height as usize * 3;
        if expected == 0 || data.len() != expected {
            return Err(Error::usage(format!(
                "a picture of {} bytes is no {width}x{height} RGB, which has {expected}",
                data.len()
            )));
        }
        ImageBuffer::from_raw(width, height, data)
            .map(Self)
            .ok_or_else(|| Error::usage(format!("{width}x{height} is no size of a picture")))
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        (self.0.width() as usize, self.0.height() as usize)
    }
}

/// All views of a picture as the network's input, `[views, 3, height, width]`.
///
/// Resized with a triangle filter whose support grows with the reduction, in 8 bits as Pillow's `BILINEAR` does, for this
/// is how segmentation networks are trained.
pub fn prepare_rgb(picture: &RgbPicture<'_>, layout: &Layout, spec: &InputSpec, tensor: &mut Vec<f32>) {
    let length = 3 * spec.width * spec.height;
    tensor.clear();
    tensor.resize(layout.views().len() * length, 0.0);
    let mut level: Option<(usize, RgbImage)> = None;
    for (index, &view) in layout.views().iter().enumerate() {
        let (before, slot) = tensor.split_at_mut(index * length);
        let slot = &mut slot[..length];
        if view.mirrored {
            mirror(&before[(index - 1) * length..], spec.width, slot);
            continue;
        }
        let window = layout.window(view);
        let resized = match level.take().filter(|(of, _)| *of == view.level) {
            Some((_, resized)) => resized,
            None => imageops::resize(&picture.0, window.size.0 as u32, window.size.1 as u32, FilterType::Triangle),
        };
        cut(&resized, window, spec, slot);
        level = Some((view.level, resized));
    }
}

/// Writes what `window` shows of the resized picture into `slot`, normalised.
fn cut(resized: &RgbImage, window: Window, spec: &InputSpec, slot: &mut [f32]) {
    let plane = spec.width * spec.height;
    let (left, columns) = overlap(window.size.0, window.x, spec.width);
    let (top, rows) = overlap(window.size.1, window.y, spec.height);
    let rows = resized.as_raw().chunks_exact(3 * window.size.0).skip(rows.start).take(rows.len());
    for (y, row) in rows.enumerate() {
        let start = (top + y) * spec.width + left;
        for (x, pixel) in row[3 * columns.start..3 * columns.end].chunks_exact(3).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                let value = (f32::from(value) / 255.0 - spec.mean[channel]) / spec.std[channel];
                slot[channel * plane + start + x] = value;
            }
        }
    }
}

/// BT.601 luma of a picture, 0..255.
pub fn luma(picture: &RgbPicture<'_>, to: &mut Vec<u8>) {
    to.clear();
    to.extend(picture.0.as_raw().chunks_exact(3).map(|rgb| {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
        ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
    }));
}
