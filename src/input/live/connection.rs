//! One connection to a live input, from its start to its loss.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_pbutils as gst_pbutils;

use crate::Result;
use crate::gst::message::{Trouble, progress_of, text_of};
use crate::input::live::Transport;
use crate::input::live::address::LiveSource;
use crate::input::live::keeper::{Keeper, KeeperCount};
use crate::input::live::losses::Losses;
use crate::input::live::pipeline::{Activity, CAMERA, ConnectionSettings};
use crate::input::live::reason::Reason;
use crate::input::live::relay::Report;
use crate::input::live::rtp::PacketCounts;

/// Time limit for data without a picture: the longest distance of key frames.
const PICTURE: Duration = Duration::from_secs(10);
/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    /// For TCP and TLS, where the source reports them.
    pub connect: Duration,
    /// For each response of the server, and for the first data.
    pub answer: Duration,
    /// Without data after the first.
    pub stall: Duration,
}

/// The state of a connection.
pub(crate) enum State {
    Picture(gst::Sample, Instant),
    Nothing,
    /// All pictures requested have come.
    Over,
    Lost(Reason),
}

pub(crate) struct Connection {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: gst_app::AppSink,
    entry: gst::Pad,
    activity: Arc<Activity>,
    /// What the server said.
    report: Option<Arc<Report>>,
    keeper: Keeper,
    wake: Receiver<()>,
    limits: TimeLimits,
    trouble: Trouble,
    started: Instant,
    /// When the source last reported progress.
    sign: Instant,
    connecting: bool,
    eos: bool,
    /// First and last picture.
    pictures: Option<(Instant, Instant)>,
    losses: Losses,
    /// UDP is unusable.
    pub no_udp: bool,
}

impl Connection {
    /// # Errors
    /// The pipeline or its thread cannot be created.
    pub fn start(settings: &ConnectionSettings, limits: TimeLimits, keepers: &KeeperCount) -> Result<Self> {
        let assembly = settings.assemble()?;
        let bus = assembly.pipeline.bus().ok_or_else(|| crate::Error::failed("a GStreamer pipeline without a bus"))?;
        let (waker, wake) = bounded(1);
        // If the channel is full, the reader is about to look anyway.
        let (messages, ended, shown) = (waker.clone(), waker.clone(), waker);
        bus.set_sync_handler(move |_, _| {
            let _ = messages.try_send(());
            gst::BusSyncReply::Pass
        });
        assembly.sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .eos(move |_| {
                    let _ = ended.try_send(());
                })
                .new_sample(move |_| {
                    let _ = shown.try_send(());
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let keeper = Keeper::start(assembly.pipeline.clone(), assembly.link, keepers)?;
        let now = Instant::now();
        Ok(Self {
            pipeline: assembly.pipeline,
            bus,
            sink: assembly.sink,
            entry: assembly.entry,
            activity: assembly.activity,
            report: assembly.report,
            losses: Losses::default(),
            keeper,
            wake,
            limits,
            trouble: Trouble::default(),
            started: now,
            sign: now,
            connecting: false,
            eos: false,
            pictures: None,
            no_udp: false,
        })
    }

    /// Waits until something happens, for at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let _ = self.wake.recv_timeout(timeout);
    }

    /// The state now, without waiting.
    pub fn look(&mut self, settings: &ConnectionSettings) -> State {
        if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::ZERO) {
            let now = Instant::now();
            self.pictures = Some((self.pictures.map_or(now, |(first, _)| first), now));
            return State::Picture(sample, now);
        }
        let mut failed = false;
        while let Some(message) = self.bus.pop() {
            failed |= self.hear(&message, settings);
        }
        // After the messages, which follow from it.
        let finding = self.report.as_ref().and_then(|report| report.finding()).or_else(|| self.activity.finding());
        if let Some(finding) = finding {
            return State::Lost(Reason::found(finding));
        }
        if failed {
            let reason = match self.refusal(settings) {
                Some(words) => Reason::new(words),
                None => Reason::of(&self.trouble, &settings.input),
            };
            self.no_udp |= self.activity.data().is_none() && self.is_udp();
            if let Some(codecs) = self.activity.passed_over().filter(|_| self.activity.data().is_none()) {
                return State::Lost(Reason::new(format!("none of its tracks can be decoded: {codecs}")));
            }
            let broke = reason.vague && self.pictures.is_some();
            return State::Lost(if broke {
                Reason::new(format!("the connection broke ({})", reason.words))
            } else {
                reason
            });
        }
        if self.eos {
            return match &settings.input.source {
                LiveSource::Test(_) => State::Over,
                LiveSource::Device(_) => State::Lost(Reason::new("the device stopped")),
                _ if self.trouble.missing.is_some() => State::Lost(Reason::of(&self.trouble, &settings.input)),
                _ => State::Lost(Reason::new("the server closed the stream")),
            };
        }
        self.overdue(Instant::now(), settings).map_or(State::Nothing, State::Lost)
    }

    /// Handles a message; true if it is an error.
    fn hear(&mut self, message: &gst::Message, settings: &ConnectionSettings) -> bool {
        if let Some(text) = text_of(message) {
            tracing::debug!("{}: {}", settings.input, settings.input.hide(&text));
        }
        if let Some((code, text)) = progress_of(message) {
            tracing::trace!("{}: {code}: {}", settings.input, settings.input.hide(text));
            self.connecting = code == "connect";
            self.sign = Instant::now();
        }
        match message.view() {
            gst::MessageView::Eos(_) => self.eos = true,
            gst::MessageView::Warning(warning) => {
                self.sign = Instant::now();
                self.no_udp |=
                    warning.debug().is_some_and(|text| text.contains("UDP")) && self.activity.data().is_none();
            }
            _ => {}
        }
        self.trouble.gather(message)
    }

    /// The formats that an open local camera has, where the requested one is not among them.
    fn refusal(&self, settings: &ConnectionSettings) -> Option<String> {
        let LiveSource::Device(device) = &settings.input.source else { return None };
        self.pipeline.by_name(CAMERA).filter(|_| self.pictures.is_none()).and_then(|source| device.refusal(&source))
    }

    /// A session over UDP is set up, or was refused.
    fn is_udp(&self) -> bool {
        let flags = self.report.as_ref().map(|report| [&report.udp, &report.udp_refused]);
        flags.is_some_and(|flags| flags.iter().any(|flag| flag.load(Ordering::Acquire)))
    }

    /// Packets so far.
    pub fn packets(&self) -> PacketCounts {
        self.activity.packets.counts()
    }

    /// Logs losses, and abandons UDP when they ruin the pictures.
    fn lossy(&mut self, now: Instant, settings: &ConnectionSettings) -> Option<Reason> {
        let udp = self.report.as_ref().is_some_and(|report| report.udp.load(Ordering::Acquire));
        let seen = self.losses.look(now, self.packets(), self.activity.pictures.counts())?;
        if seen.packets.lost + seen.packets.reordered > 0 {
            let PacketCounts { received, lost, reordered } = seen.packets;
            tracing::info!(
                "{}: of {} packets {lost} were lost and {reordered} came out of order, {} of {} pictures are damaged",
                settings.input,
                received + lost,
                seen.damaged,
                seen.pictures
            );
        }
        let may = udp && settings.options.transport == Transport::Auto && !settings.tcp_only && !settings.tcp_failed;
        if !(may && seen.ruins()) {
            return None;
        }
        self.no_udp = true;
        Some(Reason::new(format!(
            "{} of {} packets were lost over UDP; TCP is tried",
            seen.packets.lost,
            seen.packets.received + seen.packets.lost
        )))
    }

    /// The time limit that has expired, if any.
    fn overdue(&mut self, now: Instant, settings: &ConnectionSettings) -> Option<Reason> {
        if let Some(reason) = self.lossy(now, settings) {
            return Some(reason);
        }
        // The connection of the relay to the server counts.
        let connecting = self.report.as_ref().map_or(self.connecting, |report| !report.is_connected());
        let sign =
            self.report.as_ref().and_then(|report| report.last_answer()).map_or(self.sign, |at| at.max(self.sign));
        let TimeLimits { connect, answer, stall } = self.limits;
        let since = |at: Instant| now.saturating_duration_since(at);
        let Some((first, last)) = self.activity.data() else {
            let limit = if connecting { connect } else { answer };
            let reason = match settings.input.source {
                LiveSource::Device(_) => "the device delivers nothing",
                _ if connecting => "the server cannot be reached",
                _ => "the server does not answer",
            };
            return (since(sign) > limit).then(|| Reason::new(reason));
        };
        let picture = self.pictures.map_or(first, |(_, last)| last);
        // Bursts may be a whole segment apart.
        let bursts = self.activity.paced.load(Ordering::Acquire);
        if !bursts && since(last) > stall && since(picture) > stall {
            return Some(Reason::new(format!(
                "nothing came for {:.1} s; where longer pauses are normal, raise source.stall_s",
                stall.as_secs_f64()
            )));
        }
        let limit = stall.max(PICTURE);
        (since(picture) > limit).then(|| match &self.trouble.missing {
            Some(_) => Reason::of(&self.trouble, &settings.input),
            None => Reason::new(format!("no picture for {:.1} s, though data comes", limit.as_secs_f64())),
        })
    }

    /// Time from the first to the last picture.
    pub fn steady(&self) -> Duration {
        self.pictures.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    /// Time from the start to the first data.
    pub fn delay(&self) -> Option<Duration> {
        self.activity.data().map(|(first, _)| first.saturating_duration_since(self.started))
    }

    /// The arrival of a picture pulled at `now`, and its age then by its own time, in nanoseconds.
    pub fn timing(&self, sample: &gst::Sample, now: Instant) -> (Instant, Option<i64>) {
        let pts = sample.buffer().and_then(gst::BufferRef::pts);
        let paced = self.activity.paced.load(Ordering::Acquire);
        let arrival = if paced { now } else { self.activity.arrival(pts).unwrap_or(now).min(now) };
        if self.activity.timeless.load(Ordering::Acquire) {
            return (arrival, None);
        }
        let age = || {
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            let due = segment.to_running_time(pts?)?.checked_add(self.pipeline.base_time()?)?;
            let clock = i128::from(gst::SystemClock::obtain().time().nseconds());
            let waited = i128::try_from(now.saturating_duration_since(arrival).as_nanos()).ok()?;
            i64::try_from(clock - waited - i128::from(due.nseconds())).ok()
        };
        (arrival, age())
    }

    /// Fixes the size of all later pictures.
    pub fn fix(&self, size: &gst::Caps) {
        self.sink.set_caps(Some(size));
    }

    /// The codec, as text.
    pub fn codec(&self) -> String {
        let video = |element: &gst::Element| {
            let class = element.factory()?.metadata(gst::ELEMENT_METADATA_KLASS)?.to_string();
            let decodes = class.contains("Decoder") && (class.contains("Video") || class.contains("Image"));
            let caps = element.static_pad("sink").filter(|_| decodes)?.current_caps()?;
            // decodebin is classified as a decoder, too.
            (caps.is_fixed() && !element.is::<gst::Bin>())
                .then(|| gst_pbutils::pb_utils_get_codec_description(&caps).to_string())
        };
        let codec = self.pipeline.iterate_recurse().into_iter().flatten().find_map(|element| video(&element));
        codec.unwrap_or_else(|| {
            let caps = self.entry.current_caps();
            let format = caps.and_then(|caps| caps.structure(0)?.get::<String>("format").ok());
            format!("raw {}", format.unwrap_or_default())
        })
    }

    /// Codec, size and rate, as text.
    pub fn what(&self) -> String {
        let caps = self.entry.current_caps();
        let Some(shape) = caps.as_ref().and_then(|caps| caps.structure(0)) else { return self.codec() };
        let size = |name| shape.get::<i32>(name).unwrap_or(0);
        let rate = shape.get::<gst::Fraction>("framerate").ok().filter(|rate| rate.numer() > 0 && rate.denom() > 0);
        let rate = rate.map(|rate| (f64::from(rate.numer()) / f64::from(rate.denom()) * 100.0).round() / 100.0);
        let rate = rate.map_or(String::new(), |fps| format!(", {fps} fps"));
        format!("{} {}x{}{rate}", self.codec(), size("width"), size("height"))
    }

    /// Stops the pipeline, and waits for that for at most `timeout`.
    pub fn stop(self, timeout: Duration) {
        self.keeper.stop(timeout);
    }
}
