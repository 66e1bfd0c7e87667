//! The report of `run`, for machines and for people.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::pipeline::{LatencyReport, StageReport};
use crate::{Error, Result};

/// Everything that `run --json` says. Times are in seconds, shares 0..1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// One entry per input, in order.
    pub inputs: Vec<InputReport>,
    /// Time from start to end.
    pub wall_s: f64,
    /// The stages over all inputs.
    pub stages: BTreeMap<&'static str, StageReport>,
    /// `cpu` or `gpu`.
    pub compute: &'static str,
    /// The execution provider that the network ran on.
    pub provider: &'static str,
    /// File of the network.
    pub model: String,
    /// Name of the score.
    pub method: String,
    /// Pixels with a score of at least this are marked; absent when it was taken from the first frame.
    pub threshold: Option<f32>,
}

/// One input of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputReport {
    /// As it was given, or found in a folder.
    pub path: String,
    /// Frames decoded.
    pub frames_in: u64,
    /// Frames encoded.
    pub frames_out: u64,
    /// Frames left out on purpose; always 0 for files.
    pub dropped: u64,
    /// Frames or packets that could not be decoded, or were concealed.
    pub damaged: u64,
    /// Whether the input ends before its container says so.
    pub truncated: bool,
    /// Mean share of marked pixels.
    pub ood_share_mean: f64,
    /// The finished file.
    pub output: Option<String>,
    /// The encoder in use.
    pub encoder: Option<String>,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// What was left out, guessed, encoded anew or moved, one sentence each.
    pub notes: Vec<String>,
    /// What only live inputs have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveReport>,
}

/// The live side of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveReport {
    /// Its name.
    pub name: String,
    /// Time from capture to the hand-over to the encoder.
    pub latency: Option<LatencyReport>,
    /// How often pictures came back after a loss.
    pub reconnects: u64,
    /// Repeats of the last picture while there was no signal.
    pub repeats: u64,
    /// Frames left out since they were older than the latency limit; part of `dropped`.
    pub stale: u64,
}

/// Writes `report` as JSON to a file, or to standard output for `-`.
///
/// # Errors
/// It cannot be written.
pub fn write_json(report: &impl Serialize, path: &Path) -> Result<()> {
    let failed = |error: String| Error::failed(format!("--json {}: {error}", path.display()));
    let text = serde_json::to_string_pretty(report).map_err(|error| failed(error.to_string()))? + "\n";
    if path == Path::new("-") {
        io::stdout().write_all(text.as_bytes()).map_err(|error| failed(error.to_string()))
    } else {
        fs::write(path, text).map_err(|error| failed(error.to_string()))
    }
}

impl RunReport {
    /// The table of the stages for people.
    pub fn stage_table(&self, order: &[&str]) -> String {
        let mut text = format!("{:<9}{:>9}{:>12}{:>12}{:>11}\n", "stage", "frames", "p50 ms", "p95 ms", "queue max");
        for name in order {
            if let Some(stage) = self.stages.get(name) {
                text += &format!(
                    "{name:<9}{:>9}{:>12.2}{:>12.2}{:>11}\n",
                    stage.frames,
                    stage.busy_p50_s * 1e3,
                    stage.busy_p95_s * 1e3,
                    stage.queue_max
                );
            }
        }
        text
    }
}
