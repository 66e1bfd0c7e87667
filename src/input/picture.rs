//! From decoded pictures to I420 frames of one size, upright and progressive.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::Result;
use crate::gst::element;

/// Deinterlaces what is interlaced, turns what is tagged as rotated and makes it I420 of one size. Each element passes
/// frames through untouched when it has nothing to do.
pub(crate) fn picture_chain(sink: &gst_app::AppSink) -> Result<Vec<gst::Element>> {
    let deinterlace = element("deinterlace")?;
    // One frame out for each frame in: the times of the output are those of the input.
    deinterlace.set_property_from_str("fields", "top");
    deinterlace.set_property_from_str("method", "greedyh");
    let flip = element("videoflip")?;
    flip.set_property_from_str("video-direction", "auto");
    Ok(vec![deinterlace, element("videoconvert")?, flip, element("videoscale")?, sink.clone().upcast()])
}
