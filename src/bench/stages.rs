//! The detect stage, step by step: cold (each frame alone) and warm (seeded by the previous frame).

use std::time::Instant;

use ndarray::Array3;

use super::median;
use crate::compute::{Backend, Collected, Detection, Luma, Maps, Recipe, Size, Target};
use crate::frame::{I420, Plane, Range};
use crate::{Error, Result};

/// The maps of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameMaps {
    /// `[C, h, w]`
    pub logits: Array3<f32>,
    /// `[D_i, h_i, w_i]`
    pub features: Vec<Array3<f32>>,
    /// The frame itself.
    pub picture: Grey,
}

/// The luma of a frame, as an owned copy.
#[derive(Debug, Clone, PartialEq)]
pub struct Grey {
    /// Columns of `samples`.
    pub width: usize,
    /// Row by row.
    pub samples: Vec<u8>,
    /// The code values of black and white.
    pub range: Range,
}

impl Grey {
    /// A copy of the luma of `picture`.
    pub fn of(picture: &I420<'_>) -> Self {
        let samples = (0..picture.height()).flat_map(|y| picture.y.row(y)).copied().collect();
        Self { width: picture.width(), samples, range: picture.colour.range }
    }

    /// The luma as the back ends take it.
    pub fn luma(&self) -> Luma<'_> {
        let rows = self.samples.len() / self.width.max(1);
        let plane = Plane { data: &self.samples, stride: self.width, columns: self.width, rows };
        Luma { plane, range: self.range }
    }
}

/// One step of the detect stage.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// The name of the step.
    pub name: &'static str,
    /// Median, in milliseconds.
    pub ms: f64,
}

/// All frames, seeded in one way.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Pass {
    /// Median time per frame, in milliseconds.
    pub ms: f64,
    /// Mean of the same.
    pub mean_ms: f64,
    /// Slowest frame, in milliseconds.
    pub worst_ms: f64,
    /// Mean Lloyd iterations per frame, for each K.
    pub iterations: Vec<f64>,
    /// The times of the steps.
    pub steps: Vec<StepReport>,
}

/// The report of `bench stages`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StagesReport {
    /// `cpu` or `gpu`.
    pub backend: &'static str,
    /// The back end's own description.
    pub device: String,
    /// Frames per pass.
    pub frames: usize,
    /// Every frame seeded by k-means++.
    pub cold: Pass,
    /// Every frame seeded by the last one.
    pub warm: Pass,
    /// Mean time per frame, every frame seeded by the last one, with as many in flight as the back end takes.
    pub overlapped_ms: f64,
    /// The number of frames in flight.
    pub depth: usize,
    /// Warm iterations / cold iterations, all K together.
    pub iterations_ratio: f64,
    /// Mean absolute difference of the score maps, warm against cold.
    pub score_difference: f64,
    /// Most memory of the device that was in use, in bytes; none for the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<u64>,
}

/// Runs `recipe` over the frames in order, cold and warm. The first frame warms up caches and buffers and is not
/// counted.
///
/// # Errors
/// As [`Backend::detect`].
pub fn stages(backend: &mut dyn Backend, frames: &[FrameMaps], recipe: &Recipe, target: Size) -> Result<StagesReport> {
    let (cold, cold_scores) = pass(backend, frames, &Recipe { warm_start: false, ..recipe.clone() }, target)?;
    let (warm, warm_scores) = pass(backend, frames, &Recipe { warm_start: true, ..recipe.clone() }, target)?;
    let total = |pass: &Pass| pass.iterations.iter().sum::<f64>();
    let difference: f64 = cold_scores.iter().zip(&warm_scores).map(|(a, b)| f64::from((a - b).abs())).sum();
    Ok(StagesReport {
        backend: backend.name(),
        device: backend.describe(),
        frames: frames.len().saturating_sub(1),
        overlapped_ms: overlapped(backend, frames, &Recipe { warm_start: true, ..recipe.clone() }, target)?,
        depth: backend.depth(),
        iterations_ratio: total(&warm) / total(&cold).max(1.0),
        score_difference: difference / cold_scores.len().max(1) as f64,
        device_memory: backend.device_memory(),
        cold,
        warm,
    })
}

/// The stream of a measurement.
const STREAM: u32 = u32::MAX;

/// Mean time per frame with frames in flight, in milliseconds.
fn overlapped(backend: &mut dyn Backend, frames: &[FrameMaps], recipe: &Recipe, target: Size) -> Result<f64> {
    backend.reset(STREAM);
    let mut room = vec![Detection::default(); backend.depth()];
    let mut begin = Instant::now();
    for (n, frame) in frames.iter().enumerate() {
        if n > 0 && room.is_empty() {
            room.push(collect(backend)?);
        }
        let features: Vec<_> = frame.features.iter().map(|f| f.view()).collect();
        let maps = Maps { logits: frame.logits.view(), features: &features, picture: Some(frame.picture.luma()) };
        backend.submit(STREAM, &maps, recipe, Target::scores(target), room.pop().unwrap_or_default())?;
        if n == 0 {
            room.push(collect(backend)?);
            begin = Instant::now();
        }
    }
    while room.len() < backend.depth() {
        room.push(collect(backend)?);
    }
    backend.reset(STREAM);
    Ok(begin.elapsed().as_secs_f64() * 1e3 / frames.len().saturating_sub(1).max(1) as f64)
}

fn collect(backend: &mut dyn Backend) -> Result<Detection> {
    match backend.collect()? {
        Collected::Done(found) => Ok(found),
        Collected::Resubmit => Err(Error::failed("the device was lost during the measurement")),
    }
}

fn pass(backend: &mut dyn Backend, frames: &[FrameMaps], recipe: &Recipe, target: Size) -> Result<(Pass, Vec<f32>)> {
    backend.reset(STREAM);
    let mut out = Detection::default();
    let (mut times, mut iterations, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let features: Vec<_> = frame.features.iter().map(|f| f.view()).collect();
        let maps = Maps { logits: frame.logits.view(), features: &features, picture: Some(frame.picture.luma()) };
        let begin = Instant::now();
        backend.detect(STREAM, &maps, recipe, Target::scores(target), &mut out)?;
        if n == 0 {
            continue;
        }
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        iterations.resize(out.iterations.len(), 0.0);
        iterations.iter_mut().zip(&out.iterations).for_each(|(sum, i)| *sum += *i as f64);
        scores.extend(out.grid_score.iter());
        for step in backend.steps() {
            match steps.iter_mut().find(|(name, _)| *name == step.name) {
                Some((_, all)) => all.push(step.seconds * 1e3),
                None => steps.push((step.name, vec![step.seconds * 1e3])),
            }
        }
    }
    backend.reset(STREAM);
    iterations.iter_mut().for_each(|sum| *sum /= times.len().max(1) as f64);
    let pass = Pass {
        mean_ms: times.iter().sum::<f64>() / times.len().max(1) as f64,
        worst_ms: times.iter().copied().fold(0.0, f64::max),
        ms: median(&mut times),
        iterations,
        steps: steps.into_iter().map(|(name, mut all)| StepReport { name, ms: median(&mut all) }).collect(),
    };
    Ok((pass, scores))
}
