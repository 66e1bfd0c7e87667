//! A window on this machine, which shows frames before they are encoded.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;

use crate::gst::element;
use crate::output::publish::chain::Chain;
use crate::output::publish::sink_queue::{AbortFlag, After, Packet, Sink};
use crate::output::publish::xlib;
use crate::{Error, Result};

/// Window sinks by element name, the best first. `autovideosink` would continue with sinks that draw on consoles, and
/// some of those crash the process.
const SINKS: [&str; 6] = ["xvimagesink", "glimagesink", "ximagesink", "waylandsink", "osxvideosink", "d3d11videosink"];

/// Capacity in front of the window, in pictures, in addition to that of its queue.
const ROOM: u64 = 2;

pub(crate) struct Display {
    abort: Arc<AbortFlag>,
    sink: &'static str,
    chain: Option<Chain>,
    /// Number of protocol errors when the window was opened.
    refused: u64,
}

impl Display {
    /// # Errors
    /// There is no display, or nothing opens a window on it.
    pub fn open(abort: &Arc<AbortFlag>) -> Result<Self> {
        let named = |name| Some(format!("{name}={}", std::env::var(name).ok().filter(|value| !value.is_empty())?));
        let displays: Vec<_> = ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().filter_map(named).collect();
        let failed = |what: &str| {
            Error::failed(format!("display: {what}")).hint("serve the stream instead: -o rtsp://127.0.0.1:8554/view")
        };
        if displays.is_empty() {
            return Err(failed("there is no display, neither DISPLAY nor WAYLAND_DISPLAY is set"));
        }
        let sinks: Vec<_> = SINKS.into_iter().filter(|name| gst::ElementFactory::find(name).is_some()).collect();
        if sinks.is_empty() {
            return Err(Error::failed("display: GStreamer has no element that opens a window")
                .hint("apt-get install gstreamer1.0-x"));
        }
        let sink = sinks.into_iter().find(|name| opens(name));
        let sink = sink.ok_or_else(|| failed(&format!("no window can be opened on {}", displays.join(", "))))?;
        xlib::outlive();
        Ok(Self { abort: Arc::clone(abort), sink, chain: None, refused: 0 })
    }
}

/// Whether the element can open the display.
fn opens(name: &str) -> bool {
    let Ok(sink) = element(name) else { return false };
    let opened = sink.set_state(gst::State::Ready).is_ok();
    let _ = sink.set_state(gst::State::Null);
    opened
}

impl Display {
    fn on_screen(&self) -> Result<()> {
        if xlib::is_gone() {
            return Err(Error::failed("the X server has ended"));
        }
        if xlib::refused() != self.refused && self.chain.is_some() {
            return Err(Error::failed("the X server does not take its pictures"));
        }
        Ok(())
    }
}

impl Sink for Display {
    fn start(&mut self, first: &Packet) -> Result<()> {
        let sink = element(self.sink)?;
        // Frames are shown at once.
        sink.set_property("sync", false);
        let chain = Chain::new(&first.caps, false, &[element("videoconvert")?, sink])?;
        // Only the newest picture matters.
        chain.source.set_max_buffers(ROOM);
        self.refused = xlib::refused();
        chain.play()?;
        self.chain = Some(chain);
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        self.on_screen()?;
        if self.chain.as_ref().is_some_and(|chain| !chain.takes(&packet.caps)) {
            self.chain = None;
            self.start(&packet)?;
        }
        let Some(chain) = &self.chain else { return Err(Error::failed("there is no window")) };
        chain.push(packet.buffer, &self.abort)
    }

    fn check(&mut self) -> Result<bool> {
        self.on_screen()?;
        let Some(chain) = &self.chain else { return Ok(false) };
        chain.check(&mut |_| {})?;
        Ok(true)
    }

    fn finish(&mut self, _: &AbortFlag) -> Result<()> {
        self.abandon();
        Ok(())
    }

    fn abandon(&mut self) {
        let chain = self.chain.take();
        if xlib::is_gone() {
            // One of its threads never ends.
            std::mem::forget(chain);
        }
    }

    fn after(&self, error: &Error) -> After {
        if xlib::is_gone() {
            After::Lost
        } else if error.to_string().contains("window was closed") {
            // The message of GStreamer's sinks. A window closed by the user is not reopened.
            After::Over
        } else {
            After::Restart
        }
    }
}
