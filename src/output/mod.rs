//! Outputs: frames encoded and muxed into files ([`file`]), or encoded once and published live ([`publish`]).

mod encoder;
pub mod file;
pub mod publish;

use std::path::PathBuf;
use std::time::Duration;

pub use encoder::{EncoderInfo, encoders};

use crate::Result;
use crate::gst::Frame;

/// Any sink of frames. Dropping a writer at any moment stops it; what was written stays under the temporary name.
pub trait FrameWriter: Send {
    /// Hands a frame to the encoder; waits for at most `timeout` for room. Gives the frame back when there was none.
    ///
    /// # Errors
    /// Encoding or writing failed: the message says what and where (disk full, for one).
    fn write(&mut self, frame: Frame, timeout: Duration) -> Result<Option<Frame>>;

    /// Whether its frames reach nobody any more, and never will again.
    fn is_over(&self) -> bool {
        false
    }

    /// Finishes the file with what was written so far and gives it its final name. `stop` is asked while waiting: when
    /// it says true the wait is given up (use it for a second Ctrl-C, the first one should finish the file).
    ///
    /// # Errors
    /// As [`FrameWriter::write`]; or the final name appeared meanwhile.
    fn finish(self: Box<Self>, stop: &dyn Fn() -> bool) -> Result<Written>;

    /// Stops and removes the unfinished output. After a failed write it is kept, see the error's hint.
    fn abort(self: Box<Self>);
}

/// A finished output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The final name.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// The GStreamer element that encoded them.
    pub encoder: String,
    /// What was left out, encoded anew or changed on the way into the file, one sentence each.
    pub notes: Vec<String>,
}

/// How to encode an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// A GStreamer element by name; none: the best that opens, see [`encoders`].
    pub encoder: Option<String>,
    /// A target bit rate in kbit/s; takes the place of `crf`.
    pub bitrate_kbps: Option<u32>,
    /// Constant rate factor, 0 (lossless) to 51; none: 20.
    pub crf: Option<u32>,
    /// The encoder's own name for its speed; none: `veryfast` for x264 and x265.
    pub preset: Option<String>,
    /// Replace an existing output.
    pub overwrite: bool,
    /// The written frames are this many times as wide as the frames read (2 for side by side).
    pub width_factor: u32,
}

impl Default for Encoding {
    fn default() -> Self {
        Self { encoder: None, bitrate_kbps: None, crf: None, preset: None, overwrite: false, width_factor: 1 }
    }
}
