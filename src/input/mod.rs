//! Inputs: files, folders of images, test patterns and live sources, opened as I420 frames with their running time.
//!
//! ```text
//! filesrc ! parsebin --video--> decodebin ! deinterlace ! videoflip ! videoconvert ! appsink    -> FrameReader
//!                    --audio, subtitles--> appsink -> tracks, for the writer of a file
//! ```

pub(crate) mod describe;
mod expand;
pub mod file;
pub mod live;
pub mod own;
pub(crate) mod picture;
pub(crate) mod probe;
pub(crate) mod reader;
pub(crate) mod test_source;
mod tone;

use std::time::{Duration, SystemTime};

pub(crate) use expand::each_track;
pub use expand::{Input, expand_input, is_video};
pub use live::{LiveInput, PacketCounts, open_live};

use crate::Result;
use crate::frame::Colour;
use crate::gst::Frame;

/// The result of [`FrameReader::read`].
#[derive(Debug)]
pub enum Read {
    /// The next frame, in the order of running times.
    Frame(Frame),
    /// No frame within the time limit; call again.
    TimedOut,
    /// A live input was lost or reconnected. The frames that follow repeat its last picture, or are new pictures.
    Signal(Signal),
    /// The end of the input.
    End(EndOfInput),
}

/// A change in the connection to a live input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// No more pictures, or the first attempt to connect failed.
    Lost {
        /// The reason, for users; never holds credentials.
        reason: String,
    },
    /// The first picture, or the first one after a loss.
    Back {
        /// Time without pictures; zero for the very first picture if the first attempt succeeded.
        away: Duration,
        /// Codec, size and frame rate of the new pictures, for users.
        what: String,
    },
}

/// The outcome of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndOfInput {
    /// Frames that the decoder marked as damaged (and concealed) or could not decode.
    pub damaged: u64,
    /// The input ended before the length announced in its header.
    pub truncated: bool,
    /// Further notes for users, one sentence each.
    pub notes: Vec<String>,
}

impl EndOfInput {
    /// Complete and without damage.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_clean(&self) -> bool {
        self.damaged == 0 && !self.truncated
    }
}

/// A source of frames. Dropping the reader stops it at any time.
pub trait FrameReader: Send {
    /// Returns the next frame; waits for at most `timeout`.
    ///
    /// # Errors
    /// The input cannot be read any further *and* no frame of it could be read before; damage after the first frame is
    /// reported in [`EndOfInput`].
    fn read(&mut self, timeout: Duration) -> Result<Read>;

    /// The start of the recording, as its container states.
    fn created(&self) -> Option<SystemTime> {
        None
    }

    /// The properties of the input; none before the first picture of a live input.
    fn info(&self) -> Option<&VideoInfo>;

    /// Packet counts so far; none for inputs without packets that could be lost.
    fn packets(&self) -> Option<PacketCounts> {
        None
    }
}

/// The properties of an input, known once its first frame is decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// Width of the frames in pixels, after rotation.
    pub width: u32,
    /// Height of the frames in pixels, after rotation.
    pub height: u32,
    /// Pixel aspect ratio, width : height.
    pub par: (u32, u32),
    /// Nominal frame rate in frames/s; none if it varies or is unknown.
    pub fps: Option<f64>,
    /// Duration in the container, in nanoseconds.
    pub duration: Option<u64>,
    /// Number of frames, estimated from rate and duration.
    pub frames: Option<u64>,
    /// Codec of the video stream, for users.
    pub codec: String,
    /// Name of the container, for users.
    pub container: String,
    /// The colorimetry of the frames.
    pub colour: Colour,
    /// Number of audio streams.
    pub audio_tracks: usize,
    /// Number of subtitle streams.
    pub subtitle_tracks: usize,
}
