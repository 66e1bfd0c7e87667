//! The properties of an input, and notes on unusual ones.

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::frame::colour_of;
use crate::gst::track::Shared;
use crate::input::VideoInfo;
use crate::input::probe::Probe;
use crate::{Error, Result};

pub(crate) fn gather_tags(tags: &gst::TagList, shared: &Shared, containers: &mut Vec<String>) {
    if let Some(format) = tags.get::<gst::tags::ContainerFormat>() {
        containers.push(format.get().to_string());
    }
    if tags.scope() == gst::TagScope::Global {
        shared.merge_tags(tags);
    }
}

pub(crate) fn video_info_of(sample: &gst::Sample, name: &dyn fmt::Display) -> Result<gst_video::VideoInfo> {
    sample
        .caps()
        .and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok())
        .ok_or_else(|| Error::failed(format!("{name}: frames without a size")))
}

/// Whether the colorimetry is GStreamer's default for unspecified colours.
pub(crate) fn is_default_colour(frame: &gst_video::VideoInfo) -> bool {
    let guess = gst_video::VideoInfo::builder(frame.format(), frame.width(), frame.height()).build();
    guess.is_ok_and(|guess| guess.colorimetry() == frame.colorimetry())
}

/// A note on high dynamic range video.
pub(crate) fn hdr(frame: &gst_video::VideoInfo) -> Option<String> {
    let name = match frame.colorimetry().transfer() {
        gst_video::VideoTransferFunction::Smpte2084 => "PQ",
        gst_video::VideoTransferFunction::AribStdB67 => "HLG",
        _ => return None,
    };
    Some(format!(
        "the video is HDR ({name}): it is not tone-mapped, the output keeps {name} and the colours with their tags, \
         without static metadata of the mastering display"
    ))
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
