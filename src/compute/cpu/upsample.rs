//! Bilinear upsampling of the grid score with the threshold fused in (`docs/method.md` M9, M10).

use pulp::{Simd, WithSimd};

use super::super::Size;
use super::super::resample::Resample;
use super::pool::{Parts, Pool};
use crate::simd::Level;

/// Rows of the target per task.
const ROWS: usize = 32;

/// Scratch that is kept from frame to frame.
#[derive(Default)]
pub(crate) struct Upsample {
    resample: Option<Resample>,
    /// The grid stretched along its rows only, `[h_0][width]`.
    wide: Vec<f32>,
    /// Marked pixels per task.
    marked: Vec<u32>,
}

impl Upsample {
    /// Writes `score` and `mask`, both `[height, width]`; returns the number of marked pixels.
    #[allow(clippy::too_many_arguments, reason = "two maps with their sizes, and where they go")]
    pub fn run(
        &mut self,
        grid: (usize, usize),
        grid_score: &[f32],
        target: Size,
        threshold: f32,
        score: &mut [f32],
        mask: &mut [u8],
        level: Level,
        pool: &mut Pool,
    ) -> u64 {
        let to = (target.height, target.width);
        if self.resample.as_ref().is_none_or(|r| (r.from(), r.to()) != (grid, to)) {
            self.resample = None;
        }
        let resample = &*self.resample.get_or_insert_with(|| Resample::bilinear(grid, to));
        let width = target.width;
        self.wide.resize(grid.0 * width, 0.0);
        let tasks = target.height.div_ceil(ROWS);
        self.marked.resize(tasks, 0);
        {
            let wide = Parts::new(&mut self.wide);
            pool.run(grid.0, &|y| {
                // SAFETY: each row is its own part.
                let row = unsafe { wide.range(y * width, width) };
                level.run(Stretch { row, from: &grid_score[y * grid.1..][..grid.1], resample });
            });
        }
        let wide = &self.wide;
        let (score, mask, marked) = (Parts::new(score), Parts::new(mask), Parts::new(&mut self.marked));
        pool.run(tasks, &|t| {
            let (from, to) = (t * ROWS, ((t + 1) * ROWS).min(target.height));
            let (at, len) = (from * width, (to - from) * width);
            // SAFETY: each task has its own rows and its own count.
            let (score, mask, marked) = unsafe { (score.range(at, len), mask.range(at, len), marked.range(t, 1)) };
            marked[0] = level.run(Blend { first: from, wide, width, resample, threshold, score, mask });
        });
        self.marked.iter().map(|&m| u64::from(m)).sum()
    }
}

struct Stretch<'a> {
    row: &'a mut [f32],
    from: &'a [f32],
    resample: &'a Resample,
}

impl WithSimd for Stretch<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let axis = &self.resample.x;
        if axis.taps == 1 {
            for (to, &start) in self.row.iter_mut().zip(&axis.start) {
                *to = self.from[start as usize];
            }
            return;
        }
        for ((to, &start), weights) in self.row.iter_mut().zip(&axis.start).zip(axis.weights.chunks_exact(2)) {
            let (a, b) = (self.from[start as usize], self.from[start as usize + 1]);
            *to = a + (b - a) * weights[1];
        }
    }
}

struct Blend<'a> {
    first: usize,
    /// `[h_0][width]`
    wide: &'a [f32],
    width: usize,
    resample: &'a Resample,
    threshold: f32,
    score: &'a mut [f32],
    mask: &'a mut [u8],
}

impl WithSimd for Blend<'_> {
    type Output = u32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u32 {
        let (axis, width) = (&self.resample.y, self.width);
        let mut marked = 0;
        let rows = self.score.chunks_exact_mut(width).zip(self.mask.chunks_exact_mut(width));
        for (y, (score, mask)) in (self.first..).zip(rows) {
            let start = axis.start[y] as usize;
            let above = &self.wide[start * width..][..width];
            let (below, share) = if axis.taps == 1 {
                (above, 0.0)
            } else {
                (&self.wide[(start + 1) * width..][..width], axis.weights[y * 2 + 1])
            };
            for ((s, &a), &b) in score.iter_mut().zip(above).zip(below) {
                *s = a + (b - a) * share;
            }
            for (m, &s) in mask.iter_mut().zip(&*score) {
                *m = u8::from(s >= self.threshold);
            }
            marked += mask.iter().map(|&m| u32::from(m)).sum::<u32>();
        }
        marked
    }
}
