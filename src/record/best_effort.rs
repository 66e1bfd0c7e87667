//! Best-effort recording: in a live run a full disk must not end the video.

use std::time::{Duration, Instant};

use crate::ood::alarm::Event;
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// Interval between two messages about the same failure.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// A recorder that continues after errors and reports them at intervals and at its end. A failure from the start is an
/// error at once; what has worked before may work again.
pub struct BestEffortRecorder {
    inner: Box<dyn Recorder>,
    worked: bool,
    failures: u64,
    reported: Option<Instant>,
}

impl BestEffortRecorder {
    /// Wraps `inner`.
    pub fn new(inner: Box<dyn Recorder>) -> Self {
        Self { inner, worked: false, failures: 0, reported: None }
    }
}

impl Recorder for BestEffortRecorder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        let kept = self.inner.record(seen);
        self.note(kept)
    }

    fn amend(&mut self, events: &mut [Event]) -> Result<()> {
        let kept = self.inner.amend(events);
        self.note(kept)
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        let kept = self.inner.events(events);
        self.note(kept)
    }

    /// # Errors
    /// Also when results could not be written earlier.
    fn finish(&mut self) -> Result<()> {
        self.inner.finish()?;
        match self.failures {
            0 => Ok(()),
            failures => {
                Err(Error::failed(format!("results could not be written {failures} times, see the earlier messages")))
            }
        }
    }
}

impl BestEffortRecorder {
    fn note(&mut self, kept: Result<()>) -> Result<()> {
        match kept {
            Ok(()) => self.worked = true,
            Err(error) if !self.worked => return Err(error),
            Err(error) => {
                self.failures += 1;
                if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY) {
                    tracing::error!("{error}; the video goes on");
                    self.reported = Some(Instant::now());
                }
            }
        }
        Ok(())
    }
}
