//! The counters of one stream, kept in constant memory and readable at any time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::input::Signal;
use crate::input::live::PacketCounts;
use crate::lock::lock;
use crate::ood::alarm::AlarmCounts;

/// Upper bounds of the latency histogram's buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 10] = [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0];

/// Counters of one stream.
#[derive(Debug)]
pub struct Meter {
    name: String,
    start: Instant,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    looked_at: AtomicU64,
    still: AtomicU64,
    repeats: AtomicU64,
    crowded: AtomicU64,
    stale: AtomicU64,
    reconnects: AtomicU64,
    waiting: AtomicUsize,
    share_ppm: AtomicU64,
    last_share: AtomicU32,
    latency: Mutex<Latency>,
    link: Mutex<Link>,
    packets: Mutex<Option<PacketCounts>>,
    alarms: Mutex<AlarmCounts>,
}

/// The connection to the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// No picture has arrived yet.
    Waiting,
    /// Pictures arrive.
    Up,
    /// Pictures no longer arrive.
    Lost {
        /// The reason.
        reason: String,
    },
    /// The stream is over.
    Ended {
        /// What ended it before its time.
        error: Option<String>,
    },
}

/// Time from capture to the hand-over to the encoder.
#[derive(Debug)]
struct Latency {
    us: Option<Histogram<u64>>,
    sum_s: f64,
    trend: Trend,
    last_out: Option<Instant>,
}

/// Least squares line through points that are not kept.
#[derive(Debug, Default, Clone, Copy)]
struct Trend {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Trend {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    fn slope(&self) -> f64 {
        let spread = self.n * self.xx - self.x * self.x;
        if spread > 1e-9 { (self.n * self.xy - self.x * self.y) / spread } else { 0.0 }
    }
}

/// The latency of one stream, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencyReport {
    /// Median.
    pub p50_s: f64,
    /// 95th percentile.
    pub p95_s: f64,
    /// Longest.
    pub max_s: f64,
    /// Growth in seconds per minute: the slope of the least squares line.
    pub growth_s_per_min: f64,
}

/// The values of a [`Meter`] at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Frames decoded.
    pub frames_in: u64,
    /// Frames handed to the encoder, repeats left out.
    pub frames_out: u64,
    /// Frames that the network analysed.
    pub looked_at: u64,
    /// Frames that equalled the last analysed one.
    pub still: u64,
    /// Repeats of the last picture while there was no signal.
    pub repeats: u64,
    /// Frames dropped because newer ones arrived before they were processed.
    pub crowded: u64,
    /// Frames dropped because they were older than the latency limit.
    pub stale: u64,
    /// The number of times that pictures came back after a loss.
    pub reconnects: u64,
    /// Frames waiting for the network.
    pub waiting: usize,
    /// Mean share of marked pixels, 0..1.
    pub share_mean: f64,
    /// Share of marked pixels of the last frame, 0..1.
    pub share_last: f32,
    /// Latency, once a live frame is out.
    pub latency: Option<LatencyReport>,
    /// Frames at or below each of [`LATENCY_BOUNDS`].
    pub latency_below: [u64; LATENCY_BOUNDS.len()],
    /// Number and sum in seconds of all latencies.
    pub latency_total: (u64, f64),
    /// The connection to the input.
    pub link: Link,
    /// Packets that came over the network; none where the input has none that could be lost.
    pub packets: Option<PacketCounts>,
    /// Alarms raised, and what raised none.
    pub alarms: AlarmCounts,
    /// Time since the last frame went out.
    pub idle: Option<Duration>,
}

impl Reading {
    /// Frames dropped by policy.
    pub fn dropped(&self) -> u64 {
        self.crowded + self.stale
    }
}

impl Meter {
    /// All zero.
    pub fn new(name: &str) -> Self {
        // Three significant digits from 1 us to 10 minutes; cannot fail with these constants.
        let us = Histogram::new_with_bounds(1, 600_000_000, 3).ok();
        Self {
            name: name.to_owned(),
            start: Instant::now(),
            frames_in: AtomicU64::new(0),
            frames_out: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            still: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            share_ppm: AtomicU64::new(0),
            last_share: AtomicU32::new(0),
            latency: Mutex::new(Latency { us, sum_s: 0.0, trend: Trend::default(), last_out: None }),
            link: Mutex::new(Link::Waiting),
            packets: Mutex::default(),
            alarms: Mutex::default(),
        }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn decoded(&self) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn crowded_out(&self) {
        self.crowded.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn looked_at(&self) {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn still(&self) {
        self.still.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn too_old(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn saw_waiting(&self, frames: usize) {
        self.waiting.store(frames, Ordering::Relaxed);
    }

    pub(super) fn saw_packets(&self, packets: Option<PacketCounts>) {
        *lock(&self.packets) = packets;
    }

    pub(super) fn saw_alarms(&self, alarms: AlarmCounts) {
        *lock(&self.alarms) = alarms;
    }

    pub(super) fn repeated(&self) {
        self.repeats.fetch_add(1, Ordering::Relaxed);
        lock(&self.latency).last_out = Some(Instant::now());
    }

    pub(super) fn frame_out(&self, captured: Option<Instant>, share: f32) {
        self.frames_out.fetch_add(1, Ordering::Relaxed);
        self.share_ppm.fetch_add((f64::from(share) * 1e6) as u64, Ordering::Relaxed);
        self.last_share.store(share.to_bits(), Ordering::Relaxed);
        let mut latency = lock(&self.latency);
        latency.last_out = Some(Instant::now());
        let Some(age) = captured.map(|captured| captured.elapsed()) else { return };
        if let Some(us) = &mut latency.us {
            us.saturating_record(age.as_micros().max(1) as u64);
        }
        latency.sum_s += age.as_secs_f64();
        latency.trend.add(self.start.elapsed().as_secs_f64() / 60.0, age.as_secs_f64());
    }

    pub(super) fn signal(&self, signal: &Signal) {
        let mut link = lock(&self.link);
        match signal {
            // Nothing follows the end.
            _ if matches!(*link, Link::Ended { .. }) => {}
            // Until there has been a picture nothing can be lost.
            Signal::Lost { .. } if *link == Link::Waiting => {}
            Signal::Lost { reason } => *link = Link::Lost { reason: reason.clone() },
            Signal::Back { .. } => {
                if matches!(*link, Link::Lost { .. }) {
                    self.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                *link = Link::Up;
            }
        }
    }

    pub(super) fn ended(&self, error: Option<String>) {
        *lock(&self.link) = Link::Ended { error };
    }

    /// Frames that went out so far.
    pub fn frames_out(&self) -> u64 {
        self.frames_out.load(Ordering::Relaxed)
    }

    /// The current values.
    pub fn read(&self) -> Reading {
        let frames_out = self.frames_out();
        let latency = lock(&self.latency);
        let mut latency_below = [0; LATENCY_BOUNDS.len()];
        let mut report = None;
        let mut count = 0;
        if let Some(us) = latency.us.as_ref().filter(|us| !us.is_empty()) {
            count = us.len();
            for (below, bound) in latency_below.iter_mut().zip(LATENCY_BOUNDS) {
                *below = us.count_between(0, (bound * 1e6) as u64);
            }
            let quantile = |q| us.value_at_quantile(q) as f64 / 1e6;
            report = Some(LatencyReport {
                p50_s: quantile(0.5),
                p95_s: quantile(0.95),
                max_s: us.max() as f64 / 1e6,
                growth_s_per_min: latency.trend.slope(),
            });
        }
        Reading {
            frames_in: self.frames_in.load(Ordering::Relaxed),
            frames_out,
            looked_at: self.looked_at.load(Ordering::Relaxed),
            still: self.still.load(Ordering::Relaxed),
            repeats: self.repeats.load(Ordering::Relaxed),
            crowded: self.crowded.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            share_mean: self.share_ppm.load(Ordering::Relaxed) as f64 / 1e6 / frames_out.max(1) as f64,
            share_last: f32::from_bits(self.last_share.load(Ordering::Relaxed)),
            latency: report,
            latency_below,
            latency_total: (count, latency.sum_s),
            idle: latency.last_out.map(|last| last.elapsed()),
            link: lock(&self.link).clone(),
            packets: *lock(&self.packets),
            alarms: *lock(&self.alarms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let meter = Meter::new("a");
        let ago = |ms| Instant::now().checked_sub(Duration::from_millis(ms));
        for ms in [10, 60, 150, 700] {
            meter.frame_out(ago(ms), 0.5);
        }
        let reading = meter.read();
        assert_eq!(reading.latency_below[..3], [1, 1, 2]);
        assert_eq!((reading.latency_below[6], reading.latency_total.0, reading.frames_out), (4, 4, 4));
        assert!((reading.latency.unwrap().max_s - 0.7).abs() < 0.02, "{reading:?}");
        assert!((reading.share_mean - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_trend_is_the_slope_of_the_line() {
        let mut trend = Trend::default();
        for minute in 0..5 {
            trend.add(f64::from(minute), 0.2 + 0.03 * f64::from(minute));
        }
        assert!((trend.slope() - 0.03).abs() < 1e-9);
    }

    #[test]
    fn only_what_was_up_can_come_back() {
        let meter = Meter::new("a");
        let lost = Signal::Lost { reason: "refused".into() };
        let back = Signal::Back { away: Duration::ZERO, what: String::new() };
        for (signal, link, reconnects) in [
            (&lost, Link::Waiting, 0),
            (&back, Link::Up, 0),
            (&lost, Link::Lost { reason: "refused".into() }, 0),
            (&back, Link::Up, 1),
        ] {
            meter.signal(signal);
            let reading = meter.read();
            assert_eq!((reading.link, reading.reconnects), (link, reconnects));
        }
    }
}
