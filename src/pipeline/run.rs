//! Streams from their readers to their writers through all stages.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::analyse::{Detect, Outlet, infer};
use super::control::Control;
use super::drawing::{Drawing, Newest};
use super::gather::{Gatherer, Inlet, prepare};
use super::lane::{Display, Sink, Source, Tracking};
use super::message::{Batch, Permit};
use super::meter::Meter;
use super::observer::Observer;
use super::policy::{Flow, Sync as Drawn};
use super::settings::Settings;
use super::stage::{relay, spawn};
use super::stats::{StageReport, StageStats};
use crate::compute::{Backend, Detection, Recipe};
use crate::input::{EndOfInput, FrameReader};
use crate::model::prepare::Prepare;
use crate::model::runtime::Network;
use crate::model::views::layout::{Layouts, Views};
use crate::ood::alarm::{Filler, IgnoreMap, Watcher};
use crate::output::{FrameWriter, Written};
use crate::record::Recorder;
use crate::{Error, Result};

/// The parts that all streams of a run share: the network, the dense maths, the settings of the drawing.
pub struct Engine {
    /// The network.
    pub network: Network,
    /// The views of a frame that the network gets.
    pub views: Views,
    /// Where the dense maths runs.
    pub backend: Box<dyn Backend>,
    /// The score.
    pub recipe: Recipe,
    /// Threshold and drawing, which may change during a run.
    pub settings: Arc<Settings>,
    /// Ignored parts of the picture.
    pub ignore: Arc<IgnoreMap>,
    /// Prepared pictures that may wait for the network; 0 chooses each picture when the network is free for it.
    pub ahead: usize,
    /// Pictures of different streams that the network takes at once, at most.
    pub batch: usize,
    /// The time that a batch waits to be filled.
    pub batch_wait: Duration,
    /// Statistics of the stages over all inputs.
    pub stages: Arc<Stages>,
}

/// The stages in the order in which a frame meets them.
#[derive(Debug)]
pub struct Stages {
    source: StageStats,
    prepare: StageStats,
    infer: StageStats,
    detect: StageStats,
    track: StageStats,
    draw: StageStats,
    sink: StageStats,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            source: StageStats::new("source"),
            prepare: StageStats::new("prepare"),
            infer: StageStats::new("infer"),
            detect: StageStats::new("detect"),
            track: StageStats::new("track"),
            draw: StageStats::new("draw"),
            sink: StageStats::new("sink"),
        }
    }
}

impl Stages {
    /// Name and figures of each stage, in order.
    pub fn report(&self) -> Vec<(&'static str, StageReport)> {
        [&self.source, &self.prepare, &self.infer, &self.detect, &self.track, &self.draw, &self.sink]
            .map(|stats| (stats.name(), stats.report()))
            .into()
    }
}

/// One stream of a run: where its frames come from and where they go.
pub struct Stream<'a> {
    /// Its frames.
    pub reader: Box<dyn FrameReader>,
    /// The destination of its frames; `None` discards them.
    pub writer: Option<Box<dyn FrameWriter>>,
    /// The recorders of its results.
    pub recorders: Vec<Box<dyn Recorder>>,
    /// Follows its progress.
    pub observer: &'a dyn Observer,
    /// Ends it.
    pub control: &'a Control,
    /// Counts what it does.
    pub meter: &'a Meter,
    /// Which of its frames are let through.
    pub flow: Flow,
}

/// The end of one stream.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The reader's report, when it came to the end.
    pub end: Option<EndOfInput>,
    /// The finished output, when there is one.
    pub written: Option<Written>,
    /// Whether the run was stopped before the end of the input.
    pub interrupted: bool,
    /// The first error, when there was one.
    pub error: Option<Error>,
}

/// Detections of one stream that may be between detect and draw; one more for each further frame that the back end
/// takes at once. They are the largest buffers after the pictures, 10 MB each at 1080p.
const DETECTIONS: usize = 3;

/// Runs `streams` through all stages at the same time and waits for the end of the last one.
///
/// Every way out of a stream ends here: the end of its input, its `control.stop()`, an error or a panic in one of its
/// stages. The frames in flight are drained and the output is finished; an output without any frame is removed. The
/// other streams go on. An error in a stage that all share, or an interrupt noted by `hub`, ends all of them.
pub fn run(engine: &mut Engine, hub: &Control, streams: Vec<Stream<'_>>) -> Vec<Outcome> {
    let controls: Vec<&Control> = streams.iter().map(|stream| stream.control).collect();
    let mut outcomes: Vec<Outcome> = streams.iter().map(|_| Outcome::default()).collect();
    if let Err(error) = start(engine, hub, streams, &mut outcomes) {
        hub.fail(error);
    }
    let shared = hub.take_error();
    for (outcome, control) in outcomes.iter_mut().zip(controls) {
        outcome.error = control.take_error().or_else(|| shared.clone());
        outcome.interrupted = outcome.end.is_none() && hub.interrupted() && outcome.error.is_none();
    }
    outcomes
}

fn start(engine: &mut Engine, hub: &Control, streams: Vec<Stream<'_>>, outcomes: &mut [Outcome]) -> Result<()> {
    let Engine { network, views, backend, recipe, settings, ignore, ahead, batch, batch_wait, stages } = engine;
    let (settings, stages, recipe) = (&**settings, &**stages, &*recipe);
    let preparing = Prepare::new(*network.input())?;
    let classes = network.manifest().classes.names.clone();
    let layouts = Layouts::new(views.clone(), *network.input());
    let most = network.max_batch().unwrap_or(usize::MAX).min(*batch).clamp(1, streams.len().max(1));
    let detections = DETECTIONS + backend.depth() - 1;
    thread::scope(|scope| {
        let mut inlets = Vec::with_capacity(streams.len());
        let mut outlets = Vec::with_capacity(streams.len());
        let (mut on_the_way, several) = (0, streams.len() > 1);
        for (lane, (stream, outcome)) in streams.into_iter().zip(outcomes).enumerate() {
            backend.reset(lane as u32);
            let Stream { mut reader, writer, recorders, observer, control, meter, flow } = stream;
            let only_written = recorders.is_empty();
            let permits = flow.queue + 3;
            on_the_way += permits;
            // Every channel has room for every frame: a stage never waits to hand on, only for permits to come back.
            let (permits_in, permits_out) = circle(permits, Permit::default);
            let (detections_in, detections_out) = circle(detections, Box::<Detection>::default);
            let (to_network, waiting) = bounded(flow.queue);
            let (to_track, track_in) = bounded(permits);
            let (to_draw, draw_in) = bounded(permits);
            let (to_sink, sink_in) = bounded(permits);
            // Frames that do not wait for their result go round in a circle of their own.
            let (display, finished, back, newest) = match flow.sync {
                Drawn::Exact => (None, to_draw, permits_in.clone(), None),
                Drawn::Newest => {
                    let (shown_in, shown_out) = circle(permits, Permit::default);
                    let (finished_in, finished_out) = bounded(permits);
                    let newest = Newest::new(finished_out, permits_in.clone());
                    (Some(Display { permits: shown_out, to_draw }), finished_in, shown_in, Some(newest))
                }
            };
            inlets.push(Inlet {
                waiting: waiting.clone(),
                permits: permits_in.clone(),
                control,
                meter,
                max_age: flow.max_age,
                open: true,
            });
            outlets.push(Some(Outlet {
                control,
                meter,
                flow,
                detections: detections_out,
                track: to_track,
                permits: permits_in.clone(),
                suggested: None,
            }));
            let Outcome { end, written, .. } = outcome;
            let source = Source {
                control,
                hub,
                stats: &stages.source,
                meter,
                observer,
                flow,
                permits: permits_out,
                unused: permits_in,
                to_network,
                waiting,
                display,
            };
            spawn(scope, control, &stages.source, move || source.run(reader.as_mut(), end))?;
            let rules = (*settings.get().events).clone();
            let watcher = Watcher::new(meter.name(), &classes, rules, Arc::clone(ignore));
            let mut tracking = Tracking::new(settings, watcher, recorders);
            spawn(scope, control, &stages.track, move || {
                relay(control, &stages.track, &track_in, &finished, |frame| tracking.work(frame))?;
                tracking.finish(meter.name())
            })?;
            let (drawn, ignored) = (classes.clone(), ignore.share());
            spawn(scope, control, &stages.draw, move || {
                let mut drawing = Drawing::new(settings, drawn, ignored, detections_in, newest)?;
                relay(control, &stages.draw, &draw_in, &to_sink, |frame| drawing.draw(frame))
            })?;
            let sink = Sink { control, stats: &stages.sink, meter, observer, permits: back, only_written };
            spawn(scope, control, &stages.sink, move || {
                let ran = sink.run(&sink_in, writer, written);
                let error = control.last_error().or_else(|| ran.as_ref().err().map(Error::to_string));
                if let Some(error) = error.as_ref().filter(|_| several) {
                    tracing::error!("{} has ended, the other streams go on: {error}", meter.name());
                }
                meter.ended(error);
                ran
            })?;
        }
        let (batch_in, batch_out) = bounded(*ahead + 1);
        for _ in 0..=*ahead {
            let _ = batch_in.try_send(Batch::new(most * preparing.input_len()));
        }
        let (to_infer, infer_in) = bounded(*ahead + 1);
        let (to_detect, detect_in) = bounded(on_the_way + outlets.len());
        let gatherer = Gatherer::new(inlets, most, *batch_wait);
        spawn(scope, hub, &stages.prepare, move || {
            prepare(hub, &stages.prepare, gatherer, preparing, layouts, &batch_out, &to_infer)
        })?;
        spawn(scope, hub, &stages.infer, move || infer(hub, &stages.infer, network, &infer_in, &batch_in, &to_detect))?;
        let filler = Filler::new(Arc::clone(ignore));
        spawn(scope, hub, &stages.detect, move || {
            let backend = backend.as_mut();
            Detect { control: hub, stats: &stages.detect, backend, recipe, settings, filler, outlets }.run(&detect_in)
        })
    })
}

/// A channel that holds `count` items which circulate.
fn circle<T>(count: usize, mut new: impl FnMut() -> T) -> (Sender<T>, Receiver<T>) {
    let (back, next) = bounded(count);
    for _ in 0..count {
        let _ = back.try_send(new());
    }
    (back, next)
}
