//! The start of a pipeline, up to its first frame.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::gst::message::Trouble;
use crate::gst::track::InputTracks;
use crate::input::describe::{gather_tags, no_video};
use crate::input::probe::Probe;
use crate::{Error, Result};

/// Frames queued between decoder and caller.
const QUEUED_FRAMES: u32 = 3;
/// Time limit for the first frame.
const OPENING: Duration = Duration::from_secs(60);
/// Time limit without any progress before the first frame.
const STALLED: Duration = Duration::from_secs(8);

/// The caps of pictures of any size.
pub(crate) fn raw_caps(format: gst_video::VideoFormat) -> gst::Caps {
    gst::Caps::builder("video/x-raw").field("format", format.to_str()).build()
}

/// The appsink at the end of every reading pipeline.
pub(crate) fn frame_sink() -> gst_app::AppSink {
    gst_app::AppSink::builder()
        .caps(&raw_caps(gst_video::VideoFormat::I420))
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .max_buffers(QUEUED_FRAMES)
        .wait_on_eos(false)
        .build()
}

/// A pipeline that has put out its first frame.
pub(super) struct Started {
    pub first: gst::Sample,
    /// The names of the container, from tags.
    pub containers: Vec<String>,
    pub trouble: Trouble,
    /// All sinks have reached the end of the stream.
    pub over: bool,
}

/// Starts `pipeline` and waits for the first frame at `sink`.
pub(super) fn start(
    pipeline: &gst::Pipeline,
    bus: &gst::Bus,
    sink: &gst_app::AppSink,
    name: &Path,
    shared: &InputTracks,
    probe: &Probe,
) -> Result<Started> {
    let mut heard = Heard::default();
    let arrived = watch(sink);
    // No limit until the pipeline plays: a first frame between PAUSED and PLAYING lets the source continue at once
    // (`gst_base_sink_commit_state`), and a full queue would then hold the lock that the change to PLAYING needs.
    sink.set_max_buffers(0);
    // A failure also posts an error, which has the details.
    let _ = pipeline.set_state(gst::State::Playing);
    sink.set_max_buffers(QUEUED_FRAMES);
    let deadline = Instant::now() + OPENING;
    let (mut steps, mut last_step) = (0, Instant::now());
    let first = loop {
        let sample = sink.try_pull_sample(gst::ClockTime::from_mseconds(20));
        while let Some(message) = bus.pop() {
            heard.take(&message, shared);
        }
        if let Some(sample) = sample {
            break sample;
        }
        let complete = probe.complete.load(Ordering::Acquire);
        let videos = probe.videos.load(Ordering::Acquire);
        if complete && videos > 0 && !probe.video.load(Ordering::Acquire) {
            return Err(Error::usage(format!("{}: it has {videos} video tracks", name.display()))
                .hint("choose one of them with --video-track, from 1, or all"));
        }
        if complete && !probe.video.load(Ordering::Acquire) && heard.trouble.missing.is_none() {
            return Err(no_video(name, probe));
        }
        if heard.over || heard.failed || (sink.is_eos() && complete) {
            // Frames decoded before the error.
            if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                break sample;
            }
            return Err(heard.trouble.input_error(name));
        }
        let now = probe.steps.load(Ordering::Acquire);
        if now != steps {
            (steps, last_step) = (now, Instant::now());
        }
        if steps > 0 && last_step.elapsed() > STALLED {
            return Err(Error::failed(format!("{}: no frame can be decoded", name.display()))
                .hint("the file is damaged: the descriptions of its video or audio are invalid"));
        }
        if Instant::now() > deadline {
            return Err(Error::failed(format!("{}: no frame within {} seconds", name.display(), OPENING.as_secs())));
        }
    };
    // The time of the first frame depends on sound that starts before it.
    let deadline = Instant::now() + STALLED;
    let full = 1 + u64::from(QUEUED_FRAMES);
    let sound_may_begin = || !shared.has_sound_begun() && arrived.load(Ordering::Acquire) <= full;
    while sound_may_begin() && !heard.over && !heard.failed && Instant::now() < deadline {
        if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(1)) {
            heard.take(&message, shared);
        }
    }
    let Heard { containers, trouble, over, .. } = heard;
    Ok(Started { first, containers, trouble, over })
}

/// What the messages of a starting pipeline say.
#[derive(Default)]
struct Heard {
    containers: Vec<String>,
    trouble: Trouble,
    over: bool,
    failed: bool,
}

impl Heard {
    fn take(&mut self, message: &gst::Message, shared: &InputTracks) {
        match message.view() {
            gst::MessageView::Tag(tag) => gather_tags(&tag.tags(), shared, &mut self.containers),
            gst::MessageView::Eos(_) => self.over = true,
            _ => self.failed |= self.trouble.note(message),
        }
    }
}

/// The number of frames that have arrived at `sink`, beyond all bounds after the last one. The sink holds up the demuxer
/// in the frame after the queued ones.
fn watch(sink: &gst_app::AppSink) -> Arc<AtomicU64> {
    let arrived = Arc::new(AtomicU64::new(0));
    if let Some(pad) = sink.static_pad("sink") {
        let arrived = Arc::clone(&arrived);
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            match info.event() {
                None => drop(arrived.fetch_add(1, Ordering::AcqRel)),
                Some(event) if event.type_() == gst::EventType::Eos => arrived.store(u64::MAX, Ordering::Release),
                Some(_) => {}
            }
            gst::PadProbeReturn::Ok
        });
    }
    arrived
}

/// Stops a pipeline on an early return.
pub(super) struct Running<'a>(pub &'a gst::Pipeline);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}
