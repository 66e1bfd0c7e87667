//! Live inputs: RTSP, cameras, HTTP, a test pattern and files at real-time speed, each with a watchdog that reconnects.
//!
//! [`reader`] is the state machine behind [`FrameReader::read`]: wait, connect, follow, lose, wait. One attempt is a
//! [`connection`]: a GStreamer pipeline (built in [`pipeline`]) that a thread of its own ([`keeper`]) starts and takes
//! down, so that a server that does not answer never holds up the reader. [`timeline`] says when a picture was
//! captured, [`reason`] why it stopped coming, and [`address`] keeps credentials out of everything that is shown.
//!
//! What the moment of capture means: for RTSP, V4L2 and the test pattern, when the packet or picture reached this
//! machine; MJPEG over HTTP says nothing of time, its pictures count as captured when they are decoded; those of HLS
//! (seconds old by its nature) and of a file when they are due.
//!
//! `v4l2://` has not been run with a real camera yet; tested is what happens without one.

mod address;
mod connection;
mod device;
mod http;
mod keeper;
mod losses;
mod pictures;
mod pipeline;
mod reader;
mod realtime;
mod reason;
mod relay;
mod rtp;
mod rtsp;
mod timeline;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use address::LiveInput;
pub use pictures::Damaged;
pub use rtp::PacketCounts;

use crate::gst::init;
use crate::input::FrameReader;
use crate::{Error, Result};

/// `[source]`: how live inputs are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceOptions {
    /// How RTP comes.
    pub transport: Transport,
    /// Milliseconds that packets may wait for those before them.
    pub jitter_ms: u32,
    /// Seconds without any data after which the connection counts as lost. More than the longest pause in what the
    /// camera sends, or it is connected again for nothing; viewers look at a frozen picture for as long.
    pub stall_s: f64,
    /// What is shown when packets were lost, until the next picture that needs none of them.
    pub damaged: Damaged,
    /// Longest side of a picture in pixels; larger ones are refused before there is memory for them.
    pub max_size: u32,
    /// File with `user:password` on its first line, for addresses without any.
    pub credentials: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust for `rtsps://` and `https://`; those of the system when left
    /// out.
    pub tls_ca: Option<PathBuf>,
    /// Take any certificate for `rtsps://` and `https://`: encrypted, but anybody could be at the other end.
    pub tls_accept_any: bool,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            transport: Transport::Auto,
            jitter_ms: 200,
            stall_s: 3.0,
            damaged: Damaged::Show,
            max_size: 8192,
            credentials: None,
            tls_ca: None,
            tls_accept_any: false,
        }
    }
}

/// How RTP packets travel.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
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

/// Opens a live input; returns at once, the connecting goes on behind [`FrameReader::read`]. (A file at real-time speed
/// is opened here, up to its first picture.)
///
/// What is not there yet is waited for, for ever: an address that nobody answers at, a wrong password, a device that is
/// not plugged in. [`Signal::Lost`](crate::input::Signal::Lost) says why.
///
/// # Errors
/// Only what no waiting will mend: a missing GStreamer element, an option out of range, a file of credentials or
/// certificates that cannot be used; a file to play that cannot be.
pub fn open_live(input: &LiveInput, options: &SourceOptions, stream: u32) -> Result<Box<dyn FrameReader>> {
    init()?;
    if !(0.1..=3600.0).contains(&options.stall_s) {
        return Err(Error::usage(format!("source.stall_s is {}, it must be from 0.1 to 3600", options.stall_s)));
    }
    if !(16..=32_768).contains(&options.max_size) {
        return Err(Error::usage(format!("source.max_size is {}, it must be from 16 to 32768", options.max_size)));
    }
    if let address::Source::File(path) = &input.source {
        return Ok(Box::new(realtime::RealtimeReader::open(path, stream)?));
    }
    Ok(Box::new(reader::LiveReader::new(pipeline::Recipe::new(input, options)?, stream)))
}
