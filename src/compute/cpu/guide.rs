//! The picture's luma at a few pixels per grid pixel: what guides the upsampling of the score.

use pulp::{Simd, WithSimd};

use super::super::Luma;
use super::super::resample::{Axis, Resample};
use super::pool::Parts;
use crate::frame::{Plane, Range};
use crate::simd::Level;

/// Rows of the guide per task.
const ROWS: usize = 16;

/// The guide of one frame after another.
#[derive(Default)]
pub(crate) struct Guide {
    resample: Option<Resample>,
    /// One row of the picture's width per task.
    rows: Vec<f32>,
    /// Row by row; 0 is black, 1 is white.
    pub luma: Vec<f32>,
}

impl Guide {
    /// Brings `picture` to `[height, width]` `to`, area average when shrinking. `each` calls a task for 0..count.
    pub fn fill(
        &mut self,
        picture: &Luma<'_>,
        to: (usize, usize),
        level: Level,
        each: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
    ) {
        let plane = &picture.plane;
        let from = (plane.rows, plane.columns);
        if self.resample.as_ref().is_none_or(|r| (r.from(), r.to()) != (from, to)) {
            self.resample = None;
        }
        let resample = &*self.resample.get_or_insert_with(|| Resample::to_grid(from, to));
        let tasks = to.0.div_ceil(ROWS);
        let columns = plane.columns;
        self.luma.resize(to.0 * to.1, 0.0);
        self.rows.resize(tasks * columns, 0.0);
        let (luma, rows) = (Parts::new(&mut self.luma), Parts::new(&mut self.rows));
        let (black, span) = match picture.range {
            Range::Limited => (16.0, 219.0),
            Range::Full => (0.0, 255.0),
        };
        each(tasks, &|task| {
            let (first, last) = (task * ROWS, ((task + 1) * ROWS).min(to.0));
            // SAFETY: each task has its own rows and its own row buffer.
            let (luma, row) =
                unsafe { (luma.range(first * to.1, (last - first) * to.1), rows.range(task * columns, columns)) };
            level.run(Band { plane, resample, first, luma, row, black, gain: 1.0 / span });
        });
    }
}

/// Some rows of the guide.
struct Band<'a> {
    plane: &'a Plane<'a>,
    resample: &'a Resample,
    first: usize,
    luma: &'a mut [f32],
    row: &'a mut [f32],
    black: f32,
    gain: f32,
}

impl WithSimd for Band<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { plane, resample: Resample { x, y }, first, luma, row, black, gain } = self;
        for (o, out) in (first..).zip(luma.chunks_exact_mut(x.output)) {
            row.fill(0.0);
            let weights = &y.weights[o * y.taps..][..y.taps];
            for (line, &weight) in (y.start[o] as usize..).zip(weights) {
                row.iter_mut().zip(plane.row(line)).for_each(|(sum, &v)| *sum += weight * f32::from(v));
            }
            across(x, row, out);
            out.iter_mut().for_each(|v| *v = (*v - black) * gain);
        }
    }
}

#[inline(always)]
fn across(axis: &Axis, row: &[f32], out: &mut [f32]) {
    for ((to, &start), weights) in out.iter_mut().zip(&axis.start).zip(axis.weights.chunks_exact(axis.taps)) {
        *to = row[start as usize..][..axis.taps].iter().zip(weights).map(|(v, w)| v * w).sum();
    }
}
