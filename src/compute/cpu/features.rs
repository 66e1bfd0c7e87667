//! The network's feature maps as rows on the grid: resampled, made unit length each, concatenated (`docs/method.md` M2,
//! M3).

use ndarray::ArrayView3;
use pulp::{Simd, WithSimd};

use super::super::plan::BLOCK;
use super::super::resample::Resample;
use super::points::Points;
use super::pool::{Parts, Pool};
use crate::simd::Level;

/// Below this length a vector counts as zero and stays as it is.
pub(crate) const TINY: f32 = 1e-20;

/// Scratch that is kept from frame to frame.
#[derive(Default)]
pub(crate) struct Gather {
    resamples: Vec<Resample>,
    /// A map that does not lie in memory channel after channel.
    contiguous: Vec<f32>,
    /// A map that has another size than the grid, pixel by pixel: `[h_i * w_i][D_i]`.
    rows: Vec<f32>,
}

impl Gather {
    /// Writes the rows of `points` (already of the right size) from `maps`.
    pub fn fill(
        &mut self,
        maps: &[ArrayView3<'_, f32>],
        grid: (usize, usize),
        unit_length: bool,
        points: &mut Points,
        level: Level,
        pool: &mut Pool,
    ) {
        let stride = points.stride;
        let mut offset = 0;
        for (i, map) in maps.iter().enumerate() {
            let (dims, height, width) = map.dim();
            let values = match map.as_slice() {
                Some(values) => values,
                None => {
                    self.contiguous.clear();
                    self.contiguous.extend(map.iter());
                    &self.contiguous
                }
            };
            let resample = cached(&mut self.resamples, i, (height, width), grid);
            if resample.is_identity() {
                transpose(values, dims, height * width, &mut points.rows, stride, offset, level, pool);
            } else {
                self.rows.resize(height * width * dims, 0.0);
                transpose(values, dims, height * width, &mut self.rows, dims, 0, level, pool);
            }
            let (rows, source) = (Parts::new(&mut points.rows), &self.rows);
            pool.run(grid.0, &|y| {
                // SAFETY: each row of the grid is its own stretch of `rows`.
                let rows = unsafe { rows.range(y * grid.1 * stride, grid.1 * stride) };
                level.run(GridRow { y, rows, stride, offset, dims, source, resample, unit_length });
            });
            offset += dims;
        }
    }
}

/// The resampling of map `i`, rebuilt only when a size has changed.
pub(crate) fn cached(all: &mut Vec<Resample>, i: usize, from: (usize, usize), to: (usize, usize)) -> &Resample {
    if all.get(i).is_none_or(|r| (r.from(), r.to()) != (from, to)) {
        all.truncate(i);
        all.push(Resample::to_grid(from, to));
    }
    &all[i]
}

/// `[dims][count]` to rows of `stride`, from column `offset` on.
#[allow(clippy::too_many_arguments, reason = "each is one number of a shape")]
fn transpose(
    values: &[f32],
    dims: usize,
    count: usize,
    rows: &mut [f32],
    stride: usize,
    offset: usize,
    level: Level,
    pool: &mut Pool,
) {
    let rows = Parts::new(rows);
    let piece = 4 * BLOCK;
    pool.run(count.div_ceil(piece), &|c| {
        let (from, to) = (c * piece, ((c + 1) * piece).min(count));
        // SAFETY: each piece is its own stretch of rows.
        let rows = unsafe { rows.range(from * stride, (to - from) * stride) };
        level.run(Transpose { values, dims, count, from, rows, stride, offset });
    });
}

struct Transpose<'a> {
    values: &'a [f32],
    dims: usize,
    count: usize,
    from: usize,
    rows: &'a mut [f32],
    stride: usize,
    offset: usize,
}

impl WithSimd for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Tiles of 16 x 16 keep both sides in the first-level cache.
        const TILE: usize = 16;
        let count = self.rows.len() / self.stride;
        for p in (0..count).step_by(TILE) {
            for d in (0..self.dims).step_by(TILE) {
                let depth = TILE.min(self.dims - d);
                for i in p..(p + TILE).min(count) {
                    let row = &mut self.rows[i * self.stride + self.offset + d..][..depth];
                    let column = self.values[d * self.count + self.from + i..].iter().step_by(self.count);
                    for (to, v) in row.iter_mut().zip(column) {
                        *to = *v;
                    }
                }
            }
        }
    }
}

/// Resamples one row of the grid from pixel rows (unless that is done), and scales to unit length.
struct GridRow<'a> {
    y: usize,
    /// `[w_0][stride]`
    rows: &'a mut [f32],
    stride: usize,
    offset: usize,
    dims: usize,
    /// `[h_i * w_i][dims]`
    source: &'a [f32],
    resample: &'a Resample,
    unit_length: bool,
}

impl WithSimd for GridRow<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Resample { x: xs, y: ys } = self.resample;
        let identity = self.resample.is_identity();
        for (x, row) in self.rows.chunks_exact_mut(self.stride).enumerate() {
            let row = &mut row[self.offset..][..self.dims];
            if !identity {
                row.fill(0.0);
                for ty in 0..ys.taps {
                    let from_y = ys.start[self.y] as usize + ty;
                    for tx in 0..xs.taps {
                        let weight = ys.weights[self.y * ys.taps + ty] * xs.weights[x * xs.taps + tx];
                        let from = from_y * xs.input + xs.start[x] as usize + tx;
                        for (to, v) in row.iter_mut().zip(&self.source[from * self.dims..][..self.dims]) {
                            *to += weight * v;
                        }
                    }
                }
            }
            if self.unit_length {
                let length = sum_of_squares(row).sqrt();
                if length > TINY {
                    row.iter_mut().for_each(|v| *v /= length);
                }
            }
        }
    }
}

/// In f64, so that the order does not matter, and in lanes, so that it vectorises.
#[inline(always)]
fn sum_of_squares(row: &[f32]) -> f32 {
    let mut lanes = [0.0f64; 16];
    let pieces = row.chunks_exact(16);
    let rest = pieces.remainder();
    for piece in pieces {
        for (lane, v) in lanes.iter_mut().zip(piece) {
            *lane += f64::from(*v) * f64::from(*v);
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*v) * f64::from(*v);
    }
    lanes.iter().sum::<f64>() as f32
}
