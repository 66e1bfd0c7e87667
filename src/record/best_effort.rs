//! Results that are kept as well as it goes: in a live run a full disk must not end the video.

use std::time::{Duration, Instant};

use crate::ood::alarm::Event;
use crate::record::{Recorder, Seen};
use crate::{Error, Result};

/// Between two words about the same trouble.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A recorder that goes on after errors, tells of them now and then, and at its end. What fails from the start is wrong and
/// is an error at once; what worked once may work again.
pub struct BestEffortRecorder {
    inner: Box<dyn Recorder>,
    worked: bool,
    failures: u64,
    told: Option<Instant>,
}

impl BestEffortRecorder {
    /// A steady `inner`.
    pub fn new(inner: Box<dyn Recorder>) -> Self {
        Self { inner, worked: false, failures: 0, told: None }
    }
}

impl Recorder for BestEffortRecorder {
    fn record(&mut self, seen: &Seen<'_, '_>) -> Result<()> {
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
    /// Also when something could not be kept earlier.
    fn finish(&mut self) -> Result<()> {
        self.inner.finish()?;
        match self.failures {
            0 => Ok(()),
            failures => Err(Error::failed(format!(
                "results could not be kept {failures} times, see the messages before this one"
            ))),
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
                if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    tracing::error!("{error}; the video goes on");
                    self.told = Some(Instant::now());
                }
            }
        }
        Ok(())
    }
}
