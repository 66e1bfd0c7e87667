//! `test://PATTERN?width=640&height=360&fps=25&frames=250&live=1`: synthetic pictures.

use gst::prelude::*;
use gstreamer as gst;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::gst::{element, link};
use crate::input::probe::Probe;
use crate::input::reader::{Pace, PipelineReader, frame_sink};
use crate::{Error, Result};

/// Default number of pictures.
const FRAMES: i32 = 250;

const EXAMPLE: &str = "test://ball?width=640&height=360&fps=25&frames=250&live=1";

/// Opens `spec` as a reader that runs as fast as its caller.
///
/// # Errors
/// As [`TestSpec::parse`].
pub(crate) fn open(spec: &str, stream: u32) -> Result<PipelineReader> {
    let mut spec = TestSpec::parse(spec)?;
    let frames = *spec.frames.get_or_insert(FRAMES);
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
    Ok(reader)
}

/// A parsed `test://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestSpec {
    pub pattern: String,
    pub width: i32,
    pub height: i32,
    pub fps: i32,
    /// Number of pictures; none: the reader's default.
    pub frames: Option<i32>,
    /// Runs at the pace of a camera instead of as fast as possible.
    pub live: bool,
}

impl TestSpec {
    /// # Errors
    /// An unknown key, or a value out of range.
    pub fn parse(spec: &str) -> Result<Self> {
        let rest = spec.strip_prefix("test://").unwrap_or(spec);
        let (pattern, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pattern = if pattern.is_empty() { "smpte" } else { pattern };
        let mut parsed =
            Self { pattern: pattern.to_string(), width: 640, height: 360, fps: 25, frames: None, live: false };
        for (key, value) in queries(query) {
            match key {
                "width" => parsed.width = number(spec, key, value, 2, 16384)?,
                "height" => parsed.height = number(spec, key, value, 2, 16384)?,
                "fps" => parsed.fps = number(spec, key, value, 1, 1000)?,
                "frames" => parsed.frames = Some(number(spec, key, value, 1, i32::MAX)?),
                "live" => parsed.live = number(spec, key, value, 0, 1)? == 1,
                _ => return Err(Error::usage(format!("{spec}: unknown key `{key}`")).hint(EXAMPLE)),
            }
        }
        Ok(parsed)
    }

    /// Creates the elements that generate the pictures.
    ///
    /// # Errors
    /// A missing element, or an unknown pattern.
    pub fn elements(&self) -> Result<[gst::Element; 2]> {
        let source = element("videotestsrc")?;
        source.set_property("is-live", self.live);
        source.set_property("num-buffers", self.frames.unwrap_or(-1));
        let known = source.find_property("pattern").map(|p| p.value_type());
        let values = known.and_then(gst::glib::EnumClass::with_type);
        if values.is_some_and(|class| class.value_by_nick(&self.pattern).is_none()) {
            return Err(Error::usage(format!("test://{}: unknown test pattern", self.pattern))
                .hint("smpte, ball, snow, checkers-8, gradient, ... as `gst-inspect-1.0 videotestsrc` lists"));
        }
        source.set_property_from_str("pattern", &self.pattern);
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", self.width)
            .field("height", self.height)
            .field("framerate", gst::Fraction::new(self.fps, 1))
            .build();
        let filter = element("capsfilter")?;
        filter.set_property("caps", caps);
        Ok([source, filter])
    }
}

/// Keys and values of a query, the part of an address after its question mark.
pub(crate) fn queries(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// A whole number within limits, or an error that names the address and the key.
pub(crate) fn number(spec: &str, key: &str, value: &str, least: i32, most: i32) -> Result<i32> {
    value
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Error::usage(format!("{spec}: `{key}` must be a number from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_addresses() {
        let spec = TestSpec::parse("test://ball?width=64&fps=10&frames=7").unwrap();
        let expected =
            TestSpec { pattern: "ball".into(), width: 64, height: 360, fps: 10, frames: Some(7), live: false };
        assert_eq!(spec, expected);
        let live = TestSpec::parse("test://?live=1").unwrap();
        assert_eq!((live.pattern.as_str(), live.frames, live.live), ("smpte", None, true));
        assert!(TestSpec::parse("test://ball?size=3").unwrap_err().to_string().contains("`size`"));
        assert!(TestSpec::parse("test://ball?width=abc").unwrap_err().to_string().contains("`width`"));
        assert!(TestSpec::parse("test://ball?frames=0").is_err());
        assert!(TestSpec::parse("test://ball?live=yes").is_err());
    }
}
