//! Lloyd's K-Means for several K at once over the same points (`docs/method.md`, M5).
//!
//! Sums over clusters are kept in f64 and only corrected by the points that change their cluster: exact enough not to
//! depend on the order of work, and soon far fewer rows to read than there are points.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::plan::{BLOCK, RESEED_SHARE, TIE_SHARE};
use super::aligned::Aligned;
use super::assign::{Nearest, Packed, nearest};
use super::points::Points;
use super::pool::{Parts, Pool};
use crate::simd::{Level, is_roomy, prefetch};

/// One K.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub k: usize,
    /// Clusters of the runs before it.
    pub first: usize,
    /// Assignments made.
    pub iterations: usize,
    active: bool,
}

/// State of all runs. Buffers are kept from frame to frame.
#[derive(Default)]
pub(crate) struct Lloyd {
    pub runs: Vec<Run>,
    /// Clusters of all runs.
    pub total: usize,
    /// Mean-centred, `[total][stride]`.
    pub centroids: Aligned,
    /// Cluster of each point, `[runs][N]`.
    pub labels: Vec<u32>,
    /// Points of each cluster, `[total]`.
    pub sizes: Vec<u32>,
    packed: Vec<Packed>,
    /// Sums over the clusters' points, `[tasks][total][stride]`.
    sums: Vec<f64>,
    /// `[tasks][total]`
    counts: Vec<u32>,
    /// Points that changed their cluster, `[tasks][runs]`.
    changed: Vec<u32>,
    /// Squared distance to the own centroid and index of the farthest point, `[chunks][runs]`.
    farthest: Vec<(f32, u32)>,
    /// Scratch: the sums of one run, `[K][stride]`.
    means: Vec<f64>,
    /// Scratch: the farthest points of one run, farthest last.
    candidates: Vec<(f32, u32)>,
}

impl Lloyd {
    /// Makes room for these K; the centroids are then to be set.
    pub fn resize(&mut self, points: &Points, k: impl Iterator<Item = usize>) {
        self.runs.clear();
        self.total = 0;
        for k in k {
            self.runs.push(Run { k, first: self.total, iterations: 0, active: true });
            self.total += k;
        }
        let (runs, total, chunks, tasks) = (self.runs.len(), self.total, points.chunks(), tasks(points));
        self.packed.resize_with(runs, Packed::default);
        self.centroids.resize(total * points.stride);
        self.sizes.resize(total, 0);
        self.sums.clear();
        self.sums.resize(tasks * total * points.stride, 0.0);
        self.counts.clear();
        self.counts.resize(tasks * total, 0);
        self.changed.resize(tasks * runs, 0);
        self.farthest.resize(chunks * runs, (0.0, 0));
        self.labels.clear();
        self.labels.resize(runs * points.n, u32::MAX);
        let most = self.runs.iter().map(|r| r.k).max().unwrap_or(0);
        self.means.clear();
        self.means.reserve(most * points.stride);
        self.candidates.clear();
        self.candidates.reserve(chunks);
    }

    /// Each run starts from the first K of these points.
    pub fn start_from_points(&mut self, points: &Points, seeds: &[u32]) {
        let stride = points.stride;
        for run in &self.runs {
            let rows = self.centroids[run.first * stride..].chunks_exact_mut(stride);
            for (row, &seed) in rows.zip(&seeds[..run.k]) {
                row.copy_from_slice(&points.rows[seed as usize * stride..][..stride]);
            }
        }
    }

    /// Starts from `[total]` rows of `width` values that are not mean-centred.
    pub fn start_from_rows<'a>(&mut self, points: &Points, rows: impl Iterator<Item = &'a [f32]>) {
        for (centroid, row) in self.centroids.chunks_exact_mut(points.stride).zip(rows) {
            for ((c, v), mean) in centroid[..points.dims].iter_mut().zip(row).zip(points.mean.iter()) {
                *c = v - mean;
            }
        }
    }

    /// At most `max_iterations` of assignment and update per run, fewer when at most `converged` labels change; the
    /// labels then belong to the centroids.
    pub fn iterate(&mut self, points: &Points, max_iterations: usize, converged: usize, level: Level, pool: &mut Pool) {
        for _ in 0..max_iterations {
            self.assign(points, level, pool);
            for r in 0..self.runs.len() {
                if !self.runs[r].active {
                    continue;
                }
                self.count(r);
                self.runs[r].iterations += 1;
                if self.changed.iter().skip(r).step_by(self.runs.len()).map(|&c| c as usize).sum::<usize>() <= converged
                {
                    self.runs[r].active = false;
                } else {
                    self.update(points, r);
                }
            }
            if !self.runs.iter().any(|r| r.active) {
                return;
            }
        }
        self.assign(points, level, pool);
        for r in 0..self.runs.len() {
            if self.runs[r].active {
                self.count(r);
            }
        }
    }

    /// One pass over all points for all active runs.
    fn assign(&mut self, points: &Points, level: Level, pool: &mut Pool) {
        let (stride, total, runs) = (points.stride, self.total, self.runs.len());
        for (run, packed) in self.runs.iter().zip(&mut self.packed).filter(|(run, _)| run.active) {
            packed.pack(&self.centroids[run.first * stride..], run.k, points.dims, stride);
        }
        let labels = Parts::new(&mut self.labels);
        let sums = Parts::new(&mut self.sums);
        let counts = Parts::new(&mut self.counts);
        let changed = Parts::new(&mut self.changed);
        let farthest = Parts::new(&mut self.farthest);
        let (all, packed, centroids) = (&self.runs, &self.packed, &*self.centroids);
        let group = chunks_per_task(points);
        pool.run(tasks(points), &|t| {
            let chunks = t * group..((t + 1) * group).min(points.chunks());
            // SAFETY: each task has its own row of the first three and its own chunks.
            let (sums, counts, changed, farthest) = unsafe {
                (
                    sums.range(t * total * stride, total * stride),
                    counts.range(t * total, total),
                    changed.range(t * runs, runs),
                    farthest.range(chunks.start * runs, chunks.len() * runs),
                )
            };
            level.run(Pass {
                points,
                runs: all,
                packed,
                centroids,
                chunks,
                labels: &labels,
                sums,
                counts,
                changed,
                farthest,
            });
        });
    }

    /// Adds up the sizes of the clusters of run `r`.
    fn count(&mut self, r: usize) {
        let Run { k, first, .. } = self.runs[r];
        for (j, size) in self.sizes[first..first + k].iter_mut().enumerate() {
            *size = self.counts[first + j..].iter().step_by(self.total).sum();
        }
    }

    /// Centroids become the means of their points; empty clusters take the farthest points, one per chunk at most.
    fn update(&mut self, points: &Points, r: usize) {
        let Run { k, first, .. } = self.runs[r];
        let stride = points.stride;
        let rows = first * stride..(first + k) * stride;
        self.means.clear();
        self.means.resize(k * stride, 0.0);
        for part in self.sums.chunks_exact(self.total * stride) {
            for (sum, s) in self.means.iter_mut().zip(&part[rows.clone()]) {
                *sum += s;
            }
        }
        self.candidates.clear();
        for (j, sum) in (first..).zip(self.means.chunks_exact(stride)) {
            let size = self.sizes[j];
            let row = &mut self.centroids[j * stride..][..stride];
            if size > 0 {
                row.iter_mut().zip(sum).for_each(|(v, s)| *v = (s / f64::from(size)) as f32);
                continue;
            }
            if self.candidates.is_empty() {
                self.candidates.extend(self.farthest.iter().skip(r).step_by(self.runs.len()));
                self.candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            }
            // Taken from the end: the farthest first. None left, or no distance: the cluster stays
            // where it is, empty.
            if let Some((distance, point)) = self.candidates.pop()
                && distance > RESEED_SHARE * points.spread
            {
                row.copy_from_slice(&points.rows[point as usize * stride..][..stride]);
            }
        }
    }
}

/// Tasks of a pass at most: each has its own sums.
const TASKS: usize = 16;

fn chunks_per_task(points: &Points) -> usize {
    points.chunks().div_ceil(TASKS)
}

fn tasks(points: &Points) -> usize {
    points.chunks().div_ceil(chunks_per_task(points))
}

/// Some chunks of one pass.
struct Pass<'a> {
    points: &'a Points,
    runs: &'a [Run],
    packed: &'a [Packed],
    /// `[total][stride]`
    centroids: &'a [f32],
    chunks: Range<usize>,
    labels: &'a Parts<'a, u32>,
    /// `[total][stride]`
    sums: &'a mut [f64],
    /// `[total]`
    counts: &'a mut [u32],
    /// `[runs]`
    changed: &'a mut [u32],
    /// `[chunks][runs]`
    farthest: &'a mut [(f32, u32)],
}

impl WithSimd for Pass<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if is_roomy::<S>() { self.run::<S, 4>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl Pass<'_> {
    #[inline(always)]
    fn run<S: Simd, const P: usize>(mut self, simd: S) {
        let runs = self.runs.len();
        self.changed.fill(0);
        self.farthest.fill((0.0, 0));
        for (at, chunk) in self.chunks.clone().enumerate() {
            let (from, to) = self.points.chunk_range(chunk);
            for first in (from..to).step_by(BLOCK) {
                let count = BLOCK.min(to - first);
                for r in 0..runs {
                    if self.runs[r].active {
                        self.block::<S, P>(simd, r, first, count, at * runs + r);
                    }
                }
            }
        }
    }

    /// One block of at most BLOCK points, for run `r`.
    #[inline(always)]
    fn block<S: Simd, const P: usize>(&mut self, simd: S, r: usize, first: usize, count: usize, farthest: usize) {
        let (points, run) = (self.points, &self.runs[r]);
        let stride = points.stride;
        let Nearest { best, second, index } = nearest::<S, P>(simd, points.block(first), &self.packed[r]);
        let mut new = [0u32; BLOCK];
        for (new, &index) in new.iter_mut().zip(&index) {
            // SAFETY: `index` holds whole numbers from 0 to K.
            *new = unsafe { index.to_int_unchecked::<i32>() } as u32;
        }
        let norms = &points.norms[first..first + BLOCK];
        let mut close = [0u32; BLOCK];
        for (((close, norm), best), second) in close.iter_mut().zip(norms).zip(&best).zip(&second) {
            *close = u32::from(*second > best - points.close * (points.spread + norm));
        }
        if close[..count].iter().any(|&c| c != 0) {
            let centroids = &self.centroids[run.first * stride..(run.first + run.k) * stride];
            for i in (0..count).filter(|&i| close[i] != 0) {
                let x = &points.rows[(first + i) * stride..][..stride];
                let tie = TIE_SHARE * f64::from(points.spread + norms[i]);
                new[i] = exactly_nearest(x, centroids, tie);
            }
        }
        let mut distance = [0.0f32; BLOCK];
        for ((d, norm), top) in distance.iter_mut().zip(norms).zip(&best) {
            *d = norm - 2.0 * top;
        }
        let last = &mut self.farthest[farthest];
        if distance[..count].iter().fold(0.0f32, |a, &d| if d > a { d } else { a }) > last.0 {
            for (i, &d) in distance[..count].iter().enumerate() {
                if d > last.0 {
                    *last = (d, (first + i) as u32);
                }
            }
        }
        // SAFETY: each block of each run belongs to one task.
        let labels = unsafe { self.labels.range(r * points.n + first, count) };
        let sums = &mut self.sums[run.first * stride..(run.first + run.k) * stride];
        let counts = &mut self.counts[run.first..run.first + run.k];
        // The rows of changed points lie anywhere: ask for all of them before the first is read.
        let (mut moved, mut moves) = ([0usize; BLOCK], 0);
        for (i, (label, new)) in labels.iter().zip(&new).enumerate() {
            if label != new {
                moved[moves] = i;
                moves += 1;
                for d in (0..stride).step_by(16) {
                    prefetch(points.rows.as_ptr().wrapping_add((first + i) * stride + d));
                }
            }
        }
        self.changed[r] += moves as u32;
        for &i in &moved[..moves] {
            let (old, new) = (labels[i], new[i]);
            let row = &points.rows[(first + i) * stride..][..stride];
            if old != u32::MAX {
                counts[old as usize] -= 1;
                let sum = &mut sums[old as usize * stride..][..stride];
                sum.iter_mut().zip(row).for_each(|(s, v)| *s -= f64::from(*v));
            }
            counts[new as usize] += 1;
            let sum = &mut sums[new as usize * stride..][..stride];
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
            labels[i] = new;
        }
    }
}

/// The nearest of all centroids by f64; a later one must be nearer by more than `tie`.
#[cold]
fn exactly_nearest(x: &[f32], centroids: &[f32], tie: f64) -> u32 {
    let mut best = (f64::MAX, 0);
    for (j, centroid) in (0..).zip(centroids.chunks_exact(x.len())) {
        let square = |(x, c): (&f32, &f32)| (f64::from(*x) - f64::from(*c)).powi(2);
        let distance: f64 = x.iter().zip(centroid).map(square).sum();
        if distance < best.0 - tie {
            best = (distance, j);
        }
    }
    best.1
}
