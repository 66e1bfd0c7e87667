//! A window on this machine. It takes frames before they are encoded.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;

use super::chain::Chain;
use super::lane::{Order, Packet, Place};
use super::xlib;
use crate::media::element;
use crate::{Error, Result};

/// What opens windows, by the name of its element, the best first. `autovideosink` would go on to what draws on consoles, and
/// some of that brings the process down.
const SINKS: [&str; 6] = ["xvimagesink", "glimagesink", "ximagesink", "waylandsink", "osxvideosink", "d3d11videosink"];

pub(super) struct Display {
    order: Arc<Order>,
    sink: &'static str,
    chain: Option<Chain>,
}

impl Display {
    /// # Errors
    /// There is no display, or nothing opens a window on it.
    pub fn open(order: &Arc<Order>) -> Result<Self> {
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
            return Err(Error::failed("display: GStreamer has nothing that opens a window")
                .hint("apt-get install gstreamer1.0-x"));
        }
        let sink = sinks.into_iter().find(|name| opens(name));
        let sink = sink.ok_or_else(|| failed(&format!("no window can be opened on {}", displays.join(", "))))?;
        xlib::outlive();
        Ok(Self { order: Arc::clone(order), sink, chain: None })
    }
}

/// Whether the element finds a display that lets it in.
fn opens(name: &str) -> bool {
    let Ok(sink) = element(name) else { return false };
    let opened = sink.set_state(gst::State::Ready).is_ok();
    let _ = sink.set_state(gst::State::Null);
    opened
}

impl Place for Display {
    fn start(&mut self, first: &Packet) -> Result<()> {
        let sink = element(self.sink)?;
        // Each frame is shown as it comes.
        sink.set_property("sync", false);
        let chain = Chain::new(&first.caps, false, &[element("videoconvert")?, sink])?;
        chain.play()?;
        self.chain = Some(chain);
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        on_screen()?;
        if self.chain.as_ref().is_some_and(|chain| !chain.takes(&packet.caps)) {
            self.chain = None;
            self.start(&packet)?;
        }
        let Some(chain) = &self.chain else { return Err(Error::failed("there is no window")) };
        chain.push(packet.buffer, &self.order)
    }

    fn check(&mut self) -> Result<bool> {
        on_screen()?;
        let Some(chain) = &self.chain else { return Ok(false) };
        chain.check(&mut |_| {})?;
        Ok(true)
    }

    fn finish(&mut self, _: &Order) -> Result<()> {
        self.abandon();
        Ok(())
    }

    fn abandon(&mut self) {
        let chain = self.chain.take();
        if xlib::is_gone() {
            // A thread of it never comes to its end.
            std::mem::forget(chain);
        }
    }

    /// Who closes the window does not want it back.
    fn restarts(&self) -> bool {
        false
    }
}

fn on_screen() -> Result<()> {
    if xlib::is_gone() { Err(Error::failed("the X server has ended")) } else { Ok(()) }
}
