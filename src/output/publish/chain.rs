//! A small pipeline that takes packets, `appsrc ! .. ! sink`, and its errors.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::gst::{bounded_source, gst_failed, link};
use crate::output::publish::sink_queue::AbortFlag;
use crate::{Error, Result};

/// Capacity between a queue and its pipeline, in packets.
const ROOM: u64 = 32;
/// Time without progress after which a pipeline counts as stalled.
const STALL: Duration = Duration::from_secs(8);
/// Time limit for a pipeline to finish.
const END: Duration = Duration::from_secs(5);

/// Stopped on drop.
pub(crate) struct Chain {
    pub pipeline: gst::Pipeline,
    pub source: gst_app::AppSrc,
    bus: gst::Bus,
    caps: gst::Caps,
}

impl Chain {
    /// A new pipeline of a source of `caps` followed by `elements`, not started yet.
    pub fn new(caps: &gst::Caps, live: bool, elements: &[gst::Element]) -> Result<Self> {
        let source = bounded_source(caps, ROOM);
        source.set_is_live(live);
        let pipeline = gst::Pipeline::new();
        let chain: Vec<_> = std::iter::once(source.clone().upcast()).chain(elements.iter().cloned()).collect();
        link(&pipeline, &chain)?;
        let bus = pipeline.bus().ok_or_else(|| Error::failed("a GStreamer pipeline without a bus"))?;
        Ok(Self { pipeline, source, bus, caps: caps.clone() })
    }

    /// Starts it.
    pub fn play(&self) -> Result<()> {
        match self.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(e) => {
                self.check(&mut |_| {})?;
                Err(Error::failed(format!("GStreamer: {e}")))
            }
        }
    }

    /// Whether packets of these caps fit.
    pub fn takes(&self, caps: &gst::Caps) -> bool {
        self.caps == *caps
    }

    /// Pushes a packet; waits while the pipeline is busy.
    pub fn push(&self, buffer: gst::Buffer, abort: &AbortFlag) -> Result<()> {
        let start = Instant::now();
        while self.source.current_level_buffers() >= self.source.max_buffers() {
            self.check(&mut |_| {})?;
            if abort.is_raised() {
                return Ok(());
            }
            if start.elapsed() > STALL {
                return Err(Error::failed("it has stalled"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.source.push_buffer(buffer).is_err() {
            self.check(&mut |_| {})?;
            return Err(Error::failed("the pipeline has stopped"));
        }
        Ok(())
    }

    /// Reads the bus without waiting. `see` gets every message that is not an error.
    pub fn check(&self, see: &mut dyn FnMut(&gst::Message)) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) => return Err(error_of(error)),
                gst::MessageView::Eos(_) => return Err(Error::failed("the other end closed the connection")),
                _ => see(&message),
            }
        }
        Ok(())
    }

    /// Ends the stream and waits until everything is written.
    pub fn end(&self, abort: &AbortFlag) -> Result<()> {
        let _ = self.source.end_of_stream();
        let until = Instant::now() + END;
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        loop {
            match self.bus.timed_pop_filtered(gst::ClockTime::from_mseconds(20), &kinds) {
                Some(message) => match message.view() {
                    gst::MessageView::Error(error) => return Err(error_of(error)),
                    _ => break,
                },
                None if abort.is_raised() => return Err(Error::failed("stopped before it was finished")),
                None if Instant::now() >= until => return Err(Error::failed("it was not finished in time")),
                None => {}
            }
        }
        self.pipeline.set_state(gst::State::Null).map(drop).map_err(|e| Error::failed(format!("GStreamer: {e}")))
    }

    /// Adds elements that are linked by hand.
    pub fn add(&self, elements: &[gst::Element]) -> Result<()> {
        self.pipeline.add_many(elements).map_err(gst_failed)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A bus error as text. It holds no credentials, as addresses given to GStreamer have none.
fn error_of(message: &gst::message::Error) -> Error {
    let error = message.error();
    let words = message.debug().map(|d| d.to_string()).unwrap_or_default();
    tracing::debug!("{error} ({words})");
    if error.kind::<gst::ResourceError>() == Some(gst::ResourceError::NoSpaceLeft) {
        return Error::failed("no space left on the disk");
    }
    // The last line is the system's message; the others are locations in GStreamer's source.
    let detail = words.lines().last().map(str::trim).filter(|line| words.lines().count() > 1 && !line.is_empty());
    match detail {
        Some(detail) if detail != error.message() => Error::failed(format!("{} ({detail})", error.message())),
        _ => Error::failed(error.message()),
    }
}
