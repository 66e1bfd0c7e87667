//! Live streams: all at the same time, until they are stopped.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, bounded};

use super::board::Watched;
use super::builder::{Session, conclude, deliver, encoding};
use super::engine;
use super::handle::{Running, StreamStatus};
use super::observer::Observer;
use super::report::{InputReport, Report};
use super::streams::Inputs;
use crate::config::LiveConfig;
use crate::gst::Frame;
use crate::input::{FrameReader, Signal, open_live};
use crate::notify::Notifier;
use crate::output::FrameWriter;
use crate::output::publish::{self, OutputStatus, PublishOptions, Servers, Target};
use crate::pipeline::{self, Control, Flow, Meter, Policy, Stream};
use crate::record::events::SignalLine;
use crate::record::{BestEffortRecorder, Clips, EventLog, Existing, RecordedStream, Recorder, Records};
use crate::{Error, Result};

/// The parts of one stream that outlive its threads.
struct Opened {
    input: String,
    meter: Arc<Meter>,
    control: Arc<Control>,
    forwarder: Forwarder,
    outputs: Vec<Arc<OutputStatus>>,
    watched: Option<Arc<Watched>>,
    reader: Option<Box<dyn FrameReader>>,
    writer: Option<Box<dyn FrameWriter>>,
    recorders: Vec<Box<dyn Recorder>>,
}

pub(super) fn run(session: Session) -> Result<Report> {
    let start = Instant::now();
    let Session { config, inputs, outputs, stop_after, observer, handle, .. } = session;
    let planned = match inputs {
        Inputs::Live(planned) => planned,
        Inputs::Files(_) | Inputs::Own(_) => Vec::new(),
    };
    let mut engine = engine::open(&config)?;
    engine.ahead = 0;
    match config.live.batch {
        0 => engine::set_batch(&mut engine, planned.len())?,
        batch => engine.batch = batch,
    }
    engine.batch_wait = Duration::from_millis(config.live.batch_wait_ms);
    // A restarted service appends to its events.
    let existing = if config.encode.overwrite { Existing::Replace } else { Existing::Append };
    if outputs.chapters.is_some() {
        return Err(Error::usage("-o chapters: is for files, as chapters are written at the end of a video"));
    }
    let names: Vec<String> = planned.iter().map(|plan| plan.name.clone()).collect();
    let notifier = Arc::new(Notifier::open(&outputs.messages, &config.notify(), &names)?);
    handle.set_messages(notifier.statuses());
    engine::check_outputs(outputs.embeddings.is_some(), &engine.network)?;
    let model = engine.network.sha256().to_owned();
    let records = Records::open(outputs.wanted(existing, &model))?;
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
        let clips = records.clips(&plan.name, "mp4", &config.archive)?;
        let mut targets = plan.targets;
        targets.extend(clips.as_ref().map(|clips| Target::Clips(clips.feed())));
        let (writer, outputs) = match targets.as_slice() {
            [] => (None, Vec::new()),
            targets => {
                let (writer, outputs) = publish::open(targets, &servers, &publish)?;
                (Some(writer), outputs)
            }
        };
        observer.started(&meter, None);
        let watched = handle.board().map(|board| board.stream());
        let mut recorders: Vec<_> = records
            .of_stream(&RecordedStream {
                name: &plan.name,
                base: &plan.name,
                style: config.draw,
                classes: &engine.network.manifest().classes.names,
            })?
            .into_iter()
            .chain(clips.as_ref().map(Clips::recorder))
            .chain(notifier.recorder())
            .map(|recorder| Box::new(BestEffortRecorder::new(recorder)) as Box<dyn Recorder>)
            .collect();
        if let (Some(board), Some(watched)) = (handle.board(), &watched) {
            recorders.push(board.recorder(watched));
        }
        opened.push(Opened {
            input: plan.input.to_string(),
            control: Arc::new(Control::watching(handle.interrupts())),
            forwarder: Forwarder {
                meter: Arc::clone(&meter),
                events: records.events().cloned(),
                notifier: Arc::clone(&notifier),
                observer: Arc::clone(&observer),
                watched: watched.clone(),
            },
            meter,
            outputs,
            watched,
            reader: Some(open_live(&plan.input, &config.source, index as u32)?),
            writer,
            recorders,
        });
    }
    let streams = opened.iter().map(|stream| StreamStatus {
        meter: stream.meter.clone(),
        outputs: stream.outputs.clone(),
        watched: stream.watched.clone(),
    });
    handle.set_streams(streams.collect());
    handle.set_running(Running {
        stages: Arc::clone(&engine.stages),
        settings: Arc::clone(&engine.settings),
        first: engine.settings.get(),
        started_with: config.clone(),
        classes: engine.network.manifest().classes.names.clone(),
    });
    let (done, timer) = timer(stop_after, opened.iter().map(|stream| Arc::clone(&stream.control)).collect());

    let hub = Control::watching(handle.interrupts());
    let flow = flow(&config.live);
    let streams = opened.iter_mut().filter_map(|stream| {
        Some(Stream {
            reader: stream.reader.take()?,
            writer: stream.writer.take(),
            recorders: std::mem::take(&mut stream.recorders),
            observer: &stream.forwarder,
            control: Arc::clone(&stream.control),
            meter: Arc::clone(&stream.meter),
            flow,
        })
    });
    let outcomes = pipeline::run(&mut engine, &hub, streams.collect());
    drop(done);
    if let Some(timer) = timer {
        let _ = timer.join();
    }
    let reports: Vec<_> = opened
        .iter()
        .zip(outcomes)
        .map(|(stream, outcome)| InputReport::new(stream.input.clone(), &stream.meter, outcome, true))
        .collect();
    reports.iter().for_each(|report| observer.ended(report));
    let messages = deliver(&notifier, &handle, None);
    Ok(conclude(&engine, &config, reports, messages, start))
}

fn flow(live: &LiveConfig) -> Flow {
    Flow {
        policy: live.policy,
        sync: live.sync,
        queue: if live.policy == Policy::Latest { 1 } else { live.queue },
        max_age: live.max_latency_s.map(Duration::from_secs_f64),
    }
}

/// Stops `controls` after `time`, or ends when the first part of what it gives is dropped.
fn timer(
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

/// Forwards the progress of a stream to the session's observer, and its losses and returns to the events and messages.
struct Forwarder {
    meter: Arc<Meter>,
    events: Option<Arc<EventLog>>,
    notifier: Arc<Notifier>,
    observer: Arc<dyn Observer>,
    watched: Option<Arc<Watched>>,
}

impl pipeline::Observer for Forwarder {
    fn drawn(&self, frame: &Frame) {
        if let Some(watched) = &self.watched {
            watched.preview.offer(frame);
        }
    }

    fn watches(&self) -> bool {
        self.watched.is_some()
    }

    fn frame_done(&self, running_time: u64, ood_share: f32) {
        self.observer.frame_done(&self.meter, Duration::from_nanos(running_time), ood_share);
    }

    fn signal(&self, signal: &Signal) {
        self.observer.signal(&self.meter, signal);
        // The file and the messages say the same, the time included.
        let line = SignalLine::new(self.meter.name(), signal);
        self.notifier.signal(&line);
        if let Some(Err(error)) = self.events.as_ref().map(|events| events.signal(&line)) {
            tracing::error!("{error}");
        }
    }
}
