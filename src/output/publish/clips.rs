//! Clips of a live stream, out of the packets that are encoded for its outputs.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Result;
use crate::lock::lock;
use crate::output::clip::{LiveCutter, Windows};
use crate::output::publish::OutputStatus;
use crate::output::publish::sink_queue::{AbortFlag, Packet, Sink};

/// Which clips a live stream gets; its events are noted in `windows`.
#[derive(Clone)]
pub struct ClipFeed {
    /// The folder of the clips.
    pub folder: PathBuf,
    /// The parts of the stream.
    pub windows: Arc<Mutex<Windows>>,
    /// Whether existing files are replaced.
    pub overwrite: bool,
}

impl ClipFeed {
    fn windows(&self) -> MutexGuard<'_, Windows> {
        lock(&self.windows)
    }
}

impl fmt::Debug for ClipFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clips:{}", self.folder.display())
    }
}

/// Feeds are the same when they are of one stream.
impl PartialEq for ClipFeed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.windows, &other.windows)
    }
}

impl Eq for ClipFeed {}

/// Keeps the last packets, and writes those around events.
pub(crate) struct ClipSink {
    feed: ClipFeed,
    status: Arc<OutputStatus>,
    cutter: LiveCutter,
}

impl ClipSink {
    pub fn new(feed: &ClipFeed, status: &Arc<OutputStatus>) -> Self {
        let before_s = feed.windows().before_s();
        let cutter = LiveCutter::new(before_s, feed.overwrite);
        Self { feed: feed.clone(), status: Arc::clone(status), cutter }
    }
}

impl Sink for ClipSink {
    fn start(&mut self, _: &Packet) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        self.cutter.update(&mut self.feed.windows(), packet.time);
        let taken = self.cutter.take(&packet.caps, packet.time, packet.buffer);
        for (path, start) in self.cutter.begun() {
            self.status.recordings.begin(&path, start, false);
        }
        taken
    }

    fn check(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn finish(&mut self, _: &AbortFlag) -> Result<()> {
        self.cutter.update(&mut self.feed.windows(), 0);
        self.cutter.finish()
    }

    fn abandon(&mut self) {
        self.cutter.clear();
    }
}
