//! Audio and subtitle streams on their way from a reader to a writer: compressed packets, untouched.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Audio,
    Subtitle,
}

/// One packet. Times are running times of the input in nanoseconds; they can be negative (encoder priming samples that
/// an edit list cuts off).
pub(super) struct Packet {
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
pub(super) struct Track {
    pub kind: Kind,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    caps: Option<gst::Caps>,
    tags: Option<gst::TagList>,
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

    pub fn caps(&self) -> Option<gst::Caps> {
        self.lock().caps.clone()
    }

    /// Language and title, where the container has them.
    pub fn tags(&self) -> Option<gst::TagList> {
        self.lock().tags.clone()
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

    /// The time of the first packet still held.
    pub fn first_time(&self) -> Option<i64> {
        self.lock().packets.front().and_then(Packet::time)
    }

    /// An appsink for the stream. It never blocks the demuxer: packets are small and a writer takes them away.
    pub fn new(kind: Kind, caps: Option<gst::Caps>) -> (Arc<Self>, gst_app::AppSink) {
        let track = Arc::new(Self { kind, state: Mutex::new(State { caps, ..State::default() }) });
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
                    receiver.take(sink, &sample);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        (track, sink)
    }

    fn take(&self, sink: &gst_app::AppSink, sample: &gst::Sample) {
        let Some(buffer) = sample.buffer_owned() else { return };
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let running = |time: Option<gst::ClockTime>| match segment?.to_running_time_full(time?)? {
            gst::Signed::Positive(t) => i64::try_from(t.nseconds()).ok(),
            gst::Signed::Negative(t) => i64::try_from(t.nseconds()).ok().map(|t| -t),
        };
        let (pts, dts) = (running(buffer.pts()), running(buffer.dts()));
        let mut state = self.lock();
        if state.tags.is_none() {
            state.caps = sample.caps_owned().or(state.caps.take());
            state.tags = sink
                .static_pad("sink")
                .and_then(|pad| pad.sticky_event::<gst::event::Tag<_>>(0))
                .map(|event| event.tag_owned())
                .filter(|tags| tags.scope() == gst::TagScope::Stream);
        }
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
pub(super) struct Shared {
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
