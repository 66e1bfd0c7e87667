//! Calibration on ordinary footage (`docs/method.md`, M11): frames are kept as the network saw them, then measured.
//!
//! Robust to a few odd frames: a frame whose mean of any term is far from the median of the frames' means, in units of
//! their median absolute deviation, is left out; with too many of these the footage is refused.

mod codebook;
mod figures;
mod frames;
mod term;

use ndarray::Array2;

pub use self::codebook::CodebookSize;
use self::codebook::{held_back_auroc, make_codebook};
use self::figures::{all, held_back_share, mean_and_deviation, ordinary_frames, thinned, threshold};
pub use self::frames::{FrameStore, MIN_FRAMES};
use self::frames::{check_footage, constant_footage};
use self::term::MeasuredTerm;
use super::alarm::EventsConfig;
use super::alarm::still::StillWatcher;
use super::calibration::{CalibratedMethod, Calibration, TermStatistics};
use super::method::Method;
use crate::compute::{Backend, Detection, Statistic, Target};
use crate::{Error, Result};

/// The settings of a calibration.
#[derive(Debug, Clone)]
pub struct CalibrateOptions {
    /// Share of ordinary pixels that the thresholds may mark, 0..1.
    pub false_positive_share: f64,
    /// The codebook to make.
    pub codebook: CodebookSize,
    /// Methods to find thresholds for.
    pub methods: Vec<Method>,
    /// Names of the network's classes, or empty.
    pub classes: Vec<String>,
    /// The rules for alarms that ordinary regions must stay below.
    pub events: EventsConfig,
}

/// Measures the kept frames and fills in `calibration`.
///
/// # Errors
/// The footage is too short, does not change, or is odd in too many frames; the message says what is needed.
pub fn calibrate(
    frames: &mut FrameStore,
    backend: &mut dyn Backend,
    options: &CalibrateOptions,
    calibration: &mut Calibration,
    mut progress: impl FnMut(),
) -> Result<()> {
    check_footage(frames)?;
    let needs_codebook =
        options.methods.iter().flat_map(|method| &method.recipe.terms).any(|term| term.statistic == Statistic::Bank);
    let codebook = match options.codebook {
        CodebookSize::None if needs_codebook => {
            return Err(Error::usage("a bank method needs a codebook").hint("--codebook 1024 makes one"));
        }
        CodebookSize::None => None,
        size => Some(make_codebook(frames, size, calibration)?),
    };
    let mut terms: Vec<MeasuredTerm> = Vec::new();
    for method in &options.methods {
        for term in &method.recipe.terms {
            let measured = MeasuredTerm::new(term, &method.recipe);
            if !terms.contains(&measured) {
                terms.push(measured);
            }
        }
    }
    // [term][frame]: the term's values on its grid. Frames that the codebook was made from would flatter it, so with a
    // codebook only the others are measured.
    let measured: Vec<usize> = (0..frames.len()).filter(|index| codebook.is_none() || index % 2 == 1).collect();
    let mut values: Vec<Vec<Array2<f32>>> = vec![Vec::new(); terms.len()];
    let mut detection = Detection::default();
    for &index in &measured {
        frames.with_frame(index, |maps| {
            for (term, values) in terms.iter().zip(&mut values) {
                let recipe = term.recipe(codebook.as_ref());
                backend.detect(0, maps, &recipe, Target::scores(recipe.grid.size(maps)), &mut detection)?;
                values.push(thinned(detection.grid_score.view()));
            }
            Ok(())
        })?;
        progress();
    }
    let keep = ordinary_frames(&values)?;
    calibration.footage.frames = measured.len();
    calibration.footage.odd_frames = keep.iter().filter(|keep| !**keep).count();
    calibration.footage.false_positive_share = options.false_positive_share;
    for values in &mut values {
        let mut kept = keep.iter();
        values.retain(|_| kept.next().copied().unwrap_or(false));
    }
    let statistics: Vec<(f64, f64)> = values.iter().map(|frames| mean_and_deviation(frames)).collect();
    for (term, &(mean, deviation)) in terms.iter().zip(&statistics) {
        if deviation.is_nan() || deviation <= 1e-6 * mean.abs().max(1e-6) {
            return Err(constant_footage());
        }
        let known = calibration.statistics.iter().any(|entry| {
            (entry.statistic, entry.unit, &entry.k, entry.grid) == (term.statistic, term.unit, &term.k, term.grid)
        });
        if !known {
            calibration.statistics.push(TermStatistics {
                statistic: term.statistic,
                unit: term.unit,
                k: term.k.clone(),
                grid: term.grid,
                mean: mean as f32,
                std: deviation as f32,
            });
        }
    }
    let mut scores = Vec::new();
    for method in &options.methods {
        let mut calibrated = CalibratedMethod {
            name: method.name.clone(),
            k: method.recipe.k.clone(),
            grid: method.recipe.grid,
            threshold: 0.0,
            held_back_share: None,
            alarm_threshold: None,
            terms: method.recipe.terms.clone(),
        };
        // The score is a sum of terms that are already measured: the frames are not read again.
        let mut score: Vec<Array2<f32>> = Vec::new();
        for term in &mut calibrated.terms {
            let Some(index) = terms.iter().position(|known| *known == MeasuredTerm::new(term, &method.recipe)) else {
                continue;
            };
            if score.is_empty() {
                score = values[index].iter().map(|frame| Array2::zeros(frame.dim())).collect();
            }
            if method.recipe.terms.len() > 1 {
                (term.mean, term.deviation) = (statistics[index].0 as f32, statistics[index].1 as f32);
            }
            for (sum, frame) in score.iter_mut().zip(&values[index]) {
                sum.zip_mut_with(frame, |sum, value| *sum += term.weight * (value - term.mean) / term.deviation);
            }
        }
        let share = options.false_positive_share;
        calibrated.held_back_share = held_back_share(&score, share);
        calibrated.threshold = threshold(&mut all(&score), share);
        scores.push(score);
        calibration.methods.push(calibrated);
    }
    let kept: Vec<usize> = measured.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(index, _)| *index).collect();
    let found = alarm_thresholds(frames, &kept, &scores, &calibration.methods, options)?;
    for (method, alarm) in calibration.methods.iter_mut().zip(found) {
        method.alarm_threshold = Some(alarm);
    }
    if let Some(codebook) = &codebook {
        let auroc = held_back_auroc(frames, backend, codebook)?;
        if let Some(made) = &mut calibration.bank {
            made.held_back_auroc = auroc;
        }
    }
    calibration.centroids = codebook;
    Ok(())
}

/// For each method the threshold at which alarms are rare on the frames `kept`; `scores` are theirs, per frame.
fn alarm_thresholds(
    frames: &mut FrameStore,
    kept: &[usize],
    scores: &[Vec<Array2<f32>>],
    methods: &[CalibratedMethod],
    options: &CalibrateOptions,
) -> Result<Vec<f32>> {
    let mut watcher = StillWatcher::new(&options.classes, options.events.clone());
    let mut quiet: Vec<Vec<f32>> = vec![Vec::with_capacity(kept.len()); methods.len()];
    for (place, &index) in kept.iter().enumerate() {
        frames.with_frame(index, |maps| {
            for ((method, scores), quiet) in methods.iter().zip(scores).zip(&mut quiet) {
                quiet.push(watcher.quiet_threshold(scores[place].view(), maps.logits, method.threshold)?);
            }
            Ok(())
        })?;
    }
    // An alarm needs a region in `min_seconds / window_s` of the frames: a quarter of that is left, for a minute of
    // footage does not show all that the camera will see.
    let EventsConfig { min_seconds, window_s, .. } = options.events;
    let loud = (0.25 * min_seconds / window_s.max(1e-3)).clamp(0.02, 0.5);
    Ok(quiet.iter_mut().map(|frames| threshold(frames, loud)).collect())
}
