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

use std::time::{Duration, SystemTime};

pub(crate) use expand::each_track;
pub use expand::{Input, expand_input, is_video};
pub use live::{LiveInput, PacketCounts, open_live};

use crate::Result;
use crate::frame::Colour;
use crate::gst::Frame;

/// What one [`FrameReader::read`] brings.
#[derive(Debug)]
pub enum Read {
    /// The next frame, in the order of the running times.
    Frame(Frame),
    /// Nothing within the time limit; ask again.
    TimedOut,
    /// A live input was lost or came back. What follows are repeats of its last picture, or pictures again.
    Signal(Signal),
    /// There is no more.
    End(EndOfInput),
}

/// A change in the connection to a live input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Pictures stopped coming, or the first attempt to get any failed.
    Lost {
        /// Why, for people; never holds credentials.
        reason: String,
    },
    /// The first picture, or pictures again after a loss.
    Back {
        /// How long there were none; zero for the first picture of all when the first attempt brought it.
        away: Duration,
        /// Codec, size and rate of what comes now, for people.
        what: String,
    },
}

/// How an input ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndOfInput {
    /// Frames that the decoder marked as damaged (and concealed) or could not decode at all.
    pub damaged: u64,
    /// The input ended before what its header promised.
    pub truncated: bool,
    /// What else a person should know, one sentence each.
    pub notes: Vec<String>,
}

impl EndOfInput {
    /// Everything was there and decoded.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_clean(&self) -> bool {
        self.damaged == 0 && !self.truncated
    }
}

/// Any source of frames. Dropping a reader at any moment stops it.
pub trait FrameReader: Send {
    /// The next frame; waits for at most `timeout`.
    ///
    /// # Errors
    /// The input cannot be read any further *and* nothing of it could be read before; damage after the first frame is
    /// told by [`EndOfInput`].
    fn read(&mut self, timeout: Duration) -> Result<Read>;

    /// When the recording began, as its container says.
    fn created(&self) -> Option<SystemTime> {
        None
    }

    /// What is known about the input; nothing before a live input has brought its first picture.
    fn info(&self) -> Option<&VideoInfo>;

    /// The packets that came so far; none where the input has no packets that could be lost.
    fn packets(&self) -> Option<PacketCounts> {
        None
    }
}

/// What is known about an input once its first frame is decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// Luma columns of the frames, after rotation.
    pub width: u32,
    /// Luma rows of the frames, after rotation.
    pub height: u32,
    /// Pixel aspect ratio, width : height.
    pub par: (u32, u32),
    /// Nominal frame rate; none when it varies or is not known.
    pub fps: Option<f64>,
    /// Nanoseconds, as the container says.
    pub duration: Option<u64>,
    /// Estimated from rate and duration.
    pub frames: Option<u64>,
    /// Of the video stream, in words.
    pub codec: String,
    /// In words.
    pub container: String,
    /// How to read the code values of the frames.
    pub colour: Colour,
    /// Number of audio streams.
    pub audio_tracks: usize,
    /// Number of subtitle streams.
    pub subtitle_tracks: usize,
}
