//! Video files and folders of images: demux, decode, deinterlace, rotate, convert.

pub(crate) mod images;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils as gst_pbutils;

use crate::gst::message::no_index;
use crate::gst::size;
use crate::gst::track::{Kind, Shared, Track};
use crate::gst::{element, gst_failed, init, link, mp4};
use crate::input::VideoInfo;
use crate::input::picture::picture_chain;
use crate::input::reader::{Pace, PipelineReader, Probe, frame_sink};
use crate::{Error, Result};

/// What a file holds, from its header and its first frame.
///
/// # Errors
/// Not there, not a video, no decoder, damaged from the start.
pub fn probe(path: &Path) -> Result<VideoInfo> {
    init()?;
    check_readable(path)?;
    file_reader(path, 0).map(|reader| reader.video_info().clone())
}

pub(crate) fn check_readable(path: &Path) -> Result<()> {
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
    if meta.is_file() && mp4::lacks_index(&mut file) {
        return Err(no_index(path));
    }
    Ok(())
}

/// `filesrc ! parsebin`, with the first video stream decoded into an appsink and the other streams into tracks.
pub(crate) fn file_reader(path: &Path, stream: u32) -> Result<PipelineReader> {
    file_reader_at(path, stream, Pace::Taken)
}

pub(crate) fn file_reader_at(path: &Path, stream: u32, pace: Pace) -> Result<PipelineReader> {
    let pipeline = gst::Pipeline::new();
    size::bound(&pipeline, size::MAX_SIDE_OF_FILES, "this program");
    let source = element("filesrc")?;
    source.set_property("location", path);
    let duration = std::fs::File::open(path).ok().and_then(|mut file| mp4::movie_duration(&mut file));
    let nanoseconds = duration.as_ref().map(|duration| duration.nanoseconds);
    if let Some((duration, pad)) = duration.zip(source.static_pad("src")) {
        lengthen(&pad, duration);
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
    let (streams, known) = (Arc::clone(&probe), Arc::clone(&shared));
    // The pipeline owns the handler: weak references, or neither would ever be freed.
    let (weak, weak_decoder) = (pipeline.downgrade(), decoder.downgrade());
    parse.connect_pad_added(move |_, pad| {
        if let (Some(pipeline), Some(decoder)) = (weak.upgrade(), weak_decoder.upgrade())
            && let Err(e) = add_stream(&pipeline, &decoder, pad, &streams, &known)
        {
            tracing::warn!("a stream is left out: {e}");
        }
    });
    let mut reader = PipelineReader::start(pipeline, sink, path, stream, shared, probe)?;
    if let Some(nanoseconds) = nanoseconds {
        reader.set_duration(nanoseconds);
    }
    Ok(reader)
}

/// qtdemux forgets encoder priming when it compares times with the duration of the movie, and loses the last packets of
/// sound. What it reads of the file is changed on its way: the movie lasts a little longer.
fn lengthen(pad: &gst::Pad, duration: mp4::MovieDuration) {
    pad.add_probe(gst::PadProbeType::PULL | gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else { return gst::PadProbeReturn::Ok };
        let (start, end) = (buffer.offset(), buffer.offset().saturating_add(buffer.size() as u64));
        if duration.at >= end || duration.at + duration.longer.len() as u64 <= start {
            return gst::PadProbeReturn::Ok;
        }
        if let Ok(mut map) = buffer.make_mut().map_writable() {
            for (at, byte) in (duration.at..).zip(&duration.longer) {
                let place = at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
                if let Some(slot) = place.and_then(|place| map.get_mut(place)) {
                    *slot = *byte;
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// A stream of the container: the first video goes to the decoder, audio and subtitles to tracks.
fn add_stream(
    pipeline: &gst::Pipeline,
    decoder: &gst::Element,
    pad: &gst::Pad,
    probe: &Arc<Probe>,
    shared: &Shared,
) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    tracing::debug!("stream {}: {caps}", pad.name());
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
    let (track, sink) = Track::new(kind, pad);
    pipeline.add(&sink).map_err(gst_failed)?;
    sink.sync_state_with_parent().map_err(gst_failed)?;
    let entry = sink.static_pad("sink").ok_or_else(|| Error::failed("an appsink without a pad"))?;
    pad.link(&entry).map_err(|e| Error::failed(format!("{name} cannot be linked: {e}")))?;
    shared.add(track);
    Ok(())
}
