//! oodstream: road video in, the same video out with the regions that the network does not know drawn on it.
//!
//! The way a frame takes, and where each step lives:
//!
//! | step | module |
//! |---|---|
//! | command line, pipeline file | [`cli`], [`config`] |
//! | stages, channels, shutdown, statistics | [`pipeline`] |
//! | inputs: files and live sources | [`input`] |
//! | outputs: files, RTSP, HLS | [`output`] |
//! | what all of GStreamer shares | [`gst`] |
//! | manifest, ONNX Runtime session, I420 to tensor | [`model`] |
//! | which score, calibration, regions, tracks | [`ood`] |
//! | the dense maths: K-Means, statistics, upsampling (WGSL and CPU) | [`compute`] |
//! | heat map, outlines, legend on the I420 frame | [`draw`] |
//! | masks, score maps, events | [`record`], [`npy`] |
//! | health, metrics and reload over HTTP | [`monitor`] |
//! | evaluation on labelled images | [`eval`] |
//! | measurements | [`bench`] |
//! | what the heap keeps over weeks | [`memory`] |
//! | files that appear whole or not at all | [`atomic_file`] |
//!
//! Imports run one way: cli -> monitor -> pipeline -> {output -> input -> gst, model, ood, draw, record} -> compute, atomic_file, frame, memory, error.

pub mod atomic_file;
pub mod bench;
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
