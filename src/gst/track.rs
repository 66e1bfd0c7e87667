//! Audio and subtitle streams on their way from a reader to a writer, as unchanged compressed packets.

use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use super::clock::{Clock, Joins};
use super::hdr::Light;
use super::loas;
use super::metadata::{Metadata, track_number};
use super::mp4::edit_list::EditList;

/// The kind of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Subtitle,
}

/// One packet. Times are running times of the input in nanoseconds; negative for encoder priming that an edit list
/// hides.
pub(crate) struct Packet {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    pub buffer: gst::Buffer,
}

impl Packet {
    /// The DTS, else the PTS, in nanoseconds; a packet without either follows the packets before it.
    pub fn time(&self) -> Option<i64> {
        self.dts.or(self.pts)
    }
}

/// One audio or subtitle stream.
pub(crate) struct MediaTrack {
    pub kind: Kind,
    number: Option<u64>,
    /// The source pad of the demuxer.
    pad: gst::Pad,
    edits: Option<EditList>,
    /// Nanoseconds at the start that are decoded but not played, where they are part of the demuxer's times.
    delay: i64,
    state: Mutex<State>,
}

struct State {
    packets: VecDeque<Packet>,
    /// None for text, whose cues may overlap.
    clock: Option<Clock>,
    /// Packets before the first timestamp, as transport streams have them before their first clock reference.
    waiting: Vec<gst::Buffer>,
    /// Number of packets so far.
    count: i64,
    /// Splits packets of AAC in LOAS into frames.
    frames: loas::Frames,
    /// Added to all times once the first frame has been sent, see [`InputTracks::fix_lead`].
    lead: i64,
    /// The time of the first packet.
    first: Option<i64>,
    /// Number of packets that the edit list hides.
    hidden: u64,
    /// No writer takes the packets: only their times are kept.
    discard: bool,
}

impl MediaTrack {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The caps of the stream; not fixed before the first packet.
    pub fn caps(&self) -> gst::Caps {
        self.pad.current_caps().unwrap_or_else(|| self.pad.query_caps(None))
    }

    /// The caps from the demuxer, before a parser has received the first packet.
    pub fn demuxed_caps(&self) -> Option<gst::Caps> {
        let parser = self.pad.dynamic_cast_ref::<gst::GhostPad>()?.target()?.parent_element()?;
        parser.static_pad("sink")?.current_caps()
    }

    /// The track number in the file, where the format has one.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// Language and title from the container.
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

    /// Removes the next packet due by `until`, or the next packet of all if `until` is none.
    pub fn pop(&self, until: Option<i64>) -> Option<Packet> {
        let mut state = self.lock();
        let due = match (state.packets.front()?.time(), until) {
            (Some(time), Some(until)) => time <= until,
            _ => true,
        };
        if due { state.packets.pop_front() } else { None }
    }

    /// Nanoseconds by which the stream starts before the movie, without the encoder priming that the container hides.
    fn early(&self) -> i64 {
        if self.edits.is_some() { 0 } else { self.lock().first.map_or(0, |first| (-first - self.delay).max(0)) }
    }

    fn move_by(&self, lead: i64) {
        let mut state = self.lock();
        state.lead = lead;
        for packet in &mut state.packets {
            packet.pts = packet.pts.map(|t| t + lead);
            packet.dts = packet.dts.map(|t| t + lead);
        }
    }

    /// Drops all packets from now on.
    pub fn discard(&self) {
        let mut state = self.lock();
        state.discard = true;
        state.packets.clear();
    }

    /// Creates an appsink for the stream. It never blocks the demuxer: packets are small and the writer removes them.
    pub fn new(
        kind: Kind,
        pad: &gst::Pad,
        edits: Option<EditList>,
        delay: u64,
        clock: Clock,
    ) -> (Arc<Self>, gst_app::AppSink) {
        let delay = i64::try_from(delay).unwrap_or(0);
        let clock = (kind == Kind::Audio).then_some(clock);
        let state = Mutex::new(State {
            packets: VecDeque::new(),
            clock,
            waiting: Vec::new(),
            count: 0,
            frames: loas::Frames::default(),
            lead: 0,
            first: None,
            hidden: 0,
            discard: false,
        });
        let track = Arc::new(Self { kind, number: track_number(pad), pad: pad.clone(), edits, delay, state });
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            // Encoder priming lies before the segment, but belongs to the stream.
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
        let (mut pts, mut dts) = (running(buffer.pts()), running(buffer.dts()));
        let block = sample.caps().and_then(adpcm_block);
        let duration = block.or(length(&buffer));
        (pts, dts) = (pts.map(|t| t - self.delay), dts.map(|t| t - self.delay));
        if let Some(block) = block {
            let mut state = self.lock();
            let count = state.count;
            state.count += 1;
            if let Some(first) = state.first {
                (pts, dts) = (Some(first + count * block), None);
            }
        }
        if let Some(edits) = &self.edits
            && let Some(time) = pts.or(dts)
        {
            // Packets hidden by the edit list are not part of the movie.
            let Some(shown) = edits.packet(time, duration.unwrap_or(0)) else {
                self.lock().hidden += 1;
                return;
            };
            let moved = shown - time;
            (pts, dts) = (pts.map(|t| t + moved), dts.map(|t| t + moved));
        }
        let mut state = self.lock();
        if sample.caps().is_some_and(loas::is_loas)
            && let Ok(map) = buffer.map_readable()
        {
            for (time, length, bytes) in state.frames.push(&map, pts.or(dts)) {
                let mut frame = gst::Buffer::from_slice(bytes);
                let length = length.and_then(|length| u64::try_from(length).ok());
                frame.make_mut().set_duration(length.map(gst::ClockTime::from_nseconds));
                // Packets before the first timestamp have no known time.
                if time.is_some() || state.first.is_some() {
                    state.put(time, None, frame);
                }
            }
            return;
        }
        if state.first.is_none() && pts.or(dts).is_none() && state.clock.as_ref().is_some_and(Clock::restarts) {
            state.waiting.push(buffer);
            return;
        }
        if let Some(time) = pts.or(dts)
            && state.first.is_none()
        {
            let waiting = std::mem::take(&mut state.waiting);
            let lengths: Vec<i64> = waiting.iter().map(|buffer| length(buffer).or(duration).unwrap_or(0)).collect();
            let mut at = time - lengths.iter().sum::<i64>();
            for (buffer, length) in waiting.into_iter().zip(lengths) {
                state.put(Some(at), Some(at), buffer);
                at += length;
            }
        }
        state.put(pts, dts, buffer);
    }

    /// The corrections of the packets' times, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let state = self.lock();
        let mut notes = state.clock.as_ref().map(|clock| clock.notes("sound packets")).unwrap_or_default();
        if state.hidden > 0 {
            let what = if self.kind == Kind::Audio { "sound packets" } else { "subtitles" };
            notes.push(format!("{} {what} that the edit list of the file hides are left out", state.hidden));
        }
        notes
    }

    /// The times of the first and the last packet, in nanoseconds; none without packets, and for text.
    pub fn span(&self) -> Option<(i64, i64)> {
        let state = self.lock();
        Some((state.first? + state.lead, state.clock.as_ref()?.last()? + state.lead))
    }
}

impl State {
    fn put(&mut self, mut pts: Option<i64>, mut dts: Option<i64>, buffer: gst::Buffer) {
        self.first = self.first.or(pts).or(dts);
        if let Some(clock) = self.clock.as_mut().filter(|clock| !is_header(&buffer, pts.or(dts), clock)) {
            let time = clock.next(pts.or(dts), None);
            clock.set_step(length(&buffer).unwrap_or(0));
            (pts, dts) = (Some(time), dts.map(|_| time));
        }
        if !self.discard {
            let lead = self.lead;
            self.packets.push_back(Packet { pts: pts.map(|t| t + lead), dts: dts.map(|t| t + lead), buffer });
        }
    }
}

/// Whether the buffer is a codec header (Vorbis, FLAC), or has no timestamp in a file that has them. A header has no
/// time: a clock that assigned one would shift all later packets, and a muxer would treat the header as audio.
fn is_header(buffer: &gst::Buffer, time: Option<i64>, clock: &Clock) -> bool {
    let marked = buffer.flags().contains(gst::BufferFlags::HEADER);
    (marked && length(buffer).is_none_or(|length| length == 0)) || (time.is_none() && !clock.restarts())
}

/// Duration of a block of ADPCM in nanoseconds: GStreamer's demuxers derive it from the nominal bit rate, which is
/// rounded or wrong.
fn adpcm_block(caps: &gst::CapsRef) -> Option<i64> {
    let structure = caps.structure(0).filter(|structure| structure.name() == "audio/x-adpcm")?;
    let get = |field| structure.get::<i32>(field).ok().map(i64::from).filter(|value| *value > 0);
    let (bytes, channels, rate) = (get("block_align")?, get("channels")?, get("rate")?);
    let samples = match structure.get::<&str>("layout").ok()? {
        "dvi" => (bytes / channels - 4) * 2 + 1,
        "microsoft" => (bytes / channels - 7) * 2 + 2,
        _ => return None,
    };
    (samples > 0).then(|| samples * 1_000_000_000 / rate)
}

fn length(buffer: &gst::Buffer) -> Option<i64> {
    buffer.duration().and_then(|duration| i64::try_from(duration.nseconds()).ok())
}

/// The data shared by the reader and the writer of an input.
#[derive(Default)]
pub(crate) struct InputTracks {
    pub tracks: Mutex<Vec<Arc<MediaTrack>>>,
    /// The demuxer's tags of the whole file: title, creation time, location.
    tags: Mutex<Option<gst::TagList>>,
    /// The metadata read from the file itself, for the formats known here.
    pub metadata: OnceLock<Metadata>,
    /// Duration in the container, in nanoseconds.
    pub duration: OnceLock<u64>,
    /// The colour description of the input where caps cannot express it: primaries, transfer and matrix (ITU-T H.273),
    /// 2 for unspecified.
    pub colours: OnceLock<[u8; 3]>,
    /// The static HDR metadata of the frames.
    pub light: OnceLock<Light>,
    /// The number of the video track in the file.
    pub video: OnceLock<u64>,
    /// The input has reached its end: every packet is in its track.
    pub ended: AtomicBool,
    /// Notes about the streams for the writer's report, one sentence each.
    pub notes: Mutex<Vec<String>>,
    /// The clock restarts of the input.
    pub joins: Joins,
    /// See [`InputTracks::fix_lead`].
    lead: OnceLock<i64>,
}

impl InputTracks {
    pub fn tracks(&self) -> Vec<Arc<MediaTrack>> {
        lock(&self.tracks).clone()
    }

    pub fn add(&self, track: Arc<MediaTrack>) {
        lock(&self.tracks).push(track);
    }

    /// The metadata of the input.
    pub fn metadata(&self) -> Metadata {
        self.metadata.get().cloned().unwrap_or_else(|| {
            let tags = lock(&self.tags);
            tags.as_ref().map(Metadata::of_tags).unwrap_or_default()
        })
    }

    pub fn merge_tags(&self, new: &gst::TagList) {
        let mut tags = lock(&self.tags);
        *tags = Some(match tags.take() {
            Some(old) => old.merge(new, gst::TagMergeMode::Append),
            None => new.clone(),
        });
    }

    /// Whether every sound track has had its first packet.
    pub fn has_sound_begun(&self) -> bool {
        self.tracks().iter().all(|track| track.kind != Kind::Audio || track.lock().first.is_some())
    }

    /// Nanoseconds to add to the times of all streams, so that audio before the demuxer's zero is not lost. Fixed by
    /// the first call, for the first frame.
    pub fn fix_lead(&self) -> i64 {
        *self.lead.get_or_init(|| {
            let tracks = self.tracks();
            let lead = tracks.iter().map(|track| track.early()).max().unwrap_or(0);
            tracks.iter().for_each(|track| track.move_by(lead));
            lead
        })
    }

    pub fn note(&self, note: String) {
        lock(&self.notes).push(note);
    }

    pub fn writer_notes(&self) -> Vec<String> {
        lock(&self.notes).clone()
    }

    /// Drops the packets of all tracks from now on.
    pub fn discard(&self) {
        self.tracks().iter().for_each(|track| track.discard());
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}
