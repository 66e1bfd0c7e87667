//! The points of one frame in the two layouts that the kernels want, mean-centred.

use pulp::{Simd, WithSimd};

use super::super::plan::{BLOCK, CLOSE_SHARE, CONSTANT_SHARE, chunk_len};
use super::aligned::Aligned;
use super::pool::{Parts, Pool};
use crate::simd::Level;

/// Rows are padded to whole registers of this many f32.
const ROW: usize = 16;

/// N points of D dimensions. The mean over all points is taken off: `|c|^2 - 2 x.c` then keeps its accuracy in f32.
#[derive(Default)]
pub(crate) struct Points {
    pub n: usize,
    pub dims: usize,
    /// Length of a row, `dims` rounded up; the rest of a row is 0.
    pub stride: usize,
    /// Points per chunk.
    pub chunk: usize,
    /// `[N][stride]`: what sums over points read.
    pub rows: Aligned,
    /// `[blocks][D][BLOCK]`: points in lanes, what products with centroids read.
    pub blocks: Aligned,
    /// `|x|^2`, `[blocks * BLOCK]`, 0 for the padding.
    pub norms: Aligned,
    /// The subtracted mean, `[stride]`.
    pub mean: Aligned,
    /// Mean of `|x|^2`.
    pub spread: f32,
    /// [`CLOSE_SHARE`], or 0 where all points are equal but for rounding, so that no comparison is meaningful.
    pub close: f32,
    /// Sums of the rows of each chunk, in f64 so that their order does not matter.
    partial: Vec<f64>,
}

impl Points {
    /// Makes room for `[n, dims]`; the rows are then to be written, and [`Points::centre`] called.
    pub fn resize(&mut self, n: usize, dims: usize) {
        if (self.n, self.dims) == (n, dims) {
            return;
        }
        let (stride, chunk) = (dims.next_multiple_of(ROW), chunk_len(n));
        let lanes = n.next_multiple_of(BLOCK);
        *self = Self {
            n,
            dims,
            stride,
            chunk,
            rows: Aligned::zeros(n * stride),
            blocks: Aligned::zeros(lanes * dims),
            norms: Aligned::zeros(lanes),
            mean: Aligned::zeros(stride),
            spread: 0.0,
            close: 0.0,
            partial: vec![0.0; n.div_ceil(chunk) * stride],
        };
    }

    /// Chunks of at most `self.chunk` points.
    pub fn chunks(&self) -> usize {
        self.n.div_ceil(self.chunk)
    }

    /// Points `from..to` of a chunk.
    pub fn chunk_range(&self, chunk: usize) -> (usize, usize) {
        (chunk * self.chunk, ((chunk + 1) * self.chunk).min(self.n))
    }

    /// The block that starts at point `first`, `[D][BLOCK]`.
    #[inline(always)]
    pub fn block(&self, first: usize) -> &[f32] {
        &self.blocks[first * self.dims..][..self.dims * BLOCK]
    }

    /// Takes the mean off the rows and fills in all the rest.
    pub fn centre(&mut self, level: Level, pool: &mut Pool) {
        let (n, dims, stride, chunk, chunks) = (self.n, self.dims, self.stride, self.chunk, self.chunks());
        let end = |c: usize| ((c + 1) * chunk).min(n);
        {
            let (partial, rows) = (Parts::new(&mut self.partial), &self.rows);
            pool.run(chunks, &|c| {
                // SAFETY: each chunk has its own row of `partial`.
                let sum = unsafe { partial.range(c * stride, stride) };
                level.run(SumRows { sum, rows: &rows[c * chunk * stride..end(c) * stride] });
            });
        }
        for (d, mean) in self.mean.iter_mut().enumerate() {
            *mean = (self.partial.iter().skip(d).step_by(stride).sum::<f64>() / n as f64) as f32;
        }
        let mean = &*self.mean;
        let (rows, blocks, norms) =
            (Parts::new(&mut self.rows), Parts::new(&mut self.blocks), Parts::new(&mut self.norms));
        pool.run(chunks, &|c| {
            for first in (c * chunk..end(c)).step_by(BLOCK) {
                let count = BLOCK.min(n - first);
                // SAFETY: blocks do not overlap, and each belongs to one chunk.
                let (rows, block, norms) = unsafe {
                    (
                        rows.range(first * stride, count * stride),
                        blocks.range(first * dims, dims * BLOCK),
                        norms.range(first, BLOCK),
                    )
                };
                level.run(CentreBlock { rows, stride, mean, block, norms });
            }
        });
        let mut spread = 0.0f64;
        for norm in self.norms.iter() {
            spread += f64::from(*norm);
        }
        self.spread = (spread / n as f64) as f32;
        let mean: f64 = self.mean.iter().map(|m| f64::from(*m).powi(2)).sum();
        self.close = if spread / n as f64 <= CONSTANT_SHARE * mean { 0.0 } else { CLOSE_SHARE };
    }
}

struct SumRows<'a> {
    sum: &'a mut [f64],
    rows: &'a [f32],
}

impl WithSimd for SumRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.sum.fill(0.0);
        for row in self.rows.chunks_exact(self.sum.len()) {
            for (s, v) in self.sum.iter_mut().zip(row) {
                *s += f64::from(*v);
            }
        }
    }
}

struct CentreBlock<'a> {
    rows: &'a mut [f32],
    stride: usize,
    mean: &'a [f32],
    block: &'a mut [f32],
    norms: &'a mut [f32],
}

impl WithSimd for CentreBlock<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let count = self.rows.len() / self.stride;
        let dims = self.block.len() / BLOCK;
        let (whole_points, whole_dims) = (count / 4 * 4, dims / 4 * 4);
        for d in (0..whole_dims).step_by(4) {
            for p in (0..whole_points).step_by(4) {
                self.square(d, p);
            }
        }
        for p in 0..count {
            let first = if p < whole_points { whole_dims } else { 0 };
            for d in first..dims {
                let v = &mut self.rows[p * self.stride + d];
                *v -= self.mean[d];
                self.block[d * BLOCK + p] = *v;
            }
        }
        self.norms.fill(0.0);
        for lanes in self.block.chunks_exact(BLOCK) {
            for (norm, v) in self.norms.iter_mut().zip(lanes) {
                *norm += v * v;
            }
        }
    }
}

impl CentreBlock<'_> {
    /// Four values of four points: centred in place, and turned into the block. Small enough to stay in registers.
    #[inline(always)]
    fn square(&mut self, d: usize, p: usize) {
        let mut square = [[0.0f32; 4]; 4];
        for (i, values) in square.iter_mut().enumerate() {
            let row = &mut self.rows[(p + i) * self.stride + d..][..4];
            row.iter_mut().zip(&self.mean[d..d + 4]).for_each(|(v, m)| *v -= m);
            values.copy_from_slice(row);
        }
        let turned: [[f32; 4]; 4] = std::array::from_fn(|j| std::array::from_fn(|i| square[i][j]));
        for (j, lanes) in turned.iter().enumerate() {
            self.block[(d + j) * BLOCK + p..][..4].copy_from_slice(lanes);
        }
    }
}
