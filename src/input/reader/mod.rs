//! A GStreamer pipeline that ends in an appsink of I420 frames, as a [`FrameReader`].

mod start;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use self::start::{Running, Started};
pub(crate) use self::start::{frame_sink, raw_caps};
use self::summary::Summary;
use crate::gst::Frame;
use crate::gst::clock::Clock;
use crate::gst::frame::FramePool;
use crate::gst::hdr::Light;
use crate::gst::message::Trouble;
use crate::gst::mp4::edit_list::EditList;
use crate::gst::track::InputTracks;
use crate::input::describe::{describe, hdr, is_default_colour, video_info_of};
use crate::input::probe::{Format, Probe, UNNAMED};
use crate::input::tone::{ToneMap, Transfer};
use crate::input::{EndOfInput, FrameReader, Read, VideoInfo};
use crate::{Error, Result};

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
    /// Makes the running times strictly increasing.
    clock: Clock,
    edits: Option<EditList>,
    /// In real time, a frame is returned as soon as it is decoded.
    pace: Pace,
    /// The frame held back until the time of the next one is known, with its own time.
    held: Option<(Option<i64>, gst::Buffer)>,
    summary: Summary,
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
        let Started { first, containers, trouble, over } = start::start(&pipeline, &bus, &sink, name, &shared, &probe)?;
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
            clock,
            edits,
            pace,
            held: None,
            summary: Summary::default(),
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
        self.summary.rate = Some(fps);
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
        self.summary.clock_span = Some(span);
    }

    /// Sets the first time of a transport stream, in nanoseconds.
    pub fn set_clock_start(&mut self, start: u64) {
        self.summary.clock_start = Some(start);
    }

    /// Sets the missing end of the file, as text, and the search for structural damage, which runs at the end of the
    /// input, as it reads every element of the file.
    pub fn set_structure(&mut self, cut: Option<String>, broken: impl FnOnce() -> Option<String> + Send + 'static) {
        self.summary.cut = cut;
        self.summary.broken = Some(Box::new(broken));
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
                    self.summary.hidden += 1;
                    return Ok(None);
                }
            },
            _ => time,
        };
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            self.summary.corrupted += 1;
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
        self.summary.span = Some((self.summary.span.map_or(time, |(first, _)| first), time));
        let time = u64::try_from(time).unwrap_or(0);
        let mut frame = Frame::new(self.stream, self.index, time, buffer, self.frame_info.clone(), self.canvas.clone());
        // Needed by the last frame, whose end would otherwise be its start.
        frame.duration = frame.duration.filter(|d| *d > 0).or(u64::try_from(self.clock.step()).ok());
        self.index += 1;
        frame
    }

    fn end(&mut self) -> EndOfInput {
        self.shared.ended.store(true, Ordering::Release);
        let hdr = self.hdr.map(|transfer| hdr(transfer, self.tone_map.is_some()));
        let end = self.summary.end(&self.info, &self.probe, &self.shared, &self.clock, &self.trouble, hdr);
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
