//! oodstream: road video in, the same video out with the regions that the network does not know drawn on it.
//!
//! The way a frame takes, and where each step lives:
//!
//! | step | module |
//! |---|---|
//! | command line, pipeline file | [`cli`], [`config`] |
//! | stages, channels, shutdown, statistics | [`pipeline`] |
//! | decode, encode, mux: all of GStreamer | [`media`] |
//! | manifest, ONNX Runtime session, I420 to tensor | [`model`] |
//! | which score, calibration, regions, tracks | [`ood`] |
//! | the dense maths: K-Means, statistics, upsampling (WGSL and CPU) | [`compute`] |
//! | heat map, outlines, legend on the I420 frame | [`draw`] |
//! | reports, masks, score maps, events | [`output`], [`npy`] |
//! | health, metrics and reload over HTTP | [`monitor`] |
//! | evaluation on labelled images | [`eval`] |
//! | measurements | [`bench`] |
//! | what the heap keeps over weeks | [`memory`] |
//! | files that appear whole or not at all | [`aside`] |
//!
//! Imports run one way: cli -> monitor -> pipeline -> {media, model, ood, draw, output} -> compute, aside, frame, memory, error.

pub mod aside;
pub mod bench;
pub mod cli;
pub mod compute;
pub mod config;
pub mod draw;
pub mod error;
pub mod eval;
pub mod frame;
pub mod media;
pub mod memory;
pub mod model;
pub mod monitor;
pub mod npy;
pub mod ood;
pub mod output;
pub mod pipeline;
mod simd;

pub use error::{Error, Result};
