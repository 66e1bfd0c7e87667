//! The points of one frame in the two layouts that the kernels want, mean-centred.

use super::super::plan::{BLOCK, chunk_len};
use super::aligned::Aligned;
use super::pool::{Parts, Pool};
use super::simd::{Kernel, Lanes, Level};

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
    /// What was taken off, `[stride]`.
    pub mean: Aligned,
    /// Mean of `|x|^2`.
    pub spread: f32,
    partial: Aligned,
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
            partial: Aligned::zeros(n.div_ceil(chunk) * stride),
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
        add_partials(&mut self.mean, &self.partial);
        self.mean.iter_mut().for_each(|m| *m /= n as f32);
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
    }
}

/// `total = sum of the rows of partial`, in order.
pub(crate) fn add_partials(total: &mut [f32], partial: &[f32]) {
    total.fill(0.0);
    for part in partial.chunks_exact(total.len()) {
        for (t, p) in total.iter_mut().zip(part) {
            *t += p;
        }
    }
}

struct SumRows<'a> {
    sum: &'a mut [f32],
    rows: &'a [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes, const P: usize>(self) {
        self.sum.fill(0.0);
        for row in self.rows.chunks_exact(self.sum.len()) {
            for (s, v) in self.sum.iter_mut().zip(row) {
                *s += v;
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

impl Kernel for CentreBlock<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes, const P: usize>(self) {
        let count = self.rows.len() / self.stride;
        for row in self.rows.chunks_exact_mut(self.stride) {
            for (v, m) in row.iter_mut().zip(self.mean) {
                *v -= m;
            }
        }
        for (d, lanes) in self.block.chunks_exact_mut(BLOCK).enumerate() {
            for (lane, v) in lanes[..count].iter_mut().zip(self.rows[d..].iter().step_by(self.stride)) {
                *lane = *v;
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
