//! Marks what a segmentation network does not know in road video: files, cameras and RTSP in, the same video with the
//! unknown regions drawn on it out.
//!
//! Start with one of two types:
//!
//! - [`Session`] runs whole inputs through all stages, as `oodstream run` does: addresses in, addresses out, a typed report
//!   at the end. A [`session::Handle`] stops, reloads and observes it from other threads.
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
//! # Rooms
//! Further modules are the rooms of the program, public for its own tests and benches; their items may change with any
//! release. `ARCHITECTURE.md` maps them and lists which may import which; a test holds the code to it.

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

pub mod archive;
pub mod atomic_file;
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compute;
pub mod config;
pub(crate) mod descriptors;
pub mod draw;
pub mod error;
pub mod eval;
pub mod frame;
pub mod gst;
pub mod input;
pub mod memory;
pub mod model;
#[cfg(feature = "cli")]
pub mod monitor;
pub mod npy;
pub mod ood;
pub mod output;
pub mod pipeline;
pub mod record;
pub mod session;
mod simd;

pub use config::Config;
pub use error::{Error, ErrorKind, Result};
pub use session::{Detector, Session};
