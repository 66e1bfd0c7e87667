//! Video files and folders of images: demux, decode, deinterlace, rotate, convert.

mod correct;
pub(crate) mod images;
mod structure;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils as gst_pbutils;

use self::correct::{correct, patch, watch_format};
use crate::gst::clock::Clock;
use crate::gst::message::unplayable;
use crate::gst::mp4_index::{self, Index, IndexTrack};
use crate::gst::size;
use crate::gst::track::{Kind, Shared, Track};
use crate::gst::{element, gst_failed, init, link};
use crate::input::VideoInfo;
use crate::input::picture::picture_chain;
use crate::input::reader::{Format, Pace, PipelineReader, Probe, frame_sink};
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
    // Opening a pipe waits for its other end, without a limit and deaf to signals.
    #[cfg(unix)]
    if std::fs::metadata(path).is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_fifo(&meta.file_type())) {
        return Err(Error::failed(format!("{name}: this is a pipe, and the index of a video may be at its end"))
            .hint("write it to a file first, or give its source: rtsp://, http:// or v4l2://"));
    }
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
pub(crate) fn file_reader(path: &Path, stream: u32) -> Result<PipelineReader> {
    file_reader_at(path, stream, Pace::Taken)
}

/// As [`file_reader`], of the key frames alone; the others are not decoded.
pub(crate) fn key_frame_reader(path: &Path, stream: u32) -> Result<PipelineReader> {
    open(path, stream, Pace::Taken, true)
}

pub(crate) fn file_reader_at(path: &Path, stream: u32, pace: Pace) -> Result<PipelineReader> {
    open(path, stream, pace, false)
}

fn open(path: &Path, stream: u32, pace: Pace, only_keys: bool) -> Result<PipelineReader> {
    let pipeline = gst::Pipeline::new();
    size::bound(&pipeline, size::MAX_SIDE_OF_FILES, "this program");
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

    let probe = Arc::new(Probe::new(only_keys));
    watch_format(&parse, &probe);
    let decoded = Arc::clone(&probe);
    let size = std::sync::Mutex::new((0, 0));
    entry.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        match info.event().map(|event| event.view()) {
            None => {
                decoded.decoded.fetch_add(1, Ordering::AcqRel);
            }
            Some(gst::EventView::Caps(caps)) => {
                let get = |field| caps.caps().structure(0).and_then(|s| s.get::<i32>(field).ok()).unwrap_or(0);
                let new = (get("width"), get("height"));
                if let Ok(mut size) = size.lock()
                    && *size != new
                {
                    *size = new;
                    decoded.sizes.fetch_add(1, Ordering::AcqRel);
                }
            }
            _ => {}
        }
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
    reader.set_structure(cut, move || file.as_mut().and_then(structure::broken));
    Ok(reader)
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
    correct(pad, listed.is_some_and(|track| track.full_range), probe.format());
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
            // Pieces of a raw stream are no frames.
            let framed =
                probe.format() != Format::Raw || caps.structure(0).is_some_and(|s| s.get("parsed") == Ok(true));
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if coded.only_keys && info.buffer().is_some_and(|b| b.flags().contains(gst::BufferFlags::DELTA_UNIT)) {
                    return gst::PadProbeReturn::Drop;
                }
                let header = !framed
                    || info.buffer().is_some_and(|b| b.flags().contains(gst::BufferFlags::HEADER) && b.size() < 64);
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
    let clock = Clock::new(&shared.joins, probe.format().restarts());
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
