//! From decoded pictures to I420 frames of one size, upright and progressive.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::Result;
use crate::gst::element;

/// The place of the element that turns pictures in [`picture_chain`].
pub(crate) const FLIP: usize = 2;

/// Deinterlaces what is interlaced, turns what is tagged as rotated and makes it I420 of one size. Each element passes
/// frames through untouched when it has nothing to do.
pub(crate) fn picture_chain(sink: &gst_app::AppSink) -> Result<Vec<gst::Element>> {
    let deinterlace = element("deinterlace")?;
    deinterlace.set_property_from_str("fields", "top");
    deinterlace.set_property_from_str("method", "greedyh");
    if let Some(pad) = deinterlace.static_pad("sink") {
        keep_field_order(&pad);
        refuse_strides(&pad);
    }
    let flip = element("videoflip")?;
    flip.set_property_from_str("video-direction", "auto");
    Ok(vec![deinterlace, element("videoconvert")?, flip, element("videoscale")?, sink.clone().upcast()])
}

/// One frame out for each frame in, with its time: made from the field that was taken first.
fn keep_field_order(pad: &gst::Pad) {
    let state = std::sync::Mutex::new((false, String::from("top")));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let Ok(mut state) = state.lock() else { return gst::PadProbeReturn::Ok };
        let (mixed, fields) = &mut *state;
        let mut wanted = fields.clone();
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && let Some(structure) = caps.caps().structure(0)
                {
                    let is = |field: &str, value: &str| structure.get::<&str>(field) == Ok(value);
                    *mixed = is("interlace-mode", "mixed");
                    let bottom = is("interlace-mode", "interleaved") && is("field-order", "bottom-field-first");
                    wanted = if bottom { "bottom" } else { "top" }.to_owned();
                }
            }
            // The order may change from frame to frame: each one says.
            Some(gst::PadProbeData::Buffer(buffer)) if *mixed => {
                let flags = gst_video::VideoBufferFlags::from_bits_truncate(buffer.flags().bits());
                if flags.contains(gst_video::VideoBufferFlags::INTERLACED) {
                    let top = flags.contains(gst_video::VideoBufferFlags::TFF);
                    wanted = if top { "top" } else { "bottom" }.to_owned();
                }
            }
            _ => {}
        }
        if wanted != *fields {
            if let Some(deinterlace) = pad.parent_element() {
                deinterlace.set_property_from_str("fields", &wanted);
            }
            *fields = wanted;
        }
        gst::PadProbeReturn::Ok
    });
}

/// GStreamer 1.22's deinterlacer takes the strides of its fields from the caps, so padded pictures of decoders come out as
/// garbage. Interlaced pictures are asked for without padding: the decoder copies them.
fn refuse_strides(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        let Some(gst::QueryView::Allocation(query)) = info.query().map(|query| query.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        let mode = query.get().0.and_then(|caps| caps.structure(0)?.get::<String>("interlace-mode").ok());
        match mode.as_deref() {
            None | Some("progressive") => gst::PadProbeReturn::Ok,
            Some(_) => gst::PadProbeReturn::Handled,
        }
    });
}
