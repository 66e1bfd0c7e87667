//! K-Means alone, against scikit-learn and faiss.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ndarray::{Array2, s};

use super::median;
use super::synthetic::points;
use crate::compute::{Backend, Seeds};
use crate::{Error, Result};

const REFERENCE: &str = include_str!("../../benches/kmeans_reference.py");

/// The parameters of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KMeansJob {
    /// Points.
    pub n: usize,
    /// Dimensions.
    pub d: usize,
    /// Clusters.
    pub k: usize,
    /// Lloyd iterations.
    pub iterations: usize,
    /// Threads of each contender.
    pub threads: usize,
    /// Runs of each contender, of which the median counts.
    pub repeats: usize,
}

/// A Python interpreter with numpy, scikit-learn and faiss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python(pub PathBuf);

/// The report of `bench kmeans`; times in milliseconds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct KMeansReport {
    /// Points.
    pub n: usize,
    /// Dimensions.
    pub d: usize,
    /// Clusters.
    pub k: usize,
    /// Lloyd iterations.
    pub iterations: usize,
    /// Threads.
    pub threads: usize,
    /// `cpu` or `gpu`.
    pub backend: &'static str,
    /// The back end's own description.
    pub device: String,
    /// Median.
    pub ms: f64,
    /// Median of scikit-learn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sklearn_ms: Option<f64>,
    /// Median of faiss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faiss_ms: Option<f64>,
    /// Points that scikit-learn puts into another cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_differ: Option<u64>,
    /// Points that faiss puts into another cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faiss_labels_differ: Option<u64>,
}

/// The output of the Python side.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Reference {
    sklearn_ms: Option<f64>,
    faiss_ms: Option<f64>,
    labels_differ: Option<u64>,
    faiss_labels_differ: Option<u64>,
}

/// Times `backend` on synthetic points from fixed seeds, and the Python libraries on the same points if `python` is
/// given.
///
/// # Errors
/// An impossible job, a temporary file that cannot be written, a Python script that fails.
pub fn kmeans(backend: &mut dyn Backend, job: &KMeansJob, python: Option<&Python>) -> Result<KMeansReport> {
    let data = points(job.n, job.d, job.k.max(1), 1);
    if job.k > job.n {
        return Err(Error::usage(format!("k = {} is more than the {} points", job.k, job.n)));
    }
    let seeds = data.slice(s![..job.k, ..]).to_owned();
    let mut labels = backend.kmeans(data.view(), Seeds::Given(seeds.view()), job.iterations)?.labels;
    let mut times = Vec::with_capacity(job.repeats);
    for _ in 0..job.repeats.max(1) {
        let begin = Instant::now();
        labels = backend.kmeans(data.view(), Seeds::Given(seeds.view()), job.iterations)?.labels;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let reference = match python {
        Some(python) => reference(python, job, &data, &seeds, &labels)?,
        None => Reference::default(),
    };
    Ok(KMeansReport {
        n: job.n,
        d: job.d,
        k: job.k,
        iterations: job.iterations,
        threads: job.threads,
        backend: backend.name(),
        device: backend.describe(),
        ms: median(&mut times),
        sklearn_ms: reference.sklearn_ms,
        faiss_ms: reference.faiss_ms,
        labels_differ: reference.labels_differ,
        faiss_labels_differ: reference.faiss_labels_differ,
    })
}

fn reference(
    python: &Python,
    job: &KMeansJob,
    points: &Array2<f32>,
    seeds: &Array2<f32>,
    labels: &[u32],
) -> Result<Reference> {
    let dir = tempfile::tempdir().map_err(|e| Error::failed(format!("cannot make a temporary directory: {e}")))?;
    let script = dir.path().join("kmeans_reference.py");
    write(&script, REFERENCE.as_bytes())?;
    write(&dir.path().join("points.f32"), bytemuck::cast_slice(points.as_slice().unwrap_or_default()))?;
    write(&dir.path().join("seeds.f32"), bytemuck::cast_slice(seeds.as_slice().unwrap_or_default()))?;
    write(&dir.path().join("labels.u32"), bytemuck::cast_slice(labels))?;
    let place = python.0.display();
    let output = Command::new(&python.0)
        .arg(&script)
        .arg(dir.path())
        .args(["--n", &job.n.to_string(), "--d", &job.d.to_string(), "--k", &job.k.to_string()])
        .args(["--iterations", &job.iterations.to_string(), "--threads", &job.threads.to_string()])
        .args(["--repeats", &job.repeats.to_string()])
        .output()
        .map_err(|e| Error::failed(format!("cannot run {place}: {e}")))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last = complaint.lines().last().unwrap_or("no message");
        return Err(Error::failed(format!("{place} failed: {last}")).hint("it needs numpy, scikit-learn and faiss-cpu"));
    }
    for line in complaint.lines().filter(|line| line.contains("No module")) {
        tracing::warn!("{place}: {line}");
    }
    serde_json::from_slice(&output.stdout).map_err(|e| Error::failed(format!("{place} printed no report: {e}")))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|e| Error::failed(format!("cannot write {}: {e}", path.display())))
}
