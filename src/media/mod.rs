//! All of GStreamer: inputs opened as I420 frames with their running time, frames encoded and muxed into files.
//!
//! A reader and a writer are two pipelines. Frames go from one to the other through the caller; compressed audio and
//! subtitle packets go from one to the other inside this module ([`track`]), untouched. Two pipelines rather than one,
//! so that stopping early, a damaged input or a full disk at one end leaves the other end able to finish properly.
//!
//! ```text
//! filesrc ! parsebin --video--> decodebin ! deinterlace ! videoflip ! videoconvert ! appsink    -> FrameReader
//!                    --audio, subtitles--> appsink .. track .. appsrc ---------+
//!                                 FrameWriter -> appsrc ! encoder ! parser ! mux ! filesink
//! ```

mod boxes;
mod clock;
mod decode;
mod doctor;
mod edit_list;
mod encoder;
mod frame;
mod images;
mod input;
pub mod live;
mod message;
mod mp4;
mod mp4_index;
mod mux;
mod output;
mod plain;
pub mod publish;
mod reader;
mod secret;
mod structure;
mod test_source;
mod track;
mod trust;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use gstreamer as gst;

pub use decode::{open_file, open_test, probe};
pub use doctor::missing_elements;
pub use encoder::{EncoderInfo, encoders};
pub use frame::{Frame, FrameView, FrameViewMut};
pub use images::open_images;
pub use input::{Input, expand_input};
pub use live::{LiveInput, open_live};
pub use plain::plain_copy;
pub use secret::hide_credentials;

use crate::{Error, Result, frame::Colour};

/// Starts GStreamer, once per process.
///
/// # Errors
/// GStreamer cannot start (a broken installation).
pub fn init() -> Result<()> {
    static STARTED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(|| gst::init().map_err(|e| e.to_string())).clone().map_err(|e| {
        Error::failed(format!("GStreamer does not start: {e}")).hint("run `oodstream doctor` to see what is missing")
    })
}

/// Name and version of the GStreamer library in use.
pub fn version() -> String {
    gst::version_string().to_string()
}

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

    /// What is known about the input; nothing before a live input has brought its first picture.
    fn info(&self) -> Option<&VideoInfo>;
}

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

/// A finished output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The final name.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// The GStreamer element that encoded them.
    pub encoder: String,
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

/// A file to open, see [`open_file`].
#[derive(Debug, Clone, Copy)]
pub struct OpenFile<'a> {
    /// The input.
    pub path: &'a Path,
    /// Where the frames written go, by extension mp4, m4v, mov or mkv; none: read only.
    pub output: Option<&'a Path>,
    /// How to encode them.
    pub encoding: &'a Encoding,
    /// The number that the frames carry as [`Frame::stream`].
    pub stream: u32,
}

/// A reader, and a writer when an output was asked for.
pub type Opened = (Box<dyn FrameReader>, Option<Box<dyn FrameWriter>>);

/// Makes an element, or says which Debian package brings it.
fn element(factory: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        Error::failed(format!("the GStreamer element `{factory}` is not there"))
            .hint(format!("apt-get install {}", doctor::package_of(factory)))
    })
}
