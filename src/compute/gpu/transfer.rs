//! Maps up to the device and results down again, through one staging and one readback buffer per program.

use bytemuck::Pod;
use ndarray::ArrayView3;

use super::device::Context;
use super::program::Program;
use crate::{Error, Result};

/// What a frame brings along.
pub(super) struct Source<'a> {
    pub logits: Option<ArrayView3<'a, f32>>,
    pub features: &'a [ArrayView3<'a, f32>],
}

/// Writes the bands of all maps to the staging buffer, which is mapped between frames.
pub(super) fn write(program: &Program, source: &Source<'_>, contiguous: &mut Vec<f32>) -> Result<()> {
    {
        let mut view = program.staging.get_mapped_range_mut(..).map_err(|e| failed("staging", &e))?;
        let mut loaded = None;
        for upload in &program.uploads {
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
            let bytes = upload.rows * width * 4;
            for c in 0..channels {
                let from = (c * height + upload.row) * width;
                let at = upload.at as usize + c * bytes;
                let row = &values[from..from + upload.rows * width];
                view.slice(at..at + bytes).copy_from_slice(bytemuck::cast_slice(row));
            }
        }
    }
    program.staging.unmap();
    Ok(())
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

/// The mapped results of a frame.
pub(super) struct Results(wgpu::BufferView);

impl Results {
    /// Fills `to` from the bytes at `at`.
    pub fn read<T: Pod>(&self, at: u64, to: &mut [T]) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(to);
        bytes.copy_from_slice(&self.0[at as usize..][..bytes.len()]);
    }
}

/// Waits for the frame that was submitted, and maps both buffers again.
pub(super) fn wait(context: &Context, program: &Program) -> Result<Results> {
    // Whether the mapping worked shows when the range is asked for.
    program.readback.map_async(wgpu::MapMode::Read, .., |_| {});
    program.staging.map_async(wgpu::MapMode::Write, .., |_| {});
    context.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| failed("wait", &e))?;
    let view = program.readback.get_mapped_range(..).map_err(|e| failed("readback", &e))?;
    Ok(Results(view))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("GPU {what}: {error}"))
}
