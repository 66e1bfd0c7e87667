//! A GStreamer pipeline that ends in an appsink of I420 frames, as a [`FrameReader`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::gst::Frame;
use crate::gst::clock::Clock;
use crate::gst::frame::FramePool;
use crate::gst::hdr::Light;
use crate::gst::message::Trouble;
use crate::gst::mp4::edit_list::EditList;
use crate::gst::track::InputTracks;
use crate::input::describe::{describe, gather_tags, hdr, is_default_colour, no_video, video_info_of};
use crate::input::probe::{Format, Probe, UNNAMED};
use crate::input::tone::{ToneMap, Transfer};
use crate::input::{EndOfInput, FrameReader, Read, VideoInfo};
use crate::{Error, Result};

/// Frames queued between decoder and caller.
const QUEUED_FRAMES: u32 = 3;
/// Time limit for the first frame.
const OPENING: Duration = Duration::from_secs(60);
/// Time limit without any progress before the first frame.
const STALLED: Duration = Duration::from_secs(8);
/// Least difference between the clock of a stream and its contents that is a jump of the clock.
const JUMP: Duration = Duration::from_secs(1);
/// Time after an error in which frames may still come, before the input counts as ended.
const AFTER_ERROR: Duration = Duration::from_secs(2);

pub(crate) struct PipelineReader {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: gst_app::AppSink,
    name: PathBuf,
    stream: u32,
    index: u64,
    first: Option<gst::Sample>,
    info: VideoInfo,
    frame_info: gst_video::VideoInfo,
    pub shared: Arc<InputTracks>,
    probe: Arc<Probe>,
    canvas: FramePool,
    /// The transfer function of HDR video, and the conversion to SDR if the sink receives pictures of 10 bits for it.
    hdr: Option<Transfer>,
    tone_map: Option<ToneMap>,
    trouble: Trouble,
    /// Time of the first error, or of the last frame after it.
    last_sign: Instant,
    corrupted: u64,
    /// Makes the running times strictly increasing.
    clock: Clock,
    edits: Option<EditList>,
    /// Frames hidden by the edit list.
    hidden: u64,
    /// Number of changes of the decoded pictures' size.
    resized: u64,
    /// In real time, a frame is returned as soon as it is decoded.
    pace: Pace,
    /// The requested frame rate.
    rate: Option<f64>,
    /// The frame held back until the time of the next one is known, with its own time.
    held: Option<(Option<i64>, gst::Buffer)>,
    /// Nanoseconds from the first clock reference of a transport stream to the last one.
    clock_span: Option<u64>,
    /// Times of the first and the last frame, in nanoseconds.
    span: Option<(i64, i64)>,
    /// The missing end of the file, as text.
    cut: Option<String>,
    /// Searches the file for structural damage; the result is as text.
    broken: Option<Box<dyn FnOnce() -> Option<String> + Send>>,
    /// All sinks have reached the end of the stream, audio and subtitles included. The bus reports that once.
    over: bool,
    ended: Option<EndOfInput>,
}

/// The pace at which a pipeline delivers frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as the caller reads them.
    Taken,
    /// Each frame at its time.
    RealTime,
}

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

impl PipelineReader {
    /// Starts `pipeline` and waits for its first frame.
    pub fn start(
        pipeline: gst::Pipeline,
        sink: gst_app::AppSink,
        name: &Path,
        stream: u32,
        shared: Arc<InputTracks>,
        probe: Arc<Probe>,
        pace: Pace,
    ) -> Result<Self> {
        let bus = pipeline.bus().ok_or_else(|| Error::failed("a GStreamer pipeline without a bus"))?;
        let guard = Running(&pipeline);
        let mut trouble = Trouble::default();
        // No limit until the pipeline plays: a first frame between PAUSED and PLAYING lets the source continue at once
        // (`gst_base_sink_commit_state`), and a full queue would then hold the lock that the change to PLAYING needs.
        sink.set_max_buffers(0);
        // A failure also posts an error, which has the details.
        let _ = pipeline.set_state(gst::State::Playing);
        sink.set_max_buffers(QUEUED_FRAMES);
        let deadline = Instant::now() + OPENING;
        let (mut steps, mut last_step) = (0, Instant::now());
        let mut containers = Vec::new();
        let mut over = false;
        let mut failed = false;
        let first = loop {
            let sample = sink.try_pull_sample(gst::ClockTime::from_mseconds(20));
            while let Some(message) = bus.pop() {
                match message.view() {
                    gst::MessageView::Tag(tag) => gather_tags(&tag.tags(), &shared, &mut containers),
                    gst::MessageView::Eos(_) => over = true,
                    _ => failed |= trouble.note(&message),
                }
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
            if complete && !probe.video.load(Ordering::Acquire) && trouble.missing.is_none() {
                return Err(no_video(name, &probe));
            }
            if over || failed || (sink.is_eos() && complete) {
                // Frames decoded before the error.
                if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                    break sample;
                }
                return Err(trouble.input_error(name));
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
                return Err(Error::failed(format!(
                    "{}: no frame within {} seconds",
                    name.display(),
                    OPENING.as_secs()
                )));
            }
        };
        let mut frame_info = video_info_of(&first, &name.display())?;
        // Later sizes are scaled to the first one: an encoder has one size.
        let size = gst::Caps::builder("video/x-raw")
            .field("format", frame_info.format().to_str())
            .field("width", frame_info.width() as i32)
            .field("height", frame_info.height() as i32)
            .field("pixel-aspect-ratio", frame_info.par());
        sink.set_caps(Some(&size.build()));
        let hdr = Transfer::of(&frame_info);
        let boxed = probe.light.lock().map(|light| *light).unwrap_or_default();
        let light = first.caps().map(Light::of_caps).unwrap_or_default().or(boxed);
        let ten_bits = frame_info.format() == gst_video::VideoFormat::I42010le;
        let tone_map = hdr.filter(|_| ten_bits).map(|hdr| ToneMap::new(&frame_info, hdr, light)).transpose()?;
        match &tone_map {
            Some(tone_map) => frame_info = tone_map.output().clone(),
            None if !light.is_empty() => {
                let _ = shared.light.set(light);
            }
            None => {}
        }
        let colours = probe.colours.lock().map(|colours| *colours).unwrap_or_default();
        if let Some(colours) =
            colours.filter(|colours| tone_map.is_none() && (*colours != UNNAMED || is_default_colour(&frame_info)))
        {
            let _ = shared.colours.set(colours);
        }
        let duration = pipeline.query_duration::<gst::ClockTime>().map(gst::ClockTime::nseconds).filter(|d| *d > 0);
        let extension = || name.extension().map(|e| e.to_string_lossy().to_uppercase()).unwrap_or_default();
        let container = containers.into_iter().next().unwrap_or_else(extension);
        let endless = shared.metadata.get().is_some_and(|metadata| metadata.endless);
        if let Some(duration) = duration.filter(|_| !endless) {
            let _ = shared.duration.set(duration);
        }
        let info = describe(&frame_info, duration, &probe, container);
        std::mem::forget(guard);
        let mut clock = Clock::new(&shared.joins, probe.format().restarts());
        if let Some(fps) = info.fps {
            clock.set_step((1e9 / fps) as i64);
        }
        let edits = probe.edits.lock().map(|edits| edits.clone()).unwrap_or_default();
        Ok(Self {
            pipeline,
            bus,
            sink,
            name: name.to_path_buf(),
            stream,
            index: 0,
            first: Some(first),
            info,
            frame_info,
            shared,
            probe,
            canvas: FramePool::default(),
            hdr,
            tone_map,
            trouble,
            last_sign: Instant::now(),
            corrupted: 0,
            clock,
            edits,
            hidden: 0,
            resized: 0,
            pace,
            rate: None,
            held: None,
            clock_span: None,
            span: None,
            cut: None,
            broken: None,
            over,
            ended: None,
        })
    }

    /// The number of video tracks in the file.
    pub fn video_tracks(&self) -> u32 {
        u32::try_from(self.probe.videos.load(Ordering::Acquire)).unwrap_or(u32::MAX)
    }

    /// Sets the frame rate of an elementary stream; files with timestamps ignore it.
    pub fn set_rate(&mut self, fps: f64) {
        if self.probe.format() == Format::Raw {
            self.info.fps = Some(fps);
            self.clock.pace((1e9 / fps) as i64);
        }
        self.rate = Some(fps);
    }

    /// The properties of the input.
    pub fn video_info(&self) -> &VideoInfo {
        &self.info
    }

    /// The caps of the frames.
    pub fn frame_info(&self) -> &gst_video::VideoInfo {
        &self.frame_info
    }

    /// The time at which a frame with this running time is due; none unless the pipeline runs in real time.
    pub fn due(&self, running_time: u64) -> Option<Instant> {
        let due = self.pipeline.base_time()?.nseconds().checked_add(running_time)?;
        let (clock, now) = (self.pipeline.clock()?.time().nseconds(), Instant::now());
        match clock.checked_sub(due) {
            Some(ago) => now.checked_sub(Duration::from_nanos(ago)),
            None => now.checked_add(Duration::from_nanos(due - clock)),
        }
    }

    /// Sets the exact number of frames.
    pub fn set_frames(&mut self, frames: u64) {
        self.info.frames = Some(frames);
        self.info.duration = self.info.fps.map(|fps| (frames as f64 / fps * 1e9) as u64);
    }

    /// Sets the duration read from the header, in nanoseconds.
    pub fn set_duration(&mut self, duration: u64) {
        self.info.duration = Some(duration);
        self.info.frames = self.info.fps.map(|fps| (fps * duration as f64 / 1e9).round() as u64);
    }

    /// Sets the time that the clock of a transport stream covers, in nanoseconds: its demuxer joins the parts of a clock
    /// that jumps without a message.
    pub fn set_clock_span(&mut self, span: u64) {
        self.clock_span = Some(span);
    }

    /// A note if the clock of a transport stream jumps.
    fn jumps(&self) -> Option<String> {
        let tracks = self.shared.tracks();
        let spans = || self.span.into_iter().chain(tracks.iter().filter_map(|track| track.span()));
        let (first, last) = (spans().map(|span| span.0).min()?, spans().map(|span| span.1).max()?);
        let length = |(first, last): (i64, i64)| Some(Duration::from_nanos(u64::try_from(last - first).ok()?));
        let (clock, shown) = (Duration::from_nanos(self.clock_span?), length((first, last))?);
        // The clock may start later than audio, and go on after the last frame.
        let jumps = clock > shown + JUMP || clock + JUMP < length(self.span?)?;
        jumps.then(|| {
            format!(
                "the clock of the stream goes from its start to {:.1} s and the pictures and sound last {:.1} s: where it \
                 jumps, the parts are joined",
                clock.as_secs_f64(),
                shown.as_secs_f64()
            )
        })
    }

    /// Sets the missing end of the file, as text, and the search for structural damage, which runs at the end of the
    /// input, as it reads every element of the file.
    pub fn set_structure(&mut self, cut: Option<String>, broken: impl FnOnce() -> Option<String> + Send + 'static) {
        self.cut = cut;
        self.broken = Some(Box::new(broken));
    }

    /// Accepts a decoded frame, and returns the one before it: its time depends on the next one.
    fn take(&mut self, sample: gst::Sample) -> Result<Option<Frame>> {
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>()).cloned();
        let buffer = sample.buffer_owned().ok_or_else(|| Error::failed("a GStreamer sample without a buffer"))?;
        drop(sample); // Its reference would make the buffer shared, and map_mut copy.
        let buffer = match &self.tone_map {
            Some(tone_map) => tone_map.apply(&buffer, &self.canvas)?,
            None => buffer,
        };
        self.last_sign = Instant::now();
        let time = buffer.pts().and_then(|pts| match segment?.to_running_time_full(pts)? {
            gst::Signed::Positive(t) => i64::try_from(t.nseconds()).ok(),
            gst::Signed::Negative(t) => i64::try_from(t.nseconds()).ok().map(|t| -t),
        });
        let time = self.probe.time_shown(time);
        let time = match (&self.edits, time) {
            (Some(edits), Some(media)) => match edits.frame(media) {
                Some(shown) => Some(shown),
                None => {
                    self.hidden += 1;
                    return Ok(None);
                }
            },
            _ => time,
        };
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            self.corrupted += 1;
        }
        if self.pace == Pace::RealTime {
            return Ok(Some(self.stamp(time, buffer, None)));
        }
        let before = self.held.replace((time, buffer));
        Ok(before.map(|(held, buffer)| self.stamp(held, buffer, time)))
    }

    /// The held frame, at the end of the input.
    fn release(&mut self) -> Option<Frame> {
        let (time, buffer) = self.held.take()?;
        Some(self.stamp(time, buffer, None))
    }

    fn stamp(&mut self, time: Option<i64>, buffer: gst::Buffer, following: Option<i64>) -> Frame {
        let lead = self.shared.fix_lead();
        let time = self.clock.next(time, following) + lead;
        self.span = Some((self.span.map_or(time, |(first, _)| first), time));
        let time = u64::try_from(time).unwrap_or(0);
        let mut frame = Frame::new(self.stream, self.index, time, buffer, self.frame_info.clone(), self.canvas.clone());
        // Needed by the last frame, whose end would otherwise be its start.
        frame.duration = frame.duration.filter(|d| *d > 0).or(u64::try_from(self.clock.step()).ok());
        self.index += 1;
        frame
    }

    fn end(&mut self) -> EndOfInput {
        self.shared.ended.store(true, Ordering::Release);
        let mut notes = Vec::new();
        self.resized = self.probe.sizes.load(Ordering::Acquire).saturating_sub(1);
        let coded = self.probe.coded.load(Ordering::Acquire);
        let decoded = self.probe.decoded.load(Ordering::Acquire);
        let lost = coded.saturating_sub(decoded);
        if lost > 0 {
            notes.push(format!("{lost} of {coded} coded frames could not be decoded"));
        }
        if self.corrupted > 0 {
            notes.push(format!("{} frames were damaged and are shown as far as they can be decoded", self.corrupted));
        }
        if let Some((error, _)) = &self.trouble.error {
            notes.push(format!("reading stopped with an error: {}", error.message()));
        }
        if let Some(cut) = &self.cut {
            notes.push(format!("the file is cut off: {cut}"));
        }
        let broken = self.broken.take().and_then(|look| look());
        if let Some(broken) = &broken {
            notes.push(format!("the file is damaged: {broken}"));
        }
        if self.hidden > 0 {
            notes.push(format!("{} frames that the edit list of the file hides are left out", self.hidden));
        }
        let (videos, taken) = (self.probe.videos.load(Ordering::Acquire), self.probe.taken.load(Ordering::Acquire));
        if videos > 1 {
            notes.push(format!(
                "of {videos} video tracks number {taken} is read; --video-track selects another one, or all"
            ));
        }
        let (width, height) = (self.info.width, self.info.height);
        if self.resized > 0 {
            notes.push(format!(
                "the size of the pictures changes; they are scaled to {width}x{height}, with borders where \
                 their shape is another one"
            ));
        }
        if self.probe.format() == Format::Raw {
            let fps = self.info.fps.unwrap_or(25.0);
            let whose =
                if self.rate.is_some() { "as set by --fps" } else { "by the stream or else 25; --fps sets another" };
            notes.push(format!("the file has no timestamps: {fps} frames a second are assumed, {whose}"));
        } else {
            if self.rate.is_some() {
                notes.push("the file has timestamps: --fps has no effect".to_owned());
            }
            notes.extend(self.clock.notes("frames"));
            notes.extend(self.jumps());
        }
        self.shared.tracks().iter().for_each(|track| notes.extend(track.notes()));
        if let Ok(reduced) = self.probe.reduced.lock() {
            notes.extend(reduced.iter().cloned());
        }
        notes.extend(self.hdr.map(|transfer| hdr(transfer, self.tone_map.is_some())));
        notes.extend(self.shared.writer_notes());
        let end = EndOfInput {
            // The number of frames lost in a damaged structure is unknown.
            damaged: (self.corrupted + lost).max(u64::from(broken.is_some())),
            truncated: self.cut.is_some() || self.trouble.error.is_some(),
            notes,
        };
        self.ended = Some(end.clone());
        end
    }
}

impl FrameReader for PipelineReader {
    fn read(&mut self, timeout: Duration) -> Result<Read> {
        if let Some(sample) = self.first.take()
            && let Some(frame) = self.take(sample)?
        {
            return Ok(Read::Frame(frame));
        }
        if let Some(end) = &self.ended {
            return Ok(Read::End(end.clone()));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
            let wait = gst::ClockTime::try_from(left).unwrap_or(gst::ClockTime::ZERO);
            if let Some(sample) = self.sink.try_pull_sample(wait) {
                match self.take(sample)? {
                    Some(frame) => return Ok(Read::Frame(frame)),
                    None => continue,
                }
            }
            while let Some(message) = self.bus.pop() {
                match message.view() {
                    gst::MessageView::Eos(_) => self.over = true,
                    _ => {
                        if self.trouble.note(&message) {
                            self.last_sign = Instant::now();
                        }
                    }
                }
            }
            if self.over
                || (self.trouble.error.is_some() && (self.sink.is_eos() || self.last_sign.elapsed() > AFTER_ERROR))
            {
                // A frame may have arrived between the pull and the message.
                while let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::ZERO) {
                    if let Some(frame) = self.take(sample)? {
                        return Ok(Read::Frame(frame));
                    }
                }
                if let Some(frame) = self.release() {
                    return Ok(Read::Frame(frame));
                }
                tracing::debug!("{}: {} frames read", self.name.display(), self.index);
                return Ok(Read::End(self.end()));
            }
            if Instant::now() >= deadline {
                return Ok(Read::TimedOut);
            }
            if self.sink.is_eos() {
                // The video has ended, other streams have not: wait on the bus instead of the appsink, which returns at
                // once.
                let left = deadline.saturating_duration_since(Instant::now());
                let wait = gst::ClockTime::try_from(left).unwrap_or(gst::ClockTime::ZERO);
                if let Some(message) =
                    self.bus.timed_pop_filtered(wait, &[gst::MessageType::Eos, gst::MessageType::Error])
                {
                    self.over |= !self.trouble.note(&message);
                }
            }
        }
    }

    fn created(&self) -> Option<SystemTime> {
        let seconds = self.shared.metadata().created?.try_into().ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    fn info(&self) -> Option<&VideoInfo> {
        Some(&self.info)
    }
}

impl Drop for PipelineReader {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Stops a pipeline on an early return.
struct Running<'a>(&'a gst::Pipeline);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}
