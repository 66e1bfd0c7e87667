//! Corrections of the data that GStreamer 1.22's demuxers read from a file, and of the caps and segments that they
//! send.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::mp4::index::Index;
use crate::input::probe::{Format, Probe};

/// Patches the file's bytes on their way to the demuxer, see [`Index::patches`].
pub(super) fn patch(pad: &gst::Pad, index: Arc<Index>) {
    pad.add_probe(gst::PadProbeType::PULL | gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else { return gst::PadProbeReturn::Ok };
        let (start, end) = (buffer.offset(), buffer.offset().saturating_add(buffer.size() as u64));
        let touches = |(at, bytes): &&(u64, Vec<u8>)| *at < end && at.saturating_add(bytes.len() as u64) > start;
        if !index.patches.iter().any(|patch| touches(&patch)) {
            return gst::PadProbeReturn::Ok;
        }
        if let Ok(mut map) = buffer.make_mut().map_writable() {
            for (at, bytes) in index.patches.iter().filter(touches) {
                for (at, byte) in (*at..).zip(bytes) {
                    let place = at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
                    if let Some(slot) = place.and_then(|place| map.get_mut(place)) {
                        *slot = *byte;
                    }
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Stores the format of the file, once its first bytes are read.
pub(super) fn watch_format(parse: &gst::Element, probe: &Arc<Probe>) {
    let Some(find) = parse.dynamic_cast_ref::<gst::Bin>().and_then(|bin| bin.by_name("typefind")) else { return };
    let probe = Arc::clone(probe);
    find.connect("have-type", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok())?;
        probe.set_format(Format::of(caps.structure(0)?));
        None
    });
}

/// Keeps the audio before the first frame of a transport stream: tsdemux starts its segments at the first time that it
/// knows, and parsers drop the packets before it. They become negative running times.
pub(super) fn keep_early(parse: &gst::Element) {
    let Some(bin) = parse.dynamic_cast_ref::<gst::Bin>() else { return };
    bin.connect_deep_element_added(|_, _, element| {
        if element.factory().is_none_or(|factory| factory.name() != "tsdemux") {
            return;
        }
        element.connect_pad_added(|_, pad| {
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
                if let Some(gst::PadProbeData::Event(event)) = &info.data
                    && let gst::EventView::Segment(segment) = event.view()
                    && let Some(times) = segment.segment().downcast_ref::<gst::ClockTime>()
                {
                    let mut times = times.clone();
                    let [start, offset] = [times.start(), times.offset()].map(Option::unwrap_or_default);
                    times.set_offset(start + offset);
                    times.set_start(gst::ClockTime::ZERO);
                    times.set_time(gst::ClockTime::ZERO);
                    let new = gst::event::Segment::builder(&times).seqnum(event.seqnum()).build();
                    info.data = Some(gst::PadProbeData::Event(new));
                }
                gst::PadProbeReturn::Ok
            });
        });
    });
}

/// Corrects the segments and caps of a demuxer's stream.
///
/// The stop of a segment is removed: it is rounded or wrong in many files, and decoders drop the frames after it.
/// matroskademux first uses the first frame of the first stream as the start of the movie and corrects that from the
/// second frame on, so that the first frame is early; its segments are made to start at zero, as the timestamps in the
/// file do.
pub(super) fn correct(pad: &gst::Pad, full_range: bool, probe: &Arc<Probe>) {
    let (format, probe) = (probe.format(), Arc::clone(probe));
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
        let new = match event.view() {
            gst::EventView::Segment(segment) => {
                let mut segment = segment.segment().clone();
                let Some(times) = segment.downcast_mut::<gst::ClockTime>() else { return gst::PadProbeReturn::Ok };
                times.set_stop(gst::ClockTime::NONE);
                if let Some(start) = times.start().filter(|start| format == Format::Broadcast && !start.is_zero()) {
                    probe.set_clock_start(start.nseconds());
                }
                if format == Format::Matroska {
                    for set in [gst::FormattedSegment::set_start, gst::FormattedSegment::set_time] {
                        set(times, Some(gst::ClockTime::ZERO));
                    }
                    times.set_base(gst::ClockTime::ZERO);
                    times.set_position(gst::ClockTime::ZERO);
                }
                gst::event::Segment::builder(&segment).seqnum(event.seqnum()).build()
            }
            gst::EventView::Caps(caps) => {
                let Some(caps) = corrected(caps.caps(), full_range) else { return gst::PadProbeReturn::Ok };
                gst::event::Caps::builder(&caps).seqnum(event.seqnum()).build()
            }
            _ => return gst::PadProbeReturn::Ok,
        };
        info.data = Some(gst::PadProbeData::Event(new));
        gst::PadProbeReturn::Ok
    });
}

/// Gives the decoded pictures the pixel aspect ratio of the container, which decoders of H.263 and MPEG-4 replace by
/// that of the coded video where it is 1:1.
pub(super) fn keep_shape(pad: &gst::Pad, probe: &Arc<Probe>) {
    let probe = Arc::clone(probe);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
        let stated = probe.par.lock().ok().and_then(|par| *par);
        if let (gst::EventView::Caps(caps), Some(par)) = (event.view(), stated) {
            let mut new = caps.caps_owned();
            new.make_mut().set("pixel-aspect-ratio", par);
            let new = gst::event::Caps::builder(&new).seqnum(event.seqnum()).build();
            info.data = Some(gst::PadProbeData::Event(new));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Corrected caps of a video stream, if its range is wrong or its pixel aspect ratio is invalid (avidemux sets -1/1
/// without a header); else none.
fn corrected(caps: &gst::CapsRef, full_range: bool) -> Option<gst::Caps> {
    let structure = caps.structure(0)?;
    let colorimetry = structure.get::<String>("colorimetry").ok().filter(|_| full_range);
    let colorimetry = colorimetry.and_then(|colorimetry| with_full_range(&colorimetry));
    let shape = structure.get::<gst::Fraction>("pixel-aspect-ratio").ok();
    let shapeless = shape.is_some_and(|shape| shape.numer() <= 0 || shape.denom() <= 0);
    if colorimetry.is_none() && !shapeless {
        return None;
    }
    let mut caps = caps.to_owned();
    let new = caps.make_mut();
    if let Some(colorimetry) = colorimetry {
        new.set("colorimetry", colorimetry);
    }
    if shapeless {
        new.set("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    }
    Some(caps)
}

/// GStreamer's name of a colorimetry, with full range.
fn with_full_range(colorimetry: &str) -> Option<String> {
    let known = colorimetry.parse::<gst_video::VideoColorimetry>().ok()?;
    let full = gst_video::VideoColorimetry::new(
        gst_video::VideoColorRange::Range0_255,
        known.matrix(),
        known.transfer(),
        known.primaries(),
    );
    Some(full.to_string())
}
