//! Opens files and test patterns: demux, decode, deinterlace, rotate, convert.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_pbutils as gst_pbutils;
use gstreamer_video as gst_video;

use super::clock::Clock;
use super::message::unplayable;
use super::mp4_index::{Index, IndexTrack};
use super::reader::{Pace, PipelineReader, Probe, frame_sink};
use super::test_source::TestSpec;
use super::track::{Kind, Shared, Track};
use super::writer::FileWriter;
use super::{Encoding, FrameWriter, OpenFile, Opened, VideoInfo, element, init, mp4_index, output, structure};
use crate::{Error, Result};

/// Pictures of a `test://` input that does not say how many.
const TEST_FRAMES: i32 = 250;

/// Opens a video file, and an output beside it when one is asked for. Returns once the first frame is decoded.
///
/// # Errors
/// Not there, not a video, no video stream, no decoder, damaged from the start; an output that exists, equals the
/// input, or cannot be written.
pub fn open_file(open: &OpenFile) -> Result<Opened> {
    init()?;
    check_readable(open.path)?;
    let target = open.output.map(|path| output::Target::check(path, Some(open.path), open.encoding)).transpose()?;
    let reader = file_reader(open.path, open.stream)?;
    with_writer(reader, target, open.encoding)
}

/// Opens a synthetic input: `test://PATTERN?width=640&height=360&fps=25&frames=100`, PATTERN one of videotestsrc's; 250
/// frames unless told otherwise.
///
/// # Errors
/// An unknown pattern or key, a value out of range; the output as [`open_file`].
pub fn open_test(spec: &str, output: Option<&Path>, encoding: &Encoding, stream: u32) -> Result<Opened> {
    init()?;
    let target = output.map(|path| output::Target::check(path, None, encoding)).transpose()?;
    let mut spec = TestSpec::parse(spec)?;
    let frames = *spec.frames.get_or_insert(TEST_FRAMES);
    let [source, filter] = spec.elements()?;
    let sink = frame_sink();
    let pipeline = gst::Pipeline::new();
    link(&pipeline, &[source, filter, sink.clone().upcast()])?;
    let probe = Arc::new(Probe::default());
    probe.video.store(true, Ordering::Release);
    probe.complete.store(true, Ordering::Release);
    if let Ok(mut codec) = probe.codec.lock() {
        *codec = "test pattern".to_string();
    }
    let name = format!("test://{}", spec.pattern);
    let mut reader =
        PipelineReader::start(pipeline, sink, Path::new(&name), stream, Arc::default(), probe, Pace::Taken)?;
    reader.set_frames(u64::from(frames.unsigned_abs()));
    with_writer(reader, target, encoding)
}

/// What a file holds, from its header and its first frame.
///
/// # Errors
/// As [`open_file`].
pub fn probe(path: &Path) -> Result<VideoInfo> {
    init()?;
    check_readable(path)?;
    file_reader(path, 0).map(|reader| reader.video_info().clone())
}

pub(super) fn with_writer(
    reader: PipelineReader,
    target: Option<output::Target>,
    encoding: &Encoding,
) -> Result<Opened> {
    let writer = match target {
        Some(target) => {
            let writer = FileWriter::open(target, reader.frame_info(), &reader.shared, encoding)?;
            Some(Box::new(writer) as Box<dyn FrameWriter>)
        }
        None => {
            reader.shared.discard();
            None
        }
    };
    Ok((Box::new(reader), writer))
}

pub(super) fn check_readable(path: &Path) -> Result<()> {
    let name = path.display();
    let mut file = std::fs::File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::failed(format!("{name}: there is no such file")),
        _ => Error::failed(format!("{name}: cannot be opened: {e}")),
    })?;
    let meta = file.metadata().map_err(|e| Error::failed(format!("{name}: {e}")))?;
    if meta.is_dir() {
        return Err(Error::failed(format!("{name}: this is a folder")));
    }
    if meta.is_file() && meta.len() == 0 {
        return Err(Error::failed(format!("{name}: the file is empty (zero bytes)"))
            .hint("the recording or the copy failed; fetch it again"));
    }
    match meta.is_file().then(|| mp4_index::fault(&mut file)).flatten() {
        Some(fault) => Err(unplayable(path, fault)),
        None => Ok(()),
    }
}

/// `filesrc ! parsebin`, with the first video stream decoded into an appsink and the other streams into tracks.
pub(super) fn file_reader(path: &Path, stream: u32) -> Result<PipelineReader> {
    file_reader_at(path, stream, Pace::Taken)
}

pub(super) fn file_reader_at(path: &Path, stream: u32, pace: Pace) -> Result<PipelineReader> {
    let pipeline = gst::Pipeline::new();
    let source = element("filesrc")?;
    source.set_property("location", path);
    let mut file = std::fs::File::open(path).ok();
    let index = file.as_mut().and_then(|file| Index::read(file).ok()).unwrap_or_default();
    let cut = index.cut.clone().or_else(|| file.as_mut().and_then(structure::cut));
    // In real time frames are due by the clock of the demuxer.
    let index =
        Arc::new(if pace == Pace::Taken { index } else { Index { patches: Vec::new(), tracks: Vec::new(), ..index } });
    if let Some(pad) = source.static_pad("src").filter(|_| !index.patches.is_empty()) {
        patch(&pad, Arc::clone(&index));
    }
    let parse = element("parsebin")?;
    link(&pipeline, &[source, parse.clone()])?;

    let decoder = element("decodebin")?;
    let sink = frame_sink();
    if pace == Pace::RealTime {
        // The clock starts with the first frame.
        sink.set_async(true);
        sink.set_sync(true);
    }
    let chain = picture_chain(&sink)?;
    pipeline.add(&decoder).map_err(gst_failed)?;
    link(&pipeline, &chain)?;
    let entry = chain[0].static_pad("sink").ok_or_else(|| Error::failed("an element without a sink pad"))?;

    let probe = Arc::new(Probe::default());
    watch_format(&parse, &probe);
    let decoded = Arc::clone(&probe);
    entry.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        decoded.decoded.fetch_add(1, Ordering::AcqRel);
        gst::PadProbeReturn::Ok
    });
    decoder.connect_pad_added(move |_, pad| {
        if !entry.is_linked() && pad.link(&entry).is_err() {
            tracing::warn!("the decoder's output cannot be linked");
        }
    });

    let shared = Arc::new(Shared::default());
    let duration = index.duration;
    let (streams, known) = (Arc::clone(&probe), Arc::clone(&shared));
    // The pipeline owns the handler: weak references, or neither would ever be freed.
    let (weak, weak_decoder) = (pipeline.downgrade(), decoder.downgrade());
    parse.connect_pad_added(move |_, pad| {
        if let (Some(pipeline), Some(decoder)) = (weak.upgrade(), weak_decoder.upgrade())
            && let Err(e) = add_stream(&pipeline, &decoder, pad, &streams, &known, &index)
        {
            tracing::warn!("a stream is left out: {e}");
        }
    });
    let mut reader = PipelineReader::start(pipeline, sink, path, stream, shared, probe, pace)?;
    if let Some(duration) = duration {
        reader.set_duration(duration);
    }
    reader.set_cut(cut);
    Ok(reader)
}

/// Changes what the demuxer reads of the file, see [`Index::patches`].
fn patch(pad: &gst::Pad, index: Arc<Index>) {
    pad.add_probe(gst::PadProbeType::PULL | gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else { return gst::PadProbeReturn::Ok };
        let (start, end) = (buffer.offset(), buffer.offset().saturating_add(buffer.size() as u64));
        let touches = |(at, bytes): &&(u64, Vec<u8>)| *at < end && at.saturating_add(bytes.len() as u64) > start;
        if !index.patches.iter().any(|patch| touches(&patch)) {
            return gst::PadProbeReturn::Ok;
        }
        if let Ok(mut map) = buffer.make_mut().map_writable() {
            for (at, bytes) in index.patches.iter().filter(touches) {
                for (at, byte) in (*at..).zip(bytes) {
                    let place = at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
                    if let Some(slot) = place.and_then(|place| map.get_mut(place)) {
                        *slot = *byte;
                    }
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Notes what kind of file it is, once the first bytes are read.
fn watch_format(parse: &gst::Element, probe: &Arc<Probe>) {
    let Some(find) = parse.dynamic_cast_ref::<gst::Bin>().and_then(|bin| bin.by_name("typefind")) else { return };
    let probe = Arc::clone(probe);
    find.connect("have-type", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok())?;
        let name = caps.structure(0)?.name().to_string();
        // Whoever wrote these set a clock that may be set anew on the way, where recordings are joined.
        let restarts = ["video/mpegts", "video/mpeg", "video/x-flv"].contains(&name.as_str()) || name.contains("cdxa");
        probe.restarts.store(restarts, Ordering::Release);
        None
    });
}

/// Corrects what demuxers say of a stream. Segments lose their end: it is rounded or wrong in many files, and decoders
/// drop the frames behind it.
fn correct(pad: &gst::Pad, full_range: bool) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
        let new = match event.view() {
            gst::EventView::Segment(segment) => {
                let mut segment = segment.segment().clone();
                match segment.downcast_mut::<gst::ClockTime>() {
                    Some(times) if times.stop().is_some() => times.set_stop(gst::ClockTime::NONE),
                    _ => return gst::PadProbeReturn::Ok,
                }
                gst::event::Segment::builder(&segment).seqnum(event.seqnum()).build()
            }
            gst::EventView::Caps(caps) if full_range => {
                let mut caps = caps.caps_owned();
                let Some(colorimetry) = caps
                    .structure(0)
                    .and_then(|s| s.get::<String>("colorimetry").ok())
                    .and_then(|c| with_full_range(&c))
                else {
                    return gst::PadProbeReturn::Ok;
                };
                caps.make_mut().set("colorimetry", colorimetry);
                gst::event::Caps::builder(&caps).seqnum(event.seqnum()).build()
            }
            _ => return gst::PadProbeReturn::Ok,
        };
        info.data = Some(gst::PadProbeData::Event(new));
        gst::PadProbeReturn::Ok
    });
}

/// GStreamer's name of a colorimetry, with the whole range of code values in use.
fn with_full_range(colorimetry: &str) -> Option<String> {
    let known = colorimetry.parse::<gst_video::VideoColorimetry>().ok()?;
    let full = gst_video::VideoColorimetry::new(
        gst_video::VideoColorRange::Range0_255,
        known.matrix(),
        known.transfer(),
        known.primaries(),
    );
    Some(full.to_string())
}

/// Deinterlaces what is interlaced, turns what is tagged as rotated and makes it I420 of one size. Each element passes
/// frames through untouched when it has nothing to do.
pub(super) fn picture_chain(sink: &gst_app::AppSink) -> Result<Vec<gst::Element>> {
    let deinterlace = element("deinterlace")?;
    // One frame out for each frame in: the times of the output are those of the input.
    deinterlace.set_property_from_str("fields", "top");
    deinterlace.set_property_from_str("method", "greedyh");
    let flip = element("videoflip")?;
    flip.set_property_from_str("video-direction", "auto");
    Ok(vec![deinterlace, element("videoconvert")?, flip, element("videoscale")?, sink.clone().upcast()])
}

/// A stream of the container: the first video goes to the decoder, audio and subtitles to tracks.
fn add_stream(
    pipeline: &gst::Pipeline,
    decoder: &gst::Element,
    pad: &gst::Pad,
    probe: &Arc<Probe>,
    shared: &Shared,
    index: &Index,
) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    tracing::debug!("stream {}: {caps}", pad.name());
    let listed = track_of(pad, index);
    let edits = listed.and_then(|track| track.edits.clone());
    correct(pad, listed.is_some_and(|track| track.full_range));
    // parsebin shows all its pads before it lets the first packet through.
    let complete = Arc::clone(probe);
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if info.event().is_some_and(|event| event.type_() != gst::EventType::Eos) {
            return gst::PadProbeReturn::Ok;
        }
        complete.complete.store(true, Ordering::Release);
        gst::PadProbeReturn::Remove
    });
    let kind = match name.split('/').next().unwrap_or_default() {
        "video" | "image" => {
            if probe.video.swap(true, Ordering::AcqRel) {
                probe.more_video.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            if let Ok(mut known) = probe.edits.lock() {
                *known = edits;
            }
            if let Ok(mut codec) = probe.codec.lock() {
                *codec =
                    if caps.is_fixed() { gst_pbutils::pb_utils_get_codec_description(&caps).to_string() } else { name };
            }
            let coded = Arc::clone(probe);
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let header =
                    info.buffer().is_some_and(|b| b.flags().contains(gst::BufferFlags::HEADER) && b.size() < 64);
                if !header {
                    coded.coded.fetch_add(1, Ordering::AcqRel);
                }
                gst::PadProbeReturn::Ok
            });
            let entry = decoder.static_pad("sink").ok_or_else(|| Error::failed("a decoder without a sink pad"))?;
            pad.link(&entry).map_err(|e| Error::failed(format!("the video cannot be linked: {e}")))?;
            decoder.sync_state_with_parent().map_err(gst_failed)?;
            return Ok(());
        }
        "audio" => {
            probe.audio.fetch_add(1, Ordering::AcqRel);
            Kind::Audio
        }
        "text" | "subtitle" | "subpicture" => {
            probe.subtitles.fetch_add(1, Ordering::AcqRel);
            Kind::Subtitle
        }
        // DVD, SSA and PGS subtitles come as application/x-ssa and the like.
        "application" if name.contains("ssa") || name.contains("ass") || name.contains("usf") => {
            probe.subtitles.fetch_add(1, Ordering::AcqRel);
            Kind::Subtitle
        }
        _ => return Ok(()),
    };
    let clock = Clock::new(&shared.joins, probe.restarts.load(Ordering::Acquire));
    let (track, sink) = Track::new(kind, pad, edits, clock);
    pipeline.add(&sink).map_err(gst_failed)?;
    sink.sync_state_with_parent().map_err(gst_failed)?;
    let entry = sink.static_pad("sink").ok_or_else(|| Error::failed("an appsink without a pad"))?;
    pad.link(&entry).map_err(|e| Error::failed(format!("{name} cannot be linked: {e}")))?;
    shared.add(track);
    Ok(())
}

/// The track of the index that a pad of the demuxer stands for: its number is the end of the stream's identifier.
fn track_of<'a>(pad: &gst::Pad, index: &'a Index) -> Option<&'a IndexTrack> {
    let identifier = pad.stream_id()?;
    let id: u32 = identifier.rsplit('/').next()?.parse().ok()?;
    index.tracks.iter().find(|track| track.id == id)
}

/// Adds elements to a pipeline and links them in order.
pub(super) fn link(pipeline: &gst::Pipeline, chain: &[gst::Element]) -> Result<()> {
    pipeline.add_many(chain).map_err(gst_failed)?;
    gst::Element::link_many(chain).map_err(gst_failed)
}

pub(super) fn gst_failed(e: gst::glib::BoolError) -> Error {
    Error::failed(format!("GStreamer: {}", e.message))
}
