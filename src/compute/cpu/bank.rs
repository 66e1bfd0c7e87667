//! Distance of each point to the nearest centroid of the codebook (`docs/method.md`, M4).

use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};

use super::super::plan::BLOCK;
use super::assign::{Packed, nearest};
use super::points::Points;
use super::pool::{Parts, Pool};
use crate::simd::{Level, is_roomy};

/// Scratch that is kept from frame to frame.
#[derive(Default)]
pub(crate) struct Bank {
    /// The codebook in the frame's mean-centred space, `[M][stride]`.
    centroids: Vec<f32>,
    packed: Packed,
    /// Euclidean distance per point, `[N]`.
    pub distance: Vec<f32>,
}

impl Bank {
    /// Fills in the distances; the codebook is `[M, D]`, not centred.
    pub fn fill(&mut self, codebook: ArrayView2<'_, f32>, points: &Points, level: Level, pool: &mut Pool) {
        let (stride, dims) = (points.stride, points.dims);
        self.centroids.resize(codebook.nrows() * stride, 0.0);
        for (to, from) in self.centroids.chunks_exact_mut(stride).zip(codebook.rows()) {
            to.fill(0.0);
            for ((t, v), mean) in to.iter_mut().zip(from).zip(points.mean.iter()) {
                *t = v - mean;
            }
        }
        self.packed.pack(&self.centroids, codebook.nrows(), dims, stride);
        self.distance.resize(points.n, 0.0);
        let distance = Parts::new(&mut self.distance);
        let (centroids, packed) = (&self.centroids, &self.packed);
        pool.run(points.chunks(), &|c| {
            let (from, to) = points.chunk_range(c);
            // SAFETY: chunks do not overlap.
            let distance = unsafe { distance.range(from, to - from) };
            level.run(Chunk { points, from, centroids, packed, distance });
        });
    }
}

struct Chunk<'a> {
    points: &'a Points,
    from: usize,
    centroids: &'a [f32],
    packed: &'a Packed,
    distance: &'a mut [f32],
}

impl WithSimd for Chunk<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if is_roomy::<S>() { self.run::<S, 4>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl Chunk<'_> {
    #[inline(always)]
    fn run<S: Simd, const P: usize>(self, simd: S) {
        let (points, stride) = (self.points, self.points.stride);
        for (b, distance) in self.distance.chunks_mut(BLOCK).enumerate() {
            let first = self.from + b * BLOCK;
            let found = nearest::<S, P>(simd, points.block(first), self.packed);
            for (i, (to, &winner)) in distance.iter_mut().zip(&found.index).enumerate() {
                // The product form loses small distances in rounding, so the winner's is taken directly.
                let x = &points.rows[(first + i) * stride..][..stride];
                let c = &self.centroids[winner as usize * stride..][..stride];
                let mut lanes = [0.0f32; 16];
                for (x, c) in x.chunks_exact(16).zip(c.chunks_exact(16)) {
                    for (lane, (x, c)) in lanes.iter_mut().zip(x.iter().zip(c)) {
                        *lane += (x - c) * (x - c);
                    }
                }
                *to = lanes.iter().sum::<f32>().sqrt();
            }
        }
    }
}
