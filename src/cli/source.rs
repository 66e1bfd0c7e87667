//! Options of inputs, and the log of lost signals, shared by several commands.

use std::path::PathBuf;

use super::values::choice;
use crate::gst::decoder::Hardware;
use crate::input::Signal;
use crate::input::file::{Hdr, VideoTrack};
use crate::input::live::{SourceOptions, Transport};

/// Options for reading inputs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceArgs {
    /// Transport of RTP from RTSP cameras [default: auto, UDP and then TCP]
    #[arg(long, value_name = "HOW", value_parser = choice::<Transport>(), help_heading = "Live")]
    transport: Option<Transport>,
    /// File with user:password, for camera addresses without credentials
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    credentials: Option<PathBuf>,
    /// Video track to read: a number from 1, or all, each with its own output [default: first]
    #[arg(long, value_name = "TRACK")]
    video_track: Option<VideoTrack>,
    /// Frame rate of an elementary stream [default: from the stream, else 25]
    #[arg(long, value_name = "RATE")]
    fps: Option<f64>,
    /// HDR video (PQ, HLG): keep it as it is, or tone-map it to SDR [default: keep]
    #[arg(long, value_name = "HOW", value_parser = choice::<Hdr>())]
    hdr: Option<Hdr>,
    /// GStreamer element that decodes video [default: by rank]
    #[arg(long, value_name = "ELEMENT")]
    decoder: Option<String>,
    /// Hardware decoding and encoding [default: auto]
    #[arg(long, value_name = "HOW", value_parser = choice::<Hardware>())]
    pub hw: Option<Hardware>,
}

impl SourceArgs {
    /// Applies the given options to `options`.
    pub fn apply(&self, options: &mut SourceOptions) {
        options.transport = self.transport.unwrap_or(options.transport);
        options.video_track = self.video_track.unwrap_or(options.video_track);
        options.fps = self.fps.or(options.fps);
        options.hdr = self.hdr.unwrap_or(options.hdr);
        options.hw = self.hw.unwrap_or(options.hw);
        if self.decoder.is_some() {
            options.decoder.clone_from(&self.decoder);
        }
        if self.credentials.is_some() {
            options.credentials = self.credentials.clone().map(Into::into);
        }
    }
}

/// Logs the loss or the return of the live input `name`.
pub fn log_signal(name: &str, signal: &Signal) {
    match signal {
        Signal::Lost { reason } => tracing::warn!("{name}: no signal: {reason}"),
        Signal::Back { away, what } if away.is_zero() => tracing::info!("{name}: {what}"),
        Signal::Back { away, what } => tracing::info!("{name}: back after {:.1} s: {what}", away.as_secs_f64()),
    }
}
