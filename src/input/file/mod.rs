//! Video files and folders of images: demux, decode, deinterlace, rotate, convert.

mod correct;
pub(crate) mod images;
mod jpeg;
mod options;
mod structure;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils as gst_pbutils;
use gstreamer_video as gst_video;

pub use self::options::{FileOptions, Hdr, VideoTrack};

use self::correct::{correct, keep_early, patch, watch_format};
use self::transport::{Early, clock_span, early_tables};
use crate::gst::clock::Clock;
use crate::gst::decoder;
use crate::gst::loas;
use crate::gst::message::unplayable;
use crate::gst::metadata::{Metadata, TrackKind, track_number};
use crate::gst::mp4::index::{self, Fault, Index, IndexTrack};
use crate::gst::size;
use crate::gst::track::{InputTracks, Kind, MediaTrack};
use crate::gst::{element, gst_failed, init, link};
use crate::input::VideoInfo;
use crate::input::picture::{FLIP, picture_chain};
use crate::input::probe::{BT601, Format, JPEG, Probe, UNNAMED};
use crate::input::reader::{Pace, PipelineReader, frame_sink, raw_caps};
use crate::input::tone::Transfer;
use crate::{Error, Result};

/// Format, size and duration of a file, from its header and its first frame.
///
/// # Errors
/// The file does not exist, is not a video, has no decoder, or is damaged from the start.
#[cfg(any(test, feature = "internals"))]
pub fn probe(path: &Path) -> Result<VideoInfo> {
    init()?;
    check_readable(path)?;
    file_reader(path, 0, FileOptions::default()).map(|reader| reader.video_info().clone())
}

pub(crate) fn check_readable(path: &Path) -> Result<()> {
    let name = path.display();
    // Opening a pipe blocks until its other end is opened, without a limit, and ignores signals.
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
    match meta.is_file().then(|| index::fault(&mut file)).flatten() {
        Some(fault) => Err(unplayable(path, fault)),
        None => Ok(()),
    }
}

/// `filesrc ! parsebin`, with one video stream decoded into an appsink and the other streams as tracks.
pub(crate) fn file_reader(path: &Path, stream: u32, options: FileOptions) -> Result<PipelineReader> {
    file_reader_at(path, stream, options, Pace::Taken)
}

/// The number of video tracks that `--video-track` can select.
///
/// # Errors
/// As [`probe`].
pub(crate) fn count_video_tracks(path: &Path) -> Result<u32> {
    init()?;
    check_readable(path)?;
    file_reader(path, 0, FileOptions::default()).map(|reader| reader.video_tracks())
}

/// As [`file_reader`], of the key frames alone; the others are not decoded.
pub(crate) fn key_frame_reader(path: &Path, stream: u32, options: FileOptions) -> Result<PipelineReader> {
    open(path, stream, options, Pace::Taken, true)
}

pub(crate) fn file_reader_at(path: &Path, stream: u32, options: FileOptions, pace: Pace) -> Result<PipelineReader> {
    open(path, stream, options, pace, false)
}

fn open(path: &Path, stream: u32, options: FileOptions, pace: Pace, only_keys: bool) -> Result<PipelineReader> {
    options.decoder.check()?;
    let pipeline = gst::Pipeline::new();
    size::bound(&pipeline, size::MAX_SIDE_OF_FILES, "this program");
    let source = element("filesrc")?;
    source.set_property("location", path);
    let mut file = std::fs::File::open(path).ok();
    let mut index = file.as_mut().and_then(|file| Index::read(file).ok()).unwrap_or_default();
    let early = file.as_mut().and_then(early_tables);
    let span = file.as_mut().and_then(clock_span);
    if let Some(Early::Patches(patches)) = &early {
        index.patches.clone_from(patches);
    }
    let cut = index.cut.clone().or_else(|| file.as_mut().and_then(structure::cut));
    // In real time, frames are due by the demuxer's timestamps.
    let index =
        Arc::new(if pace == Pace::Taken { index } else { Index { patches: Vec::new(), tracks: Vec::new(), ..index } });
    if let Some(pad) = source.static_pad("src").filter(|_| !index.patches.is_empty()) {
        patch(&pad, Arc::clone(&index));
    }
    let parse = element("parsebin")?;
    keep_streams(&parse);
    keep_early(&parse);
    link(&pipeline, &[source.clone(), parse.clone()])?;

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
    let steps = gst::PadProbeType::PULL | gst::PadProbeType::BUFFER;
    let coming = decoder.static_pad("sink");
    for pad in source.static_pad("src").iter().chain(&coming) {
        let probe = Arc::clone(&probe);
        pad.add_probe(steps, move |_, _| {
            probe.steps.fetch_add(1, Ordering::AcqRel);
            gst::PadProbeReturn::Ok
        });
    }
    let decoded = Arc::clone(&probe);
    let size = std::sync::Mutex::new((0, 0));
    let deep = sink.downgrade();
    entry.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        match info.event().map(|event| event.view()) {
            None => {
                decoded.decoded.fetch_add(1, Ordering::AcqRel);
                decoded.steps.fetch_add(1, Ordering::AcqRel);
            }
            Some(gst::EventView::Caps(caps)) => {
                let get = |field| caps.caps().structure(0).and_then(|s| s.get::<i32>(field).ok()).unwrap_or(0);
                let new = (get("width"), get("height"));
                if let Ok(info) = gst_video::VideoInfo::from_caps(caps.caps())
                    && let Ok(mut reduced) = decoded.reduced.lock()
                {
                    let sampling = decoded.sampling.lock().map(|sampling| *sampling).unwrap_or_default();
                    *reduced = reductions(&info, sampling);
                    // Eight bits are too few for a curve that stretches the dark parts.
                    if options.hdr == Hdr::ToneMap
                        && Transfer::of(&info).is_some()
                        && let Some(sink) = deep.upgrade()
                    {
                        sink.set_caps(Some(&raw_caps(gst_video::VideoFormat::I42010le)));
                    }
                }
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
    options.decoder.apply(&decoder);
    let within = pipeline.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = within.upgrade()
            && !entry.is_linked()
            && let Err(error) = decoder::link_pictures(&pipeline, pad, &entry)
        {
            decoder::fail(&pipeline, &error);
        }
    });

    let shared = Arc::new(InputTracks::default());
    if let Some(metadata) = file.as_mut().and_then(Metadata::read) {
        let _ = shared.metadata.set(metadata);
    }
    if let Some(Early::LeftOut(bytes)) = early {
        shared.note(format!("the first {bytes} bytes of the stream come before its tables and are left out"));
    }
    let duration = index.duration;
    let (streams, known) = (Arc::clone(&probe), Arc::clone(&shared));
    // The pipeline owns the handler: strong references would form a cycle and leak.
    let (weak, weak_decoder, weak_flip) = (pipeline.downgrade(), decoder.downgrade(), chain[FLIP].downgrade());
    let wanted = options.index();
    parse.connect_pad_added(move |_, pad| {
        let (Some(pipeline), Some(decoder), Some(flip)) = (weak.upgrade(), weak_decoder.upgrade(), weak_flip.upgrade())
        else {
            return;
        };
        let into = Into { pipeline, decoder, flip, wanted };
        if let Err(e) = add_stream(&into, pad, &streams, &known, &index) {
            tracing::warn!("a stream is left out: {e}");
        }
    });
    if shared.metadata.get().is_some_and(|metadata| metadata.tracks.iter().any(|track| track.encrypted)) {
        return Err(unplayable(path, Fault::Encrypted));
    }
    let started = PipelineReader::start(pipeline, sink, path, stream, shared, probe, pace);
    let mut reader = started.map_err(|error| match file.as_mut().is_some_and(transport::scrambled) {
        true => unplayable(path, Fault::Encrypted),
        false => error,
    })?;
    if let Some(fps) = options.fps {
        reader.set_rate(fps);
    }
    if let Some(duration) = duration {
        reader.set_duration(duration);
    }
    if let Some(span) = span.filter(|_| !only_keys) {
        reader.set_clock_span(span);
    }
    reader.set_structure(cut, move || file.as_mut().and_then(structure::broken));
    Ok(reader)
}

/// Properties of the pictures lost in 8-bit 4:2:0, one sentence each.
///
/// `sampling` is that of the coded pictures, where the decoder reduces it.
fn reductions(info: &gst_video::VideoInfo, sampling: Option<&str>) -> Vec<String> {
    let mut lost = Vec::new();
    let format = info.format_info();
    let depth = format.depth().iter().copied().max().unwrap_or(8);
    let coarse = |component: usize| (format.w_sub().get(component).copied(), format.h_sub().get(component).copied());
    let decoded = (format.n_components() >= 3 && coarse(1) != (Some(1), Some(1))).then(|| match coarse(1) {
        _ if format.is_rgb() => "RGB",
        (Some(0), _) => "4:4:4",
        (Some(1), _) => "4:2:2",
        _ => "4:1:1",
    });
    if let Some(sampling) = decoded.or(sampling) {
        lost.push(format!("the chroma of the pictures ({sampling}) is reduced to 4:2:0"));
    }
    if depth > 8 {
        lost.push(format!("pictures of {depth} bits per channel are reduced to 8"));
    }
    if format.has_alpha() {
        lost.push("the transparency of the pictures (alpha channel) is left out".to_owned());
    }
    lost
}

/// Stores the colour description in the coded pictures; `container` is that of the container. Images and uncompressed
/// video follow other rules.
fn watch_colours(pad: &gst::Pad, container: Option<[u8; 3]>, probe: &Arc<Probe>) {
    let probe = Arc::clone(probe);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Some(structure) = caps.caps().structure(0)
        {
            let name = structure.name().as_str();
            let coded = name.starts_with("video/") && name != "video/x-raw";
            let new = match container {
                Some(codes) if BT601.contains(&codes[2]) => Some(codes),
                _ if name == "image/jpeg" => Some(JPEG),
                _ => (coded && !structure.has_field("colorimetry")).then_some(UNNAMED),
            };
            if let Ok(mut colours) = probe.colours.lock() {
                *colours = new;
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// The destinations of a file's streams.
struct Into {
    pipeline: gst::Pipeline,
    decoder: gst::Element,
    /// The element that rotates the pictures.
    flip: gst::Element,
    /// Index of the video stream to read among the video streams, from 0.
    wanted: u64,
}

/// Links a stream of the container: the chosen video to the decoder, audio and subtitles to tracks.
fn add_stream(into: &Into, pad: &gst::Pad, probe: &Arc<Probe>, shared: &InputTracks, index: &Index) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    tracing::debug!("stream {}: {caps}", pad.name());
    let listed = track_of(pad, index);
    let edits = listed.and_then(|track| track.edits.clone());
    correct(pad, listed.is_some_and(|track| track.full_range), probe.format());
    // parsebin exposes all its pads before it passes the first packet.
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
            let seen = probe.videos.fetch_add(1, Ordering::AcqRel);
            if place_of(pad, shared).unwrap_or(seen) != into.wanted {
                return Ok(());
            }
            probe.video.store(true, Ordering::Release);
            probe.taken.store(into.wanted + 1, Ordering::Release);
            // Other files have their orientation in the demuxer's tags.
            if let Some(direction) = listed.and_then(|track| track.direction) {
                into.flip.set_property_from_str("video-direction", direction);
            }
            if let Some(number) = track_number(pad) {
                let _ = shared.video.set(number);
            }
            if let Ok(mut known) = probe.edits.lock() {
                *known = edits;
            }
            if let Ok(mut codec) = probe.codec.lock() {
                *codec = if caps.is_fixed() {
                    gst_pbutils::pb_utils_get_codec_description(&caps).to_string()
                } else {
                    name.clone()
                };
            }
            watch_colours(pad, listed.and_then(|track| track.colours), probe);
            if let (Ok(mut light), Some(track)) = (probe.light.lock(), listed) {
                *light = track.light;
            }
            let coded = Arc::clone(probe);
            // Buffers of a raw stream are not frames.
            let framed =
                probe.format() != Format::Raw || caps.structure(0).is_some_and(|s| s.get("parsed") == Ok(true));
            let is_jpeg = name == "image/jpeg";
            let in_order = probe.format() == Format::Avi && !matches!(name.as_str(), "video/x-h264" | "video/x-h265");
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if is_jpeg
                    && coded.coded.load(Ordering::Acquire) == 0
                    && let Some(map) = info.buffer().and_then(|buffer| buffer.map_readable().ok())
                    && let Ok(mut sampling) = coded.sampling.lock()
                {
                    *sampling = jpeg::sampling(&map);
                }
                if coded.only_keys && info.buffer().is_some_and(|b| b.flags().contains(gst::BufferFlags::DELTA_UNIT)) {
                    return gst::PadProbeReturn::Drop;
                }
                if in_order && let Some(time) = info.buffer().and_then(|buffer| buffer.dts_or_pts()) {
                    coded.add_time(time.nseconds());
                }
                let header = !framed
                    || info.buffer().is_some_and(|b| b.flags().contains(gst::BufferFlags::HEADER) && b.size() < 64);
                if !header {
                    coded.coded.fetch_add(1, Ordering::AcqRel);
                }
                gst::PadProbeReturn::Ok
            });
            let entry = into.decoder.static_pad("sink").ok_or_else(|| Error::failed("a decoder without a sink pad"))?;
            pad.link(&entry).map_err(|e| Error::failed(format!("the video cannot be linked: {e}")))?;
            into.decoder.sync_state_with_parent().map_err(gst_failed)?;
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
        // DVD, SSA and PGS subtitles have caps such as application/x-ssa.
        "application" if name.contains("ssa") || name.contains("ass") || name.contains("usf") => {
            probe.subtitles.fetch_add(1, Ordering::AcqRel);
            Kind::Subtitle
        }
        _ => return Ok(()),
    };
    let clock = Clock::new(&shared.joins, probe.format().restarts());
    let stated = shared.metadata.get().zip(track_number(pad)).and_then(|(metadata, number)| metadata.track(number));
    let (track, sink) = MediaTrack::new(kind, pad, edits, stated.map_or(0, |track| track.delay), clock);
    into.pipeline.add(&sink).map_err(gst_failed)?;
    sink.sync_state_with_parent().map_err(gst_failed)?;
    let entry = sink.static_pad("sink").ok_or_else(|| Error::failed("an appsink without a pad"))?;
    pad.link(&entry).map_err(|e| Error::failed(format!("{name} cannot be linked: {e}")))?;
    shared.add(track);
    Ok(())
}

/// Index of a video stream among those of its file, cover pictures last; none where the file has no list of tracks.
fn place_of(pad: &gst::Pad, shared: &InputTracks) -> Option<u64> {
    let (metadata, number) = (shared.metadata.get()?, track_number(pad)?);
    let mut videos: Vec<_> = metadata.tracks.iter().filter(|track| track.kind == TrackKind::Video).collect();
    videos.sort_by_key(|track| track.still);
    videos.iter().position(|track| track.id == number).map(|place| place as u64)
}

/// Keeps some streams unparsed: SSA and ASS subtitles, which parsebin would convert to plain text, and AAC in LOAS, see
/// [`loas`].
fn keep_streams(parse: &gst::Element) {
    parse.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let name = caps.as_ref().and_then(|caps| Some(caps.structure(0)?.name().as_str())).unwrap_or_default();
        let loas = caps.as_ref().is_some_and(|caps| loas::is_loas(caps));
        Some((!loas && !matches!(name, "application/x-ssa" | "application/x-ass")).to_value())
    });
}

/// The track in the index for a demuxer's pad, by the track number at the end of the stream identifier.
fn track_of<'a>(pad: &gst::Pad, index: &'a Index) -> Option<&'a IndexTrack> {
    let number = track_number(pad)?;
    index.tracks.iter().find(|track| u64::from(track.id) == number)
}
