//! What is learned of a file while its pipeline starts and runs.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::gst::mp4::edit_list::EditList;

/// Colours that nothing names.
pub(crate) const UNNAMED: [u8; 3] = [2, 2, 2];
/// Those of JPEG: BT.601 by its number for 625 lines, as ffmpeg writes it.
pub(crate) const JPEG: [u8; 3] = [2, 2, 5];
/// Matrices that GStreamer has one word for.
pub(crate) const BT601: [u8; 2] = [5, 6];

/// What the pads of a pipeline tell about a stream, gathered in its streaming threads.
#[derive(Default)]
pub(crate) struct Probe {
    /// How often something was read of the file, or went into or out of the decoder.
    pub steps: AtomicU64,
    /// A video stream was found and linked.
    pub video: AtomicBool,
    /// All streams of the container are known.
    pub complete: AtomicBool,
    pub audio: AtomicU64,
    pub subtitles: AtomicU64,
    /// Sizes of decoded pictures that followed one another.
    pub sizes: AtomicU64,
    /// Video streams, and which of them is read, from 1.
    pub videos: AtomicU64,
    pub taken: AtomicU64,
    /// Compressed frames that went into the decoder, and frames that came out of it.
    pub coded: AtomicU64,
    pub decoded: AtomicU64,
    /// Only key frames go into the decoder.
    pub only_keys: bool,
    /// Codec of the video stream, in words.
    pub codec: std::sync::Mutex<String>,
    /// The edit list of the video stream.
    pub edits: std::sync::Mutex<Option<EditList>>,
    /// How the coded video names its colours where caps do not, or have no word for it, see
    /// [`Shared::colours`](crate::gst::track::Shared).
    pub colours: std::sync::Mutex<Option<[u8; 3]>>,
    /// What the decoded pictures have that those of the output have not, in words.
    pub reduced: std::sync::Mutex<Vec<String>>,
    /// What kind of file it is.
    format: std::sync::OnceLock<Format>,
}

/// What kind of file an input is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// MPEG transport or program stream, or FLV: its clock may be set anew on the way, where recordings are joined.
    Broadcast,
    /// Matroska or WebM.
    Matroska,
    /// A coded stream without a container: no times.
    Raw,
    /// Any other.
    #[default]
    Other,
}

impl Format {
    /// By the media type that GStreamer gives it.
    pub fn of(name: &str) -> Self {
        match name {
            "video/mpegts" | "video/x-flv" | "video/x-cdxa" => Self::Broadcast,
            "video/mpeg" => Self::Broadcast,
            "video/x-matroska" | "video/webm" => Self::Matroska,
            "video/x-h264" | "video/x-h265" | "image/jpeg" | "video/x-h263" | "video/x-av1" => Self::Raw,
            _ => Self::Other,
        }
    }

    /// Whether the clock may start anew, see [`Clock::new`].
    pub fn restarts(self) -> bool {
        self == Self::Broadcast
    }
}

impl Probe {
    pub fn new(only_keys: bool) -> Self {
        Self { only_keys, ..Self::default() }
    }

    pub fn format(&self) -> Format {
        self.format.get().copied().unwrap_or_default()
    }

    pub fn set_format(&self, format: Format) {
        let _ = self.format.set(format);
    }
}
