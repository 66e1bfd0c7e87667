//! Maps up to the device and results down again, through pooled staging and readback buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ndarray::ArrayView3;

use super::super::plan::Output;
use super::device::Context;
use super::params::Frame;
use crate::{Error, Result};

/// Map rows that travel to the device at once.
pub(super) struct Upload {
    /// 0: logits, else feature map `map - 1`.
    pub map: usize,
    pub row: usize,
    pub rows: usize,
    /// Place in the staging buffer, in bytes.
    pub at: u64,
}

/// Where in the staging buffer the inputs lie, in bytes.
#[derive(Default)]
pub(super) struct Staging {
    pub uploads: Vec<Upload>,
    pub guide: Option<u64>,
    /// Of a [`Frame`].
    pub frame: Option<u64>,
    pub bytes: u64,
}

/// Where in the readback buffer the results lie, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Readback {
    pub score: u64,
    pub mask: u64,
    pub grid: u64,
    pub labels: u64,
    pub clusters: u64,
    pub runs: u64,
    pub centroids: u64,
    pub bytes: u64,
}

/// The inputs of a frame.
pub(super) struct Inputs<'a> {
    pub logits: Option<ArrayView3<'a, f32>>,
    pub features: &'a [ArrayView3<'a, f32>],
    /// Luma at four times the grid; empty where nothing is guided.
    pub guide: &'a [f32],
    pub frame: Frame,
}

/// Buffers for maps on their way to the staging buffer.
#[derive(Default)]
pub(super) struct Scratch {
    contiguous: Vec<f32>,
    halves: Vec<u16>,
}

/// Writes the bands of all maps to the staging buffer of `slot`; features as f16 where `half` says so.
pub(super) fn write(
    staging: &Staging,
    slot: &Slot,
    source: &Inputs<'_>,
    half: bool,
    scratch: &mut Scratch,
) -> Result<()> {
    let Scratch { contiguous, halves } = scratch;
    {
        let mut view = slot.staging.get_mapped_range_mut(..).map_err(|e| failed("staging", &e))?;
        let mut loaded = None;
        for upload in &staging.uploads {
            let map = match upload.map.checked_sub(1) {
                None => source.logits.as_ref(),
                Some(i) => source.features.get(i),
            };
            let Some(map) = map else { return Err(Error::failed("a map is missing")) };
            let values = match map.as_slice() {
                Some(values) => values,
                None => {
                    if loaded != Some(upload.map) {
                        in_order(map, contiguous);
                        loaded = Some(upload.map);
                    }
                    &contiguous[..]
                }
            };
            let (channels, height, width) = map.dim();
            let half = half && upload.map > 0;
            let bytes = upload.rows * width * if half { 2 } else { 4 };
            for c in 0..channels {
                let from = (c * height + upload.row) * width;
                let at = upload.at as usize + c * bytes;
                let row = &values[from..from + upload.rows * width];
                if half {
                    to_half(upload.map - 1, row, halves)?;
                    view.slice(at..at + bytes).copy_from_slice(bytemuck::cast_slice(halves));
                } else {
                    view.slice(at..at + bytes).copy_from_slice(bytemuck::cast_slice(row));
                }
            }
        }
        if let Some(at) = staging.frame {
            let frame = bytemuck::bytes_of(&source.frame);
            view.slice(at as usize..at as usize + frame.len()).copy_from_slice(frame);
        }
        if let Some(at) = staging.guide {
            view.slice(at as usize..at as usize + 4 * source.guide.len())
                .copy_from_slice(bytemuck::cast_slice(source.guide));
        }
    }
    slot.staging.unmap();
    Ok(())
}

/// Some values of feature map `map` as f16.
fn to_half(map: usize, values: &[f32], halves: &mut Vec<u16>) -> Result<()> {
    const INFINITY: u16 = 0x7c00;
    halves.resize(values.len(), 0);
    halves.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values);
    match halves.iter().position(|h| h & INFINITY == INFINITY) {
        None => Ok(()),
        Some(at) => Err(Error::failed(format!(
            "output `{}` of the model has a value of {}, and f16 ends at {}",
            Output::Features(map),
            values[at],
            f16::MAX
        ))
        .hint("set detect.gpu_f16 = false")),
    }
}

/// The map channel after channel. Square by square, as the usual case is a matrix of points that must be turned.
fn in_order(map: &ArrayView3<'_, f32>, to: &mut Vec<f32>) {
    const SQUARE: usize = 32;
    let (channels, height, width) = map.dim();
    to.clear();
    to.resize(map.len(), 0.0);
    for y in (0..height).step_by(SQUARE) {
        for c in (0..channels).step_by(SQUARE) {
            for y in y..(y + SQUARE).min(height) {
                for c in c..(c + SQUARE).min(channels) {
                    for x in 0..width {
                        to[(c * height + y) * width + x] = map[[c, y, x]];
                    }
                }
            }
        }
    }
}

/// Staging and readback of one frame. While it is free, the staging buffer is mapped and the readback buffer is
/// not.
pub(super) struct Slot {
    pub staging: wgpu::Buffer,
    pub readback: wgpu::Buffer,
    in_use: Arc<AtomicU64>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.staging.size() + self.readback.size(), Ordering::Relaxed);
    }
}

impl Slot {
    fn new(context: &Context, staged: u64, read: u64) -> Result<Self> {
        let up = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let down = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            staging: context.buffer("staging", staged, up, true)?,
            readback: context.buffer("readback", read, down, false)?,
            in_use: context.in_use(),
        })
    }

    /// Sends the commands; both buffers are mapped when the device is done with them.
    pub fn submit(&self, context: &Context, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        let submission = context.queue.submit([commands]);
        // A failure of the mapping shows in `get_mapped_range`.
        self.readback.map_async(wgpu::MapMode::Read, .., |_| {});
        self.staging.map_async(wgpu::MapMode::Write, .., |_| {});
        submission
    }

    /// Waits for `submission`, which was made with this slot. The results must be let go of, and the readback buffer
    /// unmapped, before the slot is used again.
    pub fn wait(&self, context: &Context, submission: wgpu::SubmissionIndex) -> Result<Results> {
        context.wait(submission)?;
        let view = self.readback.get_mapped_range(..).map_err(|e| failed("readback", &e))?;
        Ok(Results(view))
    }
}

/// The free slots.
#[derive(Default)]
pub(super) struct Pool(Vec<Slot>);

impl Pool {
    /// A slot with room for `staged` bytes up and `read` bytes down. One that is too small gives way to one that is
    /// large enough for both, so that sizes in turn settle.
    pub fn take(&mut self, context: &Context, staged: u64, read: u64) -> Result<Slot> {
        if let Some(at) = self.0.iter().position(|s| s.staging.size() >= staged && s.readback.size() >= read) {
            return Ok(self.0.swap_remove(at));
        }
        let (mut most_staged, mut most_read) = (staged, read);
        if let Some(small) = self.0.pop() {
            (most_staged, most_read) = (staged.max(small.staging.size()), read.max(small.readback.size()));
        }
        Slot::new(context, most_staged, most_read)
    }

    pub fn give_back(&mut self, slot: Slot) {
        slot.readback.unmap();
        self.0.push(slot);
    }

    /// Releases all, with the device that they belong to.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The mapped results of a frame.
pub(super) struct Results(wgpu::BufferView);

impl Results {
    /// Fills `to` from the bytes at `at`.
    pub fn read<T: Pod>(&self, at: u64, to: &mut [T]) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(to);
        bytes.copy_from_slice(&self.0[at as usize..][..bytes.len()]);
    }
}

pub(super) fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("GPU {what}: {error}"))
}
