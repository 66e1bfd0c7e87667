//! Encodes frames and muxes them, with the audio and subtitle packets of their input, into a file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::gst::message::Trouble;
use crate::gst::track::InputTracks;
use crate::gst::{Frame, bounded_source, element, gst_failed, link};
use crate::lock::lock;
use crate::output::file::colours::{Description, describe};
use crate::output::file::target::{Container, Target};
use crate::output::file::{feed, mux};
use crate::output::{Encoding, FrameWriter, Written, encoder};
use crate::{Error, Result};

/// Frames queued between caller and encoder.
const QUEUED_FRAMES: u64 = 3;
/// Longest distance of key frames, in nanoseconds: the most that a killed process can lose, and that players have to
/// decode when they seek.
pub(crate) const KEY_FRAMES: u64 = 2_000_000_000;
/// Duration in nanoseconds beyond which gaps may exceed the 32 bits that MP4 has for the offset from decoding to
/// presentation time: longer files have no reordered frames.
const LONG: u64 = 10_800_000_000_000;
/// Lead of the packets of other streams over the frames, in nanoseconds.
const AHEAD: u64 = 1_000_000_000;

pub(crate) struct FileWriter {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    video: gst_app::AppSrc,
    /// Notified whenever a frame leaves the queue in front of the encoder.
    room: Arc<(Mutex<()>, Condvar)>,
    tracks: Vec<feed::Feed>,
    shared: Arc<InputTracks>,
    /// None after the file is finished or discarded.
    target: Option<Target>,
    encoder: String,
    frames: u64,
    /// Number of encoded frames.
    muxed: Arc<AtomicU64>,
    /// Running time of the first frame, in nanoseconds.
    start: u64,
    /// Running time of the next key frame, in nanoseconds.
    next_key: u64,
    /// Running time of the last frame, in nanoseconds.
    before: u64,
    /// The longest gap between two frames that the container can hold, in nanoseconds.
    longest_gap: u64,
    /// End of the last frame, in nanoseconds.
    end: u64,
    trouble: Trouble,
}

impl FileWriter {
    /// Builds the pipeline for frames like `frames` and starts it.
    pub fn open(
        target: Target,
        frames: &gst_video::VideoInfo,
        shared: &Arc<InputTracks>,
        encoding: &Encoding,
    ) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let mut caps = output_caps(frames, encoding.width_factor)?;
        let light = shared.light.get().copied().unwrap_or_default();
        light.add_to(caps.make_mut());
        let video = bounded_source(&caps, QUEUED_FRAMES);
        let room = Arc::new((Mutex::new(()), Condvar::new()));
        let leaving = Arc::clone(&room);
        if let Some(pad) = video.static_pad("src") {
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                leaving.1.notify_all();
                gst::PadProbeReturn::Ok
            });
        }
        let encode = encoder::choose(encoding.encoder.as_deref(), encoding.hardware)?;
        let name = encoder::name_of(&encode);
        let pixels = pixels_per_second(frames, encoding.width_factor);
        encoder::configure(&encode, encoding, pixels, encoder::Purpose::File)?;
        let endless = shared.metadata().endless.then_some(mux::UNSTATED);
        let duration = shared.duration.get().copied().or(endless);
        if target.container != Container::Matroska && duration.is_some_and(|length| length > LONG) {
            encoder::in_order(&encode);
        }
        tracing::info!("{}: encoded by {name}", target.path.display());

        let muxer = mux::muxer(target.container, mux::room(shared))?;
        let sink = element("filesink")?;
        sink.set_property("location", target.location());
        // Otherwise the pipeline would wait for the first frame, which comes only later.
        sink.set_property("async", false);
        // Unbuffered, so that muxed data survive a kill.
        sink.set_property_from_str("buffer-mode", "unbuffered");
        link(&pipeline, &[muxer.clone(), sink])?;

        let queue = feed::packet_queue()?;
        let parser = element(encoder::parser_of(&encode))?;
        let mut chain = vec![video.clone().upcast(), element("videoconvert")?];
        if let Some(crop) = crop_to_even(frames.width() * encoding.width_factor, frames.height())? {
            chain.push(crop);
            shared.note("the last column or row of the pictures is cropped: 4:2:0 has even sizes only".to_owned());
        }
        let encoded = encode.static_pad("src");
        chain.push(encode);
        let description = Description { codes: shared.colours.get().copied(), messages: light.messages() };
        if !description.is_empty() && parser.factory().is_some_and(|factory| factory.name() == "h264parse") {
            let filter = element("capsfilter")?;
            let stream = gst::Caps::builder("video/x-h264").field("stream-format", "byte-stream");
            filter.set_property("caps", stream.build());
            chain.push(filter);
            if let Some(pad) = encoded {
                describe(&pad, description);
            }
        }
        chain.extend([queue, parser.clone()]);
        link(&pipeline, &chain)?;
        let muxed = Arc::new(AtomicU64::new(0));
        if let Some(pad) = parser.static_pad("src") {
            let muxed = Arc::clone(&muxed);
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                muxed.fetch_add(1, Ordering::AcqRel);
                gst::PadProbeReturn::Ok
            });
        }
        let longest_gap = mux::link_video(&parser, &muxer, target.container, frames, duration)?;
        let tracks = feed::link_tracks(&pipeline, &muxer, target.container, shared)?;

        let bus = pipeline.bus().ok_or_else(|| Error::failed("a GStreamer pipeline without a bus"))?;
        let mut writer = Self {
            pipeline,
            bus,
            video,
            room,
            tracks,
            shared: Arc::clone(shared),
            target: Some(target),
            encoder: name,
            frames: 0,
            muxed,
            start: 0,
            next_key: 0,
            before: 0,
            longest_gap,
            end: 0,
            trouble: Trouble::default(),
        };
        if writer.pipeline.set_state(gst::State::Playing).is_err() {
            writer.check()?;
            return Err(writer.error());
        }
        Ok(writer)
    }

    /// Reads the bus without waiting.
    fn check(&mut self) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            self.trouble.note(&message);
        }
        if self.trouble.error.is_some() { Err(self.error()) } else { Ok(()) }
    }

    fn error(&mut self) -> Error {
        let Some(target) = &mut self.target else { return Error::failed("the output was discarded") };
        target.keep(self.frames > 0);
        self.trouble.output_error(&target.path, Some(&target.temporary))
    }

    /// The error for a gap that the container cannot hold.
    fn too_long(&self, gap: u64) -> Error {
        let path = self.target.as_ref().map(|target| target.path.display().to_string()).unwrap_or_default();
        let hours = gap as f64 / 3.6e12;
        Error::failed(format!("{path}: a gap of {hours:.1} hours between two frames does not fit into MP4"))
            .hint("write a Matroska file: -o NAME.mkv")
    }

    /// Pushes the packets that are due by `until`, or all of them.
    fn pump(&mut self, until: Option<u64>) {
        let until = until.map(|t| i64::try_from(t).unwrap_or(i64::MAX));
        for feed in &mut self.tracks {
            while let Some(packet) = feed.track.pop(until) {
                feed.push(packet);
            }
        }
    }

    /// Waits until the encoder's queue has room; false at the deadline.
    fn wait_for_room(&mut self, deadline: Instant) -> Result<bool> {
        let room = Arc::clone(&self.room);
        loop {
            self.check()?;
            if self.video.current_level_buffers() < QUEUED_FRAMES {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
            if left.is_zero() {
                return Ok(false);
            }
            let guard = lock(&room.0);
            // Limits the delay of noticing a frame that left just before this wait.
            drop(room.1.wait_timeout(guard, left.min(Duration::from_millis(5))));
        }
    }
}

impl FrameWriter for FileWriter {
    fn write(&mut self, frame: Frame, timeout: Duration) -> Result<Option<Frame>> {
        if !self.wait_for_room(Instant::now() + timeout)? {
            return Ok(Some(frame));
        }
        let (start, duration) = (frame.running_time, frame.duration.unwrap_or(0));
        if self.frames > 0 && start.saturating_sub(self.before) > self.longest_gap {
            return Err(self.too_long(start - self.before));
        }
        self.before = start;
        if start >= self.next_key {
            if self.next_key > 0 {
                self.video.send_event(gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build());
            }
            self.next_key = start + KEY_FRAMES;
        }
        if self.video.push_buffer(frame.into_buffer()).is_err() {
            self.check()?;
            return Err(self.error());
        }
        if self.frames == 0 {
            self.start = start;
        }
        self.frames += 1;
        self.end = self.end.max(start + duration);
        if let Some(target) = &mut self.target {
            target.keep(true);
        }
        self.pump(Some(start + AHEAD));
        Ok(None)
    }

    fn finish(mut self: Box<Self>, stop: &dyn Fn() -> bool) -> Result<Written> {
        self.check()?;
        if self.frames == 0 {
            let path = self.target.as_ref().map(|t| t.path.display().to_string()).unwrap_or_default();
            return Err(Error::failed(format!("{path}: not written, as there were no frames")));
        }
        // The end of the input, or the time at which the video was stopped.
        let until = if self.shared.has_ended() { None } else { Some(self.end) };
        self.pump(until);
        let _ = self.video.end_of_stream();
        for feed in &self.tracks {
            feed.end();
        }
        loop {
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            match self.bus.timed_pop_filtered(gst::ClockTime::from_mseconds(50), &kinds) {
                Some(message) if self.trouble.note(&message) => return Err(self.error()),
                Some(_) => break,
                None if stop() => {
                    let mut error = self.error();
                    error = error.at("stopped before the file was finished");
                    return Err(error);
                }
                None => {}
            }
        }
        let stopped = self.pipeline.set_state(gst::State::Null);
        let Some(target) = self.target.take() else { return Err(self.error()) };
        if stopped.is_err() {
            return Err(self.trouble.output_error(&target.path, Some(&target.temporary)));
        }
        if let Err(e) = mux::finish(&target, &self.shared, self.start..self.end, &self.tracks) {
            self.shared.note(format!("dates, titles and other metadata are left out: {e}"));
        }
        let muxed = self.muxed.load(Ordering::Acquire);
        if muxed != self.frames {
            return Err(Error::failed(format!(
                "{}: the encoder output {muxed} of {} frames",
                target.path.display(),
                self.frames
            ))
            .hint("choose another encoder with --encoder; `oodstream doctor` lists them"));
        }
        let path = target.publish()?;
        let mut notes = self.shared.writer_notes();
        notes.extend(self.tracks.iter().enumerate().filter_map(|(number, feed)| feed.note(number)));
        Ok(Written { path, frames: self.frames, encoder: std::mem::take(&mut self.encoder), notes })
    }

    fn abort(mut self: Box<Self>) {
        let _ = self.pipeline.set_state(gst::State::Null);
        let failed = self.trouble.error.is_some();
        if let Some(target) = &mut self.target {
            target.keep(failed && self.frames > 0);
        }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Pixels to encode per second; at 25 frames/s where the rate is unknown.
pub(crate) fn pixels_per_second(frames: &gst_video::VideoInfo, factor: u32) -> f64 {
    let rate = f64::from(frames.fps().numer().max(1)) / f64::from(frames.fps().denom().max(1));
    let pixels = f64::from(frames.width() * factor) * f64::from(frames.height());
    pixels * if rate > 1.0 { rate } else { 25.0 }
}

/// Crops the last column or row of odd sizes: 4:2:0 in H.264 and H.265 requires even sizes.
pub(crate) fn crop_to_even(width: u32, height: u32) -> Result<Option<gst::Element>> {
    if (width % 2, height % 2) == (0, 0) {
        return Ok(None);
    }
    let crop = element("videocrop")?;
    crop.set_property("right", (width % 2) as i32);
    crop.set_property("bottom", (height % 2) as i32);
    Ok(Some(crop))
}

/// The caps of the frames to encode: those of the input, `factor` times as wide.
pub(crate) fn output_caps(frames: &gst_video::VideoInfo, factor: u32) -> Result<gst::Caps> {
    let width = frames.width().checked_mul(factor.max(1)).filter(|w| *w <= 16384);
    let width = width.ok_or_else(|| Error::usage("the output would be wider than 16384 pixels"))?;
    gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, frames.height())
        .par(frames.par())
        .fps(frames.fps())
        .colorimetry(&frames.colorimetry())
        .chroma_site(frames.chroma_site())
        .build()
        .and_then(|info| info.to_caps())
        .map_err(gst_failed)
}
