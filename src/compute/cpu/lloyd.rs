//! Lloyd's K-Means for several K at once over the same points.

use super::super::plan::{BLOCK, RESEED_SHARE, TIE_SHARE};
use super::assign::{Packed, nearest};
use super::points::Points;
use super::pool::{Parts, Pool};
use super::simd::{Kernel, Lanes, Level};

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
    pub centroids: Vec<f32>,
    /// Cluster of each point, `[runs][N]`.
    pub labels: Vec<u32>,
    /// Points of each cluster, `[total]`.
    pub sizes: Vec<u32>,
    packed: Vec<Packed>,
    /// `[chunks][total][stride]`
    sums: Vec<f32>,
    /// `[chunks][total]`
    counts: Vec<u32>,
    /// Points that changed their cluster, `[chunks][runs]`.
    changed: Vec<u32>,
    /// Squared distance to the own centroid and index of the farthest point, `[chunks][runs]`.
    farthest: Vec<(f32, u32)>,
    /// Scratch: the farthest points of one run, farthest first.
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
        let (runs, total, chunks) = (self.runs.len(), self.total, points.chunks());
        self.packed.resize_with(runs, Packed::default);
        self.centroids.resize(total * points.stride, 0.0);
        self.sizes.resize(total, 0);
        self.sums.resize(chunks * total * points.stride, 0.0);
        self.counts.resize(chunks * total, 0);
        self.changed.resize(chunks * runs, 0);
        self.farthest.resize(chunks * runs, (0.0, 0));
        self.labels.clear();
        self.labels.resize(runs * points.n, u32::MAX);
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
            for ((c, v), mean) in centroid[..points.dims].iter_mut().zip(row).zip(&points.mean) {
                *c = v - mean;
            }
        }
    }

    /// At most `max_iterations` of assignment and update per run, fewer when at most `converged` labels change; the labels
    /// then belong to the centroids.
    pub fn iterate(&mut self, points: &Points, max_iterations: usize, converged: usize, level: Level, pool: &mut Pool) {
        for _ in 0..max_iterations {
            self.assign(points, true, level, pool);
            for r in 0..self.runs.len() {
                if !self.runs[r].active {
                    continue;
                }
                self.count(r);
                self.runs[r].iterations += 1;
                if self.changed.iter().skip(r).step_by(self.runs.len()).map(|&c| c as usize).sum::<usize>() <= converged {
                    self.runs[r].active = false;
                } else {
                    self.update(points, r);
                }
            }
            if !self.runs.iter().any(|r| r.active) {
                return;
            }
        }
        self.assign(points, false, level, pool);
        for r in 0..self.runs.len() {
            if self.runs[r].active {
                self.count(r);
            }
        }
    }

    /// One pass over all points for all active runs.
    fn assign(&mut self, points: &Points, accumulate: bool, level: Level, pool: &mut Pool) {
        let (stride, total, runs) = (points.stride, self.total, self.runs.len());
        for (run, packed) in self.runs.iter().zip(&mut self.packed).filter(|(run, _)| run.active) {
            packed.pack(&self.centroids[run.first * stride..], run.k, points.dims, stride);
        }
        let labels = Parts::new(&mut self.labels);
        let sums = Parts::new(&mut self.sums);
        let counts = Parts::new(&mut self.counts);
        let changed = Parts::new(&mut self.changed);
        let farthest = Parts::new(&mut self.farthest);
        let (all, packed) = (&self.runs, &self.packed);
        pool.run(points.chunks(), &|c| {
            let (from, to) = points.chunk_range(c);
            // SAFETY: each chunk has its own row of these four.
            let (sums, counts, changed, farthest) = unsafe {
                (
                    sums.range(c * total * stride, total * stride),
                    counts.range(c * total, total),
                    changed.range(c * runs, runs),
                    farthest.range(c * runs, runs),
                )
            };
            let pass =
                Pass { points, runs: all, packed, from, to, accumulate, labels: &labels, sums, counts, changed, farthest };
            level.run(pass);
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
        self.centroids[rows.clone()].fill(0.0);
        for part in self.sums.chunks_exact(self.total * stride) {
            for (c, s) in self.centroids[rows.clone()].iter_mut().zip(&part[rows.clone()]) {
                *c += s;
            }
        }
        self.candidates.clear();
        for j in first..first + k {
            let size = self.sizes[j];
            let row = &mut self.centroids[j * stride..][..stride];
            if size > 0 {
                row.iter_mut().for_each(|v| *v /= size as f32);
                continue;
            }
            if self.candidates.is_empty() {
                self.candidates.extend(self.farthest.iter().skip(r).step_by(self.runs.len()));
                self.candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            }
            // Taken from the end: the farthest first. Too few, or no distance left: the cluster keeps to the mean, empty.
            if let Some((distance, point)) = self.candidates.pop()
                && distance > RESEED_SHARE * points.spread
            {
                row.copy_from_slice(&points.rows[point as usize * stride..][..stride]);
            }
        }
    }
}

/// One chunk of one pass.
struct Pass<'a> {
    points: &'a Points,
    runs: &'a [Run],
    packed: &'a [Packed],
    from: usize,
    to: usize,
    accumulate: bool,
    labels: &'a Parts<'a, u32>,
    /// `[total][stride]`
    sums: &'a mut [f32],
    counts: &'a mut [u32],
    changed: &'a mut [u32],
    farthest: &'a mut [(f32, u32)],
}

impl Kernel for Pass<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Lanes, const P: usize>(self) {
        let points = self.points;
        let (stride, margin) = (points.stride, TIE_SHARE * points.spread);
        for (r, run) in self.runs.iter().enumerate().filter(|(_, run)| run.active) {
            self.counts[run.first..run.first + run.k].fill(0);
            if self.accumulate {
                self.sums[run.first * stride..(run.first + run.k) * stride].fill(0.0);
            }
            (self.changed[r], self.farthest[r]) = (0, (0.0, 0));
        }
        let (mut best, mut index) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for first in (self.from..self.to).step_by(BLOCK) {
            let count = BLOCK.min(self.to - first);
            for (r, run) in self.runs.iter().enumerate().filter(|(_, run)| run.active) {
                nearest::<V, P>(points.block(first), &self.packed[r], margin, &mut best, &mut index);
                // SAFETY: each block of each run belongs to one chunk.
                let labels = unsafe { self.labels.range(r * points.n + first, count) };
                let mut changed = 0;
                for (label, &new) in labels.iter_mut().zip(&index) {
                    // SAFETY: `index` holds whole numbers from 0 to K.
                    let new = unsafe { new.to_int_unchecked::<i32>() } as u32;
                    changed += u32::from(*label != new);
                    *label = new;
                }
                self.changed[r] += changed;
                let counts = &mut self.counts[run.first..run.first + run.k];
                labels.iter().for_each(|&l| counts[l as usize] += 1);
                if !self.accumulate {
                    continue;
                }
                for (i, (norm, top)) in points.norms[first..first + count].iter().zip(&best).enumerate() {
                    let distance = norm - 2.0 * top;
                    if distance > self.farthest[r].0 {
                        self.farthest[r] = (distance, (first + i) as u32);
                    }
                }
                let sums = &mut self.sums[run.first * stride..];
                let rows = points.rows[first * stride..].chunks_exact(stride);
                for (&label, row) in labels.iter().zip(rows) {
                    add_row::<V>(&mut sums[label as usize * stride..][..stride], row);
                }
            }
        }
    }
}

/// `sum += row`; both a whole number of registers long.
#[inline(always)]
fn add_row<V: Lanes>(sum: &mut [f32], row: &[f32]) {
    assert!(sum.len() == row.len() && sum.len().is_multiple_of(V::N));
    for at in (0..sum.len()).step_by(V::N) {
        // SAFETY: whole registers within both slices, by the assertion.
        unsafe {
            let to = sum.as_mut_ptr().add(at);
            V::load(to).add(V::load(row.as_ptr().add(at))).store(to);
        }
    }
}
