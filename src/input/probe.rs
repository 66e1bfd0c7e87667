//! The properties of a file that are discovered while its pipeline starts and runs.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::gst::mp4::edit_list::EditList;

/// An unspecified colour description.
pub(crate) const UNNAMED: [u8; 3] = [2, 2, 2];
/// The colours of JPEG: BT.601 with its 625-line number, as ffmpeg writes it.
pub(crate) const JPEG: [u8; 3] = [2, 2, 5];
/// Matrices that share one name in GStreamer.
pub(crate) const BT601: [u8; 2] = [5, 6];

/// Observations at the pads of a pipeline, collected in its streaming threads.
#[derive(Default)]
pub(crate) struct Probe {
    /// Number of reads from the file and of buffers into and out of the decoder, as a sign of progress.
    pub steps: AtomicU64,
    /// A video stream has been found and linked.
    pub video: AtomicBool,
    /// All streams of the container are known.
    pub complete: AtomicBool,
    pub audio: AtomicU64,
    pub subtitles: AtomicU64,
    /// Number of sizes of the decoded pictures, in sequence.
    pub sizes: AtomicU64,
    /// Number of video streams, and the number of the one to read, from 1.
    pub videos: AtomicU64,
    pub taken: AtomicU64,
    /// Number of compressed frames into the decoder, and of frames out of it.
    pub coded: AtomicU64,
    pub decoded: AtomicU64,
    /// Only key frames go into the decoder.
    pub only_keys: bool,
    /// Codec of the video stream, for users.
    pub codec: std::sync::Mutex<String>,
    /// The edit list of the video stream.
    pub edits: std::sync::Mutex<Option<EditList>>,
    /// The colour description in the coded video where caps lack it or cannot express it, see
    /// [`Shared::colours`](crate::gst::track::Shared).
    pub colours: std::sync::Mutex<Option<[u8; 3]>>,
    /// Properties of the decoded pictures that those of the output lack, one sentence each.
    pub reduced: std::sync::Mutex<Vec<String>>,
    /// The format of the file.
    format: std::sync::OnceLock<Format>,
}

/// The kinds of files that need different treatment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// MPEG transport or program stream, or FLV: the clock may restart where recordings are joined.
    Broadcast,
    /// Matroska or WebM.
    Matroska,
    /// An elementary stream without a container: no timestamps.
    Raw,
    /// Any other format.
    #[default]
    Other,
}

impl Format {
    /// The format by GStreamer's media type.
    pub fn of(name: &str) -> Self {
        match name {
            "video/mpegts" | "video/x-flv" | "video/x-cdxa" => Self::Broadcast,
            "video/mpeg" => Self::Broadcast,
            "video/x-matroska" | "video/webm" => Self::Matroska,
            "video/x-h264" | "video/x-h265" | "image/jpeg" | "video/x-h263" | "video/x-av1" => Self::Raw,
            _ => Self::Other,
        }
    }

    /// Whether the clock may restart, see [`Clock::new`].
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
