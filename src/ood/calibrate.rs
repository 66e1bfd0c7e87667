//! Calibration on ordinary footage (`docs/method.md`, M11): frames are kept as the network saw them, then measured.
//!
//! Robust to a few odd frames: a frame whose mean of any term is far from the median of the frames' means, in units of
//! their median absolute deviation, is left out; with too many of these the footage is refused.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, s};

use super::alarm::still::StillWatcher;
use super::alarm::{EventsConfig, Filler};
use super::calibration::{BankFigures, CalibratedMethod, Calibration, TermStatistics};
use super::method::Method;
use crate::compute::cpu::Cpu;
use crate::compute::{
    Backend, Clustering, Codebook, Detection, Maps, Recipe, Seeds, Size, Statistic, Target, Term, Unit, Upsampling,
};
use crate::{Error, Result};

/// Fewest frames that a calibration is made from.
pub const MIN_FRAMES: usize = 20;
/// Grid pixels taken from a frame for the codebook, at most.
const POINTS_PER_FRAME: usize = 400;
/// Bytes of the feature vectors that a codebook is made from, at most.
const MOST_POINT_BYTES: usize = 128 << 20;
/// Centroids of a codebook whose number nobody chose, at most.
const DEFAULT_CENTROIDS: usize = 4096;
/// Frames that the codebook was made from and frames that it was not, whose distances to it are compared, at most.
const COMPARED_FRAMES: usize = 16;
/// Lloyd iterations of the codebook.
const CODEBOOK_ITERATIONS: usize = 15;
/// A frame further than this many (scaled) median absolute deviations from the median is odd.
const ODD_DEVIATIONS: f64 = 6.0;
/// At most this share of the frames may be odd.
const MAX_ODD_SHARE: f64 = 0.25;
/// Two frames whose logits (features, without classes) differ by less than this on average, in units of their own spread,
/// are the same picture.
const SAME_PICTURE: f64 = 1e-3;

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

/// Keeps frames spread evenly over footage of any length, at most `limit` of them, in a temporary file.
#[derive(Debug)]
pub struct FrameStore {
    file: File,
    limit: usize,
    /// One frame in `stride` is kept.
    stride: u64,
    seen: u64,
    same: u64,
    shapes: Vec<[usize; 3]>,
    slots: Vec<u64>,
    free: Vec<u64>,
    last: Vec<f32>,
    filler: Filler,
}

fn temporary(error: std::io::Error) -> Error {
    Error::failed(format!("temporary file for calibration: {error}"))
        .hint("TMPDIR names another folder for temporary files")
}

impl FrameStore {
    /// Room for `limit` frames, at least 2.
    ///
    /// # Errors
    /// No temporary file can be created.
    pub fn new(limit: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(temporary)?;
        Ok(Self {
            file,
            limit: limit.max(2),
            stride: 1,
            seen: 0,
            same: 0,
            shapes: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            last: Vec::new(),
            filler: Filler::default(),
        })
    }

    /// Parts of the picture that are ignored.
    pub fn leave_out(&mut self, filler: Filler) {
        self.filler = filler;
    }

    /// Frames kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none are kept.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Frames seen that differ from the one before.
    pub fn distinct(&self) -> u64 {
        self.seen - self.same
    }

    /// Takes the next frame of the footage.
    ///
    /// # Errors
    /// Its maps have other shapes than the frames' before, or the temporary file cannot be written.
    pub fn push(&mut self, maps: &Maps<'_>) -> Result<()> {
        let shape = |map: &ArrayView3<'_, f32>| <[usize; 3]>::from(map.dim());
        let shapes: Vec<[usize; 3]> = std::iter::once(&maps.logits).chain(maps.features).map(shape).collect();
        if self.seen == 0 {
            self.shapes = shapes;
        } else if self.shapes != shapes {
            return Err(Error::failed(format!(
                "calibration: the network's outputs changed from {:?} to {shapes:?}",
                self.shapes
            )));
        }
        let number = self.seen;
        self.seen += 1;
        if self.is_same(maps.features.first().filter(|_| !maps.has_logits()).unwrap_or(&maps.logits)) {
            self.same += 1;
        }
        if !number.is_multiple_of(self.stride) {
            return Ok(());
        }
        if self.slots.len() == self.limit {
            // Full: every other frame goes, and from now on half as many are taken.
            self.stride *= 2;
            let (kept, freed): (Vec<_>, Vec<_>) = self.slots.iter().enumerate().partition(|(index, _)| index % 2 == 0);
            self.free.extend(freed.into_iter().map(|(_, slot)| *slot));
            self.slots = kept.into_iter().map(|(_, slot)| *slot).collect();
            if !number.is_multiple_of(self.stride) {
                return Ok(());
            }
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as u64);
        self.file.seek(SeekFrom::Start(slot * self.frame_bytes())).map_err(temporary)?;
        for map in std::iter::once(&maps.logits).chain(maps.features) {
            let mut map = map.to_owned();
            self.filler.fill(&mut map);
            let values: Vec<f32> = map.iter().copied().collect();
            self.file.write_all(bytemuck::cast_slice(&values)).map_err(temporary)?;
        }
        self.slots.push(slot);
        Ok(())
    }

    fn frame_bytes(&self) -> u64 {
        4 * self.shapes.iter().map(|shape| shape.iter().product::<usize>() as u64).sum::<u64>()
    }

    /// Whether a map is that of the frame before, up to noise.
    fn is_same(&mut self, map: &ArrayView3<'_, f32>) -> bool {
        let now: Vec<f32> = map.iter().step_by(7).copied().collect();
        let count = now.len().max(1) as f64;
        let mean = now.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let spread = now.iter().map(|&v| (f64::from(v) - mean).abs()).sum::<f64>() / count;
        let change = now.iter().zip(&self.last).map(|(&a, &b)| f64::from((a - b).abs())).sum::<f64>() / count;
        let same = self.last.len() == now.len() && change <= SAME_PICTURE * spread;
        self.last = now;
        same
    }

    fn with_frame<R>(&mut self, index: usize, use_maps: impl FnOnce(&Maps<'_>) -> Result<R>) -> Result<R> {
        self.file.seek(SeekFrom::Start(self.slots[index] * self.frame_bytes())).map_err(temporary)?;
        let mut arrays = Vec::with_capacity(self.shapes.len());
        for shape in &self.shapes {
            let mut values = vec![0.0_f32; shape.iter().product()];
            self.file.read_exact(bytemuck::cast_slice_mut(&mut values)).map_err(temporary)?;
            let array = Array3::from_shape_vec(*shape, values);
            arrays.push(array.map_err(|error| Error::failed(format!("calibration: {error}")))?);
        }
        let features: Vec<ArrayView3<'_, f32>> = arrays.iter().skip(1).map(|array| array.view()).collect();
        use_maps(&Maps { logits: arrays[0].view(), features: &features, picture: None })
    }
}

/// A single term, as it is measured.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    statistic: Statistic,
    unit: Unit,
    k: Vec<usize>,
    seed: u64,
    unit_length: bool,
}

impl Measured {
    fn new(term: &Term, recipe: &Recipe) -> Self {
        let k = if term.unit == Unit::Cluster { recipe.k.clone() } else { Vec::new() };
        Self { statistic: term.statistic, unit: term.unit, k, seed: recipe.seed, unit_length: recipe.unit_length }
    }

    fn recipe(&self, max_iterations: usize, codebook: Option<&Arc<Codebook>>) -> Recipe {
        Recipe {
            terms: vec![Term { statistic: self.statistic, unit: self.unit, weight: 1.0, mean: 0.0, deviation: 1.0 }],
            k: self.k.clone(),
            seed: self.seed,
            max_iterations,
            unit_length: self.unit_length,
            codebook: codebook.cloned(),
            warm_start: false,
            smoothing: None,
            // Values are taken on the grid.
            upsampling: Upsampling::Bilinear,
        }
    }
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
    let mut terms: Vec<Measured> = Vec::new();
    for method in &options.methods {
        for term in &method.recipe.terms {
            let measured = Measured::new(term, &method.recipe);
            if !terms.contains(&measured) {
                terms.push(measured);
            }
        }
    }
    // [term][frame]: the term's values on the grid. Frames that the codebook was made from would flatter it, so with a
    // codebook only the others are measured.
    let measured: Vec<usize> = (0..frames.len()).filter(|index| codebook.is_none() || index % 2 == 1).collect();
    let mut values: Vec<Vec<Vec<f32>>> = vec![Vec::new(); terms.len()];
    let mut detection = Detection::default();
    for &index in &measured {
        frames.with_frame(index, |maps| {
            let (_, height, width) = maps.features.first().map_or(maps.logits.dim(), |map| map.dim());
            for (term, values) in terms.iter().zip(&mut values) {
                let recipe = term.recipe(super::method::MAX_ITERATIONS, codebook.as_ref());
                backend.detect(0, maps, &recipe, Target::scores(Size { width, height }), &mut detection)?;
                values.push(detection.grid_score.iter().copied().collect());
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
        let known = calibration
            .statistics
            .iter()
            .any(|entry| (entry.statistic, entry.unit, &entry.k) == (term.statistic, term.unit, &term.k));
        if !known {
            calibration.statistics.push(TermStatistics {
                statistic: term.statistic,
                unit: term.unit,
                k: term.k.clone(),
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
            threshold: 0.0,
            held_back_share: None,
            alarm_threshold: None,
            terms: method.recipe.terms.clone(),
        };
        // The score is a sum of terms that are already measured: the frames are not read again.
        let count = values.first().map_or(0, |frames| frames.iter().map(Vec::len).sum());
        let mut score = vec![0.0_f32; count];
        for term in &mut calibrated.terms {
            let Some(index) = terms.iter().position(|known| *known == Measured::new(term, &method.recipe)) else {
                continue;
            };
            if method.recipe.terms.len() > 1 {
                (term.mean, term.deviation) = (statistics[index].0 as f32, statistics[index].1 as f32);
            }
            for (sum, &value) in score.iter_mut().zip(values[index].iter().flatten()) {
                *sum += term.weight * (value - term.mean) / term.deviation;
            }
        }
        let share = options.false_positive_share;
        let lengths = values.first().into_iter().flatten().map(Vec::len);
        calibrated.held_back_share = held_back_share(&score, lengths, share);
        calibrated.threshold = threshold(&mut score.clone(), share);
        scores.push(score);
        calibration.methods.push(calibrated);
    }
    let kept: Vec<usize> = measured.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(index, _)| *index).collect();
    let found = alarm_thresholds(frames, &kept, &scores, &calibration.methods, options)?;
    for (method, alarm) in calibration.methods.iter_mut().zip(found) {
        method.alarm_threshold = Some(alarm);
    }
    if let Some(codebook) = &codebook {
        let auroc = told_apart(frames, backend, codebook)?;
        if let Some(made) = &mut calibration.bank {
            made.held_back_auroc = auroc;
        }
    }
    calibration.centroids = codebook;
    Ok(())
}

/// For each method the threshold at which alarms are rare on the frames `kept`; `scores` are theirs on the grid.
fn alarm_thresholds(
    frames: &mut FrameStore,
    kept: &[usize],
    scores: &[Vec<f32>],
    methods: &[CalibratedMethod],
    options: &CalibrateOptions,
) -> Result<Vec<f32>> {
    let mut watcher = StillWatcher::new(&options.classes, options.events.clone());
    let mut quiet: Vec<Vec<f32>> = vec![Vec::with_capacity(kept.len()); methods.len()];
    for (place, &index) in kept.iter().enumerate() {
        frames.with_frame(index, |maps| {
            let (_, height, width) = maps.features.first().map_or(maps.logits.dim(), |map| map.dim());
            for ((method, scores), quiet) in methods.iter().zip(scores).zip(&mut quiet) {
                let frame = &scores[place * height * width..][..height * width];
                let score = ArrayView2::from_shape((height, width), frame)
                    .map_err(|error| Error::failed(format!("calibration: {error}")))?;
                quiet.push(watcher.quiet_threshold(score, maps.logits, method.threshold)?);
            }
            Ok(())
        })?;
    }
    // An alarm needs a region in `min_seconds / window_s` of the frames: half of that is left.
    let EventsConfig { min_seconds, window_s, .. } = options.events;
    let loud = (0.5 * min_seconds / window_s.max(1e-3)).clamp(0.02, 0.5);
    Ok(quiet.iter_mut().map(|frames| threshold(frames, loud)).collect())
}

fn check_footage(frames: &FrameStore) -> Result<()> {
    if frames.seen > 1 && frames.distinct() * 2 <= frames.seen {
        return Err(constant_footage());
    }
    if frames.len() < MIN_FRAMES || frames.distinct() < MIN_FRAMES as u64 {
        return Err(Error::failed(format!(
            "calibration: the footage has {} different frames, at least {MIN_FRAMES} are needed",
            frames.distinct()
        ))
        .hint("a few minutes of ordinary driving are best; give more videos, or a smaller --every"));
    }
    Ok(())
}

fn constant_footage() -> Error {
    Error::failed("calibration: the footage does not change, so it cannot represent ordinary scenes").hint(format!(
        "at least {MIN_FRAMES} different frames of ordinary driving are needed; a still or black picture is not enough"
    ))
}

/// Centroids of the features of every other frame.
fn make_codebook(frames: &mut FrameStore, size: CodebookSize, calibration: &mut Calibration) -> Result<Arc<Codebook>> {
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
fn told_apart(frames: &mut FrameStore, backend: &mut dyn Backend, codebook: &Arc<Codebook>) -> Result<f64> {
    let term = Term { statistic: Statistic::Bank, unit: Unit::Pixel, weight: 1.0, mean: 0.0, deviation: 1.0 };
    let measured = Measured { statistic: term.statistic, unit: term.unit, k: Vec::new(), seed: 0, unit_length: true };
    let recipe = measured.recipe(super::method::MAX_ITERATIONS, Some(codebook));
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

/// The share of pixels that a threshold found on every other frame marks on the rest, both ways round and averaged: what
/// the threshold does to ordinary frames that it was not chosen on. `lengths` are the pixels of each frame.
fn held_back_share(scores: &[f32], lengths: impl Iterator<Item = usize>, share: f64) -> Option<f64> {
    let mut halves = [Vec::new(), Vec::new()];
    let mut rest = scores;
    for (index, length) in lengths.enumerate() {
        let (frame, after) = rest.split_at_checked(length)?;
        halves[index % 2].extend_from_slice(frame);
        rest = after;
    }
    let [mut even, mut odd] = halves;
    if even.is_empty() || odd.is_empty() {
        return None;
    }
    let limits = [threshold(&mut even, share), threshold(&mut odd, share)];
    let marked = |scores: &[f32], limit: f32| {
        scores.iter().filter(|score| **score >= limit).count() as f64 / scores.len() as f64
    };
    Some((marked(&odd, limits[0]) + marked(&even, limits[1])) / 2.0)
}

/// Which frames are ordinary, from the values `[term][frame][pixel]`.
fn ordinary_frames(values: &[Vec<Vec<f32>>]) -> Result<Vec<bool>> {
    let frames = values.first().map_or(0, Vec::len);
    let mut keep = vec![true; frames];
    for term in values {
        let means: Vec<f64> = term.iter().map(|frame| mean(frame)).collect();
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

fn mean(values: &[f32]) -> f64 {
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

fn mean_and_deviation(frames: &[Vec<f32>]) -> (f64, f64) {
    let count = frames.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    let mean = frames.iter().flatten().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = frames.iter().flatten().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// The score that `share` of the pixels reach or pass.
fn threshold(scores: &mut [f32], share: f64) -> f32 {
    if scores.is_empty() {
        return f32::INFINITY;
    }
    let above = (share * scores.len() as f64).round() as usize;
    let index = scores.len() - above.clamp(1, scores.len());
    *scores.select_nth_unstable_by(index, f32::total_cmp).1
}
