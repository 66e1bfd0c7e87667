//! The packets of a file, in its order, without decoding.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
    /// Those of its stream, with the first packet.
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

    /// Whether a decoder can begin with it.
    pub fn is_key(&self) -> bool {
        let flagged = !self.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let in_stream = self.caps.structure(0).is_some_and(|caps| {
            caps.name() == "video/x-h264" && caps.get::<&str>("stream-format") == Ok("byte-stream")
        });
        // The parser flags every picture that is coded by itself, and those after it may refer to what was before it.
        // Where parameter sets are in the stream, a picture behind which nothing does so comes with one.
        flagged && (!in_stream || self.buffer.map_readable().is_ok_and(|bytes| has_parameters(&bytes)))
    }
}

/// Whether there is a sequence parameter set in front of the picture of an access unit in H.264, Annex B.
fn has_parameters(unit: &[u8]) -> bool {
    let headers = unit.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1]).map(|bytes| bytes[3] & 31);
    // 1 to 5 are parts of the picture, 7 is the set.
    headers.into_iter().find(|kind| matches!(kind, 1..=5 | 7)) == Some(7)
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
        let (streams, videos) = (AtomicUsize::new(0), AtomicU64::new(0));
        parse.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
            let content = match name.split('/').next() {
                Some("video" | "image") => {
                    let number = videos.fetch_add(1, Ordering::AcqRel);
                    (number == video).then_some(Content::Video)
                }
                Some("audio") => Some(Content::Audio),
                _ => None,
            };
            let number = streams.fetch_add(1, Ordering::AcqRel);
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

/// What the container says of a stream, such as its language and which way up its pictures are.
fn tags_of(pad: &gst::Pad) -> gst::TagList {
    let mut tags = gst::TagList::new();
    for index in 0.. {
        let Some(event) = pad.sticky_event::<gst::event::Tag<_>>(index) else { break };
        if event.tag().scope() == gst::TagScope::Stream {
            tags.make_mut().insert(event.tag(), gst::TagMergeMode::Keep);
        }
    }
    tags
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
    let (to, pad_of, begun) = (to.clone(), pad.downgrade(), AtomicBool::new(false));
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
        let tags = if begun.swap(true, Ordering::AcqRel) { None } else { pad_of.upgrade().map(|pad| tags_of(&pad)) };
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

#[cfg(test)]
mod tests {
    #[test]
    fn pictures_that_a_decoder_can_begin_with_have_their_parameters() {
        let unit = |kinds: &[u8]| kinds.iter().flat_map(|kind| [0, 0, 0, 1, 0x60 | kind, 1, 2]).collect::<Vec<u8>>();
        assert!(super::has_parameters(&unit(&[9, 7, 8, 6, 5])));
        assert!(!super::has_parameters(&unit(&[9, 6, 1])) && !super::has_parameters(&unit(&[1, 7])));
        assert!(!super::has_parameters(&[0, 0, 1]) && !super::has_parameters(&[]));
    }
}
