//! The packets of a file, in its order, without decoding.

use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::gst::message::Trouble;
use crate::gst::{element, gst_failed, link};
use crate::{Error, Result};

/// Packets between the demuxer and who takes them.
const ROOM: usize = 256;
/// Time without a packet after which a file counts as stuck.
const STALL: Duration = Duration::from_secs(20);

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Video,
    Audio,
}

/// One packet. Times are running times in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// Number of its stream, in the order in which the demuxer found them.
    pub stream: usize,
    pub content: Content,
    pub caps: gst::Caps,
    pub tags: Option<gst::TagList>,
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    pub buffer: gst::Buffer,
}

impl Packet {
    /// The DTS, else the PTS.
    pub fn time(&self) -> Option<i64> {
        self.dts.or(self.pts)
    }

    /// The PTS, else the DTS.
    pub fn shown(&self) -> Option<i64> {
        self.pts.or(self.dts)
    }

    pub fn is_key(&self) -> bool {
        !self.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)
    }
}

/// Reads the packets of a file.
pub(super) struct Packets {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    packets: Receiver<Packet>,
    trouble: Trouble,
    over: bool,
}

impl Packets {
    /// Opens `path`; `video` is the number of the video stream to take, from 0. All audio is taken.
    pub fn open(path: &Path, video: u64) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let source = element("filesrc")?;
        source.set_property("location", path);
        let parse = element("parsebin")?;
        link(&pipeline, &[source, parse.clone()])?;
        let (to, packets) = bounded(ROOM);
        let weak = pipeline.downgrade();
        let (streams, videos) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicU64::new(0));
        parse.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
            let content = match name.split('/').next() {
                Some("video" | "image") => {
                    let number = videos.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
                    (number == video).then_some(Content::Video)
                }
                Some("audio") => Some(Content::Audio),
                _ => None,
            };
            let number = streams.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
            if let Err(error) = add_sink(&pipeline, pad, content.map(|content| (number, content)), &to) {
                tracing::warn!("a stream is left out of clips: {error}");
            }
        });
        let bus = pipeline.bus().ok_or_else(|| Error::failed("a GStreamer pipeline without a bus"))?;
        let mut reader = Self { pipeline, bus, packets, trouble: Trouble::default(), over: false };
        if reader.pipeline.set_state(gst::State::Playing).is_err() {
            while let Some(message) = reader.bus.pop() {
                reader.trouble.note(&message);
            }
            return Err(reader.trouble.input_error(path));
        }
        Ok(reader)
    }

    /// The next packet; none at the end of the file, or of what can be read of it.
    pub fn next(&mut self, path: &Path) -> Result<Option<Packet>> {
        let mut waited = Duration::ZERO;
        let slice = Duration::from_millis(20);
        loop {
            match self.packets.recv_timeout(if self.over { Duration::ZERO } else { slice }) {
                Ok(packet) => return Ok(Some(packet)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if self.over => return Ok(None),
                Err(RecvTimeoutError::Timeout) => waited += slice,
            }
            while let Some(message) = self.bus.pop() {
                match message.view() {
                    gst::MessageView::Eos(_) => self.over = true,
                    // What was read before it still comes.
                    _ => self.over |= self.trouble.note(&message),
                }
            }
            if waited > STALL {
                return Err(Error::failed(format!("{}: no packet within {} s", path.display(), STALL.as_secs())));
            }
        }
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        // A demuxer that waits for room has to be let go first.
        let (_, closed) = bounded(0);
        self.packets = closed;
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Ends a stream of the demuxer in a sink that hands its packets on, or drops them.
fn add_sink(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    wanted: Option<(usize, Content)>,
    to: &Sender<Packet>,
) -> Result<()> {
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .drop_out_of_segment(false)
        .build();
    let (to, pad_of) = (to.clone(), pad.downgrade());
    let take = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let Some((stream, content)) = wanted else { return Ok(gst::FlowSuccess::Ok) };
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
        let running = |time: Option<gst::ClockTime>| match segment?.to_running_time_full(time?)? {
            gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok(),
            gst::Signed::Negative(time) => i64::try_from(time.nseconds()).ok().map(|time| -time),
        };
        let (pts, dts) = (running(buffer.pts()), running(buffer.dts()));
        let tags = pad_of.upgrade().and_then(|pad| pad.sticky_event::<gst::event::Tag<_>>(0));
        let tags = tags.map(|event| event.tag_owned());
        let packet = Packet { stream, content, caps, tags, pts, dts, buffer };
        to.send(packet).map(|()| gst::FlowSuccess::Ok).map_err(|_| gst::FlowError::Eos)
    };
    sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(take).build());
    pipeline.add(&sink).map_err(gst_failed)?;
    sink.sync_state_with_parent().map_err(gst_failed)?;
    let entry = sink.static_pad("sink").ok_or_else(|| Error::failed("an appsink without a pad"))?;
    pad.link(&entry).map_err(|error| Error::failed(format!("GStreamer: {error}")))?;
    Ok(())
}
