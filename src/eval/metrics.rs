//! Pixel metrics of a ranking: AP, AUROC, FPR at 95 % TPR, and the curves behind them (`docs/method.md`, M13).

use serde::Serialize;

use super::ranking::Group;

/// Points kept of each curve for drawing.
const CURVE_POINTS: usize = 400;

/// One threshold of the precision-recall and ROC curves; shares are 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// `score >= threshold` is called anomalous.
    pub threshold: f32,
    /// Also the true-positive rate.
    pub recall: f64,
    /// Of what is called anomalous, the share that is.
    pub precision: f64,
    /// Of the known pixels, the share called anomalous.
    pub false_positive_rate: f64,
}

/// The metrics of one score over a set of pixels that has both anomalous and known ones.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelMetrics {
    /// Average precision, the step-wise sum of scikit-learn's `average_precision_score`, 0..1.
    pub ap: f64,
    /// Area under the ROC curve, ties counted half, 0..1.
    pub auroc: f64,
    /// False-positive rate at the highest threshold that finds at least 95 % of the anomalous pixels, 0..1.
    pub fpr95: f64,
    /// The highest pixel F1 of any threshold, 0..1.
    pub best_f1: f64,
    /// The threshold of `best_f1`, which SegmentMeIfYouCan takes for the component metrics.
    pub best_threshold: f32,
    /// No metric above is further than this from its exact value; 0 for an exact ranking.
    pub binning_error: f64,
    /// The curve, evenly thinned in recall and in false-positive rate.
    pub curve: Vec<CurvePoint>,
}

/// Pixels by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PixelCounts {
    /// Anomalous pixels.
    pub anomalous: u64,
    /// Known pixels.
    pub known: u64,
    /// Void pixels of the ground truth.
    pub void: u64,
}

impl std::ops::AddAssign for PixelCounts {
    fn add_assign(&mut self, other: Self) {
        self.anomalous += other.anomalous;
        self.known += other.known;
        self.void += other.void;
    }
}

/// The metrics of a ranking; `None` where they are undefined, that is without any anomalous or without any known pixel.
///
/// A group may be a bin of different scores, of which one is counted apart. The error that the others' unknown order
/// can make is bounded: within a bin an anomalous pixel ranks worst below all of the bin's known pixels of other scores
/// and above all of its anomalous ones, and best the other way round. For groups of true ties the bound is 0.
pub fn pixel_metrics(groups: impl Iterator<Item = Group>, counts: PixelCounts) -> Option<PixelMetrics> {
    if counts.anomalous == 0 || counts.known == 0 {
        return None;
    }
    let (all_positives, all_negatives) = (counts.anomalous as f64, counts.known as f64);
    let (mut tp, mut fp) = (0_u64, 0_u64);
    let (mut ap, mut ap_low, mut ap_high) = (0.0, 0.0, 0.0);
    let (mut area, mut area_error) = (0.0, 0.0);
    let mut fpr95: Option<(f64, f64)> = None;
    let (mut best_f1, mut best_threshold) = (-1.0, f32::INFINITY);
    let mut curve = Vec::new();
    for group in groups {
        let (before_tp, before_fp) = (tp, fp);
        tp += group.positives;
        fp += group.negatives;
        let precision = tp as f64 / (tp + fp) as f64;
        let step = group.positives as f64 / all_positives;
        ap += step * precision;
        area += group.negatives as f64 * (before_tp as f64 + group.positives as f64 / 2.0);
        let Group { tied_positives, tied_negatives, .. } = group;
        let (loose_positives, loose_negatives) = (group.positives - tied_positives, group.negatives - tied_negatives);
        if tied_positives > 0 {
            let step = tied_positives as f64 / all_positives;
            let (low_tp, high_fp) = (before_tp + tied_positives, before_fp + loose_negatives + tied_negatives);
            let (high_tp, low_fp) = (before_tp + loose_positives + tied_positives, before_fp + tied_negatives);
            ap_low += step * (low_tp as f64 / (low_tp + high_fp) as f64);
            ap_high += step * (high_tp as f64 / (high_tp + low_fp) as f64);
        }
        if loose_positives > 0 {
            let step = loose_positives as f64 / all_positives;
            ap_low += step * ((before_tp + 1) as f64 / (before_tp + 1 + fp) as f64);
            ap_high += step * (tp as f64 / (tp + before_fp) as f64);
        }
        let pairs = group.positives as f64 * group.negatives as f64;
        area_error += (pairs - tied_positives as f64 * tied_negatives as f64) / 2.0;
        let enough = |tp: u64| u128::from(tp) * 20 >= u128::from(counts.anomalous) * 19;
        if fpr95.is_none() && enough(tp) {
            // If the pixels of other scores cannot get there alone, those of the common score count in any order.
            let hidden = if enough(before_tp + loose_positives) { group.negatives } else { loose_negatives };
            fpr95 = Some((fp as f64 / all_negatives, hidden as f64 / all_negatives));
        }
        let f1 = 2.0 * tp as f64 / (tp + fp + counts.anomalous) as f64;
        if f1 > best_f1 {
            (best_f1, best_threshold) = (f1, group.score);
        }
        let point = CurvePoint {
            threshold: group.score,
            recall: tp as f64 / all_positives,
            precision,
            false_positive_rate: fp as f64 / all_negatives,
        };
        push_thinned(&mut curve, point);
    }
    let (fpr95, fpr_error) = fpr95.unwrap_or((1.0, 0.0));
    let area_unit = all_positives * all_negatives;
    let binning_error = (ap - ap_low).max(ap_high - ap).max(area_error / area_unit).max(fpr_error);
    Some(PixelMetrics { ap, auroc: area / area_unit, fpr95, best_f1, best_threshold, binning_error, curve })
}

/// Keeps a point only when it is a step away from the last kept one, replacing the last one else so that the end is
/// kept.
fn push_thinned(curve: &mut Vec<CurvePoint>, point: CurvePoint) {
    let step = 1.0 / CURVE_POINTS as f64;
    if let [.., before, last] = curve.as_mut_slice()
        && last.recall - before.recall < step
        && last.false_positive_rate - before.false_positive_rate < step
    {
        *last = point;
    } else {
        curve.push(point);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranking::{Exact, Histogram, key};
    use super::*;

    fn counts(anomalous: u64, known: u64) -> PixelCounts {
        PixelCounts { anomalous, known, void: 0 }
    }

    fn exact(scores: &[(f32, bool)]) -> Option<PixelMetrics> {
        let keys = |wanted: bool| -> Vec<u32> {
            scores.iter().filter(|(_, label)| *label == wanted).map(|(score, _)| key(*score)).collect()
        };
        let (positives, negatives) = (keys(true), keys(false));
        let counts = counts(positives.len() as u64, negatives.len() as u64);
        pixel_metrics(Exact::new(positives, negatives).groups(), counts)
    }

    #[test]
    fn a_hand_worked_ranking() {
        // Ranked: + - + + - (0.9 0.8 0.7 0.6 0.5).
        let metrics = exact(&[(0.9, true), (0.8, false), (0.7, true), (0.6, true), (0.5, false)]).unwrap();
        assert!((metrics.ap - (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0).abs() < 1e-12);
        assert!((metrics.auroc - 4.0 / 6.0).abs() < 1e-12);
        assert!((metrics.fpr95 - 0.5).abs() < 1e-12);
        assert!((metrics.best_f1 - 6.0 / 7.0).abs() < 1e-12);
        assert_eq!(metrics.best_threshold, 0.6);
    }

    #[test]
    fn all_scores_equal_is_chance() {
        let metrics = exact(&[(1.0, true), (1.0, false), (1.0, false), (1.0, false)]).unwrap();
        assert_eq!((metrics.ap, metrics.auroc, metrics.fpr95), (0.25, 0.5, 1.0));
    }

    #[test]
    fn without_both_kinds_it_is_undefined() {
        assert_eq!(exact(&[(1.0, false), (2.0, false)]), None);
        assert_eq!(exact(&[(1.0, true)]), None);
    }

    #[test]
    fn the_histogram_keeps_its_own_error_bound() {
        // A deterministic heavy-tailed mixture with saturated scores, as max softmax gives.
        let scores: Vec<(f32, bool)> = (0..200_000_u32)
            .map(|i| {
                let r = f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
                let anomalous = i % 37 == 0;
                let score = if anomalous { -(r * r * 0.9) } else { -(1.0 - (r * r * r) * 0.7) };
                (score as f32, anomalous)
            })
            .collect();
        let metrics = exact(&scores).unwrap();
        let mut histogram = Histogram::for_scores(scores.iter().step_by(7).map(|(score, _)| *score));
        let keys = |wanted: bool| -> Vec<u32> {
            scores.iter().filter(|(_, label)| *label == wanted).map(|(score, _)| key(*score)).collect()
        };
        let (positives, negatives) = (keys(true), keys(false));
        histogram.add(&positives, &negatives);
        let counts = counts(positives.len() as u64, negatives.len() as u64);
        let binned = pixel_metrics(histogram.groups(), counts).unwrap();
        let difference = (binned.ap - metrics.ap)
            .abs()
            .max((binned.auroc - metrics.auroc).abs())
            .max((binned.fpr95 - metrics.fpr95).abs());
        assert!(difference <= binned.binning_error, "{difference} > {}", binned.binning_error);
        assert!(binned.binning_error < 1e-4, "{}", binned.binning_error);
    }

    #[test]
    fn true_ties_hide_nothing() {
        // Three levels with many pixels of both kinds, as clusters give, on a background that is all different.
        let scores: Vec<(f32, bool)> = (0..90_000_u32)
            .map(|i| {
                let score = if i % 4 == 0 { i as f32 / 9000.0 } else { [1.25, 3.7, 8.1][(i % 3) as usize] };
                (score, i % 29 == 0 || (i % 5 == 0 && i > 60_000))
            })
            .collect();
        let metrics = exact(&scores).unwrap();
        assert_eq!(metrics.binning_error, 0.0);
        let keys = |wanted: bool| -> Vec<u32> {
            scores.iter().filter(|(_, label)| *label == wanted).map(|(score, _)| key(*score)).collect()
        };
        let (positives, negatives) = (keys(true), keys(false));
        let mut histogram = Histogram::for_scores(scores.iter().step_by(7).map(|(score, _)| *score));
        histogram.add(&positives, &negatives);
        let binned = pixel_metrics(histogram.groups(), counts(positives.len() as u64, negatives.len() as u64)).unwrap();
        assert!(binned.binning_error < 1e-4, "{}", binned.binning_error);
        assert!((binned.ap - metrics.ap).abs() <= binned.binning_error);
    }

    #[test]
    fn the_curve_is_thin_and_ends_at_one() {
        let scores: Vec<(f32, bool)> = (0..50_000).map(|i| (i as f32, i % 3 == 0)).collect();
        let curve = exact(&scores).unwrap().curve;
        assert!(curve.len() < 3 * CURVE_POINTS, "{}", curve.len());
        let last = curve.last().unwrap();
        assert_eq!((last.recall, last.false_positive_rate), (1.0, 1.0));
    }
}
