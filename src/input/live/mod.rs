//! Live inputs: RTSP, HTTP, local cameras, a test pattern and files in real time, each with a watchdog that reconnects.
//!
//! [`reader`] is the state machine behind [`FrameReader::read`]: wait, connect, follow, lose, wait. One attempt is a
//! [`connection`]: a GStreamer pipeline (built in [`pipeline`]), started and stopped by its own thread ([`keeper`]), so
//! that an unresponsive server never holds up the reader. GStreamer itself speaks to no server: RTSP goes through
//! [`relay`], HTTP through [`web`]. [`timeline`] gives pictures their capture time, [`reason`] explains a loss, and
//! [`address`] keeps credentials out of all output.
//!
//! The capture time is the arrival of the packet or picture at this machine for RTSP, V4L2 and the test pattern, the
//! decoding for MJPEG, which has no timestamps, and the due time for HLS (seconds late by design) and files.
//!
//! `v4l2://` has not been run with a real camera yet; it is tested with a simulated one.

mod address;
mod connect;
mod connection;
mod device;
mod http;
mod keeper;
mod login;
mod losses;
mod pace;
mod pictures;
mod pipeline;
mod reader;
mod realtime;
mod reason;
mod relay;
mod rtp;
mod rtsp;
mod timeline;
mod web;

use serde::{Deserialize, Serialize};

pub use address::LiveInput;
pub use pictures::Damaged;
pub use rtp::PacketCounts;

use crate::address::LocatedPath;
use crate::duration::{milliseconds, seconds};
use crate::gst::decoder::{DecoderChoice, Hardware};
use crate::gst::init;
use crate::input::FrameReader;
use crate::input::file::{FileOptions, Hdr, VideoTrack};
use crate::{Error, Result};

/// `[source]`: how inputs are read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceOptions {
    /// The transport of RTP.
    pub transport: Transport,
    /// Longest wait for late packets, in milliseconds.
    #[serde(deserialize_with = "milliseconds")]
    pub jitter_ms: u32,
    /// Seconds without any data after which the connection counts as lost. Must be longer than the longest pause of the
    /// camera; until then, viewers see a frozen picture.
    #[serde(deserialize_with = "seconds")]
    pub stall_s: f64,
    /// What to show after packet loss, until the next key frame.
    pub damaged: Damaged,
    /// Longest side of a picture in pixels; larger ones are refused before memory is allocated.
    pub max_size: u32,
    /// File with `user:password` on its first line, for addresses without a login.
    pub credentials: Option<LocatedPath>,
    /// PEM file with the certificate authorities to trust for `rtsps://` and `https://`; default: the system's.
    pub tls_ca: Option<LocatedPath>,
    /// Accept any certificate for `rtsps://` and `https://`: encrypted, but the other end could be anyone.
    pub tls_accept_any: bool,
    /// The video track to read: `"first"`, a number from 1, or `"all"`, each as a separate input.
    pub video_track: VideoTrack,
    /// Frame rate of an elementary stream, without a container (H.264, H.265, JPEG), in frames/s; default: that of the
    /// stream, else 25.
    pub fps: Option<f64>,
    /// What becomes of HDR video (PQ, HLG) in files.
    pub hdr: Hdr,
    /// A GStreamer element that decodes the video of the formats that it takes; by rank when left out.
    pub decoder: Option<String>,
    /// Whether video is decoded on hardware: `auto` (by rank), `off` or `require`.
    pub hw: Hardware,
}

impl SourceOptions {
    /// The video decoders that may be used.
    pub(crate) fn decoders(&self) -> DecoderChoice {
        DecoderChoice { element: self.decoder.clone(), hardware: self.hw }
    }

    /// Those for files.
    pub(crate) fn of_files(&self) -> FileOptions {
        FileOptions { video_track: self.video_track, fps: self.fps, hdr: self.hdr, decoder: self.decoders() }
    }
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
            video_track: VideoTrack::First,
            fps: None,
            hdr: Hdr::Keep,
            decoder: None,
            hw: Hardware::Auto,
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
    /// UDP, with a change to TCP where UDP is refused, silent or too lossy.
    #[default]
    Auto,
    /// Inside the RTSP connection.
    Tcp,
    /// On separate ports.
    Udp,
}

/// Opens a live input. Returns at once: the connection is made within [`FrameReader::read`]. (A file in real time is
/// opened here, up to its first picture.)
///
/// Temporary errors are retried for ever: a server that does not answer, a wrong password, a device that is not plugged
/// in. [`Signal::Lost`](crate::input::Signal::Lost) has the reason.
///
/// # Errors
/// Permanent errors: a missing GStreamer element, an option out of range, an unusable file of credentials or
/// certificates, a file that cannot be played.
pub fn open_live(input: &LiveInput, options: &SourceOptions, stream: u32) -> Result<Box<dyn FrameReader>> {
    init()?;
    if !(0.1..=3600.0).contains(&options.stall_s) {
        return Err(Error::usage(format!("source.stall_s is {}, it must be from 0.1 to 3600", options.stall_s)));
    }
    if !(16..=32_768).contains(&options.max_size) {
        return Err(Error::usage(format!("source.max_size is {}, it must be from 16 to 32768", options.max_size)));
    }
    options.decoders().check()?;
    if let address::LiveSource::File(path) = &input.source {
        return Ok(Box::new(realtime::RealtimeReader::open(path, stream, options.of_files())?));
    }
    Ok(Box::new(reader::LiveReader::new(pipeline::ConnectionSettings::new(input, options)?, stream)))
}
