//! The muxer of an output file.

use std::ops::Range;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::metadata::TrackEdits;
use crate::gst::track::InputTracks;
use crate::gst::{element, matroska, mp4};
use crate::output::file::feed::Feed;
use crate::output::file::target::{Container, Target};
use crate::{Error, Result};

/// Ticks per second of the video track: a multiple of every usual frame rate (24 to 60, also times 1000/1001) and of 90
/// kHz and milliseconds, so that any running time is kept to within 1.4 microseconds.
const TIMESCALE: u32 = 360_000;

/// Length of a fragment while the file is being written, in milliseconds.
const FRAGMENT_MS: u32 = 1000;

/// The name and version of the writing application.
const PROGRAM: &str = concat!("oodstream ", env!("CARGO_PKG_VERSION"));

/// Creates the muxer. An MP4 or MOV file is fragmented while it is written, so that the part left by a killed process
/// can be played; at the end it becomes an ordinary file with its index at the end. `room` is the space that [`finish`]
/// needs in the head of a Matroska file, in bytes.
pub(crate) fn muxer(container: Container, room: usize) -> Result<gst::Element> {
    let muxer = element(container.muxer())?;
    match container {
        Container::Mp4 | Container::Mov => {
            muxer.set_property("movie-timescale", 90_000u32);
            muxer.set_property("fragment-duration", FRAGMENT_MS);
            muxer.set_property_from_str("fragment-mode", "first-moov-then-finalise");
        }
        Container::Matroska => {
            muxer.set_property("writing-app", format!("{PROGRAM}{}", " ".repeat(room)));
        }
    }
    Ok(muxer)
}

/// The space that [`finish`] needs in the head of a Matroska file, in bytes.
pub(crate) fn room(shared: &InputTracks) -> usize {
    matroska::finish::room(&shared.metadata())
}

/// Adds to a finished file the metadata that its muxer cannot write. `frames` is the time from the start of the first
/// frame to the end of the last one, in nanoseconds.
///
/// # Errors
/// The file cannot be read or written, or its structure is not that of the muxer's output.
pub(crate) fn finish(target: &Target, shared: &InputTracks, frames: Range<u64>, feeds: &[Feed]) -> std::io::Result<()> {
    let metadata = shared.metadata();
    // The video track comes first.
    let mut tracks = vec![TrackEdits { source: shared.video.get().copied(), ..TrackEdits::default() }];
    tracks.extend(feeds.iter().map(Feed::edits));
    let light = shared.light.get().copied().unwrap_or_default();
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&target.temporary)?;
    if target.container == Container::Matroska {
        let end = feeds.iter().map(|feed| u64::try_from(feed.end).unwrap_or(0)).fold(frames.end, u64::max);
        let edits = matroska::finish::Edits { metadata: &metadata, program: PROGRAM, end, tracks, light };
        return matroska::finish::apply(&mut file, &edits);
    }
    let edits = mp4::finish::Edits {
        metadata: &metadata,
        quicktime: target.container == Container::Mov,
        start: feeds.iter().filter_map(Feed::start).fold(frames.start, u64::min),
        shown: frames.end.saturating_sub(frames.start),
        tracks,
        light,
        // After an early stop, copied tracks would be longer than the video.
        copy_from: target.input.as_deref().filter(|_| shared.has_ended()),
    };
    mp4::finish::apply(&mut file, &edits)
}

/// The assumed duration of a file that does not state one, in nanoseconds: 12 hours.
pub(crate) const UNSTATED: u64 = 12 * 3_600_000_000_000;

/// Links the video parser to the muxer, with a timescale that keeps the running times. Returns the longest gap between
/// two frames that the container can hold, in nanoseconds.
pub(crate) fn link_video(
    parser: &gst::Element,
    muxer: &gst::Element,
    container: Container,
    frames: &gst_video::VideoInfo,
    duration: Option<u64>,
) -> Result<u64> {
    let mut longest = u64::MAX;
    let pad = muxer.request_pad_simple("video_%u").ok_or_else(|| Error::failed("the muxer accepts no video"))?;
    if container != Container::Matroska {
        let (numerator, denominator) = (frames.fps().numer().max(0) as u32, frames.fps().denom().max(1) as u32);
        let exact = numerator == 0 || (u64::from(TIMESCALE) * u64::from(denominator)).is_multiple_of(numerator.into());
        let scale = timescale(if exact { TIMESCALE } else { 1_000_000 }, duration.unwrap_or(0));
        pad.set_property("trak-timescale", scale);
        longest = u64::from(u32::MAX) * 1_000_000_000 / u64::from(scale);
    }
    let source = parser.static_pad("src").ok_or_else(|| Error::failed("a parser without a source pad"))?;
    source.link(&pad).map_err(|e| Error::failed(format!("the encoder cannot be linked to the muxer: {e}")))?;
    Ok(longest)
}

/// The finest timescale up to `finest` in which a gap as long as the whole file fits into the 32 bits of a sample
/// duration in MP4.
fn timescale(finest: u32, duration: u64) -> u32 {
    let fits = |scale: &u32| u128::from(duration) * u128::from(*scale) < (1 << 32) * 1_000_000_000u128;
    [finest, TIMESCALE, 90_000, 10_000, 1000].into_iter().find(fits).unwrap_or(1000)
}
