//! The writer of a live stream: frames go to its encoder, packets to its sinks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::gst::Frame;
use crate::lock::lock;
use crate::output::publish::OutputStatus;
use crate::output::publish::encode::{Encoder, Receive};
use crate::output::publish::feed::Feed;
use crate::output::publish::server::Mount;
use crate::output::publish::sink_queue::{AbortFlag, Packet, SinkQueue};
use crate::output::{Encoding, FrameWriter, Written};
use crate::{Error, Result};

/// Time limits for the encoder and the sinks to end.
const ENCODER_END: Duration = Duration::from_millis(800);
const END: Duration = Duration::from_secs(3);
/// Pause between attempts to restart a failed encoder.
const RETRY: Duration = Duration::from_secs(1);

/// The destinations of packets.
#[derive(Default)]
pub(crate) struct Sinks {
    pub queues: Vec<SinkQueue>,
    pub feeds: Vec<Arc<Feed>>,
}

pub(crate) struct LiveWriter {
    /// Declared first, and so dropped before the sinks.
    encoder: Option<Encoder>,
    encoding: Encoding,
    encoder_name: String,
    sinks: Arc<Mutex<Sinks>>,
    /// Takes raw frames.
    display: Option<SinkQueue>,
    /// Dropped last.
    mounts: Vec<Mount>,
    /// Of all outputs that take packets.
    encoded: Vec<Arc<OutputStatus>>,
    abort: Arc<AbortFlag>,
    /// Name of all outputs together, for the report.
    name: String,
    /// A new viewer waits for a key frame.
    key: Arc<AtomicBool>,
    /// Longest distance between key frames, in nanoseconds.
    key_every: u64,
    next_key: u64,
    last: Option<u64>,
    frames: u64,
    retry: Option<Instant>,
}

/// The parts of a [`LiveWriter`].
pub(crate) struct Parts {
    pub encoding: Encoding,
    pub encoder_name: String,
    pub sinks: Sinks,
    pub display: Option<SinkQueue>,
    pub mounts: Vec<Mount>,
    pub encoded: Vec<Arc<OutputStatus>>,
    pub abort: Arc<AbortFlag>,
    pub name: String,
    pub key: Arc<AtomicBool>,
    pub key_every: u64,
}

impl LiveWriter {
    pub fn new(parts: Parts) -> Self {
        Self {
            encoder: None,
            encoding: parts.encoding,
            encoder_name: parts.encoder_name,
            sinks: Arc::new(Mutex::new(parts.sinks)),
            display: parts.display,
            mounts: parts.mounts,
            encoded: parts.encoded,
            abort: parts.abort,
            name: parts.name,
            key: parts.key,
            key_every: parts.key_every,
            next_key: 0,
            last: None,
            frames: 0,
            retry: None,
        }
    }

    /// Ensures an encoder for frames like this one. False while a failed one waits to be restarted.
    fn prepare(&mut self, frame: &Frame) -> Result<bool> {
        let info = frame.video_info();
        if self.encoder.as_ref().is_some_and(|encoder| encoder.takes(info)) {
            return Ok(true);
        }
        if self.retry.is_some_and(|retry| Instant::now() < retry) {
            return Ok(false);
        }
        if let Some(old) = self.encoder.take() {
            old.end(ENCODER_END);
            tracing::info!("{}: frames are now {}x{}", self.name, info.width(), info.height());
        }
        let sinks = Arc::clone(&self.sinks);
        let receive: Receive = Arc::new(move |packet: Packet| {
            let mut sinks = lock(&sinks);
            for feed in &sinks.feeds {
                feed.offer(&packet);
            }
            for queue in &mut sinks.queues {
                queue.offer(&packet);
            }
        });
        match Encoder::start(info, &self.encoding, receive) {
            Ok(encoder) => {
                let (width, height, name) = (info.width(), info.height(), &self.encoder_name);
                tracing::info!("{}: {width}x{height}, encoded by {name}", self.name);
                self.encoder = Some(encoder);
                self.retry = None;
                self.key.store(true, Ordering::Release);
                Ok(true)
            }
            // A failure at the start is permanent; an encoder that has worked may work again.
            Err(e) if self.frames == 0 => Err(e.at(&self.name)),
            Err(e) => {
                self.fail(&e);
                Ok(false)
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        if self.retry.is_none() {
            tracing::warn!("{}: {error}; the encoder is restarted", self.name);
        }
        self.encoder = None;
        self.retry = Some(Instant::now() + RETRY);
        for status in &self.encoded {
            OutputStatus::count(&status.restarts);
        }
    }

    fn drop_frame(&self) {
        for status in &self.encoded {
            OutputStatus::count(&status.dropped);
        }
    }

    fn encode(&mut self, frame: Frame) -> Result<()> {
        if !self.prepare(&frame)? {
            self.drop_frame();
            return Ok(());
        }
        let time = frame.running_time;
        let asked = self.key.swap(false, Ordering::AcqRel);
        let key = asked || time >= self.next_key;
        let Some(encoder) = &self.encoder else { return Ok(()) };
        match encoder.push(frame.into_buffer(), key) {
            Ok(true) => {
                if key {
                    self.next_key = time + self.key_every;
                }
                self.frames += 1;
            }
            Ok(false) => {
                if asked {
                    self.key.store(true, Ordering::Release);
                }
                self.drop_frame();
            }
            Err(e) => {
                self.fail(&e);
                self.drop_frame();
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let until = Instant::now() + END;
        if let Some(encoder) = self.encoder.take() {
            if !self.abort.is_raised() {
                encoder.end(ENCODER_END);
            }
            tracing::debug!("{}: {} frames in, {} packets out", self.name, self.frames, encoder.packets());
        }
        let sinks = std::mem::take(&mut *lock(&self.sinks));
        let (mut queues, mut display) = (sinks.queues, self.display.take());
        // All of them end at the same time.
        queues.iter_mut().chain(&mut display).for_each(SinkQueue::close);
        self.mounts.clear();
        sinks.feeds.iter().for_each(|feed| feed.release());
        let mut result = Ok(());
        for queue in queues {
            if let Err(e) = queue.join(until) {
                tracing::warn!("{e}");
                result = result.and(Err(e));
            }
        }
        if let Some(Err(e)) = display.map(|display| display.join(until)) {
            tracing::warn!("{e}");
            // With other outputs, losing the window does not fail the run.
            if self.encoded.is_empty() {
                result = result.and(Err(e));
            }
        }
        for status in &self.encoded {
            status.set_up(false);
        }
        result
    }
}

impl FrameWriter for LiveWriter {
    /// Never waits, whatever `timeout` is: when there is no room, the frame is dropped and counted.
    fn write(&mut self, mut frame: Frame, _timeout: Duration) -> Result<Option<Frame>> {
        // Muxers need increasing times.
        if self.last.is_some_and(|last| frame.running_time <= last) {
            self.drop_frame();
            return Ok(None);
        }
        self.last = Some(frame.running_time);
        if let Some(display) = &mut self.display {
            let caps = frame.video_info().to_caps().map_err(crate::gst::gst_failed)?;
            let time = frame.running_time;
            let buffer = frame.share().into_buffer();
            display.offer(&Packet { buffer, caps, time, key: true });
        }
        if self.encoded.is_empty() {
            self.frames += 1;
            return Ok(None);
        }
        frame.duration = frame.duration.filter(|duration| *duration > 0);
        self.encode(frame)?;
        Ok(None)
    }

    /// True once the window is closed, where it is the only output.
    fn is_over(&self) -> bool {
        self.encoded.is_empty() && self.display.as_ref().is_some_and(SinkQueue::is_over)
    }

    fn finish(mut self: Box<Self>, _stop: &dyn Fn() -> bool) -> Result<Written> {
        self.end()?;
        let path = PathBuf::from(std::mem::take(&mut self.name));
        Ok(Written { path, frames: self.frames, encoder: std::mem::take(&mut self.encoder_name), notes: Vec::new() })
    }

    fn abort(mut self: Box<Self>) {
        self.abort.raise();
        // The outputs are discarded anyway.
        let _ = self.end();
    }
}

impl Drop for LiveWriter {
    fn drop(&mut self) {
        self.abort.raise();
        let _ = self.end();
    }
}
