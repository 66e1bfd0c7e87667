//! A file played in real time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::input::file::{FileOptions, check_readable, file_reader_at};
use crate::input::reader::{Pace, PipelineReader};
use crate::input::{FrameReader, Read, Signal, VideoInfo};

pub(crate) struct RealtimeReader {
    inner: PipelineReader,
    announced: bool,
}

impl RealtimeReader {
    /// # Errors
    /// As [`open_file`](crate::output::file::open_file).
    pub fn open(path: &Path, stream: u32, options: FileOptions) -> Result<Self> {
        check_readable(path)?;
        let inner = file_reader_at(path, stream, options, Pace::RealTime)?;
        inner.shared.discard();
        Ok(Self { inner, announced: false })
    }
}

impl FrameReader for RealtimeReader {
    fn read(&mut self, timeout: Duration) -> Result<Read> {
        if !self.announced {
            self.announced = true;
            let info = self.inner.video_info();
            let rate = info.fps.map_or(String::new(), |fps| format!(", {} fps", (fps * 100.0).round() / 100.0));
            let what = format!("{} {}x{}{rate}", info.codec, info.width, info.height);
            return Ok(Read::Signal(Signal::Back { away: Duration::ZERO, what }));
        }
        let mut read = self.inner.read(timeout)?;
        if let Read::Frame(frame) = &mut read {
            let now = Instant::now();
            frame.captured = Some(self.inner.due(frame.running_time).map_or(now, |due| due.min(now)));
        }
        Ok(read)
    }

    fn info(&self) -> Option<&VideoInfo> {
        self.inner.info()
    }
}
