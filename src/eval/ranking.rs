//! Pixels ranked by score, the common ground of all threshold-free metrics: exactly, or in bounded memory.
//!
//! Both rankings yield [`Group`]s from the highest score to the lowest: all pixels that no threshold can separate.

/// Pixels of one score, or of one bin of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Its lowest score: `score >= threshold` at this value takes this group and all before it.
    pub score: f32,
    /// Anomalous pixels.
    pub positives: u64,
    /// Known pixels.
    pub negatives: u64,
    /// Those of the anomalous pixels that are known to have one and the same score.
    pub tied_positives: u64,
    /// The known pixels of that same score.
    pub tied_negatives: u64,
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
            Some(Group {
                score: score_of(highest),
                positives,
                negatives,
                tied_positives: positives,
                tied_negatives: negatives,
            })
        })
    }
}

/// A coarse bin for each upper half of a key.
const COARSE: usize = 1 << 16;
/// Fine bins to share out; the sum of both stays under 2^21.
const FINE: u64 = 1 << 20;
/// No key at all: it would be a NaN's.
const NO_KEY: u32 = u32::MAX;

/// A histogram over all `f32`, fine where scores are dense: 40 MiB for any number of pixels.
///
/// The 2^16 intervals of equal upper key bits get bins in proportion to the scores seen in a first look, half of the
/// bins being spread evenly over the range; an interval with 2^16 bins is exact. Scores that many pixels share, as
/// those of a cluster, are counted apart within their bin, for true ties hide nothing. What the bins do hide is bounded
/// by `metrics::PixelMetrics::binning_error`.
#[derive(Debug, Clone)]
pub struct Histogram {
    offset: Vec<u32>,
    bins: Vec<u32>,
    /// The key of each bin that is counted apart.
    common: Vec<u32>,
    counts: Vec<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    positives: u64,
    negatives: u64,
    tied_positives: u64,
    tied_negatives: u64,
}

impl Histogram {
    /// Lays out the bins for scores distributed as `sample`, which should span their range and have their common
    /// values.
    pub fn for_scores(sample: impl IntoIterator<Item = f32>) -> Self {
        let mut keys: Vec<u32> = sample.into_iter().map(key).collect();
        keys.sort_unstable();
        let mut seen = vec![0_u64; COARSE];
        for key in &keys {
            seen[(key >> 16) as usize] += 1;
        }
        let total = keys.len().max(1) as u64;
        let first = keys.first().map_or(0, |key| (key >> 16) as usize);
        let last = keys.last().map_or(0, |key| (key >> 16) as usize);
        let even = FINE / 2 / (last - first + 1) as u64;
        let (mut offset, mut bins) = (Vec::with_capacity(COARSE), Vec::with_capacity(COARSE));
        let mut next = 0_u32;
        for (index, &count) in seen.iter().enumerate() {
            let share = if (first..=last).contains(&index) { even + FINE / 2 * count / total } else { 0 };
            let share = share.clamp(1, 1 << 16) as u32;
            offset.push(next);
            bins.push(share);
            next += share;
        }
        let size = next as usize;
        let mut histogram = Self { offset, bins, common: vec![NO_KEY; size], counts: vec![Counts::default(); size] };
        let mut most = vec![0_u32; size];
        for same in keys.chunk_by(|a, b| a == b) {
            let bin = histogram.bin(same[0]);
            if same.len() as u32 > most[bin] {
                (most[bin], histogram.common[bin]) = (same.len() as u32, same[0]);
            }
        }
        histogram
    }

    fn bin(&self, key: u32) -> usize {
        let coarse = (key >> 16) as usize;
        self.offset[coarse] as usize + ((u64::from(key & 0xffff) * u64::from(self.bins[coarse])) >> 16) as usize
    }

    /// The bin of a key, and whether the key is the one that is counted apart there.
    fn place(&mut self, key: u32) -> (usize, u64) {
        let bin = self.bin(key);
        let common = &mut self.common[bin];
        if *common == NO_KEY {
            *common = key;
        }
        (bin, u64::from(*common == key))
    }

    /// Adds the keys of anomalous and known pixels.
    pub fn add(&mut self, positives: &[u32], negatives: &[u32]) {
        for &key in positives {
            let (bin, tied) = self.place(key);
            self.counts[bin].positives += 1;
            self.counts[bin].tied_positives += tied;
        }
        for &key in negatives {
            let (bin, tied) = self.place(key);
            self.counts[bin].negatives += 1;
            self.counts[bin].tied_negatives += tied;
        }
    }

    /// From the highest bin to the lowest, leaving out empty ones.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        (0..COARSE).rev().flat_map(move |coarse| {
            let bins = self.bins[coarse];
            (0..bins).rev().filter_map(move |fine| {
                let bin = (self.offset[coarse] + fine) as usize;
                let Counts { positives, negatives, tied_positives, tied_negatives } = self.counts[bin];
                if positives + negatives == 0 {
                    return None;
                }
                let low = (u64::from(fine) << 16).div_ceil(u64::from(bins)) as u32;
                let score = score_of((coarse as u32) << 16 | low);
                Some(Group { score, positives, negatives, tied_positives, tied_negatives })
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
