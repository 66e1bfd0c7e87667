//! Converts decoded pictures to progressive, upright I420 frames of one size.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::VideoBufferExt;

use crate::Result;
use crate::gst::element;

/// Index of the element that rotates pictures in [`picture_chain`].
pub(crate) const FLIP: usize = 2;

/// Creates the elements that deinterlace, rotate by the orientation tag, and convert to I420 of one size. Each passes
/// frames unchanged when it has nothing to do.
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

/// Makes the deinterlacer output one frame per input frame, with its time: from the field that was captured first.
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
            // The field order may change per frame: each buffer has flags.
            Some(gst::PadProbeData::Buffer(buffer)) if *mixed => {
                let flags = buffer.video_flags();
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

/// GStreamer 1.22's deinterlacer derives the strides of fields from the caps, which corrupts padded pictures.
/// Interlaced pictures are requested without padding, so that the decoder copies them.
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
