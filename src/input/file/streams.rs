//! The streams of a container: the chosen video goes to the decoder, audio and subtitles to tracks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils as gst_pbutils;

use super::correct::correct;
use super::jpeg;
use crate::gst::clock::Clock;
use crate::gst::gst_failed;
use crate::gst::metadata::{TrackKind, track_number};
use crate::gst::mp4::index::{Index, IndexTrack};
use crate::gst::track::{InputTracks, Kind, MediaTrack};
use crate::input::probe::{BT601, Format, JPEG, Probe, UNNAMED};
use crate::{Error, Result};

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
pub(super) struct Destinations {
    pub pipeline: gst::Pipeline,
    pub decoder: gst::Element,
    /// The element that rotates the pictures.
    pub flip: gst::Element,
    /// Index of the video stream to read among the video streams, from 0.
    pub wanted: u64,
}

/// Links a stream of the container: the chosen video to the decoder, audio and subtitles to tracks.
pub(super) fn add_stream(
    into: &Destinations,
    pad: &gst::Pad,
    probe: &Arc<Probe>,
    shared: &InputTracks,
    index: &Index,
) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    tracing::debug!("stream {}: {caps}", pad.name());
    let listed = track_of(pad, index);
    let edits = listed.and_then(|track| track.edits.clone());
    correct(pad, listed.is_some_and(|track| track.full_range), probe);
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
            if let (Ok(mut light), Ok(mut par), Some(track)) = (probe.light.lock(), probe.par.lock(), listed) {
                *light = track.light;
                *par = track.par.map(|(width, height)| gst::Fraction::new(width, height));
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

/// The track in the index for a demuxer's pad, by the track number at the end of the stream identifier.
fn track_of<'a>(pad: &gst::Pad, index: &'a Index) -> Option<&'a IndexTrack> {
    let number = track_number(pad)?;
    index.tracks.iter().find(|track| u64::from(track.id) == number)
}
