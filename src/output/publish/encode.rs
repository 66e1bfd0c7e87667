//! The encoder of a live stream: frames in, packets out, without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::gst::element;
use crate::gst::{bounded_source, gst_failed, link};
use crate::output::file::writer;
use crate::output::publish::sink_queue::Packet;
use crate::output::{Encoding, encoder};
use crate::{Error, Result};

/// Capacity in front of the encoder, in frames; when it is full, frames are dropped.
const QUEUED_FRAMES: u64 = 3;

/// Called with every packet, on the encoder's thread.
pub(crate) type Receive = Arc<dyn Fn(Packet) + Send + Sync>;

/// A running encoder for frames of one size and colour. Stopped on drop.
pub(crate) struct Encoder {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    source: gst_app::AppSrc,
    caps: gst::Caps,
    out: Arc<AtomicU64>,
}

impl Encoder {
    /// Builds and starts the pipeline.
    pub fn start(frames: &gst_video::VideoInfo, encoding: &Encoding, receive: Receive) -> Result<Self> {
        let caps = frames.to_caps().map_err(gst_failed)?;
        let source = bounded_source(&caps, QUEUED_FRAMES);
        let encode = encoder::choose(encoding.encoder.as_deref(), encoding.hardware)?;
        let pixels = writer::pixels_per_second(frames, 1);
        encoder::configure(&encode, encoding, pixels, encoder::Purpose::Live)?;
        let parser = element(encoder::parser_of(&encode))?;
        // Parameter sets before every key frame, so that late viewers can start there.
        parser.set_property("config-interval", -1i32);
        let h265 = encoder::parser_of(&encode) == "h265parse";
        let packets = gst::Caps::builder(if h265 { "video/x-h265" } else { "video/x-h264" })
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .build();
        let out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&out);
        let take = move |sink: &gst_app::AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(packet) = packet(&sample) {
                receive(packet);
            }
            Ok(gst::FlowSuccess::Ok)
        };
        let sink = gst_app::AppSink::builder()
            .caps(&packets)
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .callbacks(gst_app::AppSinkCallbacks::builder().new_sample(take).build())
            .build();
        let mut chain = vec![source.clone().upcast(), element("videoconvert")?];
        chain.extend(writer::crop_to_even(frames.width(), frames.height())?);
        chain.extend([encode, parser, sink.upcast()]);
        let pipeline = gst::Pipeline::new();
        link(&pipeline, &chain)?;
        let bus = pipeline.bus().ok_or_else(|| Error::failed("a GStreamer pipeline without a bus"))?;
        let encoder = Self { pipeline, bus, source, caps, out };
        if encoder.pipeline.set_state(gst::State::Playing).is_err() {
            encoder.check()?;
            return Err(Error::failed("the encoder does not start"));
        }
        Ok(encoder)
    }

    /// Whether it takes frames like these.
    pub fn takes(&self, frames: &gst_video::VideoInfo) -> bool {
        frames.to_caps().is_ok_and(|caps| caps == self.caps)
    }

    /// Pushes a frame, as a key frame if `key`. False when there is no room.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn push(&self, frame: gst::Buffer, key: bool) -> Result<bool> {
        self.check()?;
        if self.source.current_level_buffers() >= QUEUED_FRAMES {
            return Ok(false);
        }
        if key {
            self.source.send_event(gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        if self.source.push_buffer(frame).is_err() {
            self.check()?;
            return Err(Error::failed("the encoder accepts no more frames"));
        }
        Ok(true)
    }

    /// Number of packets so far.
    pub fn packets(&self) -> u64 {
        self.out.load(Ordering::Relaxed)
    }

    /// Drains the encoder, for at most `limit`.
    pub fn end(&self, limit: Duration) {
        let _ = self.source.end_of_stream();
        let until = Instant::now() + limit;
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        while Instant::now() < until {
            if self.bus.timed_pop_filtered(gst::ClockTime::from_mseconds(20), &kinds).is_some() {
                return;
            }
        }
        tracing::warn!("the encoder did not end in time");
    }

    fn check(&self) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            if let gst::MessageView::Error(error) = message.view() {
                let debug = error.debug().map(|d| d.to_string()).unwrap_or_default();
                let detail = debug.lines().last().map(str::trim).unwrap_or_default();
                return Err(Error::failed(format!("the encoder failed: {} {detail}", error.error())));
            }
        }
        Ok(())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The packet of a sample, with running times: encoders shift their segment to make room for reordering.
fn packet(sample: &gst::Sample) -> Option<Packet> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let caps = sample.caps_owned()?;
    let mut buffer = sample.buffer_owned()?;
    let pts = segment.to_running_time(buffer.pts()?)?;
    let dts = buffer.dts().and_then(|dts| segment.to_running_time(dts));
    let writable = buffer.make_mut();
    writable.set_pts(pts);
    writable.set_dts(dts);
    // The parser calls every intra picture a key frame, but only random access points have parameter sets before them.
    let h265 = caps.structure(0).is_some_and(|s| s.name() == "video/x-h265");
    let delta = writable.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let key = !delta && buffer.map_readable().is_ok_and(|bytes| is_random_access(&bytes, h265));
    Some(Packet { buffer, caps, time: pts.nseconds(), key })
}

/// Whether the first slice of an access unit (a byte stream) is an IDR one, or any random access point of H.265.
fn is_random_access(unit: &[u8], h265: bool) -> bool {
    let mut rest = unit;
    while let Some(at) = rest.windows(3).position(|code| code == [0, 0, 1]) {
        rest = &rest[at + 3..];
        let Some(&head) = rest.first() else { return false };
        let kind = if h265 { head >> 1 & 0x3f } else { head & 0x1f };
        match (h265, kind) {
            (false, 1..=4) => return false,
            (false, 5) => return true,
            (true, 0..=31) => return (16..=21).contains(&kind),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_known_by_their_first_slice() {
        let h264 = |kinds: &[u8]| {
            let unit: Vec<u8> = kinds.iter().flat_map(|kind| [0, 0, 0, 1, 0x60 | kind, 9, 9]).collect();
            is_random_access(&unit, false)
        };
        assert!(h264(&[9, 7, 8, 6, 5, 5]));
        assert!(!h264(&[9, 1, 5]) && !h264(&[9, 7, 8]) && !h264(&[]));
        let h265 = |kinds: &[u8]| {
            let unit: Vec<u8> = kinds.iter().flat_map(|kind| [0, 0, 1, kind << 1, 1, 9]).collect();
            is_random_access(&unit, true)
        };
        assert!(h265(&[35, 32, 33, 34, 19]) && h265(&[21]) && !h265(&[35, 1]) && !h265(&[39]));
    }
}
