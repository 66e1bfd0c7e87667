//! Frames of the footage, as the network saw them, in a temporary file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use ndarray::{Array3, ArrayView3};

use crate::compute::Maps;
use crate::ood::alarm::Filler;
use crate::{Error, Result};

/// Fewest frames that a calibration is made from.
pub const MIN_FRAMES: usize = 20;
/// Two frames whose logits (features, without classes) differ by less than this on average, in units of their own spread,
/// are the same picture.
const SAME_PICTURE: f64 = 1e-3;

/// Keeps frames spread evenly over footage of any length, at most `limit` of them, in a temporary file.
#[derive(Debug)]
pub struct FrameStore {
    file: File,
    limit: usize,
    /// One frame in `stride` is kept.
    stride: u64,
    seen: u64,
    same: u64,
    shapes: Vec<[usize; 3]>,
    slots: Vec<u64>,
    free: Vec<u64>,
    last: Vec<f32>,
    filler: Filler,
}

fn temporary(error: std::io::Error) -> Error {
    Error::failed(format!("temporary file for calibration: {error}"))
        .hint("TMPDIR names another folder for temporary files")
}

impl FrameStore {
    /// Room for `limit` frames, at least 2.
    ///
    /// # Errors
    /// No temporary file can be created.
    pub fn new(limit: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(temporary)?;
        Ok(Self {
            file,
            limit: limit.max(2),
            stride: 1,
            seen: 0,
            same: 0,
            shapes: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            last: Vec::new(),
            filler: Filler::default(),
        })
    }

    /// Parts of the picture that are ignored.
    pub fn leave_out(&mut self, filler: Filler) {
        self.filler = filler;
    }

    /// Frames kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none are kept.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Frames seen that differ from the one before.
    pub fn distinct(&self) -> u64 {
        self.seen - self.same
    }

    /// Takes the next frame of the footage.
    ///
    /// # Errors
    /// Its maps have other shapes than the frames' before, or the temporary file cannot be written.
    pub fn push(&mut self, maps: &Maps<'_>) -> Result<()> {
        let shape = |map: &ArrayView3<'_, f32>| <[usize; 3]>::from(map.dim());
        let shapes: Vec<[usize; 3]> = std::iter::once(&maps.logits).chain(maps.features).map(shape).collect();
        if self.seen == 0 {
            self.shapes = shapes;
        } else if self.shapes != shapes {
            return Err(Error::failed(format!(
                "calibration: the network's outputs changed from {:?} to {shapes:?}",
                self.shapes
            )));
        }
        let number = self.seen;
        self.seen += 1;
        if self.is_same(maps.features.first().filter(|_| !maps.has_logits()).unwrap_or(&maps.logits)) {
            self.same += 1;
        }
        if !number.is_multiple_of(self.stride) {
            return Ok(());
        }
        if self.slots.len() == self.limit {
            // Full: every other frame goes, and from now on half as many are taken.
            self.stride *= 2;
            let (kept, freed): (Vec<_>, Vec<_>) = self.slots.iter().enumerate().partition(|(index, _)| index % 2 == 0);
            self.free.extend(freed.into_iter().map(|(_, slot)| *slot));
            self.slots = kept.into_iter().map(|(_, slot)| *slot).collect();
            if !number.is_multiple_of(self.stride) {
                return Ok(());
            }
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as u64);
        self.file.seek(SeekFrom::Start(slot * self.frame_bytes())).map_err(temporary)?;
        for map in std::iter::once(&maps.logits).chain(maps.features) {
            let mut map = map.to_owned();
            self.filler.fill(&mut map);
            let values: Vec<f32> = map.iter().copied().collect();
            self.file.write_all(bytemuck::cast_slice(&values)).map_err(temporary)?;
        }
        self.slots.push(slot);
        Ok(())
    }

    fn frame_bytes(&self) -> u64 {
        4 * self.shapes.iter().map(|shape| shape.iter().product::<usize>() as u64).sum::<u64>()
    }

    /// Whether a map is that of the frame before, up to noise.
    fn is_same(&mut self, map: &ArrayView3<'_, f32>) -> bool {
        let now: Vec<f32> = map.iter().step_by(7).copied().collect();
        let count = now.len().max(1) as f64;
        let mean = now.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let spread = now.iter().map(|&v| (f64::from(v) - mean).abs()).sum::<f64>() / count;
        let change = now.iter().zip(&self.last).map(|(&a, &b)| f64::from((a - b).abs())).sum::<f64>() / count;
        let same = self.last.len() == now.len() && change <= SAME_PICTURE * spread;
        self.last = now;
        same
    }

    pub(super) fn with_frame<R>(&mut self, index: usize, use_maps: impl FnOnce(&Maps<'_>) -> Result<R>) -> Result<R> {
        self.file.seek(SeekFrom::Start(self.slots[index] * self.frame_bytes())).map_err(temporary)?;
        let mut arrays = Vec::with_capacity(self.shapes.len());
        for shape in &self.shapes {
            let mut values = vec![0.0_f32; shape.iter().product()];
            self.file.read_exact(bytemuck::cast_slice_mut(&mut values)).map_err(temporary)?;
            let array = Array3::from_shape_vec(*shape, values);
            arrays.push(array.map_err(|error| Error::failed(format!("calibration: {error}")))?);
        }
        let features: Vec<ArrayView3<'_, f32>> = arrays.iter().skip(1).map(|array| array.view()).collect();
        use_maps(&Maps { logits: arrays[0].view(), features: &features, picture: None })
    }
}

/// Checks that there are enough frames that differ.
pub(super) fn check_footage(frames: &FrameStore) -> Result<()> {
    if frames.seen > 1 && frames.distinct() * 2 <= frames.seen {
        return Err(constant_footage());
    }
    if frames.len() < MIN_FRAMES || frames.distinct() < MIN_FRAMES as u64 {
        return Err(Error::failed(format!(
            "calibration: the footage has {} different frames, at least {MIN_FRAMES} are needed",
            frames.distinct()
        ))
        .hint("a few minutes of ordinary driving are best; give more videos, or a smaller --every"));
    }
    Ok(())
}

pub(super) fn constant_footage() -> Error {
    Error::failed("calibration: the footage does not change, so it cannot represent ordinary scenes").hint(format!(
        "at least {MIN_FRAMES} different frames of ordinary driving are needed; a still or black picture is not enough"
    ))
}
