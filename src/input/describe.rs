//! The properties of an input, and notes on unusual ones.

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::frame::colour_of;
use crate::gst::track::InputTracks;
use crate::input::VideoInfo;
use crate::input::probe::Probe;
use crate::input::tone::Transfer;
use crate::{Error, Result};

pub(crate) fn gather_tags(tags: &gst::TagList, shared: &InputTracks, containers: &mut Vec<String>) {
    if let Some(format) = tags.get::<gst::tags::ContainerFormat>() {
        containers.push(format.get().to_string());
    }
    if tags.scope() == gst::TagScope::Global {
        shared.merge_tags(tags);
    }
}

pub(crate) fn video_info_of(sample: &gst::Sample, name: &dyn fmt::Display) -> Result<gst_video::VideoInfo> {
    let none = || Error::failed(format!("{name}: frames without a size"));
    let caps = sample.caps().ok_or_else(none)?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| none())?;
    let full = gst_video::VideoColorRange::Range0_255;
    let stated = caps.structure(0).and_then(|caps| caps.get::<&str>("colorimetry").ok()?.parse().ok());
    let stated: Option<gst_video::VideoColorimetry> = stated;
    if stated.is_none_or(|stated| stated.range() != full) || info.colorimetry().range() == full {
        return Ok(info);
    }
    // GStreamer replaces a colorimetry without a matrix by its default, the range included.
    let default = info.colorimetry();
    let colorimetry = gst_video::VideoColorimetry::new(full, default.matrix(), default.transfer(), default.primaries());
    gst_video::VideoInfo::builder(info.format(), info.width(), info.height())
        .par(info.par())
        .fps(info.fps())
        .chroma_site(info.chroma_site())
        .colorimetry(&colorimetry)
        .build()
        .map_err(|_| none())
}

/// Whether matrix, transfer and primaries are GStreamer's default for unspecified colours.
pub(crate) fn is_default_colour(frame: &gst_video::VideoInfo) -> bool {
    let guess = gst_video::VideoInfo::builder(frame.format(), frame.width(), frame.height()).build();
    let colours = |info: &gst_video::VideoInfo| {
        let colorimetry = info.colorimetry();
        (colorimetry.matrix(), colorimetry.transfer(), colorimetry.primaries())
    };
    guess.is_ok_and(|guess| colours(&guess) == colours(frame))
}

/// A note on high dynamic range video.
pub(crate) fn hdr(transfer: Transfer, tone_mapped: bool) -> String {
    let name = transfer.name();
    if tone_mapped {
        format!("the video is HDR ({name}): it is tone-mapped to SDR (BT.709)")
    } else {
        format!(
            "the video is HDR ({name}): the output keeps {name}, its colours and its metadata; --hdr tone-map makes it \
             SDR"
        )
    }
}

pub(crate) fn no_video(name: &Path, probe: &Probe) -> Error {
    let name = name.display();
    if probe.audio.load(Ordering::Acquire) > 0 {
        Error::failed(format!("{name}: it has only sound, no video stream")).hint("give a file with a video stream")
    } else {
        Error::failed(format!("{name}: it has no video stream")).hint("give a file with a video stream")
    }
}

pub(crate) fn describe(
    frame: &gst_video::VideoInfo,
    duration: Option<u64>,
    probe: &Probe,
    container: String,
) -> VideoInfo {
    let rate = frame.fps();
    let fps = (rate.numer() > 0 && rate.denom() > 0).then(|| f64::from(rate.numer()) / f64::from(rate.denom()));
    let par = frame.par();
    let codec = probe.codec.lock().map(|codec| codec.clone()).unwrap_or_default();
    VideoInfo {
        width: frame.width(),
        height: frame.height(),
        par: (par.numer().unsigned_abs(), par.denom().unsigned_abs()),
        fps,
        duration,
        frames: fps.zip(duration).map(|(fps, ns)| (fps * ns as f64 / 1e9).round() as u64),
        codec,
        container,
        colour: colour_of(frame),
        audio_tracks: probe.audio.load(Ordering::Acquire) as usize,
        subtitle_tracks: probe.subtitles.load(Ordering::Acquire) as usize,
    }
}
