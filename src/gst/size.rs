//! A limit on picture sizes, enforced before a decoder allocates memory: a header of a few bytes can announce
//! gigabytes.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;
use gstreamer as gst;

/// Largest side of a picture in a file, in pixels.
pub(crate) const MAX_SIDE_OF_FILES: u32 = 16_384;

/// Stops every decoder added to `pipeline` at pictures with a side longer than `max` pixels, with an error on the bus.
/// `what` names the origin of the limit in that error.
pub(crate) fn bound(pipeline: &gst::Pipeline, max: u32, what: &'static str) {
    pipeline.connect_deep_element_added(move |pipeline, _, element| {
        let class = element.factory().and_then(|f| f.metadata(gst::ELEMENT_METADATA_KLASS).map(str::to_owned));
        let class = class.unwrap_or_default();
        if element.is::<gst::Bin>()
            || !class.contains("Decoder")
            || !(class.contains("Video") || class.contains("Image"))
        {
            return;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        for pad in ["sink", "src"].iter().filter_map(|name| element.static_pad(name)) {
            let (stopped, weak, image) = (Arc::clone(&stopped), pipeline.downgrade(), class.contains("Image"));
            let incoming = pad.direction() == gst::PadDirection::Sink;
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
                let size = match &info.data {
                    Some(gst::PadProbeData::Event(event)) => of_event(event),
                    // Images have caps without their size.
                    Some(gst::PadProbeData::Buffer(buffer)) if incoming && image => of_image(buffer),
                    _ => None,
                };
                if let Some((width, height)) = size.filter(|(width, height)| *width.max(height) > max)
                    && !stopped.swap(true, Ordering::AcqRel)
                    && let Some(pipeline) = weak.upgrade()
                {
                    let words =
                        format!("a picture of {width}x{height} is larger than {what} allows ({max} pixels a side)");
                    // Posted by the pipeline: `decodebin` suppresses errors of the decoders that it tries.
                    gst::element_error!(pipeline, gst::StreamError::Decode, ["{}", words]);
                }
                if !stopped.load(Ordering::Acquire) {
                    return gst::PadProbeReturn::Ok;
                }
                // The error stops the decoder; events it needs to end still pass.
                if info.buffer().is_some() {
                    info.flow_res = Err(gst::FlowError::Error);
                    return gst::PadProbeReturn::Handled;
                }
                let swallowed = [gst::EventType::Caps, gst::EventType::Eos];
                if info.event().is_some_and(|event| swallowed.contains(&event.type_())) {
                    gst::PadProbeReturn::Handled
                } else {
                    gst::PadProbeReturn::Ok
                }
            });
        }
    });
}

fn of_event(event: &gst::Event) -> Option<(u32, u32)> {
    let gst::EventView::Caps(caps) = event.view() else { return None };
    let shape = caps.caps().structure(0)?;
    let side = |name| shape.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    Some((side("width")?, side("height")?))
}

/// The size of the image whose data begin with this buffer, in pixels.
fn of_image(buffer: &gst::Buffer) -> Option<(u32, u32)> {
    let map = buffer.map_readable().ok()?;
    image::ImageReader::new(Cursor::new(map.as_slice())).with_guessed_format().ok()?.into_dimensions().ok()
}
