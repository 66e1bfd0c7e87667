//! Marks what a segmentation network does not know in road video: files, cameras and RTSP in, the same video with the
//! unknown regions drawn on it out.
//!
//! Start with one of two types:
//!
//! - [`Session`] runs whole inputs through all stages, as `oodstream run` does: addresses in, addresses out, a typed report
//!   at the end. A [`Handle`] stops, reloads and observes it from other threads.
//! - [`Detector`] takes single pictures, RGB or I420, and returns scores, a mask and regions. It needs no GStreamer.
//!
//! Both take a [`Config`], the contents of a pipeline file. Errors are of one type, [`Error`], with a [kind](ErrorKind).
//!
//! ```no_run
//! # fn main() -> oodstream::Result<()> {
//! use oodstream::{Config, Session};
//!
//! let config = Config::load(Some("pipelines/dashcam.toml".as_ref()), &[])?;
//! let report = Session::builder(config).input("drive.mp4").output("marked.mp4").output("events:e.jsonl").build()?.run()?;
//! println!("{} frames in {:.1} s", report.inputs[0].frames_out, report.wall_s);
//! # Ok(())
//! # }
//! ```
//!
//! The folder `examples` has a program for each way to use the crate. The method is specified in `docs/method.md`.
//!
//! # Features
//! `cli` (default) is the program: command line, progress bars, health and metrics over HTTP. Leave it out to embed the
//! library.
//!
//! `internals` makes the rooms of the program public for its own tests and benches; their items may change with any
//! release. `ARCHITECTURE.md` maps them and lists which may import which; a test holds the code to it.

#![cfg_attr(not(feature = "cli"), allow(dead_code, reason = "rooms hold parts that only the program uses"))]
#![cfg_attr(
    not(feature = "internals"),
    allow(unused_imports, reason = "rooms re-export more for tests and benches than the library itself uses")
)]
#![warn(
    clippy::allow_attributes_without_reason,
    clippy::exit,
    clippy::expect_used,
    clippy::manual_let_else,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::rc_buffer,
    clippy::unwrap_used
)]

#[cfg(feature = "cli")]
pub mod cli;
mod descriptors;
mod error;
mod lock;
pub mod memory;
mod simd;

#[cfg(not(feature = "internals"))]
mod address;
#[cfg(feature = "internals")]
pub mod address;
#[cfg(not(feature = "internals"))]
mod archive;
#[cfg(feature = "internals")]
pub mod archive;
#[cfg(not(feature = "internals"))]
mod atomic_file;
#[cfg(feature = "internals")]
pub mod atomic_file;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod bench;
#[cfg(all(feature = "cli", feature = "internals"))]
pub mod bench;
#[cfg(not(feature = "internals"))]
mod compute;
#[cfg(feature = "internals")]
pub mod compute;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(not(feature = "internals"))]
mod draw;
#[cfg(feature = "internals")]
pub mod draw;
#[cfg(not(feature = "internals"))]
mod duration;
#[cfg(feature = "internals")]
pub mod duration;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod eval;
#[cfg(all(feature = "cli", feature = "internals"))]
pub mod eval;
#[cfg(not(feature = "internals"))]
mod frame;
#[cfg(feature = "internals")]
pub mod frame;
#[cfg(not(feature = "internals"))]
mod gst;
#[cfg(feature = "internals")]
pub mod gst;
#[cfg(not(feature = "internals"))]
mod input;
#[cfg(feature = "internals")]
pub mod input;
#[cfg(not(feature = "internals"))]
mod model;
#[cfg(feature = "internals")]
pub mod model;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod monitor;
#[cfg(all(feature = "cli", feature = "internals"))]
pub mod monitor;
#[cfg(not(feature = "internals"))]
mod notify;
#[cfg(feature = "internals")]
pub mod notify;
#[cfg(not(feature = "internals"))]
mod npy;
#[cfg(feature = "internals")]
pub mod npy;
#[cfg(not(feature = "internals"))]
mod ood;
#[cfg(feature = "internals")]
pub mod ood;
#[cfg(not(feature = "internals"))]
mod output;
#[cfg(feature = "internals")]
pub mod output;
#[cfg(not(feature = "internals"))]
mod pipeline;
#[cfg(feature = "internals")]
pub mod pipeline;
#[cfg(not(feature = "internals"))]
mod record;
#[cfg(feature = "internals")]
pub mod record;
#[cfg(not(feature = "internals"))]
mod session;
#[cfg(feature = "internals")]
pub mod session;

pub use address::{Address, LocatedPath};
pub use config::Config;
pub use error::{Error, ErrorKind, Result};
pub use session::{
    Detector, Ending, Finding, Handle, InputReport, LiveReport, Observer, Report, Session, SessionBuilder, StreamStatus,
};

/// The sections of a [`Config`] and the values of their keys.
pub mod settings {
    pub use crate::compute::{ComputeChoice, Upsampling};
    pub use crate::config::{
        DetectConfig, EncodeConfig, HttpConfig, LiveConfig, ModelConfig, PipelineConfig, StreamConfig,
    };
    pub use crate::draw::{Palette, Style, View};
    pub use crate::gst::Hardware;
    pub use crate::input::file::{Hdr, VideoTrack};
    pub use crate::input::live::{Damaged, SourceOptions, Transport};
    pub use crate::model::manifest::Colour as ChannelOrder;
    pub use crate::model::runtime::provider::{Device, Precision, Provider};
    pub use crate::model::views::Resize;
    pub use crate::notify::{ExecConfig, Header, MqttConfig, WebhookConfig};
    pub use crate::ood::alarm::{EventsConfig, Ignored};
    pub use crate::output::publish::{HlsOptions, RecordOptions, ServeOptions};
    pub use crate::pipeline::{Policy, Sync};
    pub use crate::record::ArchiveConfig;
}

/// Pictures: what the caller hands to a [`Detector`] or a [`Session`], and the regions that are found in them.
pub mod picture {
    pub use crate::frame::{Colour, I420, Matrix, Plane, Range};
    pub use crate::input::own::{FrameSource, RgbFrame};
    pub use crate::ood::region::{BoundingBox, Region};
}

/// What is counted and reported while a [`Session`] runs, for an [`Observer`] and the holder of a [`Handle`].
pub mod status {
    pub use crate::input::{PacketCounts, Signal, VideoInfo};
    pub use crate::notify::Delivery;
    pub use crate::ood::alarm::AlarmCounts;
    pub use crate::output::publish::OutputStatus;
    pub use crate::pipeline::{LATENCY_BOUNDS, LatencyReport, Link, Meter, Reading, StageReport};
}
