//! Component metrics as SegmentMeIfYouCan defines them (arXiv 2104.14812; `docs/method.md`, M14).
//!
//! A ground truth component's sIoU is its intersection with the predicted components that touch it, over their union,
//! from which the pixels that belong to other ground truth components are taken out. A predicted component's PPV is the
//! share of its pixels on ground truth components. At a threshold t a ground truth component with sIoU >= t is a true
//! positive and any other one a false negative; a predicted component with PPV < t is a false positive; F1 = 2 TP /
//! (2 TP + FN + FP) over all components of the set. As in the benchmark's own code, predictions on void pixels are
//! cleared before labelling, small predicted components are dropped, and small ground truth components become void.

use std::collections::BTreeMap;

use crate::ood::components::{Components, DROPPED, Run};

/// Ground truth value of a known pixel.
pub const KNOWN: u8 = 0;
/// Ground truth value of an anomalous pixel.
pub const ANOMALY: u8 = 1;
/// Ground truth value of a pixel that is left out.
pub const VOID: u8 = 255;

/// The sIoU thresholds 0.25, 0.30, ... 0.75 in twentieths.
const THRESHOLDS: [u64; 11] = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Components with fewer pixels do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// For predicted components.
    pub predicted: u64,
    /// For ground truth components.
    pub truth: u64,
}

impl Default for SizeLimits {
    /// The benchmark's for its anomaly track; its obstacle track takes 50 and 10.
    fn default() -> Self {
        Self { predicted: 500, truth: 100 }
    }
}

/// Sums over the components of one or more images.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    siou: f64,
    truth: u64,
    ppv: f64,
    predicted: u64,
    true_positives: [u64; 11],
    false_positives: [u64; 11],
}

/// The component metrics; a mean over nothing is `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComponentMetrics {
    /// Mean sIoU of the ground truth components, 0..1.
    pub siou: Option<f64>,
    /// Mean positive predictive value of the predicted components, 0..1.
    pub ppv: Option<f64>,
    /// F1 averaged over the sIoU thresholds, 0..1.
    pub f1: Option<f64>,
    /// Ground truth components.
    pub truth: u64,
    /// Predicted components.
    pub predicted: u64,
}

impl Tally {
    /// Adds the components of other images.
    pub fn add(&mut self, other: &Self) {
        self.siou += other.siou;
        self.truth += other.truth;
        self.ppv += other.ppv;
        self.predicted += other.predicted;
        for index in 0..THRESHOLDS.len() {
            self.true_positives[index] += other.true_positives[index];
            self.false_positives[index] += other.false_positives[index];
        }
    }

    /// The metrics of all that was added.
    pub fn metrics(&self) -> ComponentMetrics {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let f1 = |index: usize| {
            let tp = self.true_positives[index];
            2.0 * tp as f64 / (tp + self.truth + self.false_positives[index]) as f64
        };
        let any = self.truth + self.predicted > 0;
        ComponentMetrics {
            siou: mean(self.siou, self.truth),
            ppv: mean(self.ppv, self.predicted),
            f1: any.then(|| (0..THRESHOLDS.len()).map(f1).sum::<f64>() / THRESHOLDS.len() as f64),
            truth: self.truth,
            predicted: self.predicted,
        }
    }

    fn add_truth(&mut self, intersection: u64, union: u64) {
        self.siou += intersection as f64 / union as f64;
        self.truth += 1;
        for (index, threshold) in THRESHOLDS.iter().enumerate() {
            self.true_positives[index] += u64::from(intersection * 20 >= threshold * union);
        }
    }

    fn add_predicted(&mut self, intersection: u64, size: u64) {
        self.ppv += intersection as f64 / size as f64;
        self.predicted += 1;
        for (index, threshold) in THRESHOLDS.iter().enumerate() {
            self.false_positives[index] += u64::from(intersection * 20 < threshold * size);
        }
    }
}

/// Compares predictions with ground truth, image by image, reusing its buffers.
#[derive(Debug, Default)]
pub struct ComponentScorer {
    predicted: Components,
    truth: Components,
    mask: Vec<u8>,
}

impl ComponentScorer {
    /// The tally of one image: `marked(i)` says whether pixel `i` is called anomalous, `truth` has [`KNOWN`],
    /// [`ANOMALY`] and [`VOID`] pixels, row-major, `width` columns.
    pub fn score(&mut self, marked: impl Fn(usize) -> bool, truth: &[u8], width: usize, limits: SizeLimits) -> Tally {
        self.mask.clear();
        self.mask.extend(truth.iter().map(|&value| u8::from(value == ANOMALY)));
        self.truth.label(&self.mask, width, limits.truth);
        for (index, (mask, &value)) in self.mask.iter_mut().zip(truth).enumerate() {
            *mask = u8::from(value != VOID && marked(index));
        }
        self.predicted.label(&self.mask, width, limits.predicted);
        tally(&self.truth, &self.predicted)
    }
}

fn tally(truth: &Components, predicted: &Components) -> Tally {
    let mut sizes = predicted.areas().to_vec();
    let mut shared: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for_each_overlap(truth.runs(), predicted.runs(), |truth, predicted, pixels| match (truth, predicted) {
        (_, DROPPED) => {}
        (DROPPED, predicted) => sizes[predicted as usize] -= pixels,
        pair => *shared.entry(pair).or_default() += pixels,
    });
    let mut hit_of_truth = vec![0; truth.areas().len()];
    let mut hit_of_predicted = vec![0; sizes.len()];
    for (&(t, p), &pixels) in &shared {
        hit_of_truth[t as usize] += pixels;
        hit_of_predicted[p as usize] += pixels;
    }
    let mut result = Tally::default();
    for (t, &size) in truth.areas().iter().enumerate() {
        let intersection = hit_of_truth[t];
        // Of each touching prediction, what lies on other ground truth components is taken out of the union.
        let outside: u64 = shared
            .range((t as u32, 0)..=(t as u32, u32::MAX))
            .map(|(&(_, p), &pixels)| sizes[p as usize] - (hit_of_predicted[p as usize] - pixels))
            .sum();
        result.add_truth(intersection, outside + size - intersection);
    }
    for (&intersection, &size) in hit_of_predicted.iter().zip(&sizes) {
        if size > 0 {
            result.add_predicted(intersection, size);
        }
    }
    result
}

/// Calls `visit(component of a, component of b, pixels)` for every stretch of pixels that a run of each covers.
fn for_each_overlap(a: &[Run], b: &[Run], mut visit: impl FnMut(u32, u32, u64)) {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.row == y.row {
            let (start, end) = (x.start.max(y.start), x.end.min(y.end));
            if start < end {
                visit(x.component, y.component, u64::from(end - start));
            }
        }
        if (x.row, x.end) <= (y.row, y.end) {
            i += 1;
        } else {
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of `#` anomaly, `?` void, anything else known, beside rows of `#` marked.
    fn score(truth: &[&str], marked: &[&str], limits: SizeLimits) -> Tally {
        let width = truth[0].len();
        let truth: Vec<u8> = truth
            .concat()
            .bytes()
            .map(|c| match c {
                b'#' => ANOMALY,
                b'?' => VOID,
                _ => KNOWN,
            })
            .collect();
        let marked = marked.concat().into_bytes();
        ComponentScorer::default().score(|index| marked[index] == b'#', &truth, width, limits)
    }

    const ANY: SizeLimits = SizeLimits { predicted: 1, truth: 1 };

    #[test]
    fn one_component_half_covered() {
        // Truth 4 pixels; predicted 3 of which 2 on it: sIoU 2 / (3 + 4 - 2), PPV 2/3.
        let metrics = score(&["####..", "......"], &["..###.", "......"], ANY).metrics();
        assert!((metrics.siou.unwrap() - 0.4).abs() < 1e-12);
        assert!((metrics.ppv.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        // True positive for t = 0.25 .. 0.40 (4 of 11), false positive for t = 0.70, 0.75.
        assert!((metrics.f1.unwrap() - 4.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn one_prediction_over_two_components_is_adjusted() {
        // Two truths of 2 and 3 pixels, one prediction of 7 over both with 2 between: for the first truth the union is
        // 7 + 2 - 2 - 3 = 4, sIoU 2/4; for the second 7 + 3 - 3 - 2 = 5, sIoU 3/5. PPV 5/7.
        let tally = score(&["##..###"], &["#######"], ANY);
        let metrics = tally.metrics();
        assert!((metrics.siou.unwrap() - (0.5 + 0.6) / 2.0).abs() < 1e-12);
        assert!((metrics.ppv.unwrap() - 5.0 / 7.0).abs() < 1e-12);
        assert_eq!(tally.true_positives, [2, 2, 2, 2, 2, 2, 1, 1, 0, 0, 0]);
        assert_eq!(tally.false_positives, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn two_predictions_on_one_component_count_together() {
        // Truth 6; predictions of 2 and 3, all on it: sIoU 5/6, both PPV 1.
        let metrics = score(&["######"], &["##.###"], ANY).metrics();
        assert!((metrics.siou.unwrap() - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(metrics.ppv, Some(1.0));
        assert_eq!((metrics.truth, metrics.predicted), (1, 2));
        assert_eq!(metrics.f1, Some(1.0));
    }

    #[test]
    fn void_cuts_predictions_before_labelling() {
        // The prediction is cut into 1 and 2 pixels; the right part has PPV 0.
        let metrics = score(&["##?..."], &["#####."], ANY).metrics();
        assert_eq!((metrics.truth, metrics.predicted), (1, 2));
        assert_eq!(metrics.siou, Some(1.0));
        assert_eq!(metrics.ppv, Some(0.5));
    }

    #[test]
    fn small_components_do_not_count() {
        let limits = SizeLimits { predicted: 3, truth: 2 };
        // The lone truth pixel becomes void: the left prediction keeps 2 of its 3 pixels, none right. The single
        // predicted pixel on the right truth is dropped, so that truth is missed.
        let tally = score(&["#...##"], &["###..#"], limits);
        let metrics = tally.metrics();
        assert_eq!((metrics.truth, metrics.predicted), (1, 1));
        assert_eq!((metrics.siou, metrics.ppv, metrics.f1), (Some(0.0), Some(0.0), Some(0.0)));
    }

    #[test]
    fn corners_connect() {
        let metrics = score(&["#..", ".#.", "..#"], &["#..", ".#.", "..#"], ANY).metrics();
        assert_eq!((metrics.truth, metrics.predicted, metrics.f1), (1, 1, Some(1.0)));
    }

    #[test]
    fn nothing_at_all_is_undefined() {
        let metrics = score(&["..."], &["..."], ANY).metrics();
        assert_eq!((metrics.siou, metrics.ppv, metrics.f1), (None, None, None));
    }

    #[test]
    fn f1_is_taken_over_the_whole_set() {
        let mut all = score(&["##.."], &["##.."], ANY);
        all.add(&score(&["##.."], &["...."], ANY));
        // One hit, one miss at every threshold: 2 / (2 + 1).
        assert!((all.metrics().f1.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(all.metrics().siou, Some(0.5));
    }
}
