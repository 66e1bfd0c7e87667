//! The properties of a file that are discovered while its pipeline starts and runs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64};

use gstreamer as gst;

use crate::gst::hdr::Light;
use crate::gst::mp4::edit_list::EditList;

/// An unspecified colour description.
pub(crate) const UNNAMED: [u8; 3] = [2, 2, 2];
/// The colours of JPEG: BT.601 with its 625-line number, as ffmpeg writes it.
pub(crate) const JPEG: [u8; 3] = [2, 2, 5];
/// Matrices that share one name in GStreamer.
pub(crate) const BT601: [u8; 2] = [5, 6];

/// Tolerance for the rounding of times, in nanoseconds.
const ROUNDING: i64 = 1_000_000;

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
    /// Number of the decoded frames that are interlaced.
    pub interlaced: AtomicU64,
    /// Only key frames go into the decoder.
    pub only_keys: bool,
    /// Codec of the video stream, for users.
    pub codec: std::sync::Mutex<String>,
    /// The edit list of the video stream.
    pub edits: std::sync::Mutex<Option<EditList>>,
    /// The colour description in the coded video where caps lack it or cannot express it, see
    /// [`InputTracks::colours`](crate::gst::track::Shared).
    pub colours: std::sync::Mutex<Option<[u8; 3]>>,
    /// Pixel aspect ratio from the container, where it precedes that of the coded video.
    pub par: std::sync::Mutex<Option<gst::Fraction>>,
    /// Time in the file at which the demuxer's running time starts, in nanoseconds.
    clock_start: std::sync::Mutex<Option<u64>>,
    /// Static HDR metadata from the container.
    pub light: std::sync::Mutex<Light>,
    /// The chroma sampling of the coded pictures, where the decoder reduces it.
    pub sampling: std::sync::Mutex<Option<&'static str>>,
    /// Properties of the decoded pictures that those of the output lack, one sentence each.
    pub reduced: std::sync::Mutex<Vec<String>>,
    /// Times of the frames in the decoder, in coded order, where that is the order of all times; see
    /// [`Probe::time_shown`].
    times: std::sync::Mutex<VecDeque<i64>>,
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
    /// MXF: GStreamer reads none of its metadata.
    Mxf,
    /// AVI: the times of a frame are those of decoding.
    Avi,
    /// An elementary stream without a container: no timestamps.
    Raw,
    /// Any other format.
    #[default]
    Other,
}

impl Format {
    /// The format by GStreamer's media type.
    pub fn of(caps: &gst::StructureRef) -> Self {
        match caps.name().as_str() {
            "video/mpegts" | "video/x-flv" | "video/x-cdxa" => Self::Broadcast,
            "video/mpeg" if caps.get("systemstream") == Ok(false) => Self::Raw,
            "video/mpeg" => Self::Broadcast,
            "application/mxf" => Self::Mxf,
            "video/x-msvideo" => Self::Avi,
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

    /// Stores the time of a coded frame, in nanoseconds.
    pub fn add_time(&self, time: u64) {
        if let (Ok(mut times), Ok(time)) = (self.times.lock(), i64::try_from(time)) {
            times.push_back(time);
        }
    }

    /// The time at which a decoded frame is shown. AVI has one time per coded frame, that of decoding: the first frame
    /// to be shown has the first one, and so on. `time`, from the decoder, is never later than that; earlier ones in the
    /// list are those of frames that could not be decoded.
    pub fn time_shown(&self, time: Option<i64>) -> Option<i64> {
        let Ok(mut times) = self.times.lock() else { return time };
        while times.front().is_some_and(|first| time.is_some_and(|time| *first + ROUNDING < time)) {
            times.pop_front();
        }
        times.pop_front().or(time)
    }

    /// Stores the time in the file at which the demuxer's running time starts, in nanoseconds: the least of its streams.
    pub fn set_clock_start(&self, start: u64) {
        if let Ok(mut earliest) = self.clock_start.lock() {
            *earliest = Some(earliest.map_or(start, |earliest| earliest.min(start)));
        }
    }

    /// See [`Probe::set_clock_start`].
    pub fn clock_start(&self) -> Option<u64> {
        self.clock_start.lock().ok().and_then(|start| *start)
    }

    pub fn format(&self) -> Format {
        self.format.get().copied().unwrap_or_default()
    }

    pub fn set_format(&self, format: Format) {
        let _ = self.format.set(format);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_out_of_order_take_the_times_in_order() {
        let probe = Probe::default();
        (0..8).for_each(|index| probe.add_time(index * 40_000_000));
        // The decoder's times: the key frame, fifth to be shown, keeps the one of its decoding.
        let decoded = [0, 40, 80, 120, 80, 120, 160].map(|time| probe.time_shown(Some(time * 1_000_000)).unwrap());
        assert_eq!(decoded, [0, 40, 80, 120, 160, 200, 240].map(|time| time * 1_000_000));
        assert_eq!(probe.time_shown(None), Some(280_000_000));
        assert_eq!(probe.time_shown(None), None);
        // Two frames are lost.
        (0..4).for_each(|index| probe.add_time(index * 40_000_000));
        let decoded = [0, 120].map(|time| probe.time_shown(Some(time * 1_000_000)).unwrap());
        assert_eq!(decoded, [0, 120_000_000]);
    }
}
