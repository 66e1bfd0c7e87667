//! Upsampling of the grid score along the edges of the picture: a fast guided filter (`docs/method.md`, M9).
//!
//! On twice the grid, with windows of 3x3: `a = cov(guide, score) / (var(guide) + epsilon)`, `b = mean(score) - a
//! mean(guide)`. Their means over the same windows are brought to the guide's size, four times the grid, and the score
//! there is `a * guide + b`. Both doublings are bilinear with half-pixel centres; all edges are clamped.

use pulp::{Simd, WithSimd};

use super::super::plan::{EPSILON, FINE};
use super::pool::{Parts, Pool};
use crate::simd::Level;

/// Planes that are kept from frame to frame.
#[derive(Default)]
pub(crate) struct Guided {
    guide: Padded,
    score: Padded,
    slope: Padded,
    offset: Padded,
    mean_slope: Padded,
    mean_offset: Padded,
    /// `[FINE h_0, FINE w_0]`
    pub fine: Vec<f32>,
}

/// Rows with one pixel more at both ends, which repeat the first and the last.
#[derive(Default)]
struct Padded {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Padded {
    fn resize(&mut self, height: usize, width: usize) {
        (self.height, self.width) = (height, width);
        self.values.resize(height * (width + 2), 0.0);
    }

    fn row(&self, y: usize) -> &[f32] {
        &self.values[y * (self.width + 2)..][..self.width + 2]
    }

    /// The rows above, at and below `y`.
    fn around(&self, y: usize) -> [&[f32]; 3] {
        [self.row(y.saturating_sub(1)), self.row(y), self.row((y + 1).min(self.height - 1))]
    }

    fn parts(&mut self) -> Rows<'_> {
        Rows { stride: self.width + 2, parts: Parts::new(&mut self.values) }
    }
}

/// The rows of a plane, for tasks that write one each.
struct Rows<'a> {
    stride: usize,
    parts: Parts<'a, f32>,
}

impl Rows<'_> {
    /// # Safety
    /// No two tasks may have the same row.
    #[allow(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    unsafe fn row(&self, y: usize) -> &mut [f32] {
        // SAFETY: rows do not overlap, and only this task has this one.
        unsafe { self.parts.range(y * self.stride, self.stride) }
    }
}

impl Guided {
    /// Fills `fine` from the score on the grid and the guide.
    pub fn run(&mut self, grid: (usize, usize), score: &[f32], guide: &[f32], level: Level, pool: &mut Pool) {
        let (height, width) = (2 * grid.0, 2 * grid.1);
        let Self { guide: halved, score: doubled, slope, offset, mean_slope, mean_offset, fine } = self;
        for plane in [&mut *halved, doubled, slope, offset, mean_slope, mean_offset] {
            plane.resize(height, width);
        }
        {
            let (halved, doubled) = (halved.parts(), doubled.parts());
            pool.run(height, &|y| {
                let (near, far) = neighbours(y, grid.0);
                let near = &score[near * grid.1..][..grid.1];
                let far = &score[far * grid.1..][..grid.1];
                let guide = &guide[2 * y * 2 * width..][..4 * width];
                // SAFETY: each task has its own row.
                let (halved, doubled) = unsafe { (halved.row(y), doubled.row(y)) };
                level.run(Coarse { near, far, guide, halved, doubled });
            });
        }
        {
            let (slope, offset) = (slope.parts(), offset.parts());
            pool.run(height, &|y| {
                // SAFETY: each task has its own row.
                let (slope, offset) = unsafe { (slope.row(y), offset.row(y)) };
                level.run(Fit { guide: halved.around(y), score: doubled.around(y), slope, offset });
            });
        }
        {
            let (mean_slope, mean_offset) = (mean_slope.parts(), mean_offset.parts());
            pool.run(height, &|y| {
                // SAFETY: each task has its own row.
                let (mean_slope, mean_offset) = unsafe { (mean_slope.row(y), mean_offset.row(y)) };
                level.run(Mean { of: slope.around(y), to: mean_slope });
                level.run(Mean { of: offset.around(y), to: mean_offset });
            });
        }
        fine.resize(FINE * grid.0 * FINE * grid.1, 0.0);
        let fine = Parts::new(fine);
        pool.run(2 * height, &|y| {
            let (near, far) = neighbours(y, height);
            let [slope, offset] = [&*mean_slope, mean_offset].map(|plane| [plane.row(near), plane.row(far)]);
            // SAFETY: each task has its own row.
            let out = unsafe { fine.range(y * 2 * width, 2 * width) };
            let guide = &guide[y * 2 * width..][..2 * width];
            level.run(Apply { slope, offset, guide, out });
        });
    }
}

/// For row `y` of a doubled plane of `height` rows before: the row with weight 3/4 and the one with 1/4.
fn neighbours(y: usize, height: usize) -> (usize, usize) {
    let near = y / 2;
    (near, if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(height - 1) })
}

#[inline(always)]
fn mix(near: f32, far: f32) -> f32 {
    0.75 * near + 0.25 * far
}

/// Repeats the first and the last pixel of a padded row.
#[inline(always)]
fn close(row: &mut [f32]) {
    let last = row.len() - 1;
    (row[0], row[last]) = (row[1], row[last - 1]);
}

/// One row of the halved guide and of the doubled score.
struct Coarse<'a> {
    near: &'a [f32],
    far: &'a [f32],
    /// Two rows.
    guide: &'a [f32],
    halved: &'a mut [f32],
    doubled: &'a mut [f32],
}

impl WithSimd for Coarse<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { near, far, guide, halved, doubled } = self;
        let width = halved.len() - 2;
        let (upper, lower) = guide.split_at(2 * width);
        let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
        for (to, (u, l)) in halved[1..=width].iter_mut().zip(pairs) {
            *to = 0.25 * ((u[0] + u[1]) + (l[0] + l[1]));
        }
        close(halved);
        let at = |x: usize| mix(near[x], far[x]);
        let last = near.len() - 1;
        for (x, to) in doubled[1..=width].chunks_exact_mut(2).enumerate() {
            let centre = at(x);
            to[0] = mix(centre, at(x.saturating_sub(1)));
            to[1] = mix(centre, at((x + 1).min(last)));
        }
        close(doubled);
    }
}

/// One row of the linear model of the score by the guide.
struct Fit<'a> {
    guide: [&'a [f32]; 3],
    score: [&'a [f32]; 3],
    slope: &'a mut [f32],
    offset: &'a mut [f32],
}

impl WithSimd for Fit<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { guide, score, slope, offset } = self;
        let width = slope.len() - 2;
        let [guide, score] = [guide, score].map(|rows| rows.map(|row| &row[..width + 2]));
        let (to_slope, to_offset) = (&mut slope[1..=width], &mut offset[1..=width]);
        for x in 0..width {
            // Differences from the centre, as the variance of large values would drown in rounding.
            let (g, s) = (guide[1][x + 1], score[1][x + 1]);
            let [mut sum_g, mut sum_s, mut sum_gs, mut sum_gg] = [0.0f32; 4];
            for row in 0..3 {
                for column in 0..3 {
                    let (dg, ds) = (guide[row][x + column] - g, score[row][x + column] - s);
                    sum_g += dg;
                    sum_s += ds;
                    sum_gs += dg * ds;
                    sum_gg += dg * dg;
                }
            }
            let [mean_g, mean_s, mean_gs, mean_gg] = [sum_g, sum_s, sum_gs, sum_gg].map(|sum| sum * (1.0 / 9.0));
            let a = (mean_gs - mean_g * mean_s) / ((mean_gg - mean_g * mean_g) + EPSILON);
            to_slope[x] = a;
            to_offset[x] = (s + mean_s) - a * (g + mean_g);
        }
        close(slope);
        close(offset);
    }
}

/// One row of means over windows of 3x3.
struct Mean<'a> {
    of: [&'a [f32]; 3],
    to: &'a mut [f32],
}

impl WithSimd for Mean<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.to.len() - 2;
        let rows = self.of.map(|row| &row[..width + 2]);
        let to = &mut self.to[1..=width];
        for x in 0..width {
            let mut sum = 0.0;
            for row in rows {
                sum += (row[x] + row[x + 1]) + row[x + 2];
            }
            to[x] = sum * (1.0 / 9.0);
        }
        close(self.to);
    }
}

/// One row of the score at the guide's size; of the slope and the offset the near and the far row.
struct Apply<'a> {
    slope: [&'a [f32]; 2],
    offset: [&'a [f32]; 2],
    guide: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { slope, offset, guide, out } = self;
        let width = out.len() / 2;
        let [slope, offset] = [slope, offset].map(|rows| rows.map(|row| &row[..width + 2]));
        let (guide, out) = (&guide[..2 * width], &mut out[..2 * width]);
        for x in 0..width {
            let at = |rows: [&[f32]; 2], x: usize| mix(rows[0][x], rows[1][x]);
            let (a, b) = (at(slope, x + 1), at(offset, x + 1));
            for side in 0..2 {
                let (a, b) = (mix(a, at(slope, x + 2 * side)), mix(b, at(offset, x + 2 * side)));
                out[2 * x + side] = a * guide[2 * x + side] + b;
            }
        }
    }
}
