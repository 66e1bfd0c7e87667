//! Per-pixel statistics of the logits on the grid (`docs/method.md` M2, M4).

use ndarray::ArrayView3;
use pulp::{Simd, WithSimd};

use super::super::plan::{Blend, Plan};
use super::super::resample::Resample;
use super::pool::{Parts, Pool};
use crate::simd::Level;

/// Pixels that are computed at once.
const LANES: usize = 16;

/// The statistics of each pixel, `[N]` each, and scratch memory.
#[derive(Default)]
pub(crate) struct Statistics {
    /// The terms over pixels, summed.
    pub pixel: Vec<f32>,
    /// The terms over clusters, summed, before the mean is taken.
    pub cluster: Vec<f32>,
    /// `max_c L_c`
    pub confidence: Vec<f32>,
    resample: Option<Resample>,
    contiguous: Vec<f32>,
    /// Logits of each grid row, `[h_0][C][w_0 rounded up]`.
    logits: Vec<f32>,
    /// One row of logits between the two axes, `[h_0][w]`.
    between: Vec<f32>,
}

impl Statistics {
    /// Takes all of them but the codebook's distance; without classes that is the constants.
    pub fn fill(&mut self, logits: &ArrayView3<'_, f32>, plan: &Plan, level: Level, pool: &mut Pool) {
        let (classes, height, width) = logits.dim();
        if classes == 0 {
            let constants = [(&mut self.pixel, plan.pixel.constant), (&mut self.cluster, plan.cluster.constant)];
            for (buffer, value) in constants.into_iter().chain([(&mut self.confidence, 0.0)]) {
                buffer.clear();
                buffer.resize(plan.pixels, value);
            }
            return;
        }
        let values = match logits.as_slice() {
            Some(values) => values,
            None => {
                self.contiguous.clear();
                self.contiguous.extend(logits.iter());
                &self.contiguous
            }
        };
        if self.resample.as_ref().is_none_or(|r| (r.from(), r.to()) != ((height, width), plan.grid)) {
            self.resample = None;
        }
        let resample = &*self.resample.get_or_insert_with(|| Resample::to_grid((height, width), plan.grid));
        let padded = plan.grid.1.next_multiple_of(LANES);
        for buffer in [&mut self.pixel, &mut self.cluster, &mut self.confidence] {
            buffer.resize(plan.pixels, 0.0);
        }
        self.logits.resize(plan.grid.0 * classes * padded, 0.0);
        self.between.resize(plan.grid.0 * width, 0.0);
        let pixel = Parts::new(&mut self.pixel);
        let cluster = Parts::new(&mut self.cluster);
        let confidence = Parts::new(&mut self.confidence);
        let (rows, between) = (Parts::new(&mut self.logits), Parts::new(&mut self.between));
        pool.run(plan.grid.0, &|y| {
            let (at, count) = (y * plan.grid.1, plan.grid.1);
            // SAFETY: each grid row has its own part of all five.
            let row = unsafe {
                Row {
                    y,
                    values,
                    height,
                    resample,
                    plan,
                    padded,
                    rows: rows.range(y * classes * padded, classes * padded),
                    between: between.range(y * width, width),
                    pixel: pixel.range(at, count),
                    cluster: cluster.range(at, count),
                    confidence: confidence.range(at, count),
                }
            };
            level.run(row);
        });
    }

    /// Adds the distance to the codebook, `[N]`, to both sums.
    pub fn add_bank(&mut self, distance: &[f32], plan: &Plan) {
        for (sum, coefficient) in [(&mut self.pixel, plan.pixel.bank), (&mut self.cluster, plan.cluster.bank)] {
            for (s, d) in sum.iter_mut().zip(distance) {
                *s += coefficient * d;
            }
        }
    }
}

struct Row<'a> {
    y: usize,
    /// `[C, h, w]`
    values: &'a [f32],
    height: usize,
    resample: &'a Resample,
    plan: &'a Plan,
    padded: usize,
    /// `[C][padded]`
    rows: &'a mut [f32],
    between: &'a mut [f32],
    pixel: &'a mut [f32],
    cluster: &'a mut [f32],
    confidence: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        self.resample();
        let softmax = self.plan.pixel.needs_exponentials() || self.plan.cluster.needs_exponentials();
        let queries = self.plan.pixel.needs_queries() || self.plan.cluster.needs_queries();
        for x in (0..self.pixel.len()).step_by(LANES) {
            self.score(x, softmax);
            if queries {
                self.add_queries(x);
            }
        }
    }
}

impl Row<'_> {
    /// One grid row of all classes: down the columns first, which vectorises, then along the row.
    #[inline(always)]
    fn resample(&mut self) {
        let Resample { x: xs, y: ys } = self.resample;
        let width = xs.input;
        for (c, row) in self.rows.chunks_exact_mut(self.padded).enumerate() {
            self.between.fill(0.0);
            for t in 0..ys.taps {
                let weight = ys.weights[self.y * ys.taps + t];
                let from = (c * self.height + ys.start[self.y] as usize + t) * width;
                for (sum, v) in self.between.iter_mut().zip(&self.values[from..from + width]) {
                    *sum += weight * v;
                }
            }
            if xs.is_identity() {
                row[..width].copy_from_slice(self.between);
                continue;
            }
            for ((to, &start), weights) in row.iter_mut().zip(&xs.start).zip(xs.weights.chunks_exact(xs.taps)) {
                let from = &self.between[start as usize..][..weights.len()];
                *to = from.iter().zip(weights).map(|(v, w)| v * w).sum();
            }
        }
    }

    /// The statistics of `LANES` pixels from column `x` on.
    #[inline(always)]
    fn score(&mut self, x: usize, softmax: bool) {
        let classes = || self.rows.chunks_exact(self.padded).map(|row| lanes(&row[x..]));
        let mut top = [f32::MIN; LANES];
        for logits in classes() {
            for (t, &l) in top.iter_mut().zip(logits) {
                *t = if l > *t { l } else { *t };
            }
        }
        // Sums of exp(l - max) and of (l - max) exp(l - max).
        let (mut z, mut moment) = ([0.0f32; LANES], [0.0f32; LANES]);
        if softmax {
            for logits in classes() {
                for i in 0..LANES {
                    let below = logits[i] - top[i];
                    let e = exp(below);
                    z[i] += e;
                    moment[i] += below * e;
                }
            }
        }
        let count = LANES.min(self.pixel.len() - x);
        for i in 0..count {
            let (msp, log_z, entropy) = if softmax {
                let log_z = z[i].ln();
                (-1.0 / z[i], log_z, log_z - moment[i] / z[i])
            } else {
                (0.0, 0.0, 0.0)
            };
            let sum = |b: &Blend| {
                b.constant + b.msp * msp - b.max_logit * top[i] + b.entropy * entropy - b.energy * (top[i] + log_z)
            };
            self.pixel[x + i] = sum(&self.plan.pixel);
            self.cluster[x + i] = sum(&self.plan.cluster);
            self.confidence[x + i] = top[i];
        }
    }
}

impl Row<'_> {
    /// Adds what depends on the shares that queries claim, for `LANES` pixels from column `x` on.
    #[inline(always)]
    fn add_queries(&mut self, x: usize) {
        let (mut claimed, mut accepted) = ([0.0f32; LANES], [0.0f32; LANES]);
        for row in self.rows.chunks_exact(self.padded) {
            let shares = lanes(&row[x..]);
            for i in 0..LANES {
                claimed[i] += shares[i];
                // tanh by an exponential that cannot overflow.
                let e = exp(-2.0 * shares[i].abs());
                accepted[i] += ((1.0 - e) / (1.0 + e)).copysign(shares[i]);
            }
        }
        let count = LANES.min(self.pixel.len() - x);
        for i in 0..count {
            let sum = |b: &Blend| b.no_object * (1.0 - claimed[i]) - b.rba * accepted[i];
            self.pixel[x + i] += sum(&self.plan.pixel);
            self.cluster[x + i] += sum(&self.plan.cluster);
        }
    }
}

#[inline(always)]
fn lanes(values: &[f32]) -> &[f32; LANES] {
    let (lanes, _) = values.split_first_chunk().unwrap_or((&[0.0; LANES], &[]));
    lanes
}

/// `e^x` for `x <= 0`, relative error below 2e-7 (0 far below); plain arithmetic, so that it vectorises.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number
    let x = if x < -87.0 { -87.0 } else { x };
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4; // ln 2 in two parts
    let series =
        1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    // SAFETY: n is a whole number within -126..=0.
    let exponent = unsafe { n.to_int_unchecked::<i32>() } + 127;
    series * f32::from_bits((exponent as u32) << 23)
}

#[cfg(test)]
mod tests {
    #[test]
    fn exponential_is_accurate() {
        for i in 0..8700 {
            let x = -i as f32 / 100.0;
            let (got, want) = (super::exp(x), f64::from(x).exp());
            assert!((f64::from(got) - want).abs() <= 3e-7 * want, "exp({x}) = {got}, want {want}");
        }
    }
}
