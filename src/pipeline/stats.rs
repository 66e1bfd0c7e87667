//! Statistics per stage, kept from the first frame on in constant memory.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Result;
use crate::lock::lock;

/// Counts and busy times of one stage.
#[derive(Debug)]
pub struct StageStats {
    name: &'static str,
    frames: AtomicU64,
    queue: AtomicUsize,
    queue_max: AtomicUsize,
    busy_us: Mutex<Option<Histogram<u64>>>,
}

/// The report of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Frames that went through.
    pub frames: u64,
    /// Median time of work per frame, in seconds, waiting left out.
    pub busy_p50_s: f64,
    /// 95th percentile of the same.
    pub busy_p95_s: f64,
    /// Frames waiting in front of the stage when it took one last.
    pub queue: usize,
    /// Most frames seen waiting in front of the stage.
    pub queue_max: usize,
}

impl StageStats {
    /// An empty record for the stage `name`.
    pub fn new(name: &'static str) -> Self {
        // Three significant digits from 1 us to 10 minutes; cannot fail with these constants.
        let histogram = Histogram::new_with_bounds(1, 600_000_000, 3).ok();
        Self {
            name,
            frames: AtomicU64::new(0),
            queue: AtomicUsize::new(0),
            queue_max: AtomicUsize::new(0),
            busy_us: Mutex::new(histogram),
        }
    }

    /// The stage's name, which is its thread's name too.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Frames that went through so far.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Records the length of the queue in front of the stage.
    pub fn saw_queue(&self, length: usize) {
        self.queue.store(length, Ordering::Relaxed);
        self.queue_max.fetch_max(length, Ordering::Relaxed);
    }

    /// Runs `work` as this stage's work on one frame.
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.add(start.elapsed());
        result
    }

    /// Runs `work` as this stage's work on `frames` frames at once; not at all where there are none.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn time_each<R>(&self, frames: usize, work: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
        if frames == 0 {
            return Ok(None);
        }
        let start = Instant::now();
        let result = work();
        let each = start.elapsed() / frames as u32;
        (0..frames).for_each(|_| self.add(each));
        result.map(Some)
    }

    /// Records one frame that took `busy` of work.
    pub fn add(&self, busy: Duration) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        let mut busy_us = lock(&self.busy_us);
        if let Some(histogram) = busy_us.as_mut() {
            histogram.saturating_record(busy.as_micros().max(1) as u64);
        }
    }

    /// The figures so far.
    pub fn report(&self) -> StageReport {
        let busy_us = lock(&self.busy_us);
        let quantile = |q| busy_us.as_ref().map_or(0.0, |histogram| histogram.value_at_quantile(q) as f64 / 1e6);
        StageReport {
            frames: self.frames(),
            busy_p50_s: quantile(0.5),
            busy_p95_s: quantile(0.95),
            queue: self.queue.load(Ordering::Relaxed),
            queue_max: self.queue_max.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_recorded_times() {
        let stats = StageStats::new("x");
        for ms in 1..=100 {
            stats.add(Duration::from_millis(ms));
        }
        stats.saw_queue(2);
        stats.saw_queue(1);
        let report = stats.report();
        assert_eq!((report.frames, report.queue_max), (100, 2));
        assert!((report.busy_p50_s - 0.050).abs() < 0.001, "{report:?}");
        assert!((report.busy_p95_s - 0.095).abs() < 0.001, "{report:?}");
    }
}
