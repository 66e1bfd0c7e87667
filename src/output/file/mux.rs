//! The muxer of an output file and the packets of audio and subtitles that go into it.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::gst::track::{Kind, Packet, Shared, Track};
use crate::gst::{element, mp4};
use crate::gst::{gst_failed, link};
use crate::output::file::target::Container;
use crate::{Error, Result};

/// Ticks per second of the video track: a multiple of every usual frame rate (24 to 60, also times 1000/1001) and of
/// 90 kHz and milliseconds, so that any running time is kept to within 1.4 microseconds.
const TIMESCALE: u32 = 360_000;

/// Length of a fragment while the file is being written, in milliseconds.
const FRAGMENT_MS: u32 = 1000;

/// Makes the muxer. While an MP4 or MOV file is being written it is a fragmented one, so that what a killed process
/// leaves behind can be played; at the end it becomes an ordinary one with its index at the end.
pub(crate) fn muxer(container: Container, shared: &Shared) -> Result<gst::Element> {
    let muxer = element(container.muxer())?;
    match container {
        Container::Mp4 | Container::Mov => {
            muxer.set_property("movie-timescale", 90_000u32);
            muxer.set_property("fragment-duration", FRAGMENT_MS);
            muxer.set_property_from_str("fragment-mode", "first-moov-then-finalise");
        }
        Container::Matroska => {
            muxer.set_property("writing-app", concat!("oodstream ", env!("CARGO_PKG_VERSION")));
            if let Some(created) = created(shared) {
                muxer.set_property("creation-time", created);
            }
        }
    }
    if let (Some(tags), Some(setter)) = (shared.tags(), muxer.dynamic_cast_ref::<gst::TagSetter>()) {
        setter.merge_tags(&tags, gst::TagMergeMode::Replace);
    }
    Ok(muxer)
}

/// When the input was recorded.
fn created(shared: &Shared) -> Option<glib::DateTime> {
    shared.tags()?.get::<gst::tags::DateTime>()?.get().to_g_date_time().ok()
}

/// What the muxer of an MP4 or MOV file cannot write itself. `frames` is from the start of the first frame to the end of
/// the last one, in nanoseconds.
pub(crate) fn edits(shared: &Shared, source: Option<&Path>, frames: Range<u64>, feeds: &[Feed]) -> mp4::Edits {
    let mut places = source.and_then(|path| File::open(path).ok()).map(|mut f| mp4::places(&mut f)).unwrap_or_default();
    if places.is_empty() {
        places.extend(shared.tags().and_then(|tags| {
            let latitude = tags.get::<gst::tags::GeoLocationLatitude>()?.get();
            let longitude = tags.get::<gst::tags::GeoLocationLongitude>()?.get();
            let elevation = tags.get::<gst::tags::GeoLocationElevation>().map(|e| format!("{:+.3}", e.get()));
            Some(mp4::place(&format!("{latitude:+08.4}{longitude:+09.4}{}/", elevation.unwrap_or_default())))
        }));
    }
    let start = feeds.iter().filter_map(Feed::start).fold(frames.start, u64::min);
    // The video track comes first.
    let priming: Vec<u64> = std::iter::once(0).chain(feeds.iter().map(Feed::priming)).collect();
    mp4::Edits {
        created: created(shared).map(|created| created.to_unix()),
        places,
        start,
        shown: frames.end.saturating_sub(frames.start),
        priming: if priming.iter().all(|p| *p == 0) { Vec::new() } else { priming },
    }
}

/// A queue for compressed packets without limits: a badly interleaved file must not stall the streams against each
/// other.
pub(crate) fn packet_queue() -> Result<gst::Element> {
    let queue = element("queue")?;
    queue.set_property("max-size-buffers", 0u32);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    Ok(queue)
}

/// Links the video parser to the muxer, with a timescale that keeps the running times.
pub(crate) fn link_video(
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
pub(crate) struct Feed {
    pub track: Arc<Track>,
    source: gst_app::AppSrc,
    /// The muxer's times start at zero: a stream that starts earlier (with encoder priming) is moved, and an edit list
    /// moves it back. Matroska has none: there the early packets are due at zero.
    movable: bool,
    /// The demuxer made Pango markup of plain text; the muxer takes the plain text.
    markup: bool,
    started: bool,
    /// When the packet before was due.
    before: Option<i64>,
    /// The first packet's time, once there was one, in nanoseconds.
    first: Option<i64>,
}

impl Feed {
    /// Hands a packet to the muxer's queue; never blocks.
    pub fn push(&mut self, packet: Packet) {
        if !self.started {
            self.started = true;
            self.first = packet.time();
            // Known for certain only once a packet came.
            if self.source.caps().is_none() {
                let caps = self.track.caps();
                self.source.set_caps(Some(&caps));
            }
            let tags = self.track.tags();
            if tags.n_tags() > 0 {
                self.source.send_event(gst::event::Tag::new(tags));
            }
        }
        let packet_time = packet.time();
        let moved = i64::try_from(self.priming()).unwrap_or(0);
        let time = |t: i64| gst::ClockTime::from_nseconds(u64::try_from(t + moved).unwrap_or(0));
        let mut buffer = if self.markup { plain_text(packet.buffer) } else { packet.buffer };
        let stamp = buffer.make_mut();
        // Without one the muxer takes the last packet to last no time at all, and players leave it out.
        if let Some((now, before)) = packet_time.zip(self.before)
            && self.track.kind == Kind::Audio
            && stamp.duration().is_none()
        {
            stamp.set_duration(u64::try_from(now - before).ok().map(gst::ClockTime::from_nseconds));
        }
        self.before = packet_time;
        stamp.set_pts(packet.pts.map(time));
        stamp.set_dts(packet.dts.map(time));
        // An error shows on the bus.
        let _ = self.source.push_buffer(buffer);
    }

    /// By how much the stream is moved.
    pub fn priming(&self) -> u64 {
        self.first.filter(|t| self.movable && *t < 0).map_or(0, i64::unsigned_abs)
    }

    /// When the stream starts in the muxer's time, if it has packets.
    pub fn start(&self) -> Option<u64> {
        self.first.map(|first| u64::try_from(first).unwrap_or(0))
    }

    /// No more packets.
    pub fn end(&self) {
        let _ = self.source.end_of_stream();
    }
}

/// Links every stream that the container can hold. Audio that it cannot is encoded anew, other streams are left out,
/// both with a note.
pub(crate) fn link_tracks(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    container: Container,
    shared: &Shared,
) -> Result<Vec<Feed>> {
    let mut feeds = Vec::new();
    for (number, track) in shared.tracks().into_iter().enumerate() {
        let caps = track.caps();
        let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
        let note = |what: &str| {
            let kind = if track.kind == Kind::Audio { "audio" } else { "subtitle" };
            let note = format!("{kind} stream {number} ({name}) {what}: {} cannot hold it", container.name());
            tracing::warn!("{note}");
            shared.note(note);
        };
        let template = match track.kind {
            Kind::Audio => muxer.pad_template("audio_%u"),
            Kind::Subtitle => muxer.pad_template("subtitle_%u"),
        };
        let template = template.ok_or_else(|| Error::failed("the muxer lacks a pad template"))?;
        let markup = is_markup(&caps);
        let caps = if markup { gst::Caps::builder("text/x-raw").field("format", "utf8").build() } else { caps };
        let fits = template.caps().can_intersect(&caps);
        let chain = if fits && caps.is_fixed() {
            Vec::new()
        } else if let Some(parser) = parser_for(&caps, template.caps()) {
            vec![element(parser)?]
        } else if fits {
            Vec::new()
        } else if track.kind == Kind::Audio {
            note("is encoded as AAC");
            audio_encoder(pipeline)?
        } else {
            note("is left out");
            track.discard();
            continue;
        };
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).max_bytes(0).block(false).build();
        if caps.is_fixed() {
            source.set_caps(Some(&caps));
        }
        link_track(pipeline, muxer, &template, &source, chain)?;
        feeds.push(Feed {
            track,
            source,
            movable: container != Container::Matroska,
            markup,
            started: false,
            before: None,
            first: None,
        });
    }
    Ok(feeds)
}

fn link_track(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    template: &gst::PadTemplate,
    source: &gst_app::AppSrc,
    convert: Vec<gst::Element>,
) -> Result<()> {
    let queue = packet_queue()?;
    let last = convert.last().unwrap_or(&queue).static_pad("src");
    link(pipeline, &[source.clone().upcast(), queue.clone()])?;
    if let Some(first) = convert.first() {
        for element in convert.iter().filter(|element| element.parent().is_none()) {
            pipeline.add(element).map_err(gst_failed)?;
        }
        queue.link(first).map_err(gst_failed)?;
        for pair in convert.windows(2) {
            // A decoder links itself once it knows its output.
            if pair[0].static_pad("src").is_some() {
                pair[0].link(&pair[1]).map_err(gst_failed)?;
            }
        }
    }
    let pad = muxer.request_pad(template, None, None).ok_or_else(|| Error::failed("the muxer has no more pads"))?;
    let last = last.ok_or_else(|| Error::failed("an element without a source pad"))?;
    last.link(&pad).map_err(|e| Error::failed(format!("a stream does not fit the muxer: {e}")))?;
    Ok(())
}

/// Decodes any audio and encodes it as AAC.
fn audio_encoder(pipeline: &gst::Pipeline) -> Result<Vec<gst::Element>> {
    let names = ["decodebin", "audioconvert", "audioresample", "avenc_aac", "aacparse"];
    let chain = names.iter().map(|name| element(name)).collect::<Result<Vec<_>>>()?;
    pipeline.add_many(&chain).map_err(gst_failed)?;
    let entry = chain[1].static_pad("sink").ok_or_else(|| Error::failed("an element without a sink pad"))?;
    chain[0].connect_pad_added(move |_, pad| {
        if !entry.is_linked() && pad.link(&entry).is_err() {
            tracing::warn!("decoded audio cannot be linked");
        }
    });
    Ok(chain)
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

fn is_markup(caps: &gst::Caps) -> bool {
    caps.structure(0).and_then(|s| s.get::<&str>("format").ok()) == Some("pango-markup")
}

/// Undoes the escaping that demuxers do to make markup of subtitle text.
fn plain_text(buffer: gst::Buffer) -> gst::Buffer {
    const ESCAPES: [(&str, &str); 5] = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let text = buffer.map_readable().map(|map| String::from_utf8_lossy(&map).into_owned()).unwrap_or_default();
    if !text.contains('&') {
        return buffer;
    }
    let plain = ESCAPES.iter().fold(text, |text, (escaped, plain)| text.replace(escaped, plain));
    let mut new = gst::Buffer::from_slice(plain.into_bytes());
    // Times and flags stay.
    let _ = buffer.copy_into(new.make_mut(), gst::BufferCopyFlags::META | gst::BufferCopyFlags::TIMESTAMPS, ..);
    new
}
