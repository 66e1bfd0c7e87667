//! Video files and folders of images: demux, decode, deinterlace, rotate, convert.

mod correct;
pub(crate) mod images;
mod jpeg;
mod options;
mod streams;
mod structure;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::VideoBufferExt;

pub use self::options::{FileOptions, Hdr, VideoTrack};

use self::correct::{keep_early, keep_shape, patch, watch_format};
use self::streams::{Destinations, add_stream};
use self::transport::{Early, Head};
use crate::gst::decoder;
use crate::gst::loas;
use crate::gst::message::unplayable;
use crate::gst::metadata::Metadata;
use crate::gst::mp4::index::{self, Fault, Index};
use crate::gst::size;
use crate::gst::track::InputTracks;
use crate::gst::{element, gst_failed, init, link};
use crate::input::VideoInfo;
use crate::input::picture::{FLIP, picture_chain};
use crate::input::probe::Probe;
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
    let head = file.as_mut().and_then(Head::read);
    let (early, start) = (head.as_ref().and_then(Head::early_tables), head.as_ref().and_then(Head::clock_start));
    let span = head.zip(file.as_mut()).and_then(|(head, file)| head.clock_span(file));
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
    keep_shape(&entry, &probe);
    let decoded = Arc::clone(&probe);
    let size = std::sync::Mutex::new((0, 0));
    let interleaved = AtomicBool::new(false);
    let deep = sink.downgrade();
    entry.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        match info.event().map(|event| event.view()) {
            None => {
                decoded.decoded.fetch_add(1, Ordering::AcqRel);
                decoded.steps.fetch_add(1, Ordering::AcqRel);
                let fields = gst_video::VideoBufferFlags::INTERLACED;
                let marked = info.buffer().is_some_and(|buffer| buffer.video_flags().contains(fields));
                if marked || interleaved.load(Ordering::Acquire) {
                    decoded.interlaced.fetch_add(1, Ordering::AcqRel);
                }
            }
            Some(gst::EventView::Caps(caps)) => {
                let get = |field| caps.caps().structure(0).and_then(|s| s.get::<i32>(field).ok()).unwrap_or(0);
                let new = (get("width"), get("height"));
                if let Ok(info) = gst_video::VideoInfo::from_caps(caps.caps())
                    && let Ok(mut reduced) = decoded.reduced.lock()
                {
                    let whole = gst_video::VideoInterlaceMode::Interleaved;
                    interleaved.store(info.interlace_mode() == whole, Ordering::Release);
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
        for name in &metadata.left_out {
            shared.note(format!("`{name}` in the header of the file is left out"));
        }
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
        let into = Destinations { pipeline, decoder, flip, wanted };
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
    if let Some(start) = start {
        reader.set_clock_start(start);
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
