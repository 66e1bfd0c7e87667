//! Live outputs: the frames of one stream are encoded once, and the packets go to any number of places: an RTSP server,
//! HLS, another server, recordings. A place that is slow or gone never holds up the others or the pipeline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use serde::{Deserialize, Serialize};

use super::{Encoding, FrameWriter};
use crate::{Error, Result};

/// Where a live output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `rtsp://HOST:PORT/NAME`, `rtsps://...`: served here.
    Serve(String),
    /// `rtsp+push://...`: sent to another server.
    Push(String),
    /// `hls:DIR`
    Hls(PathBuf),
    /// `x.mp4`; with strftime fields in its name, in segments.
    Record(PathBuf),
    /// `display:`
    Display,
}

impl Target {
    pub fn parse(_: &str) -> Result<Option<Self>> {
        Ok(None)
    }
    pub fn is_live(&self) -> bool {
        true
    }
}
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("")
    }
}

/// `[serve]`: the RTSP server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeOptions {
    /// File with one `user:password` a line; without it everybody may watch.
    pub users: Option<PathBuf>,
    /// PEM file with the certificate (and its chain), for `rtsps://`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's key.
    pub key: Option<PathBuf>,
    /// File with `user:password` for the servers that are pushed to, for addresses without any.
    pub push_credentials: Option<PathBuf>,
}

/// `[record]`: recordings in segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordOptions {
    /// Longest segment in seconds.
    pub segment_s: u64,
    /// Largest segment in MB; no limit when left out.
    pub segment_mb: Option<u64>,
    /// Most that all segments may take in MB, the oldest are deleted first; no limit when left out.
    pub budget_mb: Option<u64>,
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self { segment_s: 300, segment_mb: None, budget_mb: None }
    }
}

/// `[hls]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HlsOptions {
    /// Length of a segment in seconds.
    pub segment_s: u32,
    /// Segments kept on the disk.
    pub segments: u32,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { segment_s: 2, segments: 6 }
    }
}

/// How one output does, for `/metrics` and `/healthz`.
#[derive(Debug, Default)]
pub struct OutputStatus {
    /// The address without credentials.
    pub name: String,
    /// Clients of a server; 1 for the others while they take packets.
    pub clients: AtomicU64,
    /// Frames that it did not take.
    pub dropped: AtomicU64,
    /// How often it had to be started again.
    pub restarts: AtomicU64,
    /// Whether it works now.
    pub up: AtomicBool,
}

/// The RTSP servers of this process, one per address, shared by its streams.
pub struct Servers {
    _options: ServeOptions,
}

impl Servers {
    /// No server yet.
    pub fn new(options: &ServeOptions) -> Self {
        Self { _options: options.clone() }
    }
}

/// What all outputs of a run share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PublishOptions {
    /// How frames are encoded.
    pub encoding: Encoding,
    /// Recordings.
    pub record: RecordOptions,
    /// HLS.
    pub hls: HlsOptions,
    /// File with `user:password` for the servers that are pushed to, for addresses without any.
    pub push_credentials: Option<PathBuf>,
}

/// Opens the outputs of one stream. The encoder starts with the first frame.
///
/// # Errors
/// A port in use, a bad certificate, a folder that cannot be written, an output that exists, no display.
pub fn open(
    targets: &[Target],
    servers: &Servers,
    options: &PublishOptions,
) -> Result<(Box<dyn FrameWriter>, Vec<Arc<OutputStatus>>)> {
    let _ = (targets, servers, options);
    Err(Error::failed("not built in yet"))
}
