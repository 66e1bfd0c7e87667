//! The typed report of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Error;
use crate::input::EndOfInput;
use crate::input::live::PacketCounts;
use crate::notify::Delivery;
use crate::ood::alarm::AlarmCounts;
use crate::output::Written;
use crate::pipeline::{LatencyReport, Meter, Outcome, StageReport};

/// Everything that a run reports; serialised, it is what `run --json` writes. Times are in seconds, shares 0..1.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// One entry per input, in order.
    pub inputs: Vec<InputReport>,
    /// What became of the messages, one entry per output that takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Delivery>,
    /// Time from start to end.
    pub wall_s: f64,
    /// The stages over all inputs.
    pub stages: BTreeMap<&'static str, StageReport>,
    /// `cpu` or `gpu`.
    pub compute: &'static str,
    /// The execution provider of the network.
    pub provider: &'static str,
    /// The precision that the provider was set to; `auto` leaves it to the graph or the device.
    pub precision: &'static str,
    /// File of the network.
    pub model: String,
    /// What had to be assumed about the network, and what the values of the first picture showed; a sentence each.
    pub assumptions: Vec<String>,
    /// Whether the names of the classes are a guess by their number.
    pub classes_guessed: bool,
    /// Name of the score.
    pub method: String,
    /// `on`, `off`, `none` where no model was needed, or `no-road-class` where `events.road_gate` is set and the model has
    /// no class of road.
    pub road_gate: &'static str,
    /// Share of the picture that `events.ignore` leaves out, 0..1.
    pub ignored_share: f32,
    /// Pixels with a score of at least this are marked; absent when it was taken from the first frame.
    pub threshold: Option<f32>,
}

/// The way in which an input ended.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Ending {
    /// Everything was read and written.
    #[default]
    Done,
    /// The input is damaged; everything that could be read was written.
    Damaged,
    /// The run was stopped; the output so far is finished.
    Interrupted,
    /// The first error.
    Failed(Error),
}

/// One input of a run.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct InputReport {
    /// As it was given, or found in a folder.
    pub path: String,
    /// Frames decoded.
    pub frames_in: u64,
    /// Frames encoded.
    pub frames_out: u64,
    /// Frames that the network analysed.
    pub frames_looked_at: u64,
    /// Frames that were skipped as equal to the last analysed one, see `archive.skip_still`.
    pub still: u64,
    /// Frames dropped by policy; always 0 for files.
    pub dropped: u64,
    /// Frames or packets that could not be decoded, or were concealed.
    pub damaged: u64,
    /// Whether the input ends before its container says so.
    pub truncated: bool,
    /// Mean share of marked pixels.
    pub ood_share_mean: f64,
    /// How long the input lasts, as its container says.
    pub duration_s: Option<f64>,
    /// Alarms raised, and what was seen for as long and raised none.
    pub alarms: AlarmCounts,
    /// The finished file.
    pub output: Option<String>,
    /// The encoder in use.
    pub encoder: Option<String>,
    /// The error that ended it, if one did.
    pub error: Option<String>,
    /// Everything that was dropped, re-encoded, guessed or moved, one sentence each.
    pub notes: Vec<String>,
    /// The way in which it ended.
    #[serde(skip)]
    pub ending: Ending,
    /// The figures of live inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveReport>,
}

/// The live side of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LiveReport {
    /// Its name.
    pub name: String,
    /// Time from capture to the hand-over to the encoder.
    pub latency: Option<LatencyReport>,
    /// Number of times that pictures came back after a loss.
    pub reconnects: u64,
    /// Repeats of the last picture while there was no signal.
    pub repeats: u64,
    /// Frames dropped because they were older than the latency limit; part of `dropped`.
    pub stale: u64,
    /// Packets over RTP; none for other inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<PacketCounts>,
}

impl InputReport {
    /// An input that could not be opened.
    pub(crate) fn unopened(path: String, error: Error) -> Self {
        Self { path, error: Some(error.to_string()), ending: Ending::Failed(error), ..Self::default() }
    }

    /// The end of the input `path`, whose frames `meter` counted.
    pub(super) fn new(path: String, meter: &Meter, outcome: Outcome, live: bool) -> Self {
        let seen = meter.read();
        let Outcome { end, written, interrupted, error, .. } = outcome;
        let EndOfInput { damaged, truncated, notes } = end.unwrap_or_default();
        let mut said: Vec<String> = Vec::new();
        for note in notes.into_iter().chain(written.iter().flat_map(|written| written.notes.clone())) {
            if !said.contains(&note) {
                said.push(note);
            }
        }
        let (output, encoder) = match written {
            Some(Written { path, encoder, .. }) => (Some(path.display().to_string()), Some(encoder)),
            None => (None, None),
        };
        let ending = match &error {
            Some(error) => Ending::Failed(error.clone()),
            None if interrupted => Ending::Interrupted,
            None if live => Ending::Done,
            None if seen.frames_in == 0 => Ending::Failed(Error::failed("no frame could be decoded").at(&path)),
            None if truncated || damaged > 0 => Ending::Damaged,
            None => Ending::Done,
        };
        Self {
            path,
            frames_in: seen.frames_in,
            frames_out: seen.frames_out,
            frames_looked_at: seen.looked_at,
            still: seen.still,
            dropped: seen.dropped(),
            damaged,
            truncated,
            ood_share_mean: seen.share_mean,
            duration_s: None,
            alarms: seen.alarms,
            output,
            encoder,
            error: error.map(|error| error.to_string()),
            notes: said,
            ending,
            live: live.then(|| LiveReport {
                name: meter.name().to_owned(),
                latency: seen.latency,
                reconnects: seen.reconnects,
                repeats: seen.repeats,
                stale: seen.stale,
                packets: seen.packets,
            }),
        }
    }
}
