//! The whole program against the least that its work can cost: plain decode and encode, and a bare network loop.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::median;
use super::stages::{FrameMaps, Grey};
use crate::input::{FrameReader, Read};
use crate::model::runtime::Network;
use crate::model::views::Views;
use crate::model::views::inference::FrameInference;
use crate::output::file::plain_copy;
use crate::pipeline::control::PATIENCE;
use crate::{Error, Result};

/// The parameters of a measurement.
#[derive(Debug, Clone)]
pub struct PipelineJob<'a> {
    /// The clip.
    pub clip: &'a Path,
    /// Options of `run` with which the network was loaded.
    pub options: Vec<String>,
    /// Runs of each side.
    pub repeats: usize,
    /// Batch sizes at which to time the network.
    pub batches: Vec<usize>,
}

/// The report of `bench pipeline`; medians over the repeats.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PipelineReport {
    /// Wall time of `oodstream run`, start of the process included.
    pub run_s: f64,
    /// Wall time of decoding and encoding the clip with the same encoder settings, audio left out.
    pub gst_s: f64,
    /// Wall time of the network on as many frames, same threads, nothing else running.
    pub ort_s: f64,
    /// `run_s / (gst_s + ort_s)`
    pub ratio: f64,
    /// Frames of the clip.
    pub frames: u64,
    /// Runs of each side.
    pub repeats: usize,
    /// The provider of the network.
    pub provider: String,
    /// Time per picture by batch size, in milliseconds.
    pub batch_ms: BTreeMap<usize, f64>,
    /// Every measurement, in the order in which they were taken.
    pub runs: Vec<Round>,
}

/// One round of measurements.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Round {
    /// See [`PipelineReport::run_s`].
    pub run_s: f64,
    /// See [`PipelineReport::gst_s`].
    pub gst_s: f64,
    /// See [`PipelineReport::ort_s`].
    pub ort_s: f64,
}

/// Measures the rounds, the three sides in turn within each, so that a slow moment of the machine meets all of them.
/// `round_done` gets each round with its number, from 1.
///
/// # Errors
/// A side fails; the message says which.
pub fn pipeline(
    job: &PipelineJob<'_>,
    mut network: Network,
    round_done: impl Fn(usize, &Round),
) -> Result<PipelineReport> {
    let &PipelineJob { clip, repeats, .. } = job;
    let folder =
        tempfile::tempdir().map_err(|error| Error::failed(format!("cannot make a temporary folder: {error}")))?;
    let tensor = vec![0.1; 3 * network.input().width * network.input().height];
    let frames = plain_copy(clip, &folder.path().join("warm.mp4"))?;
    let mut runs = Vec::with_capacity(repeats);
    for round in 1..=repeats {
        let run_s = seconds(|| run(job, network.path(), &folder.path().join(format!("run{round}.mp4"))))?;
        let gst_s = seconds(|| plain_copy(clip, &folder.path().join(format!("copy{round}.mp4"))).map(|_| ()))?;
        let ort_s = seconds(|| (0..frames).try_for_each(|_| network.infer(&tensor).map(|_| ())))?;
        let times = Round { run_s, gst_s, ort_s };
        round_done(round, &times);
        runs.push(times);
    }
    let middle = |side: fn(&Round) -> f64| median(&mut runs.iter().map(side).collect::<Vec<_>>());
    let (run_s, gst_s, ort_s) = (middle(|r| r.run_s), middle(|r| r.gst_s), middle(|r| r.ort_s));
    let batch_ms = job
        .batches
        .iter()
        .map(|&size| Ok((size, batch_time(&mut network, size, repeats)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let (ratio, provider) = (run_s / (gst_s + ort_s), network.runs_on());
    Ok(PipelineReport { run_s, gst_s, ort_s, ratio, frames, repeats, provider, batch_ms, runs })
}

/// The median time per picture in milliseconds, in batches of `size`.
fn batch_time(network: &mut Network, size: usize, repeats: usize) -> Result<f64> {
    let tensor = vec![0.1; size * 3 * network.input().width * network.input().height];
    // The first run of a size builds what the provider keeps for it.
    drop(network.infer_batch(&tensor, size)?);
    let mut times =
        (0..repeats).map(|_| seconds(|| network.infer_batch(&tensor, size).map(drop))).collect::<Result<Vec<_>>>()?;
    Ok(median(&mut times) * 1e3 / size as f64)
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn run(job: &PipelineJob<'_>, model: &Path, output: &Path) -> Result<()> {
    let program =
        std::env::current_exe().map_err(|error| Error::failed(format!("cannot find the program itself: {error}")))?;
    let status = Command::new(program)
        .arg("run")
        .arg(job.clip)
        .args(&job.options)
        .arg("-o")
        .arg(output)
        .arg("--model")
        .arg(model)
        .arg("-q")
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Error::failed(format!("`oodstream run` does not start: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::failed(format!("`oodstream run {}` ended with {status}", job.clip.display())))
    }
}

/// The maps of the first `limit` frames of an input.
///
/// # Errors
/// The input cannot be read or the network fails.
pub fn frames_of(
    mut reader: Box<dyn FrameReader>,
    network: &mut Network,
    views: &Views,
    limit: usize,
) -> Result<Vec<FrameMaps>> {
    let mut inference = FrameInference::new(network, views.clone())?;
    let mut frames = Vec::new();
    while frames.len() < limit {
        match reader.read(PATIENCE)? {
            Read::Signal(_) | Read::TimedOut => {}
            Read::End(_) => break,
            Read::Frame(frame) => {
                let picture = frame.map()?;
                let picture = picture.i420();
                let maps = inference.run(network, &picture, |maps| {
                    Ok(FrameMaps {
                        logits: maps.logits.to_owned(),
                        features: maps.features.iter().map(|map| map.to_owned()).collect(),
                        picture: Grey::of(&picture),
                    })
                })?;
                frames.push(maps);
            }
        }
    }
    Ok(frames)
}
