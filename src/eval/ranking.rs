//! Pixels ranked by score, the common ground of all threshold-free metrics: exactly, or in bounded memory.
//!
//! Both rankings yield [`Group`]s from the highest score to the lowest: all pixels that no threshold can tell apart.

/// Pixels of one score, or of one bin of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Its lowest score: `score >= threshold` at this value takes this group and all before it.
    pub score: f32,
    /// Anomalous pixels.
    pub positives: u64,
    /// Known pixels.
    pub negatives: u64,
}

/// Maps a score to an integer of the same order; -0.0 and 0.0 are one. NaN has no place in a ranking.
pub fn key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The score of a [`key`].
pub fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7fff_ffff } else { !key })
}

/// Every pixel's score: 4 bytes a pixel.
#[derive(Debug, Clone, Default)]
pub struct Exact {
    positives: Vec<u32>,
    negatives: Vec<u32>,
}

impl Exact {
    /// Takes over the keys of anomalous and known pixels, sorting them.
    pub fn new(mut positives: Vec<u32>, mut negatives: Vec<u32>) -> Self {
        use rayon::slice::ParallelSliceMut;
        positives.par_sort_unstable();
        negatives.par_sort_unstable();
        Self { positives, negatives }
    }

    /// From the highest score to the lowest, one group for each score that occurs.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        let (mut p, mut n) = (self.positives.len(), self.negatives.len());
        std::iter::from_fn(move || {
            let highest = match (p.checked_sub(1), n.checked_sub(1)) {
                (Some(i), Some(j)) => self.positives[i].max(self.negatives[j]),
                (Some(i), None) => self.positives[i],
                (None, Some(j)) => self.negatives[j],
                (None, None) => return None,
            };
            let take = |keys: &[u32], end: &mut usize| {
                let before = *end;
                while *end > 0 && keys[*end - 1] == highest {
                    *end -= 1;
                }
                (before - *end) as u64
            };
            let positives = take(&self.positives, &mut p);
            let negatives = take(&self.negatives, &mut n);
            Some(Group { score: score_of(highest), positives, negatives })
        })
    }
}

/// A coarse bin for each upper half of a key.
const COARSE: usize = 1 << 16;
/// Fine bins to share out; the sum of both stays under 2^21.
const FINE: u64 = 1 << 20;

/// A histogram over all `f32`, fine where scores are dense: 32 MiB for any number of pixels.
///
/// The 2^16 intervals of equal upper key bits get bins in proportion to the scores seen in a first look, half of the
/// bins being spread evenly over the range; an interval with 2^16 bins is exact. What the bins hide is bounded by
/// `metrics::PixelMetrics::binning_error`.
#[derive(Debug, Clone)]
pub struct Histogram {
    offset: Vec<u32>,
    bins: Vec<u32>,
    positives: Vec<u64>,
    negatives: Vec<u64>,
}

impl Histogram {
    /// Lays out the bins for scores distributed as `sample`, which should span their range.
    pub fn for_scores(sample: impl IntoIterator<Item = f32>) -> Self {
        let mut seen = vec![0_u64; COARSE];
        for score in sample {
            seen[(key(score) >> 16) as usize] += 1;
        }
        let total: u64 = seen.iter().sum();
        let first = seen.iter().position(|&count| count > 0).unwrap_or(0);
        let last = seen.iter().rposition(|&count| count > 0).unwrap_or(0);
        let even = FINE / 2 / (last - first + 1) as u64;
        let (mut offset, mut bins) = (Vec::with_capacity(COARSE), Vec::with_capacity(COARSE));
        let mut next = 0_u32;
        for (index, &count) in seen.iter().enumerate() {
            let share = if (first..=last).contains(&index) { even + FINE / 2 * count / total.max(1) } else { 0 };
            let share = share.clamp(1, 1 << 16) as u32;
            offset.push(next);
            bins.push(share);
            next += share;
        }
        Self { offset, bins, positives: vec![0; next as usize], negatives: vec![0; next as usize] }
    }

    fn bin(&self, key: u32) -> usize {
        let coarse = (key >> 16) as usize;
        self.offset[coarse] as usize + ((u64::from(key & 0xffff) * u64::from(self.bins[coarse])) >> 16) as usize
    }

    /// Adds the keys of anomalous and known pixels.
    pub fn add(&mut self, positives: &[u32], negatives: &[u32]) {
        for &key in positives {
            let bin = self.bin(key);
            self.positives[bin] += 1;
        }
        for &key in negatives {
            let bin = self.bin(key);
            self.negatives[bin] += 1;
        }
    }

    /// From the highest bin to the lowest, leaving out empty ones.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        (0..COARSE).rev().flat_map(move |coarse| {
            let bins = self.bins[coarse];
            (0..bins).rev().filter_map(move |fine| {
                let bin = (self.offset[coarse] + fine) as usize;
                let (positives, negatives) = (self.positives[bin], self.negatives[bin]);
                if positives + negatives == 0 {
                    return None;
                }
                let low = (u64::from(fine) << 16).div_ceil(u64::from(bins)) as u32;
                Some(Group { score: score_of((coarse as u32) << 16 | low), positives, negatives })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_and_come_back() {
        let scores = [f32::NEG_INFINITY, -3.5, -1e-30, 0.0, 1e-40, 0.25, 7.0, f32::INFINITY];
        for pair in scores.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
        for score in scores {
            assert_eq!(score_of(key(score)), score);
        }
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn a_bins_score_is_its_lowest_key() {
        let mut histogram = Histogram::for_scores((0..1000).map(|i| i as f32 / 100.0));
        let scores: Vec<u32> = (0..5000).map(|i| key(i as f32 / 499.0)).collect();
        histogram.add(&scores, &[]);
        let mut left = scores.len() as u64;
        for group in histogram.groups().collect::<Vec<_>>().into_iter().rev() {
            let below = scores.iter().filter(|&&k| k < key(group.score)).count() as u64;
            assert_eq!(below, scores.len() as u64 - left);
            left -= group.positives;
        }
        assert_eq!(left, 0);
    }
}
