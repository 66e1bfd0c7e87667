//! Live streams: all at the same time, until they are stopped.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, bounded};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use super::options::RunArgs;
use super::outputs::Outputs;
use super::report::{InputReport, LiveReport};
use super::run::{conclude, encoding, worse};
use super::source::tell_signal;
use super::streams::Planned;
use super::{INTERRUPTED, engine, interrupt};
use crate::config::{Config, LiveConfig};
use crate::input;
use crate::input::{FrameReader, Signal};
use crate::model::runtime::provider::Provider;
use crate::monitor::{Reload, Server, Slot, Watch, Watched};
use crate::output::FrameWriter;
use crate::output::publish;
use crate::output::publish::{OutputStatus, PublishOptions, Servers};
use crate::pipeline::{self, Control, Flow, Meter, Observer, Outcome, Policy, Reading, Settings, Stream, Tunable};
use crate::record::{BestEffortRecorder, EventLog, Existing, Recorder, Records};
use crate::{Error, Result};

/// Time between two lines on how a stream does.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Everything of one stream that outlives its threads.
struct Opened {
    input: String,
    meter: Arc<Meter>,
    control: Arc<Control>,
    follow: Follow,
    outputs: Vec<Arc<OutputStatus>>,
    reader: Option<Box<dyn FrameReader>>,
    writer: Option<Box<dyn FrameWriter>>,
    recorders: Vec<Box<dyn Recorder>>,
}

/// Runs the streams; the exit code.
///
/// # Errors
/// Something that no waiting will mend: the configuration, the model, an output that cannot be opened. What goes wrong in
/// one of several streams later is printed and reported, and the others go on.
pub fn run(args: &RunArgs, config: Config, outputs: &Outputs, planned: Vec<Planned>, quiet: bool) -> Result<u8> {
    let start = Instant::now();
    let slot = Slot::default();
    // Before all else, as a hang-up that nobody waits for ends the process.
    let signals = reload_on_hangup(Arc::clone(&slot))?;
    // Then this, so that `/readyz` can say that the rest is on its way.
    let _http = config.http.listen.as_deref().map(|address| Server::start(address, Arc::clone(&slot))).transpose()?;
    let interrupts = interrupt::watch()?;
    let mut engine = engine::open(&config)?;
    engine.ahead = 0;
    engine.batch = match config.live.batch {
        0 if engine.network.provider() == Provider::Cpu => 1,
        0 => planned.len(),
        batch => batch,
    };
    engine.batch_wait = Duration::from_millis(config.live.batch_wait_ms);
    // A service that starts again goes on with its events.
    let existing = if config.encode.overwrite { Existing::Replace } else { Existing::Append };
    let records = Records::open(outputs.wanted(existing))?;
    let servers = Servers::new(&config.serve);
    let publish = PublishOptions {
        encoding: encoding(&config),
        record: config.record.clone(),
        hls: config.hls.clone(),
        push_credentials: config.serve.push_credentials.clone(),
        push_tls_ca: config.serve.push_tls_ca.clone(),
    };
    let mut opened = Vec::with_capacity(planned.len());
    for (index, plan) in planned.into_iter().enumerate() {
        let meter = Arc::new(Meter::new(&plan.name));
        let (writer, outputs) = match plan.targets.as_slice() {
            [] => (None, Vec::new()),
            targets => {
                let (writer, outputs) = publish::open(targets, &servers, &publish)?;
                (Some(writer), outputs)
            }
        };
        opened.push(Opened {
            input: plan.input.to_string(),
            control: Arc::new(Control::watching(Arc::clone(&interrupts))),
            follow: Follow::new(&meter, records.events(), quiet),
            meter,
            outputs,
            reader: Some(input::open_live(&plan.input, &config.source, index as u32)?),
            writer,
            recorders: records
                .of_stream(&plan.name)?
                .into_iter()
                .map(|kept| Box::new(BestEffortRecorder::new(kept)) as _)
                .collect(),
        });
    }
    let watched = opened.iter().map(|stream| Watched { meter: stream.meter.clone(), outputs: stream.outputs.clone() });
    let reload = reload(args.clone(), config.clone(), &engine.settings);
    let _ = slot.set(Watch { streams: watched.collect(), stages: Arc::clone(&engine.stages), reload });
    let (done, timer) = stop_after(args.stop_after, opened.iter().map(|stream| Arc::clone(&stream.control)).collect());

    let hub = Control::watching(interrupts);
    let flow = flow(&config.live);
    let streams = opened.iter_mut().filter_map(|stream| {
        Some(Stream {
            reader: stream.reader.take()?,
            writer: stream.writer.take(),
            recorders: std::mem::take(&mut stream.recorders),
            observer: &stream.follow,
            control: &stream.control,
            meter: &stream.meter,
            flow,
        })
    });
    let outcomes = pipeline::run(&mut engine, &hub, streams.collect());
    drop(done);
    signals.close();
    if let Some(timer) = timer {
        let _ = timer.join();
    }

    let code = opened.iter().zip(&outcomes).map(|(stream, outcome)| tell(stream, outcome, quiet)).fold(0, worse);
    let inputs = opened.iter().zip(outcomes).map(|(stream, outcome)| report(stream, outcome)).collect();
    conclude(&engine, &config, inputs, start.elapsed(), args.json.as_deref(), quiet)?;
    Ok(code)
}

fn flow(live: &LiveConfig) -> Flow {
    Flow {
        policy: live.policy,
        sync: live.sync,
        queue: if live.policy == Policy::Latest { 1 } else { live.queue },
        max_age: live.max_latency_s.map(Duration::from_secs_f64),
    }
}

/// Reads the configuration as at the start and puts its threshold and drawing into force.
fn reload(args: RunArgs, started_with: Config, settings: &Arc<Settings>) -> Reload {
    let (settings, first) = (Arc::clone(settings), settings.get());
    Box::new(move || {
        let config = args.config()?;
        // Without a threshold of its own the one of the model or the calibration stays.
        let own = started_with.detect.threshold.is_some() && config.detect.threshold.is_none();
        let threshold = config.detect.threshold.or(first.threshold.filter(|_| !own)).or(settings.get().threshold);
        settings.replace(Tunable { threshold, style: config.draw, events: Arc::new(config.events.clone()) })?;
        let mut rest = config;
        rest.detect.threshold = started_with.detect.threshold;
        rest.draw = started_with.draw;
        if rest != started_with {
            tracing::warn!("reload: only detect.threshold and [draw] are taken over, the other changes need a restart");
        }
        let threshold = threshold.map_or_else(|| "that of the first frame".to_owned(), |score| format!("{score:.4}"));
        let now =
            format!("threshold {threshold}, view {:?}, opacity {:.2}", rest.draw.view, settings.get().style.opacity);
        tracing::info!("reloaded: {now}");
        Ok(now)
    })
}

/// Reloads on SIGHUP until the handle is closed.
fn reload_on_hangup(slot: Slot) -> Result<signal_hook::iterator::Handle> {
    let failed = |error: std::io::Error| Error::failed(format!("cannot watch for SIGHUP: {error}"));
    let mut signals = Signals::new([SIGHUP]).map_err(failed)?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("hangup".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if let Some(Err(error)) = slot.get().map(|watch| (watch.reload)()) {
                    tracing::error!("reload: {error}");
                }
            }
        })
        .map_err(failed)?;
    Ok(handle)
}

/// Stops `controls` after `time`, or ends when the first part of what it gives is dropped.
fn stop_after(
    time: Option<Duration>,
    controls: Vec<Arc<Control>>,
) -> (crossbeam::channel::Sender<()>, Option<thread::JoinHandle<()>>) {
    let (done, waiting) = bounded(0);
    let timer = time.and_then(|time| {
        let wait = move || {
            if waiting.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                controls.iter().for_each(|control| control.stop());
            }
        };
        thread::Builder::new().name("timer".to_owned()).spawn(wait).ok()
    });
    (done, timer)
}

/// Tells of one stream: a line now and then, its losses and returns in the log and among the events.
struct Follow {
    meter: Arc<Meter>,
    events: Option<Arc<EventLog>>,
    last: Option<Mutex<(Instant, Reading)>>,
}

impl Follow {
    fn new(meter: &Arc<Meter>, events: Option<&Arc<EventLog>>, quiet: bool) -> Self {
        let last = (!quiet).then(|| Mutex::new((Instant::now(), meter.read())));
        Self { meter: Arc::clone(meter), events: events.cloned(), last }
    }
}

impl Observer for Follow {
    fn frame_done(&self, _running_time: u64, _ood_share: f32) {
        let Some(last) = &self.last else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = last.0.elapsed();
        if elapsed < LINE_EVERY {
            return;
        }
        let now = self.meter.read();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let latency = now.latency.map_or_else(String::new, |latency| format!(", latency p95 {:.2} s", latency.p95_s));
        eprintln!(
            "{}: {:.1} fps in, {:.1} out, {:.1} left out{latency}, unknown {:.2} %",
            self.meter.name(),
            rate(now.frames_in, last.1.frames_in),
            rate(now.frames_out, last.1.frames_out),
            rate(now.dropped(), last.1.dropped()),
            now.share_last * 100.0
        );
        *last = (Instant::now(), now);
    }

    fn signal(&self, signal: &Signal) {
        let name = self.meter.name();
        tell_signal(name, signal);
        if let Some(Err(error)) = self.events.as_ref().map(|events| events.signal(name, signal)) {
            tracing::error!("{error}");
        }
    }
}

/// Prints how a stream ended and gives the exit code.
fn tell(stream: &Opened, outcome: &Outcome, quiet: bool) -> u8 {
    let name = stream.meter.name();
    let seen = stream.meter.read();
    if !quiet {
        let written =
            outcome.written.as_ref().map_or_else(String::new, |written| format!(" -> {}", written.path.display()));
        let latency = seen.latency.map_or_else(String::new, |latency| {
            format!(
                ", latency {:.3} s (median), {:.3} s (p95), {:+.3} s per minute",
                latency.p50_s, latency.p95_s, latency.growth_s_per_min
            )
        });
        eprintln!(
            "{name}{written}: {} frames in, {} out, {} left out, {} reconnects{latency}",
            seen.frames_in,
            seen.frames_out,
            seen.dropped(),
            seen.reconnects
        );
    }
    match &outcome.error {
        Some(error) => {
            eprintln!("oodstream: error: {name}: {error}");
            error.exit_code()
        }
        None if outcome.interrupted => INTERRUPTED,
        None => 0,
    }
}

fn report(stream: &Opened, outcome: Outcome) -> InputReport {
    let seen = stream.meter.read();
    InputReport {
        path: stream.input.clone(),
        frames_in: seen.frames_in,
        frames_out: seen.frames_out,
        dropped: seen.dropped(),
        damaged: outcome.end.as_ref().map_or(0, |end| end.damaged),
        truncated: outcome.end.as_ref().is_some_and(|end| end.truncated),
        ood_share_mean: seen.share_mean,
        output: outcome.written.as_ref().map(|written| written.path.display().to_string()),
        encoder: outcome.written.map(|written| written.encoder),
        error: outcome.error.map(|error| error.to_string()),
        live: Some(LiveReport {
            name: stream.meter.name().to_owned(),
            latency: seen.latency,
            reconnects: seen.reconnects,
            repeats: seen.repeats,
            stale: seen.stale,
        }),
    }
}
