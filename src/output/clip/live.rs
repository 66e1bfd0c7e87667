//! Clips cut from packets as they are encoded; the most recent ones are kept for the time before an event.

use std::path::PathBuf;

use gstreamer as gst;

use super::cutter::{Cutter, SKEW};
use super::packets::{Content, Packet};
use super::windows::Windows;
use crate::Result;

/// What is kept beyond the part of a clip before its event, in seconds: an event is raised some time after it began,
/// and a clip begins at a key frame.
const LATE_S: f64 = 10.0;
/// Packets that are kept, in bytes.
const ROOM: usize = 64 << 20;

/// A ring of packets, and the clips that are written out of it.
pub(crate) struct LiveCutter {
    cutter: Cutter,
    /// Of the parts that the cutter knows.
    version: u64,
}

impl LiveCutter {
    pub fn new(before_s: f64, overwrite: bool) -> Self {
        let keep = ((before_s + LATE_S) * 1e9) as i64;
        Self { cutter: Cutter::new(None, overwrite, keep, ROOM), version: 0 }
    }

    /// Takes over what is known of the parts, and drops those that are over by the time of a packet that is next:
    /// their files are about to be finished.
    pub fn update(&mut self, windows: &mut Windows, time: u64) {
        if windows.version() != self.version {
            self.version = windows.version();
            self.cutter.update(&windows.all());
        }
        windows.close((i128::from(time) - i128::from(SKEW)) as f64 / 1e9);
    }

    /// Adds a packet; `time` is its running time in nanoseconds.
    ///
    /// # Errors
    /// A clip cannot be written.
    pub fn take(&mut self, caps: &gst::Caps, time: u64, buffer: gst::Buffer) -> Result<()> {
        let time = i64::try_from(time).ok();
        let caps = caps.clone();
        let packet = Packet { stream: 0, content: Content::Video, caps, tags: None, pts: time, dts: time, buffer };
        let taken = self.cutter.take(packet);
        self.cutter.forget();
        taken
    }

    /// The files that were begun since the last call, and the running times at which they start, in nanoseconds.
    pub fn begun(&mut self) -> impl Iterator<Item = (PathBuf, u64)> {
        self.cutter.begun().into_iter().map(|(path, start)| (path, u64::try_from(start).unwrap_or(0)))
    }

    /// Finishes what is open.
    ///
    /// # Errors
    /// A clip cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        self.cutter.finish().map(|_| ())
    }

    /// Gives up what is open.
    pub fn clear(&mut self) {
        self.cutter.clear();
    }
}
