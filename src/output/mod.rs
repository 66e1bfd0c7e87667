//! Outputs: frames encoded and muxed into files ([`file`]), or encoded once and published live ([`publish`]).

pub mod clip;
mod encoder;
pub mod file;
pub mod preview;
pub mod publish;

use std::path::PathBuf;
use std::time::Duration;

pub use encoder::{EncoderInfo, encoders};

use crate::Result;
use crate::gst::Frame;
use crate::gst::decoder::Hardware;

/// A sink of frames. Dropping the writer stops it at any time; the part written stays under the temporary name.
pub trait FrameWriter: Send {
    /// Passes a frame to the encoder; waits for room for at most `timeout`. Returns the frame if there was none.
    ///
    /// # Errors
    /// Encoding or writing failed; the message names the output and the reason, such as a full disk.
    fn write(&mut self, frame: Frame, timeout: Duration) -> Result<Option<Frame>>;

    /// Whether the output has ended for good, so that further frames are useless.
    fn is_over(&self) -> bool {
        false
    }

    /// Finishes the file with the frames written so far and gives it its final name. `stop` is polled meanwhile: if it
    /// returns true the wait ends (for a second Ctrl-C; the first one should finish the file).
    ///
    /// # Errors
    /// Those of [`FrameWriter::write`]; or a file with the final name appeared meanwhile.
    fn finish(self: Box<Self>, stop: &dyn Fn() -> bool) -> Result<Written>;

    /// Stops and deletes the unfinished output. After a failed write it is kept, see the hint of that error.
    fn abort(self: Box<Self>);
}

/// A finished output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The final name.
    pub path: PathBuf,
    /// Number of frames in the file.
    pub frames: u64,
    /// The GStreamer element of the encoder.
    pub encoder: String,
    /// Notes on parts left out, re-encoded or changed, one sentence each.
    pub notes: Vec<String>,
}

/// The encoder settings of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Name of a GStreamer element; none: the best one that opens, see [`encoders`].
    pub encoder: Option<String>,
    /// Whether an encoder on hardware is chosen.
    pub hardware: Hardware,
    /// Target bit rate in kbit/s; replaces `crf`.
    pub bitrate_kbps: Option<u32>,
    /// Constant rate factor, 0 (lossless) to 51; none: 20.
    pub crf: Option<u32>,
    /// Speed preset by the encoder's own name; none: `veryfast` for x264 and x265.
    pub preset: Option<String>,
    /// Replace an existing output.
    pub overwrite: bool,
    /// Width of the written frames as a multiple of that of the frames read (2 for side by side).
    pub width_factor: u32,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            encoder: None,
            hardware: Hardware::Auto,
            bitrate_kbps: None,
            crf: None,
            preset: None,
            overwrite: false,
            width_factor: 1,
        }
    }
}
