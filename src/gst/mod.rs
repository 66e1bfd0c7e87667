//! The parts shared by all rooms that use GStreamer: initialisation, frames in its memory, bus messages as errors,
//! packets of audio and subtitles between a reader and a writer, the structure of MP4, Matroska and ASF files.

pub(crate) mod asf;
pub(crate) mod clock;
pub(crate) mod decoder;
pub(crate) mod doctor;
pub(crate) mod frame;
pub(crate) mod hdr;
pub(crate) mod loas;
pub(crate) mod matroska;
pub(crate) mod message;
pub(crate) mod metadata;
pub(crate) mod mp4;
pub(crate) mod size;
pub(crate) mod track;
pub(crate) mod trust;

use std::sync::OnceLock;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

pub use decoder::{DecoderChoice, DecoderInfo, Hardware, decoders};
pub use doctor::missing_elements;
pub use frame::{Frame, FrameView, FrameViewMut};

use crate::{Error, Result};

/// Initialises GStreamer, once per process.
///
/// # Errors
/// GStreamer cannot be initialised (a broken installation).
pub fn init() -> Result<()> {
    static STARTED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(|| gst::init().map_err(|e| e.to_string())).clone().map_err(|e| {
        Error::failed(format!("GStreamer cannot start: {e}")).hint("run `oodstream doctor` to see what is missing")
    })
}

/// Name and version of the GStreamer library in use.
pub fn version() -> String {
    gst::version_string().to_string()
}

/// Creates an element; the error names its Debian package.
pub(crate) fn element(factory: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        Error::failed(format!("the GStreamer element `{factory}` is not installed"))
            .hint(format!("apt-get install {}", doctor::package_of(factory)))
    })
}

/// Adds elements to a pipeline and links them in order.
pub(crate) fn link(pipeline: &gst::Pipeline, chain: &[gst::Element]) -> Result<()> {
    pipeline.add_many(chain).map_err(gst_failed)?;
    gst::Element::link_many(chain).map_err(gst_failed)
}

/// A source of `caps` with timestamps that queues up to `room` buffers and never blocks.
pub(crate) fn bounded_source(caps: &gst::Caps, room: u64) -> gst_app::AppSrc {
    gst_app::AppSrc::builder()
        .caps(caps)
        .format(gst::Format::Time)
        .max_buffers(room)
        .max_bytes(0)
        .max_time(gst::ClockTime::ZERO)
        .block(false)
        .build()
}

pub(crate) fn gst_failed(e: gst::glib::BoolError) -> Error {
    Error::failed(format!("GStreamer: {}", e.message))
}
