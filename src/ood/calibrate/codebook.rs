//! The codebook of ordinary features, and how well it represents frames that it was not made from.

use std::sync::Arc;

use ndarray::{Array2, s};

use super::frames::FrameStore;
use super::term::MeasuredTerm;
use crate::compute::cpu::Cpu;
use crate::compute::{Backend, Clustering, Codebook, Detection, Seeds, Size, Statistic, Target, Unit};
use crate::ood::calibration::{BankFigures, Calibration};
use crate::{Error, Result};

/// Grid pixels taken from a frame for the codebook, at most.
const POINTS_PER_FRAME: usize = 400;
/// Bytes of the feature vectors that a codebook is made from, at most.
const MOST_POINT_BYTES: usize = 128 << 20;
/// Centroids of a codebook of the default size, at most.
const DEFAULT_CENTROIDS: usize = 4096;
/// Frames that the codebook was made from and frames that it was not, whose distances to it are compared, at most.
const COMPARED_FRAMES: usize = 16;
/// Lloyd iterations of the codebook.
const CODEBOOK_ITERATIONS: usize = 15;

/// The size of a codebook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodebookSize {
    /// None is made.
    None,
    /// So many centroids.
    Centroids(usize),
    /// 4,096 centroids, or half as many as there are feature vectors where these are too few.
    Default,
}

/// Centroids of the features of every other frame.
pub(super) fn make_codebook(
    frames: &mut FrameStore,
    size: CodebookSize,
    calibration: &mut Calibration,
) -> Result<Arc<Codebook>> {
    let mut cpu = Cpu::new(None)?;
    let mut rows: Vec<f32> = Vec::new();
    let (mut points, mut dims) = (0, 0);
    let taken = frames.len().div_ceil(2);
    for index in (0..frames.len()).step_by(2) {
        let features = frames.with_frame(index, |maps| {
            if maps.features.is_empty() {
                return Err(Error::usage("the model has no feature output, so no codebook can be made"));
            }
            cpu.grid_features(maps, true)
        })?;
        let (pixels, width) = features.dim();
        dims = width;
        let most = (MOST_POINT_BYTES / (4 * dims) / taken).clamp(1, POINTS_PER_FRAME);
        // An odd step from a start that moves from frame to frame visits all columns of the grid in turn.
        let step = (pixels / most).max(1) | 1;
        for pixel in (index % step..pixels).step_by(step).take(most) {
            rows.extend(features.slice(s![pixel, ..]));
            points += 1;
        }
    }
    let centroids = match size {
        CodebookSize::Centroids(centroids) => centroids,
        CodebookSize::Default | CodebookSize::None => DEFAULT_CENTROIDS.min(points / 2).max(2),
    };
    if points < 2 * centroids {
        return Err(Error::failed(format!(
            "calibration: {points} feature vectors are too few for a codebook of {centroids}"
        ))
        .hint("give more footage, or a smaller --codebook"));
    }
    let points =
        Array2::from_shape_vec((points, dims), rows).map_err(|error| Error::failed(format!("codebook: {error}")))?;
    let vectors = points.nrows();
    let found = cpu.kmeans(points.view(), Seeds::PlusPlus { k: centroids, seed: 0 }, CODEBOOK_ITERATIONS)?;
    calibration.bank = Some(BankFigures { centroids, vectors, held_back_auroc: 0.5 });
    Ok(Arc::new(Codebook { centroids: found.centroids }))
}

/// The area under the ROC curve by which the distance to the codebook tells pixels of frames that it was not made from
/// from those of frames that it was: 0.5 where ordinary frames it never saw look the same to it.
pub(super) fn held_back_auroc(
    frames: &mut FrameStore,
    backend: &mut dyn Backend,
    codebook: &Arc<Codebook>,
) -> Result<f64> {
    let term =
        MeasuredTerm { statistic: Statistic::Bank, unit: Unit::Pixel, k: Vec::new(), seed: 0, unit_length: true };
    let recipe = term.recipe(Some(codebook));
    let mut detection = Detection::default();
    let mut distances = [Vec::new(), Vec::new()];
    let step = (frames.len() / COMPARED_FRAMES).max(1) | 1;
    for index in (0..frames.len()).step_by(step) {
        frames.with_frame(index, |maps| {
            let (_, height, width) = maps.features.first().map_or(maps.logits.dim(), |map| map.dim());
            backend.detect(0, maps, &recipe, Target::scores(Size { width, height }), &mut detection)?;
            distances[index % 2].extend(detection.grid_score.iter().copied());
            Ok(())
        })?;
    }
    let [own, held_back] = distances;
    Ok(auroc(own, held_back))
}

/// The probability that a value of `high` is above one of `low`, ties counted half.
fn auroc(mut low: Vec<f32>, high: Vec<f32>) -> f64 {
    low.sort_unstable_by(f32::total_cmp);
    let rank = |value: &f32| {
        let below = low.partition_point(|other| other < value);
        let up_to = low.partition_point(|other| other <= value);
        (below + up_to) as f64 / 2.0
    };
    let sum: f64 = high.iter().map(rank).sum();
    sum / (low.len().max(1) * high.len().max(1)) as f64
}
