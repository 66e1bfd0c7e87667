//! Audio and subtitle streams on their way from a reader to a writer: compressed packets, untouched.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Subtitle,
}

/// One packet. Times are running times of the input in nanoseconds; they can be negative (encoder priming samples that
/// an edit list cuts off).
pub(crate) struct Packet {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    pub buffer: gst::Buffer,
}

impl Packet {
    /// When it is due; packets without times go with the ones before them.
    pub fn time(&self) -> Option<i64> {
        self.dts.or(self.pts)
    }
}

/// One audio or subtitle stream.
pub(crate) struct Track {
    pub kind: Kind,
    /// The demuxer's pad.
    pad: gst::Pad,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Packet>,
    /// Latest end of a packet seen, in nanoseconds.
    end: u64,
    /// Nobody takes the packets: keep only the times.
    discard: bool,
}

impl Track {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the stream carries; unfixed before its first packet.
    pub fn caps(&self) -> gst::Caps {
        self.pad.current_caps().unwrap_or_else(|| self.pad.query_caps(None))
    }

    /// Language and title, where the container has them.
    pub fn tags(&self) -> gst::TagList {
        let mut index = 0;
        let mut tags = gst::TagList::new();
        while let Some(event) = self.pad.sticky_event::<gst::event::Tag<_>>(index) {
            if event.tag().scope() == gst::TagScope::Stream {
                tags.make_mut().insert(event.tag(), gst::TagMergeMode::Keep);
            }
            index += 1;
        }
        tags
    }

    pub fn end(&self) -> u64 {
        self.lock().end
    }

    /// Takes the next packet that is due at `until`, or any when `until` is none.
    pub fn pop(&self, until: Option<i64>) -> Option<Packet> {
        let mut state = self.lock();
        let due = match (state.packets.front()?.time(), until) {
            (Some(time), Some(until)) => time <= until,
            _ => true,
        };
        if due { state.packets.pop_front() } else { None }
    }

    /// From now on packets are dropped.
    pub fn discard(&self) {
        let mut state = self.lock();
        state.discard = true;
        state.packets.clear();
    }

    /// An appsink for the stream. It never blocks the demuxer: packets are small and a writer takes them away.
    pub fn new(kind: Kind, pad: &gst::Pad) -> (Arc<Self>, gst_app::AppSink) {
        let track = Arc::new(Self { kind, pad: pad.clone(), state: Mutex::default() });
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            // Encoder priming lies before the segment and belongs to the stream all the same.
            .drop_out_of_segment(false)
            .build();
        let receiver = Arc::clone(&track);
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    receiver.take(&sample);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        (track, sink)
    }

    fn take(&self, sample: &gst::Sample) {
        let Some(buffer) = sample.buffer_owned() else { return };
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let running = |time: Option<gst::ClockTime>| match segment?.to_running_time_full(time?)? {
            gst::Signed::Positive(t) => i64::try_from(t.nseconds()).ok(),
            gst::Signed::Negative(t) => i64::try_from(t.nseconds()).ok().map(|t| -t),
        };
        let (pts, dts) = (running(buffer.pts()), running(buffer.dts()));
        let mut state = self.lock();
        if let Some(start) = pts.or(dts) {
            let end = start + buffer.duration().map_or(0, |d| i64::try_from(d.nseconds()).unwrap_or(0));
            state.end = state.end.max(u64::try_from(end).unwrap_or(0));
        }
        if !state.discard {
            state.packets.push_back(Packet { pts, dts, buffer });
        }
    }
}

/// What a reader tells the writer of the same input.
#[derive(Default)]
pub(crate) struct Shared {
    pub tracks: Mutex<Vec<Arc<Track>>>,
    /// Tags of the file as a whole: title, creation time, place.
    pub tags: Mutex<Option<gst::TagList>>,
    /// The input came to its end by itself: every packet is in its track.
    pub ended: AtomicBool,
    /// What the writer has to tell about the streams, one sentence each.
    pub notes: Mutex<Vec<String>>,
}

impl Shared {
    pub fn tracks(&self) -> Vec<Arc<Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn add(&self, track: Arc<Track>) {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner).push(track);
    }

    pub fn tags(&self) -> Option<gst::TagList> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn merge_tags(&self, new: &gst::TagList) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        *tags = Some(match tags.take() {
            Some(old) => old.merge(new, gst::TagMergeMode::Append),
            None => new.clone(),
        });
    }

    pub fn note(&self, note: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody takes the packets of any track.
    pub fn discard(&self) {
        self.tracks().iter().for_each(|track| track.discard());
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}
