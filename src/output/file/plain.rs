//! A plain transcode as the lower bound of cost: one GStreamer pipeline that decodes and encodes, without any
//! processing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst::decoder::Hardware;
use crate::gst::link;
use crate::gst::{element, init};
use crate::output::Encoding;
use crate::output::encoder::{Purpose, choose, configure, parser_of};
use crate::{Error, Result};

/// Decodes the video of `input` and encodes it to the MP4 file `output` with default settings. Returns the number of
/// frames.
///
/// Equivalent to `gst-launch-1.0 filesrc ! decodebin ! videoconvert ! x264enc ! h264parse ! mp4mux ! filesink`.
///
/// # Errors
/// The input cannot be decoded or the output cannot be written.
pub fn plain_copy(input: &Path, output: &Path) -> Result<u64> {
    init()?;
    let failed = |what: String| Error::failed(format!("plain copy of {}: {what}", input.display()));
    let pipeline = gst::Pipeline::new();
    let source = element("filesrc")?;
    source.set_property("location", input);
    let decoder = element("decodebin")?;
    let convert = element("videoconvert")?;
    let filter = element("capsfilter")?;
    filter.set_property("caps", gst::Caps::builder("video/x-raw").field("format", "I420").build());
    let encoder = choose(None, Hardware::Auto)?;
    configure(&encoder, &Encoding::default(), 0.0, Purpose::File)?;
    let parser = element(parser_of(&encoder))?;
    let muxer = element("mp4mux")?;
    let sink = element("filesink")?;
    sink.set_property("location", output);
    link(&pipeline, &[source, decoder.clone()])?;
    link(&pipeline, &[convert.clone(), filter, encoder, parser, muxer, sink])?;
    let into = convert.static_pad("sink").ok_or_else(|| failed("videoconvert without a sink pad".to_owned()))?;
    let frames = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&frames);
    into.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    decoder.connect_pad_added(move |_, pad| {
        let video =
            pad.current_caps().and_then(|caps| Some(caps.structure(0)?.name().starts_with("video/"))).unwrap_or(false);
        if video && !into.is_linked() {
            // A failed link is reported as an error on the bus.
            let _ = pad.link(&into);
        }
    });
    let bus = pipeline.bus().ok_or_else(|| failed("a pipeline without a bus".to_owned()))?;
    let result = pipeline.set_state(gst::State::Playing).map_err(|error| failed(error.to_string())).and_then(|_| {
        match bus.timed_pop_filtered(gst::ClockTime::NONE, &[gst::MessageType::Eos, gst::MessageType::Error]) {
            Some(message) => match message.view() {
                gst::MessageView::Error(error) => Err(failed(error.error().to_string())),
                _ => Ok(frames.load(Ordering::Relaxed)),
            },
            None => Err(failed("the bus was closed".to_owned())),
        }
    });
    let _ = pipeline.set_state(gst::State::Null);
    result
}
