//! The muxer of an output file and the packets of audio and subtitles that go into it.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::decode::link;
use super::element;
use super::output::Container;
use super::track::{Kind, Packet, Shared, Track};
use crate::{Error, Result};

/// Ticks per second of the video track: a multiple of every usual frame rate (24 to 60, also times 1000/1001) and of
/// 90 kHz and milliseconds, so that any running time is kept to within 1.4 microseconds.
const TIMESCALE: u32 = 360_000;

/// Length of a fragment while the file is being written, in milliseconds.
const FRAGMENT_MS: u32 = 1000;

/// Makes the muxer. Its index is rewritten into reserved space now and then, so that what a killed process leaves
/// behind can be played.
pub(super) fn muxer(
    container: Container,
    frames: &gst_video::VideoInfo,
    duration: Option<u64>,
    shared: &Shared,
) -> Result<gst::Element> {
    let muxer = element(container.muxer())?;
    match container {
        Container::Mp4 | Container::Mov => {
            muxer.set_property("movie-timescale", 90_000u32);
            muxer.set_property("fragment-duration", FRAGMENT_MS);
            muxer.set_property_from_str("fragment-mode", "first-moov-then-finalise");
        }
        Container::Matroska => {
            muxer.set_property("writing-app", concat!("oodstream ", env!("CARGO_PKG_VERSION")));
        }
    }
    if let (Some(tags), Some(setter)) = (shared.tags(), muxer.dynamic_cast_ref::<gst::TagSetter>()) {
        setter.merge_tags(&tags, gst::TagMergeMode::Replace);
    }
    Ok(muxer)
}

/// A queue for compressed packets without limits: a badly interleaved file must not stall the streams against each
/// other.
pub(super) fn packet_queue() -> Result<gst::Element> {
    let queue = element("queue")?;
    queue.set_property("max-size-buffers", 0u32);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    Ok(queue)
}

/// Links the video parser to the muxer, with a timescale that keeps the running times.
pub(super) fn link_video(
    parser: &gst::Element,
    muxer: &gst::Element,
    container: Container,
    frames: &gst_video::VideoInfo,
) -> Result<()> {
    let pad = muxer.request_pad_simple("video_%u").ok_or_else(|| Error::failed("the muxer takes no video"))?;
    if container != Container::Matroska {
        let (numerator, denominator) = (frames.fps().numer().max(0) as u32, frames.fps().denom().max(1) as u32);
        let exact = numerator == 0 || (u64::from(TIMESCALE) * u64::from(denominator)).is_multiple_of(numerator.into());
        pad.set_property("trak-timescale", if exact { TIMESCALE } else { 1_000_000 });
    }
    let source = parser.static_pad("src").ok_or_else(|| Error::failed("a parser without a source pad"))?;
    source.link(&pad).map_err(|e| Error::failed(format!("the encoder does not fit the muxer: {e}")))?;
    Ok(())
}

/// One audio or subtitle stream on its way into the muxer.
pub(super) struct Feed {
    pub track: Arc<Track>,
    source: gst_app::AppSrc,
}

impl Feed {
    /// Hands a packet to the muxer's queue; never blocks.
    pub fn push(&mut self, packet: Packet) {
        let mut buffer = packet.buffer;
        let stamp = buffer.make_mut();
        let time = |t: Option<i64>| t.map(|t| gst::ClockTime::from_nseconds(u64::try_from(t).unwrap_or(0)));
        stamp.set_pts(time(packet.pts));
        stamp.set_dts(time(packet.dts));
        // An error shows on the bus.
        let _ = self.source.push_buffer(buffer);
    }

    /// No more packets.
    pub fn end(&self) {
        let _ = self.source.end_of_stream();
    }
}

/// Links every stream that the container can hold; the others are left out with a note.
pub(super) fn link_tracks(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    container: Container,
    shared: &Shared,
) -> Result<Vec<Feed>> {
    let mut feeds = Vec::new();
    for (number, track) in shared.tracks().into_iter().enumerate() {
        match link_track(pipeline, muxer, &track)? {
            Some(source) => feeds.push(Feed { track, source }),
            None => {
                let what = track.caps().and_then(|c| c.structure(0).map(|s| s.name().to_string())).unwrap_or_default();
                let kind = if track.kind == Kind::Audio { "audio" } else { "subtitle" };
                let note = format!("{kind} stream {number} ({what}) is left out: {container:?} cannot hold it; .mkv can");
                tracing::warn!("{note}");
                shared.note(note);
                track.discard();
            }
        }
    }
    Ok(feeds)
}

fn link_track(pipeline: &gst::Pipeline, muxer: &gst::Element, track: &Track) -> Result<Option<gst_app::AppSrc>> {
    let Some(caps) = track.caps() else { return Ok(None) };
    let template = match track.kind {
        Kind::Audio => "audio_%u",
        Kind::Subtitle => "subtitle_%u",
    };
    let Some(template) = muxer.pad_template(template) else { return Ok(None) };
    // The parser brings a stream into the form that this muxer wants (AAC with ADTS headers into raw AAC).
    let parser = if template.caps().can_intersect(&caps) { None } else { parser_for(&caps, template.caps()) };
    if parser.is_none() && !template.caps().can_intersect(&caps) {
        return Ok(None);
    }
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).max_bytes(0).block(false).build();
    let mut chain = vec![source.clone().upcast(), packet_queue()?];
    if let Some(parser) = parser {
        chain.push(element(parser)?);
    }
    link(pipeline, &chain)?;
    let pad = muxer.request_pad(&template, None, None).ok_or_else(|| Error::failed("the muxer has no more pads"))?;
    let last = chain.last().and_then(|e| e.static_pad("src")).ok_or_else(|| Error::failed("a queue without a pad"))?;
    last.link(&pad).map_err(|e| Error::failed(format!("{caps} does not fit the muxer: {e}")))?;
    if let Some(tags) = track.tags() {
        source.send_event(gst::event::Tag::new(tags));
    }
    Ok(Some(source))
}

/// A parser whose output this muxer takes.
fn parser_for(caps: &gst::Caps, wanted: &gst::Caps) -> Option<&'static str> {
    let structure = caps.structure(0)?;
    let parser = match structure.name().as_str() {
        "audio/mpeg" if structure.get::<i32>("mpegversion").is_ok_and(|v| v == 1) => "mpegaudioparse",
        "audio/mpeg" => "aacparse",
        "audio/x-ac3" | "audio/x-eac3" => "ac3parse",
        "audio/x-opus" => "opusparse",
        "audio/x-flac" => "flacparse",
        _ => return None,
    };
    let factory = gst::ElementFactory::find(parser)?;
    factory.can_src_any_caps(wanted).then_some(parser)
}
