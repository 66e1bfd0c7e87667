//! k-means++ seeding (Arthur & Vassilvitskii 2007) by races, see [`crate::compute::random`].

use pulp::{Simd, WithSimd};

use super::super::plan::BLOCK;
use super::super::random::{exponential, round_key};
use super::points::Points;
use super::pool::{Parts, Pool};
use crate::simd::{F32s, Level, is_roomy};

/// Scratch of the seeding.
#[derive(Default)]
pub(crate) struct Seeding {
    /// Squared distance to the nearest seed so far, per point.
    nearest: Vec<f32>,
    /// Best race of each chunk.
    winners: Vec<(f32, u32)>,
    /// The points that were drawn, in order.
    pub seeds: Vec<u32>,
}

impl Seeding {
    /// Draws `k` points. The first `j` of them are a k-means++ seeding for `j` clusters, for any `j`.
    pub fn draw(&mut self, points: &Points, k: usize, seed: u64, level: Level, pool: &mut Pool) {
        self.seeds.clear();
        self.nearest.clear();
        self.nearest.resize(points.norms.len(), f32::INFINITY);
        self.winners.clear();
        self.winners.resize(points.chunks(), (f32::INFINITY, 0));
        for round in 0..k {
            let last = self.seeds.last().map(|&s| &points.rows[s as usize * points.stride..][..points.dims]);
            let key = round_key(seed, round);
            let (nearest, winners) = (Parts::new(&mut self.nearest), Parts::new(&mut self.winners));
            pool.run(points.chunks(), &|c| {
                let (from, to) = points.chunk_range(c);
                let lanes = (to - from).next_multiple_of(BLOCK);
                // SAFETY: chunks are whole blocks but for the last and do not overlap; each has its own winner.
                let (nearest, winner) = unsafe { (nearest.range(from, lanes), winners.range(c, 1)) };
                winner[0] = level.run(Round { points, from, to, last, key, nearest });
            });
            self.seeds.push(winner_of(&self.winners));
        }
    }
}

/// The smallest race; the lower index where equal. Point 0 when no point has any weight left.
fn winner_of(winners: &[(f32, u32)]) -> u32 {
    winners.iter().fold((f32::INFINITY, 0), |best, w| if w.0 < best.0 { *w } else { best }).1
}

struct Round<'a> {
    points: &'a Points,
    from: usize,
    to: usize,
    /// The seed drawn in the round before; none in the first, where all weights are equal.
    last: Option<&'a [f32]>,
    key: u32,
    nearest: &'a mut [f32],
}

impl WithSimd for Round<'_> {
    type Output = (f32, u32);
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, u32) {
        if is_roomy::<S>() { self.run::<S, 4>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl Round<'_> {
    #[inline(always)]
    fn run<S: Simd, const P: usize>(self, simd: S) -> (f32, u32) {
        let mut best = (f32::INFINITY, 0);
        for (first, nearest) in (self.from..self.to).step_by(BLOCK).zip(self.nearest.chunks_exact_mut(BLOCK)) {
            if let Some(seed) = self.last {
                keep_smaller::<S, P>(simd, self.points.block(first), seed, nearest);
            }
            let mut races = [0.0f32; BLOCK];
            for (i, (race, &weight)) in races.iter_mut().zip(&*nearest).enumerate() {
                let weight = if self.last.is_some() { weight } else { 1.0 };
                *race = exponential(self.key, (first + i) as u32) / weight;
            }
            for (i, &race) in races[..BLOCK.min(self.to - first)].iter().enumerate() {
                if race < best.0 {
                    best = (race, (first + i) as u32);
                }
            }
        }
        best
    }
}

/// `nearest = min(nearest, |x - seed|^2)` for each point of a block.
#[inline(always)]
fn keep_smaller<S: Simd, const P: usize>(simd: S, x: &[f32], seed: &[f32], nearest: &mut [f32]) {
    assert!(x.len() >= seed.len() * BLOCK && nearest.len() == BLOCK);
    for lane in (0..BLOCK).step_by(P * F32s::<S>::N) {
        let mut sums = [F32s::splat(simd, 0.0); P];
        for (d, &s) in seed.iter().enumerate() {
            let s = F32s::splat(simd, s);
            for (p, sum) in sums.iter_mut().enumerate() {
                // SAFETY: row `d` of the block has BLOCK values, and `lane + (p + 1) * N <= BLOCK`.
                let t = unsafe { F32s::load(simd, x.as_ptr().add(d * BLOCK + lane + p * F32s::<S>::N)) }.sub(s);
                *sum = t.mul_add(t, *sum);
            }
        }
        for (p, &sum) in sums.iter().enumerate() {
            // SAFETY: as above; `nearest` has BLOCK values.
            unsafe {
                let at = nearest.as_mut_ptr().add(lane + p * F32s::<S>::N);
                let old = F32s::load(simd, at);
                F32s::select_greater(old, sum, sum, old).store(at);
            }
        }
    }
}
