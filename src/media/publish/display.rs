//! A window on this machine. It takes frames before they are encoded.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;

use super::chain::Chain;
use super::lane::{Order, Packet, Place};
use super::xlib;
use crate::media::element;
use crate::{Error, Result};

/// What opens windows, by the name of its element.
const SINKS: [&str; 6] = ["ximagesink", "xvimagesink", "glimagesink", "waylandsink", "osxvideosink", "d3d11videosink"];

pub(super) struct Display {
    order: Arc<Order>,
    chain: Option<Chain>,
}

impl Display {
    /// # Errors
    /// There is no display.
    pub fn open(order: &Arc<Order>) -> Result<Self> {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !set("DISPLAY") && !set("WAYLAND_DISPLAY") {
            return Err(Error::failed("display: there is no display, neither DISPLAY nor WAYLAND_DISPLAY is set")
                .hint("serve the stream instead: -o rtsp://127.0.0.1:8554/view"));
        }
        // Without any of these autovideosink shows nothing and says nothing.
        let sinks: Vec<_> = SINKS.iter().filter_map(|name| gst::ElementFactory::find(name)).collect();
        if sinks.is_empty() {
            return Err(Error::failed("display: GStreamer has nothing that opens a window")
                .hint("apt-get install gstreamer1.0-x"));
        }
        for sink in sinks {
            // One that cannot be loaded is not chosen either.
            let _ = sink.load();
        }
        xlib::outlive();
        Ok(Self { order: Arc::clone(order), chain: None })
    }
}

impl Place for Display {
    fn start(&mut self, first: &Packet) -> Result<()> {
        let sink = element("autovideosink")?;
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
