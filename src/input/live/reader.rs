//! A live input as a [`FrameReader`]: connects, watches, reconnects, and repeats the last picture meanwhile.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::Result;
use crate::gst::Frame;
use crate::gst::frame::FramePool;
use crate::input::describe::{describe, video_info_of};
use crate::input::live::address::{LiveInput, LiveSource};
use crate::input::live::connection::{Connection, State, TimeLimits};
use crate::input::live::keeper::KeeperCount;
use crate::input::live::pipeline::ConnectionSettings;
use crate::input::live::reason::Reason;
use crate::input::live::timeline::Timeline;
use crate::input::live::{PacketCounts, SourceOptions, Transport};
use crate::input::probe::Probe;
use crate::input::{EndOfInput, FrameReader, Read, Signal, VideoInfo};

/// Time between two repeats of the last picture.
const REPEAT: Duration = Duration::from_millis(200);
/// Pause before the first new attempt; doubled up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(250);
/// With [`QUICK_CONNECT`], bounds the time until the return of a camera is noticed.
const LONGEST: Duration = Duration::from_millis(750);
/// Pause after a refused login: cameras lock out clients that try too often.
const LONGEST_REFUSED: Duration = Duration::from_secs(30);
/// Pause before the first new attempt at a busy server; doubled up to [`LONGEST_REFUSED`].
const SHORTEST_BUSY: Duration = Duration::from_secs(2);
/// Consecutive redirections.
const MOST_HOPS: u32 = 5;
/// Time with pictures after which the next loss begins with the shortest pause again.
const STEADY: Duration = Duration::from_secs(5);
/// Time limit for an unknown server, and for every fourth attempt at one that was quick before.
const PATIENT: Duration = Duration::from_secs(10);
const PATIENT_CONNECT: Duration = Duration::from_secs(3);
/// Least time limit for a server that was quick before.
const QUICK: Duration = Duration::from_secs(2);
const QUICK_CONNECT: Duration = Duration::from_millis(1500);
/// Longer than the source waits for UDP before it changes to TCP.
const UDP_PATIENCE: Duration = Duration::from_millis(3500);
/// Limit of connections that are still being closed.
const MOST_KEEPERS: usize = 4;
/// Limit of reasons logged per outage.
const MOST_REASONS: usize = 8;
/// Longest uninterrupted wait, and so the delay in noticing what is overdue.
const SLICE: Duration = Duration::from_millis(100);
/// Time limit for the farewell to the server at the end of a run.
const GOODBYE: Duration = Duration::from_millis(500);

enum Phase {
    Waiting(Instant),
    Connected(Box<Connection>),
    Over,
}

/// A time without pictures.
struct Outage {
    since: Instant,
    reasons: Vec<String>,
    next_repeat: Instant,
}

/// The last picture, for repeats.
struct Last {
    frame: Frame,
    captured: Instant,
}

pub(crate) struct LiveReader {
    settings: ConnectionSettings,
    stream: u32,
    phase: Phase,
    keepers: KeeperCount,
    /// Failed attempts since the last steady connection.
    failures: u32,
    /// Time from the last connection's start to its first data.
    usual: Option<Duration>,
    opened: Instant,
    outage: Option<Outage>,
    ready: VecDeque<Read>,
    timeline: Timeline,
    index: u64,
    last: Option<Last>,
    canvas: FramePool,
    info: Option<VideoInfo>,
    /// Caps of the current pictures, and their parsed form.
    shape: Option<(gst::Caps, gst_video::VideoInfo)>,
    /// This connection has delivered a picture.
    connected: bool,
    /// Consecutive redirections.
    hops: u32,
}

impl LiveReader {
    pub fn new(settings: ConnectionSettings, stream: u32) -> Self {
        let now = Instant::now();
        Self {
            settings,
            stream,
            phase: Phase::Waiting(now),
            keepers: KeeperCount::default(),
            failures: 0,
            usual: None,
            opened: now,
            outage: None,
            ready: VecDeque::new(),
            timeline: Timeline::default(),
            index: 0,
            last: None,
            canvas: FramePool::default(),
            info: None,
            shape: None,
            connected: false,
            hops: 0,
        }
    }

    /// Does what is due, without waiting.
    fn advance(&mut self) {
        match &mut self.phase {
            Phase::Waiting(until) if Instant::now() >= *until => self.connect(),
            Phase::Connected(connection) => match connection.look(&self.settings) {
                State::Picture(sample, now) => {
                    if let Err(e) = self.picture(sample, now) {
                        self.lose(Reason::new(e.to_string()));
                    }
                }
                State::Over => self.phase = Phase::Over,
                State::Lost(reason) => self.lose(reason),
                State::Nothing => {}
            },
            Phase::Waiting(_) | Phase::Over => {}
        }
    }

    fn limits(&self) -> TimeLimits {
        let SourceOptions { stall_s, transport, .. } = self.settings.options;
        let quick = self.usual.filter(|_| self.failures % 4 != 3).map(|usual| (usual * 3).clamp(QUICK, PATIENT));
        let answer = quick.unwrap_or(PATIENT);
        let fallback = transport == Transport::Auto && !self.settings.tcp_only;
        TimeLimits {
            connect: if quick.is_some() { QUICK_CONNECT } else { PATIENT_CONNECT },
            answer: if fallback { answer.max(UDP_PATIENCE) } else { answer },
            stall: Duration::try_from_secs_f64(stall_s).unwrap_or(PATIENT),
        }
    }

    fn connect(&mut self) {
        self.connected = false;
        self.timeline.connect();
        if self.keepers.count() >= MOST_KEEPERS {
            self.lose(Reason::new("abandoned connections do not close"));
            return;
        }
        match Connection::start(&self.settings, self.limits(), &self.keepers) {
            Ok(connection) => self.phase = Phase::Connected(Box::new(connection)),
            Err(e) => self.lose(Reason::new(self.settings.input.hide(&e.to_string()))),
        }
    }

    fn lose(&mut self, reason: Reason) {
        let now = Instant::now();
        let mut at_once = false;
        if let Phase::Connected(connection) = &self.phase {
            if connection.steady() >= STEADY {
                self.failures = 0;
            }
            if self.settings.tcp_only {
                // Some cameras serve UDP alone: TCP without data is not kept.
                if connection.delay().is_none() && self.settings.options.transport == Transport::Auto && !reason.refused
                {
                    (self.settings.tcp_only, self.settings.tcp_failed) = (false, true);
                }
            } else if connection.no_udp && self.settings.options.transport == Transport::Auto {
                tracing::info!("{}: changing from UDP to TCP", self.settings.input);
                self.settings.tcp_only = true;
                at_once = !self.settings.tcp_failed;
            }
        }
        match self.follow(reason.moved.as_deref()) {
            Some(true) => at_once = true,
            Some(false) => {}
            None => (self.settings.moved, self.hops) = (None, 0),
        }
        let longest = match &reason {
            Reason { refused: true, .. } => LONGEST_REFUSED,
            Reason { busy: true, .. } => SHORTEST_BUSY.saturating_mul(1 << self.failures.min(8)).min(LONGEST_REFUSED),
            _ => LONGEST,
        };
        let wait = if at_once {
            Duration::ZERO
        } else if reason.refused || reason.busy {
            longest
        } else {
            SHORTEST.saturating_mul(1 << self.failures.min(16)).min(longest)
        };
        self.failures += 1;
        // The keeper stops the pipeline in the background.
        self.phase = Phase::Waiting(now + wait);
        match &mut self.outage {
            None => {
                let since = self.last.as_ref().map_or(self.opened, |last| last.captured);
                let words = reason.words;
                self.ready.push_back(Read::Signal(Signal::Lost { reason: words.clone() }));
                self.outage = Some(Outage { since, reasons: vec![words], next_repeat: now });
            }
            Some(outage) if outage.reasons.len() < MOST_REASONS && !outage.reasons.contains(&reason.words) => {
                tracing::warn!("{}: still no pictures: {}", self.settings.input, reason.words);
                outage.reasons.push(reason.words);
            }
            Some(_) => {}
        }
    }

    /// Follows a redirection; false if it cannot be followed, none without one.
    fn follow(&mut self, address: Option<&str>) -> Option<bool> {
        let address = address?;
        let input = self.settings.input.to_string();
        let to = match LiveInput::parse(address) {
            Ok(Some(to)) if self.hops < MOST_HOPS => to,
            _ => {
                tracing::warn!("{input}: the server redirects to an address that is not followed");
                (self.settings.moved, self.hops) = (None, 0);
                return Some(false);
            }
        };
        let (LiveSource::Rtsp(server), LiveSource::Rtsp(_)) = (&to.source, &self.settings.input.source) else {
            tracing::warn!("{input}: the server redirects to {to}, which is not RTSP");
            (self.settings.moved, self.hops) = (None, 0);
            return Some(false);
        };
        let keeps = self.settings.login_for(server).is_some() || self.settings.input.login.is_none();
        let without = if keeps { "" } else { ", without the login: it is another server" };
        tracing::info!("{input}: the server redirects to {to}{without}");
        self.settings.moved = Some(server.clone());
        self.hops += 1;
        Some(true)
    }

    /// Handles a new picture.
    fn picture(&mut self, sample: gst::Sample, now: Instant) -> Result<()> {
        let Some(caps) = sample.caps() else { return Ok(()) };
        if self.shape.as_ref().is_none_or(|(known, _)| known.as_ref() != caps) {
            self.shape = Some((caps.to_owned(), video_info_of(&sample, &self.settings.input)?));
        }
        let Some((_, shape)) = &self.shape else { return Ok(()) };
        let shape = shape.clone();
        let Phase::Connected(connection) = &self.phase else { return Ok(()) };
        let (arrival, age) = connection.timing(&sample, now);
        if self.settings.size.is_none() {
            // Later sizes are scaled to the first one: an encoder has one size.
            let size = gst::Caps::builder("video/x-raw")
                .field("format", "I420")
                .field("width", shape.width() as i32)
                .field("height", shape.height() as i32)
                .field("pixel-aspect-ratio", shape.par())
                .build();
            connection.fix(&size);
            self.settings.size = Some(size);
            let probe = Probe::default();
            if let Ok(mut codec) = probe.codec.lock() {
                *codec = connection.codec();
            }
            self.info = Some(describe(&shape, None, &probe, self.container().to_string()));
        }
        let first = self.info.as_ref().map(|info| (info.width, info.height));
        if first != Some((shape.width(), shape.height())) {
            return Ok(()); // Decoded before the first size was settled.
        }
        if !self.connected {
            self.connected = true;
            self.usual = connection.delay();
            let away = self.outage.take().map_or(Duration::ZERO, |outage| outage.since.elapsed());
            self.ready.push_back(Read::Signal(Signal::Back { away, what: connection.what() }));
        }
        let Some(buffer) = sample.buffer_owned() else { return Ok(()) };
        drop(sample); // Its reference would make the buffer shared, and map_mut copy.
        let (captured, time) = self.timeline.place(arrival, age);
        let mut frame = Frame::new(self.stream, self.index, time, buffer, shape, self.canvas.clone());
        frame.duration = None;
        frame.captured = Some(captured);
        self.index += 1;
        // Held until the next one comes; until then it is seldom drawn on.
        self.last = Some(Last { frame: frame.share(), captured });
        self.ready.push_back(Read::Frame(frame));
        Ok(())
    }

    /// The last picture again, if that is due.
    fn repeat(&mut self, now: Instant) -> Option<Frame> {
        let outage = self.outage.as_mut().filter(|outage| now >= outage.next_repeat)?;
        let last = self.last.as_ref()?;
        outage.next_repeat = now + REPEAT;
        let mut frame = last.frame.share();
        frame.index = self.index;
        frame.running_time = self.timeline.repeat(now);
        frame.captured = Some(now);
        frame.lost = Some(now.saturating_duration_since(last.captured));
        self.index += 1;
        Some(frame)
    }

    fn wait(&self, until: Instant) {
        let now = Instant::now();
        let mut left = until.saturating_duration_since(now).min(SLICE);
        if let Some(outage) = self.outage.as_ref().filter(|_| self.last.is_some()) {
            left = left.min(outage.next_repeat.saturating_duration_since(now));
        }
        match &self.phase {
            Phase::Connected(connection) => connection.wait(left),
            Phase::Waiting(until) => std::thread::sleep(left.min(until.saturating_duration_since(now))),
            Phase::Over => {}
        }
    }

    fn container(&self) -> &'static str {
        match &self.settings.input.source {
            LiveSource::Rtsp(_) => "RTSP",
            LiveSource::Http(_) => "HTTP",
            LiveSource::Device(_) => "V4L2",
            LiveSource::Test(_) => "test",
            LiveSource::File(_) => "file",
        }
    }
}

impl FrameReader for LiveReader {
    fn read(&mut self, timeout: Duration) -> Result<Read> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(read) = self.ready.pop_front() {
                return Ok(read);
            }
            self.advance();
            if !self.ready.is_empty() {
                continue;
            }
            if matches!(self.phase, Phase::Over) {
                return Ok(Read::End(EndOfInput::default()));
            }
            let now = Instant::now();
            if let Some(frame) = self.repeat(now) {
                return Ok(Read::Frame(frame));
            }
            if now >= deadline {
                return Ok(Read::TimedOut);
            }
            self.wait(deadline);
        }
    }

    fn info(&self) -> Option<&VideoInfo> {
        self.info.as_ref()
    }

    fn packets(&self) -> Option<PacketCounts> {
        matches!(self.settings.input.source, LiveSource::Rtsp(_)).then(|| self.settings.counters.read())
    }
}

impl Drop for LiveReader {
    fn drop(&mut self) {
        if let Phase::Connected(connection) = std::mem::replace(&mut self.phase, Phase::Over) {
            connection.stop(GOODBYE);
        }
    }
}
