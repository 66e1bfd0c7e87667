//! Audio and subtitles on their way into the muxer of an output file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::gst::metadata::{Metadata, Original, TrackEdits, TrackKind};
use crate::gst::track::{InputTracks, Kind, MediaTrack, Packet};
use crate::gst::{element, gst_failed, link, loas};
use crate::output::file::target::Container;
use crate::output::file::text::{Text, plain};
use crate::{Error, Result};

/// One audio or subtitle stream on its way into the muxer.
pub(crate) struct Feed {
    pub track: Arc<MediaTrack>,
    source: gst_app::AppSrc,
    /// Earliest packet time to keep, in nanoseconds; negative. The muxer's times start at zero: a stream that starts
    /// earlier (with encoder priming) is shifted, and an edit list or a codec delay shifts it back.
    earliest: i64,
    /// The conversion of subtitles for the muxer.
    text: Option<Text>,
    /// Sample rate of re-encoded audio in Hz, 0 until known; none for copied packets.
    encoded: Option<Arc<AtomicU32>>,
    started: bool,
    /// Time of the previous packet, in nanoseconds.
    before: Option<i64>,
    /// Time of the first packet, none before it, and end of the last one, in nanoseconds.
    first: Option<i64>,
    pub end: i64,
}

/// Longest codec delay, in nanoseconds: earlier packets, hidden by an edit list, are left out.
const PRIMING: i64 = 100_000_000;

/// Samples that the AAC encoder inserts at the start.
const ENCODER_DELAY: u64 = 1024;

impl Feed {
    /// Pushes a packet to the muxer's queue; never blocks.
    pub fn push(&mut self, packet: Packet) {
        if packet.time().is_some_and(|time| time < self.earliest) {
            return;
        }
        if !self.started {
            self.started = true;
            self.first = packet.time();
            // Known for certain only after the first packet.
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
        let moved = i64::try_from(self.moved()).unwrap_or(0);
        let time = |t: i64| gst::ClockTime::from_nseconds(u64::try_from(t + moved).unwrap_or(0));
        let mut buffer = self.text.map_or_else(|| packet.buffer.clone(), |text| plain(text, &packet.buffer));
        let stamp = buffer.make_mut();
        // Without a duration, the muxer gives the last packet a duration of zero, and players skip it.
        if let Some((now, before)) = packet_time.zip(self.before)
            && self.track.kind == Kind::Audio
            && stamp.duration().is_none()
        {
            stamp.set_duration(u64::try_from(now - before).ok().map(gst::ClockTime::from_nseconds));
        }
        self.before = packet_time;
        if let Some(length) = stamp.duration().and_then(|length| i64::try_from(length.nseconds()).ok()) {
            self.end = self.end.max(packet_time.unwrap_or(0) + length);
        }
        stamp.set_pts(packet.pts.map(time));
        stamp.set_dts(packet.dts.map(time));
        // An error is posted on the bus.
        let _ = self.source.push_buffer(buffer);
    }

    /// Nanoseconds by which the stream is shifted.
    fn moved(&self) -> u64 {
        self.first.filter(|t| *t < 0).map_or(0, i64::unsigned_abs)
    }

    /// What the container has to know of it after the last packet.
    pub fn edits(&self) -> TrackEdits {
        let rate = self.encoded.as_ref().map(|rate| u64::from(rate.load(Ordering::Acquire))).filter(|rate| *rate > 0);
        let delay = rate.map_or(0, |rate| ENCODER_DELAY * 1_000_000_000 / rate);
        let heard = rate.and_then(|_| u64::try_from(self.end - self.first?.max(0)).ok());
        TrackEdits { source: self.track.number(), priming: self.moved() + delay, heard }
    }

    /// A note if the stream was not written; else none.
    pub fn note(&self, number: usize) -> Option<String> {
        let kind = if self.track.kind == Kind::Audio { "audio" } else { "subtitle" };
        (!self.started).then(|| format!("{kind} stream {number} has no packets and is left out"))
    }

    /// Start of the stream in the muxer's time, if it has packets.
    pub fn start(&self) -> Option<u64> {
        self.first.map(|first| u64::try_from(first).unwrap_or(0))
    }

    /// Ends the stream.
    pub fn end(&self) {
        let _ = self.source.end_of_stream();
    }
}

/// An unlimited queue for compressed packets: a badly interleaved file must not make its streams wait for each other.
pub(crate) fn packet_queue() -> Result<gst::Element> {
    let queue = element("queue")?;
    queue.set_property("max-size-buffers", 0u32);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    Ok(queue)
}

/// Links every stream that the container can hold. Other audio is re-encoded, other subtitles are left out, both with a
/// note.
pub(crate) fn link_tracks(
    pipeline: &gst::Pipeline,
    muxer: &gst::Element,
    container: Container,
    shared: &InputTracks,
) -> Result<Vec<Feed>> {
    let mut feeds = Vec::new();
    let metadata = shared.metadata();
    for (number, track) in shared.tracks().into_iter().enumerate() {
        if container != Container::Matroska && copies(&metadata, &track) {
            track.discard();
            continue;
        }
        let caps = track.caps();
        // The parser's output is unknown before the first packet.
        let demuxed = (!caps.is_fixed()).then(|| track.demuxed_caps()).flatten();
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
        let text = Text::of(&caps, container);
        if text == Some(Text::Ass) {
            note("loses its styles");
        }
        let caps = match text {
            Some(_) => gst::Caps::builder("text/x-raw").field("format", "utf8").build(),
            None => caps,
        };
        let known = demuxed.as_ref().unwrap_or(&caps);
        let fits = template.caps().can_intersect(known);
        let mut encoded = None;
        let chain = if fits && caps.is_fixed() {
            Vec::new()
        } else if let Some(parser) = parser_for(known, template.caps()) {
            vec![element(parser)?]
        } else if fits {
            Vec::new()
        } else if track.kind == Kind::Audio {
            note("is encoded as AAC");
            let rate = Arc::new(AtomicU32::new(0));
            encoded = Some(Arc::clone(&rate));
            audio_encoder(pipeline, if loas::is_loas(known) { "avdec_aac_latm" } else { "decodebin" }, rate)?
        } else {
            note("is left out");
            track.discard();
            continue;
        };
        let caps = if loas::is_loas(known) { loas::framed() } else { caps };
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).max_bytes(0).block(false).build();
        if caps.is_fixed() {
            source.set_caps(Some(&caps));
        }
        link_track(pipeline, muxer, &template, &source, chain)?;
        feeds.push(Feed {
            track,
            source,
            earliest: if container == Container::Matroska { -PRIMING } else { i64::MIN },
            text,
            encoded,
            started: false,
            before: None,
            first: None,
            end: 0,
        });
    }
    left_out(shared, &metadata, container);
    Ok(feeds)
}

/// Whether [`super::mux::finish`] copies the track unchanged.
fn copies(metadata: &Metadata, track: &MediaTrack) -> bool {
    let Original::Mp4(original) = &metadata.original else { return false };
    original.tracks.iter().any(|copied| Some(u64::from(copied.id)) == track.number())
}

/// Adds notes on the parts of the input that the output lacks.
fn left_out(shared: &InputTracks, metadata: &Metadata, container: Container) {
    let taken: Vec<u64> =
        shared.tracks().iter().filter_map(|track| track.number()).chain(shared.video.get().copied()).collect();
    let quicktime = container != Container::Matroska;
    let copied: &[_] = match &metadata.original {
        Original::Mp4(original) if quicktime => &original.tracks,
        _ => &[],
    };
    for track in &metadata.tracks {
        let kind = match track.kind {
            // Noted by the reader.
            TrackKind::Video => continue,
            TrackKind::Audio => "audio",
            TrackKind::Text => "subtitle",
            TrackKind::Other => "data",
        };
        let kept = taken.contains(&track.id) || copied.iter().any(|copied| u64::from(copied.id) == track.id);
        // Kept in another form.
        let becomes = (track.coding == "tmcd" && metadata.timecode.is_some())
            || (track.kind == TrackKind::Text
                && !metadata.chapters.is_empty()
                && matches!(&metadata.original, Original::Mp4(_)));
        if !kept && !becomes {
            let name = track.name.as_ref().map_or_else(String::new, |name| format!(", \"{name}\""));
            shared.note(format!("{kind} track {} ({}{name}) is left out", track.id, track.coding));
        }
    }
    if let Original::Matroska(original) = &metadata.original {
        if quicktime && !original.attachments.is_empty() {
            shared.note(format!("attached files are left out: {} cannot hold them", container.name()));
        }
        if original.alpha {
            shared.note("the transparency of the pictures (alpha channel) is left out".to_owned());
        }
    }
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
            // A decoder is linked once its output is known.
            if pair[0].static_pad("src").is_some() {
                pair[0].link(&pair[1]).map_err(gst_failed)?;
            }
        }
    }
    let pad = muxer.request_pad(template, None, None).ok_or_else(|| Error::failed("the muxer has no more pads"))?;
    let last = last.ok_or_else(|| Error::failed("an element without a source pad"))?;
    last.link(&pad).map_err(|e| Error::failed(format!("a stream cannot be linked to the muxer: {e}")))?;
    Ok(())
}

/// Decodes any audio and encodes it as AAC; `rate` is set to its sample rate.
fn audio_encoder(pipeline: &gst::Pipeline, decoder: &str, rate: Arc<AtomicU32>) -> Result<Vec<gst::Element>> {
    let names = [decoder, "audioconvert", "audioresample", "avenc_aac", "aacparse"];
    let chain = names.iter().map(|name| element(name)).collect::<Result<Vec<_>>>()?;
    pipeline.add_many(&chain).map_err(gst_failed)?;
    let entry = chain[1].static_pad("sink").ok_or_else(|| Error::failed("an element without a sink pad"))?;
    // Otherwise linked with the other elements.
    chain[0].connect_pad_added(move |_, pad| {
        if !entry.is_linked() && pad.link(&entry).is_err() {
            tracing::warn!("decoded audio cannot be linked");
        }
    });
    let encoder = chain[3].static_pad("sink").ok_or_else(|| Error::failed("an encoder without a sink pad"))?;
    encoder.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) {
            let new = caps.caps().structure(0).and_then(|s| s.get::<i32>("rate").ok());
            rate.store(new.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0), Ordering::Release);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(chain)
}

/// A parser whose output the muxer accepts.
pub(crate) fn parser_for(caps: &gst::Caps, wanted: &gst::Caps) -> Option<&'static str> {
    let structure = caps.structure(0)?;
    let parser = match structure.name().as_str() {
        "audio/mpeg" if structure.get::<i32>("mpegversion").is_ok_and(|v| v == 1) => "mpegaudioparse",
        // aacparse reads AAC in ADTS, but not in LOAS.
        "audio/mpeg" if structure.get::<&str>("stream-format") == Ok("loas") => return None,
        "audio/mpeg" => "aacparse",
        "audio/x-eac3" if !wanted.can_intersect(caps) => return None,
        "audio/x-ac3" | "audio/x-eac3" => "ac3parse",
        "audio/x-opus" => "opusparse",
        "audio/x-flac" => "flacparse",
        _ => return None,
    };
    let factory = gst::ElementFactory::find(parser)?;
    factory.can_src_any_caps(wanted).then_some(parser)
}
