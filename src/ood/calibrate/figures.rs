//! Figures of measured values: ordinary frames, means, deviations and thresholds.

use ndarray::{Array2, ArrayView2, s};

use crate::{Error, Result};

/// Values of a term that are kept of a frame, at most: of a larger grid every second row and column, or every third, ...
const MOST_VALUES: usize = 1 << 16;
/// A frame further than this many (scaled) median absolute deviations from the median is odd.
const ODD_DEVIATIONS: f64 = 6.0;
/// At most this share of the frames may be odd.
const MAX_ODD_SHARE: f64 = 0.25;

/// A frame's values, or of more than [`MOST_VALUES`] some in even steps.
pub(super) fn thinned(values: ArrayView2<'_, f32>) -> Array2<f32> {
    let step = (1..).find(|step| values.len() / (step * step) <= MOST_VALUES).unwrap_or(1);
    values.slice(s![step / 2..;step, step / 2..;step]).to_owned()
}

/// The values of all frames.
pub(super) fn all<'a>(frames: impl IntoIterator<Item = &'a Array2<f32>>) -> Vec<f32> {
    frames.into_iter().flatten().copied().collect()
}

/// The share of pixels that a threshold found on every other frame marks on the rest, both ways round and averaged: what
/// the threshold does to ordinary frames that it was not chosen on.
pub(super) fn held_back_share(scores: &[Array2<f32>], share: f64) -> Option<f64> {
    let [mut even, mut odd] = [0, 1].map(|first| all(scores.iter().skip(first).step_by(2)));
    if even.is_empty() || odd.is_empty() {
        return None;
    }
    let limits = [threshold(&mut even, share), threshold(&mut odd, share)];
    let marked = |scores: &[f32], limit: f32| {
        scores.iter().filter(|score| **score >= limit).count() as f64 / scores.len() as f64
    };
    Some((marked(&odd, limits[0]) + marked(&even, limits[1])) / 2.0)
}

/// Which frames are ordinary, from the values `[term][frame]`.
pub(super) fn ordinary_frames(values: &[Vec<Array2<f32>>]) -> Result<Vec<bool>> {
    let frames = values.first().map_or(0, Vec::len);
    let mut keep = vec![true; frames];
    for term in values {
        let means: Vec<f64> = term.iter().map(mean).collect();
        let middle = median(&means);
        let distances: Vec<f64> = means.iter().map(|value| (value - middle).abs()).collect();
        // 1.4826 makes it the standard deviation of normally distributed means. A floor keeps very even footage from
        // calling its own noise odd.
        let scale = (1.4826 * median(&distances)).max(1e-3 * middle.abs()).max(1e-9);
        for (keep, distance) in keep.iter_mut().zip(&distances) {
            *keep &= *distance <= ODD_DEVIATIONS * scale;
        }
    }
    let odd = keep.iter().filter(|keep| !**keep).count();
    if odd as f64 > MAX_ODD_SHARE * frames as f64 {
        return Err(Error::failed(format!(
            "calibration: {odd} of {frames} frames are outliers, at most a quarter may be"
        ))
        .hint("remove what is not ordinary driving, such as parking, tunnels or covered lenses"));
    }
    Ok(keep)
}

fn mean(values: &Array2<f32>) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

pub(super) fn mean_and_deviation(frames: &[Array2<f32>]) -> (f64, f64) {
    let count = frames.iter().map(Array2::len).sum::<usize>().max(1) as f64;
    let mean = frames.iter().flatten().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = frames.iter().flatten().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// The score that `share` of the pixels reach or pass.
pub(super) fn threshold(scores: &mut [f32], share: f64) -> f32 {
    if scores.is_empty() {
        return f32::INFINITY;
    }
    let above = (share * scores.len() as f64).round() as usize;
    let index = scores.len() - above.clamp(1, scores.len());
    *scores.select_nth_unstable_by(index, f32::total_cmp).1
}
